//! What passing messages give away about the state of a session, between two surveys.

mod judgement;
mod names;
mod parses;
mod said;
mod sequences;
mod settings;
mod told;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use memchr::memchr;
use tokio::sync::watch;

use super::known::{Known, Parsed, Unnamed as Carried};
use super::ledger::{Ledger, Pin, Since, Values, may_depend};
use super::lore::Lore;
use super::wire::bound;
use super::wire::described::{Shape, digest};
use super::wire::read::{error_field, is_disowned};
use super::wire::state_words::plain::{self, Plain};
use super::wire::state_words::{
    Called, Listener, Message, Parameters, Spotted, Unseen, Vocabulary, ends_transaction, function_called,
    tag_eases, tag_lasts, tag_redefines, tag_signals, tag_tells_all,
};
use judgement::Judgement;
use names::Names;
use parses::{Answered, NAME_MAX, Parses, Pending, Remade, Under, name_in};
use said::{Done, Said};
use sequences::Sequences;
use settings::{Readings, Settings};
use values::{argument_of, value_of};

/// More names of statements that came or went are not kept for long.
const MADE_MAX: usize = 256;
/// More statements that do more than their message says are not told apart.
const SPOTTED_MAX: usize = 256;
/// A longer text is not plain.
const PLAIN_MAX: usize = 8 * 1024;
/// In place of a name, for those.
const ANY_OTHER: &[u8] = b"";
/// A buffer for the unnamed statement that is larger goes with the statement.
const UNNAMED_KEPT: usize = 16 * 1024;

/// One session's. Everything is kept until a survey has asked Postgres itself ([`Notes::surveyed`]).
pub struct Notes {
    lore: Arc<Lore>,
    vocabulary: Arc<Vocabulary>,
    news: watch::Receiver<Arc<Vocabulary>>,
    listener: Listener,
    /// Which message the listener is in the middle of.
    listening: Option<u8>,
    /// Something may have changed for good.
    settled: bool,
    /// Something may have changed in what is under way, or in the transaction that is open.
    present: bool,
    /// What is under way may do something that a rollback would not undo.
    lasting: bool,
    /// Something in the open transaction has, or was answered in what is under way.
    lasted: bool,
    /// What kept the session on its link may be gone.
    eased: bool,
    /// The server refused something as if the user were gone.
    disowned: bool,
    /// Something was done in this session that no tag tells: it may hold what has to be asked for.
    hidden: bool,
    pins: Vec<Pin>,
    /// What holds if a DO is done that is under way.
    in_do: Vec<Pin>,
    /// Of statements that do more than their message says, each time they are run.
    spotted: BTreeMap<Box<[u8]>, Arc<Spotted>>,
    judgement: Judgement,
    /// How many units had been sent when Postgres was asked last.
    surveyed_at: u64,
    names: Names,
    /// Of the Parse message that the listener is in the middle of.
    listening_name: Box<[u8]>,
    unnamed: Unnamed,
    parses: Parses,
    sequences: Sequences,
    /// What was said in plain statements. None: nothing.
    said: Option<Box<Said>>,
    /// Of the unit that is being sent: how many of its statements were executed.
    executed: u32,
    /// Of the unit that is being answered: how many were.
    done: u32,
    settings: Settings,
    /// What was bound last: the digests of its portal's and its statement's names. None: it has no name.
    bound: Option<(u64, u64)>,
    bytes_max: usize,
}

/// The statement that has no name, and that Postgres does not list.
#[derive(Default)]
struct Unnamed {
    /// The body of its Parse message. Empty: there is none.
    body: BytesMut,
    too_large: bool,
    /// An error came since: it may never have come to be.
    doubtful: bool,
    under: Under,
    /// The unit in which it was answered.
    made_in: u64,
    /// What the client was told that it takes and gives.
    told: Option<Shape>,
    spotted: Option<Arc<Spotted>>,
}

impl Notes {
    pub fn lore(&self) -> &Arc<Lore> {
        &self.lore
    }

    pub fn new(lore: Arc<Lore>, bytes_max: u32) -> Self {
        let mut news = lore.vocabulary();
        let vocabulary = news.borrow_and_update().clone();
        let sequences = Sequences::new(lore.asks_sequences());
        Self {
            lore,
            vocabulary,
            news,
            listener: Listener::default(),
            listening: None,
            settled: false,
            present: false,
            lasting: false,
            lasted: false,
            eased: false,
            disowned: false,
            hidden: false,
            pins: Vec::new(),
            in_do: Vec::new(),
            spotted: BTreeMap::new(),
            judgement: Judgement::default(),
            surveyed_at: 0,
            names: Names::default(),
            listening_name: Box::default(),
            unnamed: Unnamed::default(),
            parses: Parses::default(),
            sequences,
            said: None,
            executed: 0,
            done: 0,
            settings: Settings::default(),
            bound: None,
            bytes_max: bytes_max as usize,
        }
    }

    /// Whether something was said that may leave more than a reset takes away, also if a rollback undid it.
    pub fn has_touched(&self) -> bool {
        self.is_signalled() || self.names.is_used()
    }

    /// Of custom settings that the session may have.
    pub fn custom_names(&self) -> BTreeSet<String> {
        let mut names = self.lore.settings();
        names.extend(self.names.own().map(str::to_owned));
        names
    }

    /// Whether a survey would tell anything new.
    pub fn is_signalled(&self) -> bool {
        self.is_unsure()
            || !self.parses.made.is_empty()
            || self.said.as_ref().is_some_and(|said| said.is_news())
    }

    /// Whether something may have changed that these notes do not tell, or not for long. Statements that came and went
    /// they do, as long as it is not too many.
    pub fn is_unsure(&self) -> bool {
        let Parses { made, untold, .. } = &self.parses;
        self.settled
            || self.present
            || self.eased
            || *untold
            || made.len() > MADE_MAX
            || self.said.as_ref().is_some_and(|said| said.wants_survey())
    }

    /// Whether the server has refused something as it does when the user was dropped. Asking ends it.
    pub fn take_disowned(&mut self) -> bool {
        std::mem::take(&mut self.disowned)
    }

    /// Whether it may hold what no tag of a command tells.
    pub fn is_hidden(&self) -> bool {
        self.hidden
    }

    pub fn is_disowned(&self) -> bool {
        self.disowned
    }

    /// Whether the last survey and these notes tell all there is once what is under way is undone.
    pub fn is_rebuildable(&self) -> bool {
        !self.settled
            && !self.lasted
            && !self.parses.untold
            && self.lasting_pins().next().is_none()
            && self.said.as_ref().is_none_or(|said| said.is_complete())
    }

    /// What no survey sees.
    pub fn pins(&self) -> impl Iterator<Item = Pin> {
        // Until it is known what the database has.
        let early = self.judgement.is_early().then_some(Pin::UnknownSettings);
        self.lasting_pins().chain(early)
    }

    fn lasting_pins(&self) -> impl Iterator<Item = Pin> {
        let is_too_large = self.unnamed.too_large || self.parses.told.is_too_much;
        let too_large = is_too_large.then_some(Pin::TooLarge);
        let unknown = self.has_unknown_meaning().then_some(Pin::UnreplayableStatement);
        self.pins.iter().copied().chain(too_large).chain(unknown)
    }

    /// Whether the client may ask for what a sequence gave it, which stays behind when it moves.
    pub fn may_ask_sequences(&self) -> bool {
        match self.sequences.is_watched() {
            true => self.sequences.has_drawn(),
            false => self.lore.asks_sequences() && self.parses.units_sent > 0,
        }
    }

    /// None of that is left.
    pub fn lose_sequences(&mut self) {
        self.sequences = Sequences::new(true);
    }

    /// Whether its link can be lent to somebody else.
    pub fn leaves_nothing(&self) -> bool {
        self.pins.is_empty() && !self.unnamed.too_large
    }

    /// Whether a literal of a new statement may mean this or that.
    fn has_unknown_meaning(&self) -> bool {
        let is_unknown = |under: &Under, body: &[u8]| *under == Under::Unknown && may_depend(body);
        let made = self.parses.made.values().flatten();
        is_unknown(&self.unnamed.under, &self.unnamed.body)
            || made.into_iter().any(|made| is_unknown(&made.under, &made.body))
    }

    /// The client's unnamed statement, if it may be alive. `greeting`: what the server told with it.
    pub fn unnamed(&self, greeting: &Values) -> Option<Carried> {
        let Unnamed {
            body,
            doubtful,
            under,
            told,
            ..
        } = &self.unnamed;
        let parsed = Parsed {
            body: (!body.is_empty()).then(|| body[..].into())?,
            // If it is not known, there is nothing in it whose meaning depends on it.
            under: Readings::new(greeting).of(under).unwrap_or_default(),
        };
        Some(Carried {
            parsed,
            doubtful: *doubtful,
            told: *told,
        })
    }

    /// The text of a statement that was parsed since the last survey, or of the one without a name.
    pub fn text_of(&self, name: &[u8]) -> Option<&[u8]> {
        let parse = match name {
            b"" => &self.unnamed.body[..],
            name => &self.parses.made.get(name)?.as_ref()?.body,
        };
        parse.split(|byte| *byte == 0).nth(1)
    }

    /// Whether a text, and everything that it names, is known to do no more than it says.
    pub fn is_plain(&self, text: &[u8]) -> bool {
        let spotted = self.vocabulary.read(text);
        let does_nothing =
            !(spotted.signalled || spotted.lasting || spotted.blind) && spotted.unseen.is_empty();
        does_nothing || self.plain(text, &spotted).is_some()
    }

    /// Statements of the last survey that are there no more, or were made anew since.
    pub fn is_replaced(&self, name: &[u8]) -> bool {
        self.parses.made.contains_key(name)
    }

