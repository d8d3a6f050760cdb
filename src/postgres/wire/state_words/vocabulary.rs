//! The words to look for in statement text, and one scan that finds them. It knows no messages and no session.

use std::collections::BTreeMap;
use std::ops::{BitOr, Range};
use std::sync::Arc;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};

use super::blanks::{is_blank, literal, skip, starts_with, word};
use super::execute::{Runs, runs};
use super::glance::Glance;
use super::learning::{Learned, News, Risk};
use super::place::SqlPlace;
use super::plain::is_harmless;
use super::setting::{Named, after_set, after_set_config};
use super::words::{BODY_WORDS, Bounds, Fixed, Meaning, STATE_WORDS};
use super::{Spotted, Unseen};

/// The words to look for in statement text. One scan finds all of them; most texts without any cost a glance.
#[derive(Debug)]
pub struct Vocabulary {
    glance: Glance,
    searcher: AhoCorasick,
    /// By pattern.
    words: Vec<Word>,
    role: Role,
    /// More was learned than it takes, or nothing yet: any text may do this.
    overflow: Option<Risk>,
    /// What it was taught.
    learned: Option<Arc<Learned>>,
    is_learned: bool,
}

/// Whose text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// A client's: what its own tag tells need not be found.
    Client,
    /// A function's: only its text tells.
    Function,
}

#[derive(Debug)]
struct Word {
    fixed: Option<(Bounds, Meaning)>,
    /// It is also a name that was learned.
    learned: Option<(Bounds, Risk)>,
}

/// Longer words are looked for by their beginning.
const WORD_MAX: usize = 128;

const LEARNED_MAX: usize = 4096;

/// What is not known may do.
const ANYTHING: Risk = Risk {
    signals: true,
    blind: true,
    lasting: true,
    asks: false,
    unseen: Unseen::NONE,
};

/// Up to this many words a DFA is small enough to be worth its speed.
const DFA_WORDS_MAX: usize = 256;

/// Texts are put in lower case this much at a time, because a search that minds the case is three times as
/// fast as one that does not: SIMD finds candidates for it.
const CHUNK: usize = 512;

impl Default for Vocabulary {
    /// Nothing learned.
    fn default() -> Self {
        Self::new([])
    }
}

