use std::collections::BTreeMap;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};

use super::blanks::{literal, skip, starts_with};
use super::glance::Glance;
use super::learning::{Learned, Risk};
use super::place::Place;
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
    /// More names were learned than it takes: any text may contain one.
    overflowing: bool,
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
                        lasting: true,
                        ..Risk::default()
                    },
                )
            }),
        )
    }

    /// The same from what was learned, which also says more about each name.
    pub fn taught(learned: &Learned) -> Self {
        let mut vocabulary = Self::build(
            Role::Client,
            learned.risky.iter().map(|(name, risk)| (name.as_str(), *risk)),
        );
        vocabulary.overflowing |= !learned.complete;
        vocabulary
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
        let mut overflowing = false;
        for (count, (name, risk)) in learned
            .into_iter()
            .filter(|(name, _)| !name.is_empty())
            .enumerate()
        {
            if count == LEARNED_MAX {
                overflowing = true;
                break;
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
            overflowing,
        }
    }

    /// What a statement text gives away.
    pub fn read(&self, text: &[u8]) -> Spotted {
        let mut spotted = self.read_words(text);
        if self.overflowing && !is_harmless(text) {
            (spotted.signalled, spotted.lasting) = (true, true);
        }
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
        Spotted {
            signalled: self.overflowing,
            lasting: self.overflowing,
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
                self.judge(word, Place::new(text, start, found.len()), spotted);
                at = found.start() + 1;
            }
            from = whole;
        }
    }

    fn judge(&self, word: &Word, place: Place<'_>, spotted: &mut Spotted) {
        if let Some((bounds, risk)) = word.learned
            && is_bounded(place, bounds)
        {
            spotted.signalled = true;
            spotted.blind |= risk.blind;
            spotted.lasting |= risk.lasting;
            spotted.unseen |= risk.unseen;
        }
        if let Some((bounds, meaning)) = word.fixed
            && is_bounded(place, bounds)
        {
            self.interpret(meaning, place, spotted);
        }
    }

    fn interpret(&self, meaning: Meaning, place: Place<'_>, spotted: &mut Spotted) {
        let in_function = self.role == Role::Function;
        spotted.lasting |= match meaning {
            Meaning::Advisory => !starts_with(place.after(), b"xact_"),
            Meaning::Execute => !in_function,
            Meaning::Statement => place.begins_a_statement(),
            Meaning::Load => in_function && place.begins_a_statement(),
            Meaning::Risky(_) | Meaning::Escaped => true,
            Meaning::Set | Meaning::SetConfig | Meaning::Temporary | Meaning::Settings | Meaning::Hold => {
                false
            }
        };
        match meaning {
            Meaning::Risky(unseen) => {
                spotted.signalled = true;
                spotted.unseen |= unseen;
            }
            Meaning::Set => {
                spotted.signalled |= in_function && place.begins_a_statement();
                learn_setting(after_set(place), spotted);
            }
            Meaning::SetConfig => {
                spotted.signalled = true;
                learn_setting(after_set_config(place), spotted);
            }
            Meaning::Load => {
                let library = literal(skip(place.after()));
                if let Some((name, _)) = library {
                    spotted.learn_library(name);
                }
                if in_function && place.begins_a_statement() {
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
            Meaning::Execute => spotted.signalled |= !in_function,
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

fn is_bounded(place: Place<'_>, bounds: Bounds) -> bool {
    match bounds {
        Bounds::Whole => place.begins() && place.ends(),
        Bounds::Beginning => place.begins(),
        Bounds::End => place.ends(),
        Bounds::Anywhere => true,
    }
}

fn learn_setting(named: Named, spotted: &mut Spotted) {
    match named {
        Named::Nothing => {}
        Named::Custom(name) => spotted.learn_setting(&name),
        Named::Unknown => spotted.blind = true,
    }
}