    /// All that is known of the session without asking, if it was asked for `ledger`.
    pub fn known(&self, ledger: Option<&Ledger>, greeting: &Values) -> Known {
        let since = self.since(greeting);
        let (said, placed) = match &self.said {
            Some(said) => said.again(&self.parses),
            None => Default::default(),
        };
        let made = self.parses.made.iter();
        let made: Vec<_> = made
            .filter_map(|(name, made)| Some((name, made.as_ref()?)))
            .collect();
        let parsed = made.iter().filter(|(name, _)| !placed.contains(&***name));
        let parsed = parsed.map(|(name, made)| Parsed {
            body: made.body.clone(),
            under: since.parsed.get(*name).cloned().flatten().unwrap_or_default(),
        });
        let listed = ledger.into_iter().flat_map(Ledger::statements);
        let listed = listed.filter(|statement| !self.parses.made.contains_key(&statement.name));
        let names = listed
            .map(|statement| &statement.name)
            .chain(made.iter().map(|(name, _)| *name));
        let told = names.filter_map(|name| Some((name.clone(), self.parses.told.of(name)?)));
        let values = self.settings.values(greeting);
        Known {
            ledger: ledger.cloned(),
            // What was said since begins with what was in force then.
            before: match (said.is_empty(), ledger) {
                (true, _) => values.clone(),
                (false, None) => greeting.clone(),
                (false, Some(_)) => Values::default(),
            },
            values,
            parsed: parsed.collect(),
            told: told.collect(),
            is_all: self.is_all_there_is() && said.is_empty(),
            said,
            since,
        }
    }

    /// Whether these notes and the last survey say all.
    pub fn is_all_there_is(&self) -> bool {
        !self.is_unsure() && self.is_rebuildable()
    }

    /// What statements were read under that came since the last survey.
    pub fn since(&self, greeting: &Values) -> Since {
        let mut reading = Readings::new(greeting);
        let parsed = self.parses.made.iter().map(|(name, made)| {
            let under = made.as_ref().and_then(|made| reading.of(&made.under));
            (name.clone(), under)
        });
        Since {
            parsed: parsed.collect(),
            prepared: self.settings.prepared_since(greeting),
            by_sql: self.settings.by_sql(greeting),
            by_sql_count: self.settings.by_sql_count,
            steady: self.settings.steady(greeting),
            untold_set: self.settings.untold_set,
        }
    }

    /// What the greeting told holds on, whatever the next one tells.
    pub fn keep_greeting(&mut self, greeting: &Values) {
        self.settings.keep_greeting(greeting);
        if let Some(values) = Readings::new(greeting).of(&self.unnamed.under) {
            self.unnamed.under = Under::Told(values);
        }
    }

    /// Postgres was asked, at a safe point, and the answer is remembered.
    pub fn surveyed(&mut self, ledger: &Ledger, greeting: &Values) {
        // Then there is more to ask about than was asked.
        let is_news = self.news.has_changed().unwrap_or(false);
        self.hear_news();
        self.judge_again(ledger);
        self.settings.surveyed(ledger.values(), greeting);
        let statements = ledger.statements().iter();
        let names = statements.map(|statement| digest(&statement.name));
        self.parses.told.surveyed(&names.collect());
        self.settled &= is_news;
        self.present = false;
        self.surveyed_at = self.parses.units_sent;
        (self.lasting, self.lasted, self.eased) = (false, false, false);
        self.parses.surveyed();
        if let Some(said) = &mut self.said {
            said.surveyed();
        }
        self.tidy();
    }

    /// Nothing is in flight.
    pub fn quiet(&mut self) {
        self.in_do.clear();
        self.sequences.quiet();
        (self.executed, self.done) = (0, 0);
        self.parses.quiet();
    }

    /// What was under way is lost, and its transaction with it.
    pub fn undone(&mut self) {
        (self.present, self.lasting, self.lasted) = (false, false, false);
        self.quiet();
        self.unnamed.doubtful = true;
        if let Some(said) = &mut self.said {
            said.undone();
        }
    }

    fn tidy(&mut self) {
        if self.said.as_ref().is_some_and(|said| said.is_blank()) {
            self.said = None;
        }
    }

    #[inline]
    fn has_nothing_to_bind(&self) -> bool {
        self.spotted.is_empty()
            && self.unnamed.spotted.is_none()
            && self.judgement.is_made()
            && self.said.is_none()
    }

    /// A message of the client's. Most say nothing, which is seen where they pass; the rest is kept out of the way.
    #[inline]
    pub fn asked(&mut self, tag: u8, body: &[u8]) {
        match tag {
            b'Q' => self.query(body),
            b'P' => self.parse(body),
            b'B' => {
                self.bound = bound_to(body);
                if !self.has_nothing_to_bind() {
                    self.bind(body, true);
                }
            }
            b'E' => {
                self.executed += 1;
                if self.said.is_some() {
                    self.execute(body);
                }
            }
            b'C' => self.close(body),
            b'D' => self.describe(body),
            b'F' => self.call(body),
            b'S' => {
                self.parses.units_sent += 1;
                self.executed = 0;
            }
            _ => {}
        }
    }

    /// A message of the server's.
    #[inline]
    pub fn answered(&mut self, tag: u8, body: &[u8]) {
        match tag {
            b'C' => {
                if self.said.is_some() || tag_signals(body) || self.settings.may_revert {
                    self.completed(body);
                }
                self.done += 1;
                self.sequences.completed(body);
                // The client may count on it, whatever becomes of the rest.
                self.lasted |= self.lasting;
            }
            b'I' | b's' => self.done += 1,
            b'Z' => self.ready(body.first().copied()),
            b'1' | b'3' | b't' => self.answered_parse(tag, body),
            b'S' => self.told(body),
            b'E' => self.refused(body),
            _ => {}
        }
    }

    #[inline(never)]
    fn answered_parse(&mut self, tag: u8, body: &[u8]) {
        if tag == b'1'
            && let Some(said) = &mut self.said
            && let Some(name) = self.parses.parsed_next()
        {
            said.parsed(name);
        }
        let unit = self.parses.units_done;
        let under = |in_doubt| self.settings.under(unit, in_doubt);
        match self.parses.answered(tag, body, under) {
            Answered::Nothing => {}
            Answered::Unnamed(under) => (self.unnamed.under, self.unnamed.made_in) = (under, unit),
            Answered::Closed(name) => {
                // What is known of a name may be of the statement that takes its place, which was asked for already.
                if self.spotted.contains_key(&name) && !self.parses.is_coming(&name) {
                    self.spotted.remove(&name);
                }
                if let Some(said) = &mut self.said {
                    said.closed(&name);
                }
            }
            Answered::Replaced(name, Some(spotted)) => drop(self.spotted.insert(name, spotted)),
            Answered::Replaced(name, None) => drop(self.spotted.remove(&name)),
        }
        // It stays made, or closed, whatever becomes of the rest.
        self.lasted |= self.lasting && tag != b't';
    }

    /// Whether a description is on its way that is to be remembered.
    #[inline]
    pub fn awaits_description(&self) -> bool {
        self.parses.portals > 0
    }

    /// What a statement gives, right after a ParameterDescription, or a portal. The body of a RowDescription, or nothing.
    #[inline(never)]
    pub fn described(&mut self, columns: &[u8], last: bool) {
        if !self.parses.told.is_under_way() {
            self.parses.answered_portal();
        }
        if let Some(told) = self.parses.told.gives(columns, last) {
            self.unnamed.told = Some(told);
        }
    }

    /// A ParameterStatus.
    #[inline(never)]
    fn told(&mut self, body: &[u8]) {
        let unit = self.parses.units_done;
        if self.settings.told(body) && !self.settings.may_have_been_changed_by_client(unit) {
            // Its files were read anew, at the beginning of the unit or before.
            self.parses.doubt_made_in(unit);
            if self.unnamed.made_in == unit {
                self.unnamed.under = Under::Unknown;
            }
        }
    }

    #[inline(never)]
    fn refused(&mut self, error: &[u8]) {
        self.unnamed.doubtful = true;
        if let Some(said) = &mut self.said {
            said.failed(self.parses.units_done);
        }
        let state = error_field(error, b'C');
        self.disowned |= state.is_some_and(is_disowned);
    }

    #[inline(never)]
    fn query(&mut self, body: &[u8]) {
        self.hear_news();
        // The message ends where its text does, or the server refuses it.
        let text = body.strip_suffix(b"\0").unwrap_or(body);
        let spotted = self.vocabulary.read(text);
        self.sequences.read(text);
        // After an error the server leaves out this one as well, or does not.
        let is_alone = std::mem::take(&mut self.executed) == 0;
        self.settings.asked(text, spotted.signalled);
        match self.plain(text, &spotted).filter(|_| is_alone) {
            Some(statements) => {
                self.name_settings(&spotted);
                let unit = self.parses.units_sent;
                let said = self.said.get_or_insert_default();
                said.asked(unit, statements);
                if spotted.signalled && said.may_change_literals() {
                    self.settings.may_change(unit);
                }
            }
            None => {
                self.ran(&spotted, None);
                self.note_early(text);
            }
        }
        self.parses.units_sent += 1;
        // A simple query drops the unnamed statement first of all.
        self.drop_unnamed();
    }

    /// The statements of a text, if each of them says all that it does.
    #[inline]
    fn plain(&self, text: &[u8], spotted: &Spotted) -> Option<Vec<Plain>> {
        let may_be =
            plain::may_be_plain(text, spotted.signalled) && text.len() <= PLAIN_MAX.min(self.bytes_max);
        if may_be { self.read_plain(text) } else { None }
    }

    #[inline(never)]
    fn read_plain(&self, text: &[u8]) -> Option<Vec<Plain>> {
        let statements = plain::read(text)?;
        let calls = |plain: &Plain| matches!(plain, Plain::SetConfig(_));
        if statements.iter().all(calls) {
            return Some(statements);
        }
        let words = self.vocabulary.read_words(text);
        let is_certain = !words.signalled && !words.blind && words.unseen.is_empty();
        is_certain.then_some(statements)
    }

    /// What functions do was learned, or learned anew: to be called before anybody goes by these notes.
    #[inline]
    pub fn hear_news(&mut self) {
        if self.news.has_changed().unwrap_or(false) {
            self.take_news();
        }
    }

    /// Waits until it is known what functions do, if that matters.
    pub async fn learned(&mut self) {
        self.hear_news();
        while self.judgement.is_early() && self.news.changed().await.is_ok() {
            self.take_news();
        }
    }