impl Vocabulary {
    /// The fixed state words, and names of functions (tables, views) whose use may change state.
    pub fn new<'a>(risky: impl IntoIterator<Item = &'a str>) -> Self {
        Self::build(
            Role::Client,
            risky.into_iter().map(|name| {
                (
                    name,
                    Risk {
                        signals: true,
                        lasting: true,
                        ..Risk::default()
                    },
                )
            }),
        )
    }

    /// The same from what was learned, which also says more about each name.
    pub fn taught(learned: Arc<Learned>) -> Self {
        let mut vocabulary = Self::build(
            Role::Client,
            learned.risky.iter().map(|(name, risk)| (name.as_str(), *risk)),
        );
        if !learned.complete {
            let risk = vocabulary.overflow.unwrap_or_default();
            vocabulary.overflow = Some(risk | ANYTHING);
        }
        vocabulary.learned = Some(learned);
        vocabulary
    }

    /// Before anything is learned: any text may change anything. What else it does is told when it is read again.
    pub fn unlearned() -> Self {
        Self {
            overflow: Some(Risk {
                signals: true,
                lasting: true,
                ..Risk::default()
            }),
            is_learned: false,
            ..Self::default()
        }
    }

    /// Whether it knows what a database has.
    pub fn is_learned(&self) -> bool {
        self.is_learned
    }

    /// All that it knows, to somebody who knows nothing.
    pub fn all_news(&self) -> Option<News> {
        let risk = self.worst()?;
        Some(News { risk, names: true })
    }

    /// The worst of what the database has. None: nothing that would change a session.
    pub fn worst(&self) -> Option<Risk> {
        let risks = self.learned.iter().flat_map(|learned| learned.risky.values());
        let risks = risks.filter(|risk| risk.signals);
        risks.copied().reduce(Risk::bitor)
    }

    /// Whether nothing in the database leaves what no survey sees.
    pub fn leaves_nothing_unseen(&self) -> bool {
        let sees = |risk: Risk| !risk.blind && risk.unseen.is_empty();
        self.overflow.is_none() && self.worst().is_none_or(sees)
    }

    /// What something in the database does that it was not known for, when this was `before`.
    pub fn news(&self, before: &Self) -> Option<News> {
        let before = before.learned.as_deref()?;
        self.learned.as_deref()?.news(before)
    }

    /// Custom settings that definitions name.
    pub fn settings(&self) -> impl Iterator<Item = &str> {
        let learned = self.learned.iter().flat_map(|learned| &learned.settings);
        learned.map(String::as_str)
    }

    /// Whether there is nothing new in this.
    pub fn is_taught(&self, learned: &Learned) -> bool {
        self.learned.as_deref() == Some(learned)
    }

    /// The same without a glance.
    #[cfg(test)]
    pub(super) fn unglanced(mut self) -> Self {
        self.glance = Glance::blind();
        self
    }

    /// For the bodies of functions.
    pub(super) fn of_functions() -> Self {
        Self::build(Role::Function, [])
    }

    fn build<'a>(role: Role, learned: impl IntoIterator<Item = (&'a str, Risk)>) -> Self {
        let mut words = fixed_words(role);
        let mut overflow: Option<Risk> = None;
        for (count, (name, risk)) in learned
            .into_iter()
            .filter(|(name, _)| !name.is_empty())
            .enumerate()
        {
            if count >= LEARNED_MAX {
                overflow = Some(overflow.unwrap_or_default() | risk);
                continue;
            }
            let (text, bounds) = pattern(name);
            let word = words.entry(text).or_insert(Word {
                fixed: None,
                learned: None,
            });
            let risk = risk | word.learned.map_or(Risk::default(), |(_, before)| before);
            word.learned = Some((bounds, risk));
        }
        let kind = (words.len() <= DFA_WORDS_MAX).then_some(AhoCorasickKind::DFA);
        let searcher = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .kind(kind)
            .build(words.keys())
            .expect("a few thousand short words are within the limits of a searcher");
        let mut glance = Glance::new();
        for (text, word) in &words {
            let bounds = [
                word.fixed.map(|(bounds, _)| bounds),
                word.learned.map(|(bounds, _)| bounds),
            ];
            for bounds in bounds.into_iter().flatten() {
                match bounds {
                    Bounds::Whole | Bounds::Beginning => glance.add_beginning(text),
                    Bounds::End | Bounds::Anywhere => glance.add_anywhere(text),
                }
            }
        }
        Self {
            glance,
            searcher,
            words: words.into_values().collect(),
            role,
            overflow,
            learned: None,
            is_learned: true,
        }
    }

    /// What a statement text gives away.
    pub fn read(&self, text: &[u8]) -> Spotted {
        let mut spotted = match self.overflow {
            Some(_) if !is_harmless(text) => self.blank(),
            _ => Spotted::default(),
        };
        self.note(text, 0..text.len(), &mut spotted);
        spotted
    }

    /// The same, as if there were no names but those that were learned.
    pub fn read_words(&self, text: &[u8]) -> Spotted {
        let mut spotted = Spotted::default();
        self.note(text, 0..text.len(), &mut spotted);
        spotted
    }

    /// What is spotted in an empty text.
    pub(super) fn blank(&self) -> Spotted {
        let Some(risk) = self.overflow else {
            return Spotted::default();
        };
        Spotted {
            signalled: true,
            lasting: true,
            blind: risk.blind,
            unseen: risk.unseen,
            ..Spotted::default()
        }
    }

    /// Notes every word that begins within `starts`; the rest of `text` is what it stands in.
    ///
    /// A word is judged by the text around it and by nothing else, the other words included.
    pub(super) fn note(&self, text: &[u8], starts: Range<usize>, spotted: &mut Spotted) {
        let Some(first) = self.glance.first(text, starts.start) else {
            return;
        };
        let mut buffer = [0; CHUNK];
        let mut from = first;
        while from < starts.end {
            let taken = CHUNK.min(text.len() - from);
            let chunk = &mut buffer[..taken];
            chunk.copy_from_slice(&text[from..from + taken]);
            chunk.make_ascii_lowercase();
            // A word that begins after this may not be whole in the chunk.
            let whole = match from + taken == text.len() {
                true => starts.end,
                false => starts.end.min(from + taken - WORD_MAX),
            };
            let mut at = 0;
            while let Some(found) = self.searcher.find(Input::new(chunk).span(at..taken)) {
                let start = from + found.start();
                if start >= whole {
                    break;
                }
                let word = &self.words[found.pattern().as_usize()];
                self.judge(word, SqlPlace::new(text, start, found.len()), spotted);
                at = found.start() + 1;
            }
            from = whole;
        }
    }

    fn judge(&self, word: &Word, place: SqlPlace<'_>, spotted: &mut Spotted) {
        if let Some((bounds, risk)) = word.learned
            && is_bounded(place, bounds)
        {
            spotted.signalled |= risk.signals;
            spotted.blind |= risk.blind;
            spotted.lasting |= risk.lasting;
            spotted.asks |= risk.asks;
            spotted.unseen |= risk.unseen;
        }
        if let Some((bounds, meaning)) = word.fixed
            && is_bounded(place, bounds)
        {
            self.interpret(meaning, place, spotted);
        }
    }

    fn learn_setting(&self, named: Named, is_local: bool, spotted: &mut Spotted) {
        match named {
            Named::Nothing => {}
            Named::Custom(name) => spotted.learn_setting(&name),
            Named::Parameter(number) if self.role == Role::Client => {
                spotted.parameters.add(number, is_local);
            }
            Named::Seed => {
                spotted.signalled = true;
                spotted.lasting = true;
                spotted.unseen |= Unseen::SEED;
            }
            // What is set for the transaction goes with it.
            Named::Parameter(_) | Named::Unknown => spotted.blind |= !is_local,
        }
    }

    fn interpret(&self, meaning: Meaning, place: SqlPlace<'_>, spotted: &mut Spotted) {
        let in_function = self.role == Role::Function;
        spotted.lasting |= match meaning {
            Meaning::Advisory => !starts_with(place.after(), b"xact_"),
            Meaning::Execute => !in_function,
            Meaning::Statement => place.begins_a_statement(),
            Meaning::Load => place.begins_a_statement(),
            Meaning::Runs => runs_unknown(place),
            Meaning::Risky(_) | Meaning::Escaped => true,
            Meaning::Set
            | Meaning::SetConfig
            | Meaning::Temporary
            | Meaning::Settings
            | Meaning::Hold
            | Meaning::Asks
            | Meaning::Language => false,
        };
        match meaning {
            Meaning::Risky(unseen) => {
                spotted.signalled = true;
                spotted.unseen |= unseen;
            }
            Meaning::Set => {
                spotted.signalled |= in_function && place.begins_a_statement();
                self.learn_setting(after_set(place), false, spotted);
            }
            Meaning::SetConfig => {
                spotted.signalled = true;
                let (named, is_local) = after_set_config(place);
                self.learn_setting(named, is_local, spotted);
            }
            Meaning::Load => {
                let library = literal(skip(place.after()));
                if let Some((name, _)) = library {
                    spotted.learn_library(name);
                }
                if place.begins_a_statement() && (in_function || names_a_library(place)) {
                    spotted.signalled = true;
                    spotted.unseen |= Unseen::LIBRARY;
                }
            }
            Meaning::Temporary => spotted.signalled |= place.declares_temporary(),
            Meaning::Advisory => spotted.signalled |= !starts_with(place.after(), b"xact_"),
            Meaning::Settings => spotted.signalled |= place.follows(b"update"),
            Meaning::Escaped => {
                spotted.signalled = true;
                spotted.blind = true;
            }
            Meaning::Execute => {
                spotted.signalled |= !in_function;
                spotted.dynamic |= runs(place.after()) == Runs::Anything;
            }
            Meaning::Runs => {
                let is_unknown = runs_unknown(place);
                spotted.signalled |= is_unknown;
                spotted.blind |= is_unknown;
            }
            Meaning::Language => spotted.foreign |= !in_function,
            Meaning::Asks => spotted.asks = true,
            Meaning::Statement => spotted.signalled |= place.begins_a_statement(),
            Meaning::Hold => spotted.signalled |= !in_function || place.follows_directly(b"with"),
        }
    }
}