    #[inline(never)]
    fn take_news(&mut self) {
        let now = self.news.borrow_and_update().clone();
        let before = std::mem::replace(&mut self.vocabulary, now);
        let has_spoken = self.parses.units_sent > 0 || self.judgement.is_early();
        let (early, is_all) = self.judgement.take_early();
        for text in early.split(|byte| *byte == 0).filter(|text| !text.is_empty()) {
            let mut spotted = self.vocabulary.read(text);
            // Their values were seen when they passed.
            spotted.parameters = Parameters::default();
            self.settled |= spotted.signalled;
            self.ran(&spotted, None);
        }
        // What a function did before it was known for it can be seen now, or never.
        let news = match is_all {
            true => self.vocabulary.news(&before),
            false => {
                self.hidden = true;
                self.vocabulary.all_news()
            }
        };
        if !has_spoken {
            return;
        }
        if let Some(news) = news {
            let has_run = self.parses.units_sent != self.surveyed_at || self.executed > 0;
            self.settled |= has_run || !news.shows();
            self.unknown(news.risk.blind, news.risk.unseen);
        }
        self.judgement.doubt();
    }

    /// Kept to be read again: nothing is known yet.
    fn note_early(&mut self, text: &[u8]) {
        if !self.vocabulary.is_learned() {
            self.judgement.keep_early(text);
        }
    }

    /// Statements that were read before the latest news, by what Postgres says that they are.
    fn judge_again(&mut self, ledger: &Ledger) {
        let Some(ran) = self.judgement.settle() else {
            return;
        };
        for statement in ledger.statements() {
            let spotted = self.vocabulary.read(&statement.text);
            if is_of_note(&spotted) {
                self.spot(&statement.name, spotted);
            } else {
                self.spotted.remove(&statement.name);
            }
        }
        for name in ran {
            let is_there = ledger.statements().iter().any(|statement| statement.name == name);
            let (blind, unseen) = match self.spotted.get(&name) {
                Some(spotted) if is_there => (spotted.blind, spotted.unseen),
                None if is_there => continue,
                _ => match self.vocabulary.worst() {
                    Some(risk) => (risk.blind, risk.unseen),
                    None => continue,
                },
            };
            self.unknown(blind, unseen);
        }
    }

    #[inline(never)]
    fn parse(&mut self, body: &[u8]) {
        self.hear_news();
        let name = name_in(body);
        let text = body.get(name.len() + 1..).unwrap_or_default();
        let end = memchr(0, text).unwrap_or(text.len());
        let spotted = self.vocabulary.read(&text[..end]);
        self.sequences.read(&text[..end]);
        self.settings.asked(&text[..end], spotted.signalled);
        let plain = self.plain(&text[..end], &spotted);
        let is_kept = (plain.is_some() || self.said.is_some()) && self.parse_plain(name, plain, body);
        if !is_kept {
            self.note_early(&text[..end]);
        }
        if name.is_empty() {
            let unit = self.parses.units_sent;
            self.parses
                .expect(Pending::Unnamed(self.settings.is_in_doubt(unit)));
            if self.unnamed.body.capacity() > UNNAMED_KEPT.max(2 * body.len()) {
                self.unnamed.body = BytesMut::new();
            }
            self.unnamed.body.clear();
            self.unnamed.too_large = body.len() > self.bytes_max;
            if !self.unnamed.too_large {
                self.unnamed.body.put_slice(body);
            }
            self.unnamed.doubtful = false;
            // Before it is answered, nobody counts on it.
            (self.unnamed.under, self.unnamed.told) = (Under::Greeting, None);
            self.unnamed.spotted = is_of_note(&spotted).then(|| Arc::new(spotted));
        } else {
            self.named(name, Some(body), spotted);
        }
    }

    /// Whether its text is all that has to be known of it.
    #[inline(never)]
    fn parse_plain(&mut self, name: &[u8], plain: Option<Vec<Plain>>, body: &[u8]) -> bool {
        // More than one statement is refused.
        let plain = plain.and_then(|mut plain| plain.pop().filter(|_| plain.is_empty()));
        let plain = plain.filter(|plain| bound::declared(body).is_some_and(|types| plain.accepts(types)));
        let is_plain = plain.is_some();
        if is_plain || self.said.is_some() {
            let unit = self.parses.units_sent;
            self.said
                .get_or_insert_default()
                .parse(unit, known_as(name), plain);
        }
        is_plain
    }

    /// `body` is None if it is too long to be kept.
    fn named(&mut self, name: &[u8], body: Option<&[u8]>, spotted: Spotted) {
        let kept = body.filter(|body| self.parses.bytes + body.len() <= self.bytes_max);
        if let Some(body) = kept {
            self.parses.bytes += body.len();
        } else {
            (self.present, self.lasting) = (true, true);
        }
        let name = known_as(name);
        self.judgement.judged(name);
        let body = kept.map(Into::into);
        let in_doubt = self.settings.is_in_doubt(self.parses.units_sent);
        let spotted = is_of_note(&spotted).then_some(spotted);
        let Some(before) = self.spotted.get(name).cloned().filter(|_| name != ANY_OTHER) else {
            self.parses.expect(Pending::Parse(body, in_doubt));
            if let Some(spotted) = spotted {
                self.spot(name, spotted);
            }
            return;
        };
        // Refused, the older one stays.
        self.parses.expect(Pending::Instead(Box::new(Remade {
            body,
            name: name.into(),
            spotted: spotted.clone().map(Arc::new),
            in_doubt,
        })));
        if let Some(mut spotted) = spotted {
            spotted.merge(&before);
            self.spot(name, spotted);
        }
    }

    fn spot(&mut self, name: &[u8], spotted: Spotted) {
        let has_room = self.spotted.len() < SPOTTED_MAX && name.len() <= NAME_MAX;
        if has_room || self.spotted.contains_key(name) {
            self.spotted.insert(name.into(), Arc::new(spotted));
            return;
        }
        let is_known = self.names.note(&spotted.settings, &self.lore);
        let is_blind = spotted.blind || spotted.parameters.outlive() || !is_known;
        self.unknown(is_blind, Unseen::NONE);
        let before = self.spotted.get(ANY_OTHER).map(|before| before.unseen);
        let others = Spotted {
            signalled: true,
            lasting: true,
            unseen: spotted.unseen | before.unwrap_or_default(),
            ..Spotted::default()
        };
        self.spotted.insert(ANY_OTHER.into(), Arc::new(others));
    }

    /// `whole` or its beginning.
    #[inline(never)]
    fn bind(&mut self, body: &[u8], whole: bool) {
        let (portal, statement) = bound::names(body);
        let spotted = if statement.is_empty() {
            self.unnamed.spotted.clone()
        } else {
            let statement = known_as(statement);
            if self.judgement.doubts(statement) {
                (self.present, self.lasting) = (true, true);
            }
            let known = self.spotted.get(statement);
            known.or_else(|| self.spotted.get(ANY_OTHER)).cloned()
        };
        if let Some(said) = &mut self.said
            && said.bind(portal, known_as(statement), if whole { body } else { b"" })
        {
            let settings = said.bound_names().filter(|name| plain::is_custom(name));
            let settings = settings.map(|name| String::from_utf8_lossy(name).into_owned());
            let named = Spotted {
                settings: settings.collect(),
                ..Spotted::default()
            };
            if said.may_change_literals() {
                self.settings.may_change(self.parses.units_sent);
            }
            self.name_settings(&named);
        } else if let Some(spotted) = spotted {
            self.ran(&spotted, Some(body));
        }
    }

    #[inline(never)]
    fn execute(&mut self, body: &[u8]) {
        if let Some(said) = &mut self.said
            && body.first() == Some(&0)
        {
            said.execute(self.parses.units_sent, self.executed - 1);
        }
    }

    #[inline(never)]
    fn close(&mut self, body: &[u8]) {
        let statement = body.split_first().filter(|(kind, _)| **kind == b'S');
        let name = statement.map_or(&b""[..], |(_, name)| name_in(name));
        let is_unnamed = statement.is_some() && name.is_empty();
        if name.len() > NAME_MAX {
            (self.present, self.lasting) = (true, true);
        }
        let is_kept = !name.is_empty() && name.len() <= NAME_MAX;
        self.parses
            .expect(Pending::Close(is_kept.then(|| known_as(name).into())));
        if is_unnamed {
            self.drop_unnamed();
        }
    }

    #[inline(never)]
    fn describe(&mut self, body: &[u8]) {
        let Some((kind, name)) = body.split_first() else {
            return;
        };
        let name = known_as(name_in(name));
        match (kind, self.bound) {
            (b'S', _) => self.parses.expect(Pending::Describe(name.into())),
            (b'P', Some((portal, statement)))
                if portal == digest_of(name) && !self.parses.told.knows(statement) =>
            {
                self.parses.expect(Pending::Portal(statement));
            }
            _ => {}
        }
    }

    #[inline(never)]
    fn call(&mut self, body: &[u8]) {
        let oid = body.first_chunk().map_or(0, |oid| u32::from_be_bytes(*oid));
        let called = function_called(oid);
        if called != Called::Nothing {
            (self.present, self.lasting, self.hidden) = (true, true, true);
            self.settings.may_change(self.parses.units_sent);
        }
        match called {
            Called::Nothing | Called::AdvisoryLock => {}
            Called::SetConfig => self.set_config(argument_of(body)),
            Called::SetSeed => self.pin(Pin::RandomSeed),
            Called::Anything => self.pin(Pin::UnknownSettings),
        }
        self.parses.units_sent += 1;
    }

    /// The beginning of a large message of the server's, which answers something.
    #[inline(never)]
    pub fn answered_beginning(&mut self, tag: u8) {
        // It takes more parameters than anybody compares.
        if tag == b't' {
            self.parses.told.is_too_much = true;
            // Whatever it is, it is answered.
            self.parses.answered(b'\0', b"", |_| Under::Unknown);
        }
    }

    /// The beginning of a large message of the client's.
    #[inline(never)]
    pub fn asked_beginning(&mut self, tag: u8, body: &[u8]) {
        self.listening = None;
        match tag {
            b'Q' => {
                self.executed = 0;
                self.listener.begin(Message::Query);
            }
            b'P' => {
                let name = known_as(name_in(body));
                if let Some(said) = &mut self.said {
                    said.parse(self.parses.units_sent, name, None);
                }
                self.listening_name = name.into();
                self.listener.begin(Message::Parse);
            }
            b'B' => {
                self.bound = bound_to(body);
                return self.bind(body, false);
            }
            b'F' => return self.call(body),
            // Names of which only the beginning counts.
            b'C' => return self.close(body),
            b'D' => return self.describe(body),
            _ => return,
        }
        self.listening = Some(tag);
        self.listener.piece(&self.vocabulary, body);
    }

    /// More of a large message of the client's.
    pub fn asked_more(&mut self, body: &[u8], last: bool) {
        let Some(tag) = self.listening else {
            return;
        };
        if !last {
            return self.listener.piece(&self.vocabulary, body);
        }
        self.listening = None;
        self.hear_news();
        let spotted = self.listener.end(&self.vocabulary, body);
        self.judgement.miss_early(!self.vocabulary.is_learned());
        if tag == b'Q' {
            self.ran(&spotted, None);
            self.parses.units_sent += 1;
            self.drop_unnamed();
        } else if self.listener.is_named() {
            let name = std::mem::take(&mut self.listening_name);
            self.named(&name, None, spotted);
        } else {
            self.parses.expect(Pending::Unnamed(false));
            self.unnamed = Unnamed {
                too_large: true,
                spotted: is_of_note(&spotted).then(|| Arc::new(spotted)),
                ..Unnamed::default()
            };
        }
    }

    /// A statement with this text was given to the server to run.
    #[inline]
    fn ran(&mut self, spotted: &Spotted, bind: Option<&[u8]>) {
        if is_of_note(spotted) {
            self.ran_of_note(spotted, bind);
        }
    }

    #[inline(never)]
    fn ran_of_note(&mut self, spotted: &Spotted, bind: Option<&[u8]>) {
        if spotted.signalled {
            // What is said before anything is known is read again.
            self.hidden |= self.vocabulary.is_learned();
            self.settings.may_change(self.parses.units_sent);
        }
        self.present |= spotted.signalled;
        self.lasting |= spotted.lasting;
        if spotted.asks {
            self.sequences.asked();
            self.lore.sequences_asked();
        }
        self.name_settings(spotted);
        self.unknown(spotted.blind, spotted.unseen);
        if spotted.dynamic {
            self.in_do.push(Pin::UnknownSettings);
        }
        if spotted.foreign {
            self.in_do.push(Pin::InterpreterData);
        }
        if !spotted.parameters.is_empty() {
            self.name_parameters(spotted.parameters, bind);
        }
    }

    /// Settings that are named by values.
    fn name_parameters(&mut self, parameters: Parameters, bind: Option<&[u8]>) {
        let Some(bind) = bind else {
            return self.unknown(parameters.outlive(), Unseen::NONE);
        };
        for (index, outlives) in parameters.each() {
            match index.and_then(|index| value_of(bind, index)) {
                Some(name) => self.set_config(Some(name)),
                None => self.unknown(outlives, Unseen::NONE),
            }
        }
    }

    fn set_config(&mut self, name: Option<&[u8]>) {
        match name {
            Some(name) => self.ran(&Spotted::set_config(name), None),
            None => self.pin(Pin::UnknownSettings),
        }
    }

    fn unknown(&mut self, blind: bool, unseen: Unseen) {
        if blind {
            self.pin(Pin::UnknownSettings);
        }
        Pin::of_unseen(unseen).for_each(|pin| self.pin(pin));
    }

    fn name_settings(&mut self, spotted: &Spotted) {
        if !self.names.note(&spotted.settings, &self.lore) {
            self.pin(Pin::UnknownSettings);
        }
    }

    #[inline(never)]
    fn completed(&mut self, tag: &[u8]) {
        let unit = self.parses.units_done;
        let signals = tag_signals(tag);
        // Told at the unit's end only, and what is parsed until then is read under it.
        if self.settings.may_revert && ends_transaction(tag) {
            self.settings.may_have_changed(unit);
        }
        if let Some(said) = &mut self.said {
            let done = said.done(unit, self.done, tag, &mut self.parses);
            if done != Done::Other {
                // What was parsed before it, and is not the statement itself, can't be put in its place.
                self.present |=
                    done >= Done::PlainAndRead && !self.unnamed.body.is_empty() && !said.is_unnamed_plain();
                return self.completed_plain(tag, done);
            }
        }
        if !signals {
            return;
        }
        if tag_eases(tag) {
            self.eased = true;
            return;
        }
        match tag.starts_with(b"PREPARE") {
            true => self.settings.prepared(unit, None),
            false => self.settings.may_have_changed(unit),
        }
        self.present = true;
        self.hidden |= !tag_tells_all(tag);
        self.lasting |= tag_lasts(tag);
        if tag.starts_with(b"DO") {
            for pin in std::mem::take(&mut self.in_do) {
                self.pin(pin);
            }
        }
        if tag.starts_with(b"LOAD") {
            Pin::of_unseen(Unseen::LIBRARY).for_each(|pin| self.pin(pin));
        }
        if tag_redefines(tag) {
            self.lore.doubt();
        }
    }

    fn completed_plain(&mut self, tag: &[u8], done: Done) {
        self.lasting |= tag_lasts(tag);
        let unit = self.parses.units_done;
        if tag.starts_with(b"PREPARE") {
            let name = self.parses.made_by_sql.take();
            self.settings.prepared(unit, name);
        } else if done == Done::PlainAndLiterals {
            self.settings.may_have_changed(unit);
        }
    }

    fn ready(&mut self, status: Option<u8>) {
        self.done = 0;
        if self.settings.is_fresh || self.settings.may_revert {
            self.settings.ready(status);
        }
        if self.said.is_some() {
            self.said_ready(status);
        }
        if status == Some(b'I') {
            self.settled |= self.present;
            (self.present, self.lasted) = (false, false);
        } else {
            self.lasted |= self.lasting;
        }
        self.lasting = false;
        self.parses.unit_done();
    }

    /// How many entries there is room for.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.parses.capacity() + self.spotted.len()
    }

    #[inline(never)]
    fn said_ready(&mut self, status: Option<u8>) {
        if let Some(said) = &mut self.said {
            self.present |= said.ready(status, self.parses.units_done);
        }
        self.tidy();
    }

    fn pin(&mut self, pin: Pin) {
        if !self.pins.contains(&pin) {
            self.pins.push(pin);
        }
    }

    fn drop_unnamed(&mut self) {
        if let Some(said) = &mut self.said {
            said.forget_unnamed();
        }
        if !self.unnamed.body.is_empty() || self.unnamed.too_large {
            self.unnamed = Unnamed::default();
        }
    }
}

/// What a Bind binds, and to which portal, if its statement has a name.
#[inline]
fn bound_to(body: &[u8]) -> Option<(u64, u64)> {
    match body {
        // Most have neither.
        [0, 0, ..] => None,
        body => {
            let (portal, statement) = bound::names(body);
            let names = (digest_of(portal), digest(known_as(statement)));
            (!statement.is_empty()).then_some(names)
        }
    }
}

/// Of a portal, which most often has no name.
#[inline]
fn digest_of(portal: &[u8]) -> u64 {
    match portal {
        b"" => 0,
        name => digest(known_as(name)),
    }
}

/// Postgres cuts names of statements.
fn known_as(name: &[u8]) -> &[u8] {
    const KEPT: usize = 63;
    &name[..name.len().min(KEPT)]
}

fn is_of_note(spotted: &Spotted) -> bool {
    spotted.signalled
        || spotted.blind
        || spotted.foreign
        || spotted.asks
        || !spotted.unseen.is_empty()
        || !spotted.settings.is_empty()
}