fn fixed_words(role: Role) -> BTreeMap<Vec<u8>, Word> {
    let bodies: &[Fixed] = match role {
        Role::Client => &[],
        Role::Function => &BODY_WORDS,
    };
    let word = |fixed: &Fixed| {
        let word = Word {
            fixed: Some((fixed.bounds, fixed.meaning)),
            learned: None,
        };
        (fixed.text.as_bytes().to_vec(), word)
    };
    STATE_WORDS.iter().chain(bodies).map(word).collect()
}

/// How a name looks in lower-case text.
fn pattern(name: &str) -> (Vec<u8>, Bounds) {
    // Quoted, where it needs to be.
    let mut text = name.to_ascii_lowercase().replace('"', "\"\"").into_bytes();
    if text.len() > WORD_MAX {
        text.truncate(WORD_MAX);
        return (text, Bounds::Beginning);
    }
    (text, Bounds::Whole)
}

fn is_bounded(place: SqlPlace<'_>, bounds: Bounds) -> bool {
    match bounds {
        Bounds::Whole => place.begins() && place.ends(),
        Bounds::Beginning => place.begins(),
        Bounds::End => place.ends(),
        Bounds::Anywhere => true,
    }
}

/// LOAD in a DO, or in a text that is executed: no tag tells.
fn names_a_library(place: SqlPlace<'_>) -> bool {
    let after = place.after();
    let named = matches!(skip(after).first(), Some(b'\'' | b'$' | b'%' | b'e' | b'E'));
    named && after.first().copied().is_some_and(is_blank)
}

/// The text that is run is not the one that is written down.
fn runs_unknown(place: SqlPlace<'_>) -> bool {
    let after = place.after();
    let after = &after[word(after).len()..];
    let after = skip(after.strip_prefix(b"\"").unwrap_or(after));
    match after.strip_prefix(b"(").map(skip) {
        Some(text) => literal(text).is_none() && runs(text) == Runs::Anything,
        None => place.is_cut(after),
    }
}