impl std::fmt::Debug for Notes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notes")
            .field("settled", &self.settled)
            .field("present", &self.present)
            .field("pins", &self.pins)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::known::Again;
    use super::super::wire::state_words::{Definition, Learned, learn};
    use super::*;

    /// `>Q text`, `>P name text`, `>B statement`, `>C name`, `>S`; `<C tag`, `<Z status`, `<1`, `<3`, `<E`.
    fn after(steps: &[&str]) -> Notes {
        let mut notes = Notes::new(Arc::new(Lore::plain()), 200);
        play(&mut notes, steps);
        notes
    }

    fn play(notes: &mut Notes, steps: &[&str]) {
        for step in steps {
            let (head, rest) = step.split_once(' ').unwrap_or((step, ""));
            let tag = head.as_bytes()[1];
            let body = match (head, tag) {
                (">Q" | "<C", _) => format!("{rest}\0"),
                (">P", _) => {
                    let (name, text) = rest.split_once(' ').unwrap_or_default();
                    format!("{name}\0{text}\0\0\0")
                }
                (">B", _) => format!("\0{rest}\0\0\0\0\0"),
                (">C", _) => format!("S{rest}\0"),
                _ => rest.to_owned(),
            }
            .into_bytes();
            if head.starts_with('>') {
                notes.asked(tag, &body);
            } else {
                notes.answered(tag, &body);
            }
        }
    }

    /// What would be said again.
    fn again(notes: &Notes) -> Vec<String> {
        let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
        let known = notes.known(None, &Values::default());
        let first = known.parsed.into_iter().map(|parsed| Again::Parse(parsed.body));
        let again = first.chain(known.said).map(|again| match again {
            Again::Text(said) | Again::Alone(said) => text(&said),
            Again::SetConfig { name, value } => format!("{} = {}", text(&name), text(&value)),
            Again::Touch(name) => format!("touch {}", text(&name)),
            Again::Parse(body) => format!("parse {}", text(name_in(&body))),
        });
        again.collect()
    }

    const BEGIN: [&str; 3] = [">Q BEGIN", "<C BEGIN", "<Z T"];
    const COMMIT: [&str; 3] = [">Q COMMIT", "<C COMMIT", "<Z I"];
    const ROLLBACK: [&str; 3] = [">Q ROLLBACK", "<C ROLLBACK", "<Z I"];

    #[test]
    fn what_a_plain_statement_said_is_said_again() {
        for (text, tag) in [
            ("SET work_mem = '5MB'", "SET"),
            ("RESET ALL", "RESET"),
            ("LISTEN a", "LISTEN"),
            ("PREPARE p AS SELECT 1", "PREPARE"),
            ("DEALLOCATE ALL", "DEALLOCATE ALL"),
            ("DISCARD ALL", "DISCARD ALL"),
        ] {
            let mut notes = after(&[&format!(">Q {text}"), &format!("<C {tag}"), "<Z I"]);
            assert!(notes.is_unsure() && notes.is_rebuildable(), "{text}");
            assert_eq!(again(&notes), [text]);
            notes.surveyed(&Ledger::default(), &Values::default());
            assert!(!notes.is_signalled() && again(&notes).is_empty() && notes.said.is_none());
        }
    }

    #[test]
    fn who_asks_what_a_sequence_gave_may_ask_after_each_draw_and_not_after_it_has_asked() {
        const ASK: [&str; 3] = [">Q SELECT lastval()", "<C SELECT 1", "<Z I"];
        const INSERT: [&str; 3] = [">Q INSERT INTO t DEFAULT VALUES", "<C INSERT 0 1", "<Z I"];
        let mut notes = after(&INSERT);
        assert!(!notes.may_ask_sequences());
        let step = |notes: &mut Notes, steps: &[&str]| {
            play(notes, steps);
            notes.quiet();
            notes.may_ask_sequences()
        };
        assert!(!step(&mut notes, &ASK) && !notes.is_signalled());
        for draw in [
            &INSERT,
            &[">Q COPY t FROM STDIN", "<C COPY 3", "<Z I"],
            &[">Q CALL f()", "<C CALL", "<Z I"],
            &[">Q SELECT NextVal('s')", "<C SELECT 1", "<Z I"],
            &[">Q INSERT INTO u SELECT lastval()", "<C INSERT 0 1", "<Z I"],
        ] {
            assert!(step(&mut notes, draw), "{draw:?}");
            assert!(!step(&mut notes, &ASK));
        }
        let mut other = Notes::new(Arc::clone(&notes.lore), 200);
        assert!(!other.may_ask_sequences());
        assert!(step(&mut other, &INSERT));
        assert!(!step(&mut other, &[">Q DISCARD ALL", "<C DISCARD ALL", "<Z I"]));
        let named = [
            ">P s SELECT currval('s')",
            ">B s",
            ">E \0",
            ">S",
            "<1",
            "<C SELECT 1",
            "<Z I",
        ];
        assert!(step(&mut other, &INSERT) && !step(&mut other, &named));
        assert!(
            step(&mut other, &INSERT) && !step(&mut other, &[&[">B s"], &named[2..4], &named[5..]].concat())
        );
        // Asked when it was known that others do: what it was given before, nobody knows.
        let mut early = after(&INSERT);
        early.lore = Arc::clone(&notes.lore);
        assert!(early.may_ask_sequences());
    }

    #[test]
    fn what_tells_all_that_it_does_may_be_asked_again() {
        let lore = Arc::new(Lore::unlearned());
        lore.take(taught(&[("f", SETS)]));
        let notes = Notes::new(lore, 200);
        for text in [
            "SELECT 1",
            "SET a.b = 1",
            "SELECT set_config('a.b', '1', false)",
            "SELECT set_config($1, $2, false)",
            "LISTEN a",
            "PREPARE p AS SELECT 1",
            "DISCARD ALL",
        ] {
            assert!(notes.is_plain(text.as_bytes()), "{text}");
        }
        for text in [
            "SELECT f()",
            "PREPARE p AS SELECT f()",
            "DO 'f'",
            "SELECT set_config(a, b, false) FROM t",
        ] {
            assert!(!notes.is_plain(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn the_extended_protocol_says_as_much() {
        let unnamed = [
            ">P  SET a.b = 1",
            ">B ",
            ">E \0",
            ">S",
            "<1",
            "<2",
            "<C SET",
            "<Z I",
        ];
        assert_eq!(again(&after(&unnamed)), ["SET a.b = 1"]);
        let named = [">P s SET a.b = 1", ">B s", ">E \0", ">S", "<1", "<C SET", "<Z I"];
        let twice = [&named[..], &[">B s", ">E \0", ">S", "<C SET", "<Z I"]].concat();
        assert_eq!(again(&after(&twice)), ["parse s", "SET a.b = 1"]);
        let never = [">P  SET a.b = 1", ">B ", ">S", "<1", "<Z I"];
        assert!(again(&after(&never)).is_empty());
        let two = [
            ">P  SELECT 1",
            ">B ",
            ">E \0",
            ">P  SET a.b = 1",
            ">B ",
            ">E \0",
            ">S",
            "<1",
            "<C SELECT 1",
            "<1",
            "<C SET",
            "<Z I",
        ];
        let notes = after(&two);
        assert!(notes.is_rebuildable());
        assert_eq!(again(&notes), ["SET a.b = 1"]);
    }

    #[test]
    fn a_statement_that_was_not_made_anew_is_what_it_was() {
        let steps = [
            ">P s SET a.b = 1",
            ">S",
            "<1",
            "<Z I",
            ">P s SET a.b = 2",
            ">S",
            "<E",
            "<Z I",
            ">B s",
            ">E \0",
            ">S",
            "<C SET",
            "<Z I",
        ];
        assert_eq!(again(&after(&steps)), ["parse s", "SET a.b = 1"]);
        let ahead = [
            ">P s SET a.b = 1",
            ">S",
            "<1",
            "<Z I",
            ">P s SET a.b = 2",
            ">S",
            ">B s",
            ">E \0",
            ">S",
            "<E",
            "<Z I",
            "<C SET",
            "<Z I",
        ];
        assert!(!after(&ahead).is_rebuildable());
    }

    #[test]
    fn a_name_that_is_closed_and_parsed_anew_at_once_is_known_for_what_it_is_now() {
        let mut notes = after(&[">P s SELECT 1", ">S", "<1", "<Z I"]);
        notes.surveyed(&Ledger::default(), &Values::default());
        notes.asked(b'C', b"Ss\0");
        notes.asked(b'P', b"s\0SELECT set_config(x, 'y', false) FROM t\0\0\0");
        notes.asked(b'S', b"");
        for tag in [b'3', b'1'] {
            notes.answered(tag, b"");
        }
        notes.answered(b'Z', b"I");
        notes.surveyed(&Ledger::default(), &Values::default());
        notes.asked(b'B', b"\0s\0\0\0\0\0\0\0");
        notes.answered(b'Z', b"I");
        assert!(notes.is_signalled());
    }

    #[test]
    fn values_of_set_config_are_kept_with_their_names() {
        let text = "SELECT set_config('a.b', $1, false)";
        let mut notes = after(&[&format!(">P  {text}"), ">S", "<1", "<Z I"]);
        notes.asked(b'B', b"\0\0\0\0\0\x01\0\0\0\x01x\0\0");
        notes.asked(b'E', b"\0\0\0\0\0");
        notes.asked(b'S', b"");
        notes.answered(b'C', b"SELECT 1\0");
        notes.answered(b'Z', b"I");
        assert!(notes.is_rebuildable() && notes.is_unsure());
        assert_eq!(again(&notes), ["a.b = x"]);
        assert!(notes.custom_names().contains("a.b"));
        let literal = [">Q SELECT set_config('a.b', '1', false)", "<C SELECT 1", "<Z I"];
        assert_eq!(again(&after(&literal)), ["a.b = 1"]);
        let parse = format!(">P  {text}");
        let null = [&parse, ">B ", ">E \0", ">S", "<1", "<C SELECT 1", "<Z I"];
        assert!(!after(&null).is_rebuildable());
    }

    #[test]
    fn what_was_rolled_back_was_not_said() {
        let set = [">Q SET work_mem = '5MB'", "<C SET", "<Z T"];
        let notes = after(&[&BEGIN[..], &set, &COMMIT].concat());
        assert_eq!(again(&notes), ["SET work_mem = '5MB'"]);
        let notes = after(&[&BEGIN[..], &set, &ROLLBACK].concat());
        assert!(notes.is_rebuildable() && !notes.is_signalled());
        let failed = [">Q SELECT 1/0", "<E", "<Z E", ">Q COMMIT", "<C ROLLBACK", "<Z I"];
        let notes = after(&[&BEGIN[..], &set, &failed].concat());
        assert!(notes.is_rebuildable() && !notes.is_signalled());
        let together = [
            ">P  SET work_mem = '5MB'",
            ">B ",
            ">E \0",
            ">P  SELEC",
            ">S",
            "<1",
            "<C SET",
            "<E",
            "<Z I",
        ];
        assert!(again(&after(&together)).is_empty());
        let refused = [">Q SET a.b.c = 1", "<E", "<Z I"];
        assert!(!after(&refused).is_signalled());
        let in_one = [
            ">Q BEGIN; SET work_mem = '5MB'; ROLLBACK; SET work_mem = '6MB'",
            "<C BEGIN",
            "<C SET",
            "<C ROLLBACK",
            "<C SET",
            "<Z I",
        ];
        assert_eq!(again(&after(&in_one)), ["SET work_mem = '6MB'"]);
    }

    #[test]
    fn a_savepoint_leaves_it_to_a_survey() {
        let set = [">Q SET work_mem = '5MB'", "<C SET", "<Z T"];
        let back = [">Q ROLLBACK TO s", "<C ROLLBACK", "<Z T"];
        let notes = after(&[&BEGIN[..], &set, &back, &COMMIT].concat());
        assert!(!notes.is_rebuildable() && notes.is_unsure());
        let mut notes = after(&[&BEGIN[..], &set, &back].concat());
        notes.undone();
        assert!(notes.is_rebuildable());
        let released = [">Q RELEASE s", "<C RELEASE", "<Z T"];
        assert!(after(&[&BEGIN[..], &set, &released, &COMMIT].concat()).is_rebuildable());
        // What it took back is no more, in the same message.
        let text = ">Q BEGIN; SET a.b = 1; PREPARE p AS SELECT 1; ROLLBACK; DEALLOCATE p";
        let done = [
            "<C BEGIN",
            "<C SET",
            "<C PREPARE",
            "<C ROLLBACK",
            "<C DEALLOCATE",
            "<Z I",
        ];
        assert_eq!(again(&after(&[&[text], &done[..]].concat())), ["touch a.b"]);
        // Nothing was set.
        assert!(!after(&[&BEGIN[..], &back, &COMMIT].concat()).is_signalled());
    }

    #[test]
    fn what_ends_with_its_transaction_is_nothing_but_a_custom_name() {
        let local = [">Q SET LOCAL work_mem = '5MB'", "<C SET", "<Z T"];
        let notes = after(&[&BEGIN[..], &local, &COMMIT].concat());
        assert!(!notes.is_signalled() && notes.is_rebuildable() && notes.said.is_none());
        let custom = [">Q SELECT set_config('a.b', '1', true)", "<C SELECT 1", "<Z T"];
        for end in [COMMIT, ROLLBACK] {
            let twice = [&BEGIN[..], &custom, &end, &BEGIN, &custom, &end].concat();
            let notes = after(&twice);
            assert!(notes.is_signalled() && !notes.is_unsure() && notes.is_rebuildable());
            assert_eq!(again(&notes), ["touch a.b"]);
        }
        let set = [">Q SET a.b = 1", "<C SET", "<Z T"];
        assert_eq!(
            again(&after(&[&BEGIN[..], &set, &ROLLBACK].concat())),
            ["touch a.b"]
        );
    }

    #[test]
    fn statements_are_made_where_they_were() {
        let parse = |name: &str| format!(">P {name} SELECT 1");
        let (one, two, three) = (parse("one"), parse("two"), parse("three"));
        let steps = [
            &one,
            ">S",
            "<1",
            "<Z I",
            ">Q SET DateStyle = 'SQL'",
            "<C SET",
            "<Z I",
            &two,
            ">S",
            "<1",
            "<Z I",
            ">Q SET DateStyle = 'ISO'",
            "<C SET",
            "<Z I",
            &three,
            ">S",
            "<1",
            "<Z I",
        ];
        let expected = [
            "parse one",
            "SET DateStyle = 'SQL'",
            "parse two",
            "SET DateStyle = 'ISO'",
            "parse three",
        ];
        assert_eq!(again(&after(&steps)), expected);
        let closed = [&steps[..], &[">C two", ">S", "<3", "<Z I"]].concat();
        assert_eq!(again(&after(&closed)).len(), 4);
        let dropped = [&steps[..], &[">Q DEALLOCATE one", "<C DEALLOCATE", "<Z I"]].concat();
        let notes = after(&dropped);
        assert!(notes.is_replaced(b"one") && notes.is_rebuildable());
        assert_eq!(again(&notes), expected[1..]);
        let discarded = [&steps[..], &[">Q DISCARD ALL", "<C DISCARD ALL", "<Z I"]].concat();
        assert_eq!(again(&after(&discarded)), ["DISCARD ALL"]);
        let custom = [
            ">Q SET a.b = 1",
            "<C SET",
            "<Z I",
            ">Q DISCARD ALL",
            "<C DISCARD ALL",
            "<Z I",
        ];
        assert_eq!(again(&after(&custom)), ["DISCARD ALL", "touch a.b"]);
    }

    #[test]
    fn what_was_read_under_what_is_gone_leaves_it_to_a_survey() {
        let parsed = [">P one SELECT 1", ">S", "<1", "<Z T"];
        let local = [">Q SET LOCAL DateStyle = 'SQL'", "<C SET", "<Z T"];
        assert!(!after(&[&BEGIN[..], &local, &parsed, &COMMIT].concat()).is_rebuildable());
        let harmless = [">Q SET LOCAL a.b = 1", "<C SET", "<Z T"];
        assert!(after(&[&BEGIN[..], &harmless, &parsed, &COMMIT].concat()).is_rebuildable());
        let set = [">Q SET DateStyle = 'SQL'", "<C SET", "<Z T"];
        assert!(after(&[&BEGIN[..], &set, &parsed, &COMMIT].concat()).is_rebuildable());
        assert!(!after(&[&BEGIN[..], &set, &parsed, &ROLLBACK].concat()).is_rebuildable());
        let prepare = [">Q PREPARE p AS SELECT 1", "<C PREPARE", "<Z T"];
        assert!(!after(&[&BEGIN[..], &set, &prepare, &ROLLBACK].concat()).is_rebuildable());
        assert_eq!(
            again(&after(&[&BEGIN[..], &prepare, &ROLLBACK].concat())),
            ["PREPARE p AS SELECT 1"]
        );
    }

    #[test]
    fn what_its_text_does_not_tell_leaves_it_to_a_survey() {
        for text in ["SET a.b = 1; DO ''", "SET seed = 0.5", "SET a.b = E'1'"] {
            let notes = after(&[&format!(">Q {text}"), "<C SET", "<Z I"]);
            assert!(!notes.is_rebuildable() && notes.is_unsure(), "{text}");
        }
        let both = after(&[">Q SET a.b = 1", "<C SET", "<Z I", ">Q DO ''", "<C DO", "<Z I"]);
        assert!(!both.is_rebuildable());
    }

    #[test]
    fn more_than_is_kept_leaves_it_to_a_survey() {
        let each = |count: usize| {
            let steps = (0..count).flat_map(|_| [">Q SET DateStyle = 'SQL'", "<C SET", "<Z I"]);
            after(&steps.collect::<Vec<_>>())
        };
        assert!(each(64).is_rebuildable() && !each(65).is_rebuildable());
        let harmless = (0..100).flat_map(|_| [">Q SET a.b = 1", "<C SET", "<Z I"]);
        assert_eq!(again(&after(&harmless.collect::<Vec<_>>())), ["SET a.b = 1"]);
        let long = format!(">Q SET a.b = '{}'", "x".repeat(300));
        assert!(!after(&[&long, "<C SET", "<Z I"]).is_rebuildable());
    }

    #[test]
    fn before_anything_is_learned_a_session_is_unsure_only_of_what_may_do_something() {
        let unlearned = |steps: &[&str]| {
            let mut notes = Notes::new(Arc::new(Lore::unlearned()), 200);
            play(&mut notes, steps);
            notes
        };
        let first = [
            ">Q SET a.b = 1",
            "<C SET",
            "<Z I",
            ">Q SELECT 1",
            "<C SELECT 1",
            "<Z I",
        ];
        let notes = unlearned(&first);
        assert!(notes.is_rebuildable());
        assert_eq!(again(&notes), ["SET a.b = 1"]);
        assert!(!unlearned(&[">Q SELECT f()", "<C SELECT 1", "<Z I"]).is_rebuildable());
    }

    fn made(notes: &Notes) -> Vec<String> {
        let known = notes.known(None, &Values::default());
        let names = known.parsed.iter();
        names
            .map(|parsed| String::from_utf8_lossy(name_in(&parsed.body)).into_owned())
            .collect()
    }

    #[test]
    fn what_leaves_a_session_as_it_was_gives_no_signal() {
        let notes = after(&[
            ">Q SELECT 1",
            "<C SELECT 1",
            "<Z I",
            ">P  SELECT 1",
            ">B ",
            ">S",
            "<1",
            "<Z I",
        ]);
        assert!(!notes.is_signalled() && notes.is_rebuildable());
    }

    #[test]
    fn what_may_have_set_anything_is_a_signal_until_a_survey() {
        let mut notes = after(&[">Q DO ''", "<C DO", "<Z I"]);
        assert!(notes.is_signalled() && !notes.is_rebuildable());
        notes.surveyed(&Ledger::default(), &Values::default());
        assert!(!notes.is_signalled() && notes.is_rebuildable());
    }

    #[test]
    fn what_a_transaction_set_goes_with_the_transaction() {
        let begun = [
            ">Q BEGIN",
            "<C BEGIN",
            "<Z T",
            ">Q SELECT set_config(name, '1', true) FROM t",
            "<C SELECT 1",
            "<Z T",
        ];
        let mut notes = after(&begun);
        assert!(notes.is_signalled());
        notes.undone();
        assert!(!notes.is_signalled());
        let notes = after(&[&begun[..], &[">Q COMMIT", "<C COMMIT", "<Z I"]].concat());
        assert!(!notes.is_rebuildable());
    }

    #[test]
    fn a_cursor_goes_with_its_transaction_unless_it_is_held() {
        let cursor = |declare| {
            let closed = ["<Z T", ">Q CLOSE c", "<C CLOSE CURSOR", "<Z T"];
            let committed = [">Q COMMIT", "<C COMMIT", "<Z I"];
            let declared = [">Q BEGIN", "<C BEGIN", "<Z T", declare, "<C DECLARE CURSOR"];
            after(&[&declared[..], &closed, &committed].concat())
        };
        assert!(cursor(">Q DECLARE c CURSOR FOR SELECT 1").is_rebuildable());
        assert!(!cursor(">Q DECLARE c CURSOR WITH HOLD FOR SELECT 1").is_rebuildable());
    }

    #[test]
    fn a_cursor_that_is_closed_may_have_been_what_kept_its_session() {
        let notes = after(&[">Q CLOSE c", "<C CLOSE CURSOR", "<Z I"]);
        assert!(notes.is_signalled() && notes.is_rebuildable());
    }

    #[test]
    fn a_lock_does_not_go_with_the_transaction() {
        let lock = ">Q SELECT pg_advisory_lock(1)";
        let notes = after(&[">Q BEGIN", "<C BEGIN", "<Z T", lock, "<C SELECT 1", "<Z T"]);
        assert!(!notes.is_rebuildable());
        let under_way = [">Q SELECT pg_advisory_lock(1); SELECT pg_sleep(60)"];
        assert!(after(&under_way).is_rebuildable());
        assert!(!after(&[&under_way[..], &["<C SELECT 1"]].concat()).is_rebuildable());
    }

    #[test]
    fn named_statements_are_kept_until_a_survey_lists_them() {
        let mut notes = after(&[">P one SELECT 1", ">P two SELECT 2", ">S", "<1", "<1", "<Z I"]);
        assert!(notes.is_signalled() && notes.is_rebuildable());
        assert_eq!(made(&notes), ["one", "two"]);
        notes.surveyed(&Ledger::default(), &Values::default());
        assert!(made(&notes).is_empty());
        let notes = after(&[
            ">P one SELECT 1",
            ">S",
            "<1",
            "<Z I",
            ">C one",
            ">S",
            "<3",
            "<Z I",
        ]);
        assert!(made(&notes).is_empty() && notes.since(&Values::default()).parsed.contains_key(&b"one"[..]));
    }

    #[test]
    fn a_statement_whose_parse_was_not_answered_was_not_made() {
        let failed = [">P one SELECT 1", ">P two SELEC", ">S", "<1", "<E", "<Z I"];
        assert_eq!(made(&after(&failed)), ["one"]);
        let next = [&failed[..], &[">P three SELECT 3", ">S", "<1", "<Z I"]].concat();
        assert_eq!(made(&after(&next)), ["one", "three"]);
    }

    #[test]
    fn statements_that_come_and_go_are_known_unless_they_are_too_many() {
        let each = |number: usize| {
            let parse = format!(">P s{number} SELECT 1");
            let steps = [
                &parse,
                ">S",
                "<1",
                "<Z I",
                &format!(">C s{number}"),
                ">S",
                "<3",
                "<Z I",
            ];
            steps.map(str::to_owned)
        };
        for (count, is_unsure) in [(MADE_MAX, false), (MADE_MAX + 1, true)] {
            let steps: Vec<String> = (0..count).flat_map(each).collect();
            let notes = after(&steps.iter().map(String::as_str).collect::<Vec<_>>());
            assert!(notes.is_signalled());
            assert_eq!(notes.is_unsure(), is_unsure, "{count}");
        }
        for (length, is_unsure) in [(NAME_MAX, false), (NAME_MAX + 1, true)] {
            let close = format!(">C {}", "s".repeat(length));
            let notes = after(&[&close, ">S", "<3", "<Z I"]);
            assert_eq!(notes.is_unsure(), is_unsure, "{length}");
        }
    }

    #[test]
    fn more_statements_than_there_is_room_for_are_a_signal() {
        let long = format!(">P one SELECT '{}'", "x".repeat(300));
        let notes = after(&[&long, ">S", "<1", "<Z I"]);
        assert!(notes.is_signalled() && !notes.is_rebuildable());
    }

    #[test]
    fn a_kept_statement_signals_each_time_it_is_bound() {
        for name in ["", "one"] {
            let parse = format!(">P {name} SELECT set_config('a.b', $1, false)");
            let bind = format!(">B {name}");
            let mut notes = after(&[&parse, ">S", "<1", "<Z I"]);
            notes.surveyed(&Ledger::default(), &Values::default());
            notes.bind(format!("\0{name}\0").as_bytes(), true);
            notes.ready(Some(b'I'));
            assert!(!notes.is_rebuildable(), "{bind}");
        }
    }

    #[test]
    fn the_unnamed_statement_lives_until_the_next_query() {
        let parsed = [">P  SELECT 1", ">S", "<1", "<Z I"];
        let notes = after(&parsed);
        assert!(
            notes
                .unnamed(&Values::default())
                .is_some_and(|unnamed| !unnamed.doubtful)
        );
        let notes = after(&[&parsed[..], &["<E"]].concat());
        assert!(
            notes
                .unnamed(&Values::default())
                .is_some_and(|unnamed| unnamed.doubtful)
        );
        for end in [">Q SELECT 1", ">C "] {
            let notes = after(&[&parsed[..], &[end]].concat());
            assert!(notes.unnamed(&Values::default()).is_none(), "{end}");
        }
        let long = format!(">P  SELECT '{}'", "x".repeat(300));
        assert_eq!(after(&[&long]).pins().collect::<Vec<_>>(), [Pin::TooLarge]);
    }

    #[test]
    fn what_a_session_lists_of_itself_hides_nothing() {
        let notes = after(&[
            ">Q SET a.b = 1",
            "<C SET",
            "<Z I",
            ">Q LISTEN a",
            "<C LISTEN",
            "<Z I",
        ]);
        assert!(!notes.is_hidden());
        for hides in [">Q SELECT pg_advisory_lock(1)", "<C DO"] {
            let mut notes = after(&[hides, "<Z I"]);
            notes.surveyed(&Ledger::default(), &Values::default());
            assert!(notes.is_hidden(), "{hides}");
        }
    }

    #[test]
    fn a_statement_is_read_under_what_the_server_told_until_it_was_answered() {
        let told = |notes: &Notes, name: &[u8]| {
            let under = notes.since(&Values::default()).parsed[name].clone();
            under.map(|values| values.of(b"DateStyle").map(<[u8]>::to_vec))
        };
        let mut notes = after(&[">P one SELECT 1", ">S", "<1", "<Z I"]);
        assert_eq!(told(&notes, b"one"), Some(None));
        notes.answered(b'S', b"DateStyle\0German\0");
        notes.answered(b'S', b"application_name\0x\0");
        for (tag, body) in [(b'P', &b"two\0SELECT 2\0\0\0"[..]), (b'S', b"")] {
            notes.asked(tag, body);
        }
        notes.answered(b'1', b"");
        // From here on it is told with the end of the unit only.
        notes.answered(b'C', b"SET\0");
        for (tag, body) in [(b'P', &b"three\0SELECT 'a'\0\0\0"[..]), (b'S', b"")] {
            notes.asked(tag, body);
        }
        notes.answered(b'1', b"");
        assert_eq!(told(&notes, b"one"), Some(None));
        assert_eq!(told(&notes, b"two"), Some(Some(b"German".to_vec())));
        assert_eq!(told(&notes, b"three"), None);
        assert!(notes.pins().any(|pin| pin == Pin::UnreplayableStatement));
    }

    #[test]
    fn what_a_client_was_told_of_a_statement_is_known_as_long_as_it_lives() {
        let mut notes = after(&[">P one SELECT 1", ">S", "<1", "<Z I"]);
        let described = |notes: &mut Notes, columns: &[u8]| {
            notes.asked(b'D', b"Sone\0");
            notes.answered(b't', b"\0\0");
            notes.described(columns, true);
        };
        let told = |notes: &Notes| {
            notes
                .known(None, &Values::default())
                .told
                .first()
                .map(|(_, told)| *told)
        };
        assert_eq!(told(&notes), None);
        described(
            &mut notes,
            b"\0\x01a\0\0\0\0\x01\0\x01\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0",
        );
        let before = told(&notes);
        described(&mut notes, b"");
        assert!(before.is_some() && told(&notes).is_some() && told(&notes) != before);
        notes.asked(b'P', b"one\0SELECT 2\0\0\0");
        notes.answered(b'1', b"");
        assert_eq!(told(&notes), None);
    }

    #[test]
    fn what_no_survey_sees_pins() {
        let notes = after(&[">Q SELECT dblink_connect('a')", "<C SELECT 1", "<Z I"]);
        assert_eq!(notes.pins().collect::<Vec<_>>(), [Pin::ForeignConnections]);
        let notes = after(&[">Q LOAD 'auto_explain'", "<C LOAD", "<Z I"]);
        assert_eq!(notes.pins().collect::<Vec<_>>(), [Pin::LoadedLibrary]);
    }

    fn pins_after(steps: &[&str]) -> Vec<Pin> {
        after(steps).pins().collect()
    }

    #[test]
    fn a_do_that_executes_what_is_not_written_down_pins_and_one_that_shows_it_does_not() {
        let pins = |text: &str| pins_after(&[&format!(">Q {text}"), "<C DO", "<Z I"]);
        for text in [
            "DO $$ BEGIN EXECUTE format('SET app.%I = %L', 'a', 'b'); END $$",
            "DO $$ BEGIN EXECUTE 'SET ' || k || ' = 1'; END $$",
            "DO $$ BEGIN EXECUTE 'SET app.' || k || ' = 1'; END $$",
            "DO $$ BEGIN EXECUTE q; END $$",
            "DO $$ BEGIN EXECUTE format('%s', q); END $$",
        ] {
            assert_eq!(pins(text), [Pin::UnknownSettings], "{text}");
        }
        for text in [
            "DO $$ BEGIN EXECUTE 'SELECT count(*) FROM ' || t; END $$",
            "DO $$ BEGIN EXECUTE format('INSERT INTO %I VALUES (1)', t); END $$",
            "DO $$ BEGIN EXECUTE 'SET app.x = 1'; END $$",
        ] {
            assert_eq!(pins(text), [], "{text}");
        }
        let defined = [
            ">Q CREATE FUNCTION f() AS $$ BEGIN EXECUTE q; END $$",
            "<C CREATE FUNCTION",
            "<Z I",
        ];
        assert_eq!(pins_after(&defined), []);
        assert_eq!(pins_after(&[">Q EXECUTE p", "<C SELECT 1", "<Z I"]), []);
    }

    #[test]
    fn what_a_do_keeps_in_its_interpreter_pins() {
        let text = "DO LANGUAGE plpython3u $$ GD['a'] = 1 $$";
        let steps = [format!(">Q {text}"), "<C DO".to_owned(), "<Z I".to_owned()];
        assert_eq!(
            pins_after(&steps.each_ref().map(String::as_str)),
            [Pin::InterpreterData]
        );
        let loads = [">Q DO $$ BEGIN LOAD 'auto_explain'; END $$", "<C DO", "<Z I"];
        assert_eq!(pins_after(&loads), [Pin::LoadedLibrary]);
        let rows = [">Q INSERT INTO t VALUES ('load', 'x')", "<C INSERT 0 1", "<Z I"];
        assert_eq!(pins_after(&rows), []);
    }

    #[test]
    fn a_seed_pins_however_it_is_set() {
        for text in [
            "SET seed = 0.5",
            "SET SESSION seed TO 0.5",
            "SELECT set_config('seed', '0.5', false)",
        ] {
            let query = format!(">Q {text}");
            assert_eq!(
                pins_after(&[&query, "<C SET", "<Z I"]),
                [Pin::RandomSeed],
                "{text}"
            );
        }
        assert_eq!(
            pins_after(&[">Q UPDATE games SET seed = 1", "<C UPDATE 1", "<Z I"]),
            []
        );
        let called = |oid: u32| {
            let mut notes = after(&[]);
            let mut body = oid.to_be_bytes().to_vec();
            body.extend_from_slice(b"\0\0\0\x01\0\0\0\x03a.b\0\0");
            notes.asked(b'F', &body);
            (notes.pins().collect::<Vec<_>>(), notes.custom_names())
        };
        assert_eq!(called(1599).0, [Pin::RandomSeed]);
        let (pins, names) = called(2078);
        assert_eq!((pins, names.contains("a.b")), (Vec::new(), true));
        assert_eq!(called(16384).0, [Pin::UnknownSettings]);
        assert_eq!(called(2880).0, []);
    }

    #[test]
    fn settings_that_not_everybody_is_shown_pin() {
        for name in ["dynamic_library_path", "transform_null_equals"] {
            let query = format!(">Q SET {name} = 'on'");
            assert_eq!(pins_after(&[&query, "<C SET", "<Z I"]), [Pin::UnknownSettings]);
        }
    }

    /// Parse and Bind of `text` under `name`, with one parameter.
    fn bound(name: &str, text: &str, value: &[u8]) -> Notes {
        let parse = format!(">P {name} {text}");
        let mut notes = after(&[&parse, ">S", "<1", "<Z I"]);
        let mut body = format!("\0{name}\0\0\0\0\x01").into_bytes();
        body.extend_from_slice(&(value.len() as u32).to_be_bytes());
        body.extend_from_slice(value);
        notes.asked(b'B', &body);
        notes
    }

    #[test]
    fn a_setting_that_a_parameter_names_is_known_by_its_value() {
        for name in ["", "s"] {
            let notes = bound(name, "SELECT set_config($1, 'x', false)", b"App.Tenant");
            assert_eq!(notes.pins().collect::<Vec<_>>(), []);
            assert!(notes.custom_names().contains("app.tenant"));
        }
        let seeded = bound("s", "SELECT set_config($1, '0.1', false)", b"seed");
        assert_eq!(seeded.pins().collect::<Vec<_>>(), [Pin::RandomSeed]);
        let unknown = bound("s", "SELECT set_config('a.' || $1, '0.1', false)", b"b");
        assert_eq!(unknown.pins().collect::<Vec<_>>(), [Pin::UnknownSettings]);
    }

    #[test]
    fn what_is_set_for_a_transaction_does_not_pin() {
        for text in [
            "SELECT set_config(name, value, true) FROM wanted",
            "SELECT set_config(lower('A.b'), f(1, 'x,('), true)",
            "SELECT set_config($1, $2, TRUE)",
            "SET LOCAL %I = 1",
        ] {
            let query = format!(">Q {text}");
            assert_eq!(pins_after(&[&query, "<C SELECT 1", "<Z I"]), [], "{text}");
        }
    }

    #[test]
    fn one_client_with_many_settings_spoils_no_other() {
        let lore = Arc::new(Lore::plain());
        let mut greedy = Notes::new(Arc::clone(&lore), 200);
        for number in 0..4200 {
            greedy.asked(b'Q', format!("SET a.n{number} = 1\0").as_bytes());
        }
        assert_eq!(greedy.pins().collect::<Vec<_>>(), [Pin::UnknownSettings]);
        assert!(lore.settings().len() < 100);
        let mut modest = Notes::new(lore, 200);
        modest.asked(b'Q', b"SET b.own = 1\0");
        assert_eq!(modest.pins().collect::<Vec<_>>(), []);
        assert!(modest.custom_names().contains("b.own"));
    }

    #[test]
    fn names_of_statements_are_cut_as_postgres_cuts_them() {
        let (name, other) = ("n".repeat(70), "n".repeat(64) + "other");
        let parse = format!(">P {name} SELECT set_config('a.b', $1, false)");
        let mut notes = after(&[&parse, ">S", "<1", "<Z I"]);
        notes.surveyed(&Ledger::default(), &Values::default());
        notes.asked(b'B', format!("\0{other}\0").as_bytes());
        notes.ready(Some(b'I'));
        assert!(!notes.is_rebuildable());
    }

    #[test]
    fn a_refused_parse_leaves_the_older_statement_what_it_was() {
        let first = [">P s SELECT set_config('a.b', $1, false)", ">S", "<1", "<Z I"];
        let refused = [">P s SELECT 1", ">S", "<E", "<Z I"];
        let replaced = [">C s", ">P s SELECT 1", ">S", "<3", "<1", "<Z I"];
        for (then, is_still_there) in [(&refused[..], true), (&replaced[..], false)] {
            let mut notes = after(&[&first[..], then].concat());
            notes.surveyed(&Ledger::default(), &Values::default());
            notes.asked(b'B', b"\0s\0");
            notes.ready(Some(b'I'));
            assert_eq!(!notes.is_rebuildable(), is_still_there);
        }
    }

    #[test]
    fn a_large_statement_is_known_by_its_name() {
        let mut notes = after(&[]);
        notes.asked_beginning(b'P', b"s\0SELECT set_config('a.b', '1', false) -- ");
        notes.asked_more(b"more\0\0\0", true);
        let mut notes = {
            for (tag, body) in [(b'1', &b""[..]), (b'Z', b"I")] {
                notes.answered(tag, body);
            }
            notes
        };
        notes.surveyed(&Ledger::default(), &Values::default());
        notes.asked(b'B', b"\0s\0");
        notes.ready(Some(b'I'));
        assert!(!notes.is_rebuildable());
    }

    fn taught(bodies: &[(&str, &str)]) -> Learned {
        learn(bodies.iter().map(|(name, body)| Definition {
            name,
            language: "sql",
            body: Some(body),
        }))
    }

    const SETS: &str = "SELECT set_config('app.f', '1', false)";
    const SETS_ANY: &str = "SELECT set_config($1, '1', false)";

    #[test]
    fn nothing_said_before_functions_are_known_is_taken_for_harmless() {
        for (body, is_pinned) in [(SETS, false), (SETS_ANY, true), ("SELECT 1", false)] {
            let lore = Arc::new(Lore::unlearned());
            let mut notes = Notes::new(Arc::clone(&lore), 200);
            notes.asked(b'Q', b"SELECT f('a.b')\0");
            notes.ready(Some(b'I'));
            assert_eq!(notes.pins().collect::<Vec<_>>(), [Pin::UnknownSettings]);
            lore.take(taught(&[("f", body), ("g", SETS_ANY)]));
            notes.hear_news();
            assert_eq!(notes.pins().next().is_some(), is_pinned, "{body}");
            assert!(notes.is_unsure());
        }
    }

    #[test]
    fn a_function_that_was_replaced_is_judged_by_what_it_does_now() {
        for (body, is_pinned) in [(SETS, false), (SETS_ANY, true)] {
            let lore = Arc::new(Lore::unlearned());
            lore.take(taught(&[("f", "SELECT 1")]));
            let mut notes = Notes::new(Arc::clone(&lore), 200);
            notes.asked(b'P', b"s\0SELECT f('a.b')\0\0\0");
            notes.asked(b'S', b"");
            notes.answered(b'1', b"");
            notes.ready(Some(b'I'));
            let ledger = Ledger::holding("s", "SELECT f('a.b')");
            notes.surveyed(&ledger, &Values::default());
            assert!(!notes.is_unsure());
            lore.take(taught(&[("f", body)]));
            notes.hear_news();
            // It may have been run meanwhile.
            assert!(notes.is_unsure() && !notes.is_rebuildable());
            assert_eq!(notes.pins().next().is_some(), is_pinned, "{body}");
            notes.surveyed(&ledger, &Values::default());
            notes.asked(b'B', b"\0s\0");
            notes.ready(Some(b'I'));
            assert!(!notes.is_rebuildable());
            assert!(notes.custom_names().contains("app.f") || is_pinned);
        }
    }

    #[test]
    fn a_function_that_does_what_a_survey_shows_has_not_done_it_since_if_nothing_was_run() {
        for (runs, is_rebuildable) in [(&[][..], true), (&[">Q SELECT 1", "<C SELECT 1", "<Z I"], false)] {
            let lore = Arc::new(Lore::unlearned());
            lore.take(taught(&[("f", "SELECT 1")]));
            let mut notes = Notes::new(Arc::clone(&lore), 200);
            play(&mut notes, &[">Q SELECT f()", "<C SELECT 1", "<Z I"]);
            notes.surveyed(&Ledger::default(), &Values::default());
            play(&mut notes, runs);
            lore.take(taught(&[("f", "SELECT set_config('search_path', 'x', false)")]));
            notes.hear_news();
            assert_eq!(notes.is_rebuildable(), is_rebuildable, "{runs:?}");
        }
    }

    #[test]
    fn what_was_learned_while_postgres_was_asked_was_not_asked_about() {
        let lore = Arc::new(Lore::unlearned());
        lore.take(taught(&[("f", "SELECT 1")]));
        let mut notes = Notes::new(Arc::clone(&lore), 200);
        play(&mut notes, &[">Q SELECT f()", "<C SELECT 1", "<Z I"]);
        lore.take(taught(&[("f", SETS)]));
        notes.surveyed(&Ledger::default(), &Values::default());
        assert!(notes.is_unsure());
        notes.surveyed(&Ledger::default(), &Values::default());
        assert!(!notes.is_unsure());
    }

    #[test]
    fn what_is_learned_again_and_is_the_same_is_no_news() {
        let lore = Arc::new(Lore::unlearned());
        lore.take(taught(&[("f", SETS_ANY)]));
        let mut notes = Notes::new(Arc::clone(&lore), 200);
        notes.asked(b'Q', b"SELECT 1\0");
        notes.ready(Some(b'I'));
        lore.take(taught(&[("f", SETS_ANY)]));
        notes.hear_news();
        assert!(!notes.is_unsure());
    }
}
