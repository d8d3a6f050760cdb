//! What passing messages give away about the state of a session, between two surveys.

mod parses;
mod settings;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use memchr::memchr;
use tokio::sync::watch;

use super::crossing::{Known, Unnamed as Carried, is_disowned};
use super::ledger::{Ledger, Origin, Pin, Since, Values, may_depend};
use super::lore::Lore;
use super::replay::Parsed;
use super::wire::described::digest;
use super::wire::read::error_field;
use super::wire::state_words::{
    Listener, Message, Spotted, Unseen, Vocabulary, function_signals, tag_eases, tag_lasts, tag_redefines,
    tag_signals, tag_tells_all,
};
use parses::{Answered, NAME_MAX, Parses, Pending, Under, name_in};
use settings::Settings;
use told::Told;

/// More names of statements that came or went are not kept for long.
const MADE_MAX: usize = 256;
/// More statements that do more than their message says are not told apart.
const SPOTTED_MAX: usize = 256;
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
    /// Of statements that do more than their message says, each time they are run.
    spotted: BTreeMap<Box<[u8]>, Arc<Spotted>>,
    unnamed: Unnamed,
    parses: Parses,
    settings: Settings,
    told: Told,
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
    /// What the client was told that it takes and gives.
    told: Option<u64>,
    spotted: Option<Arc<Spotted>>,
}

impl Notes {
    pub fn new(lore: Arc<Lore>, bytes_max: u32) -> Self {
        let mut news = lore.vocabulary();
        let vocabulary = news.borrow_and_update().clone();
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
            spotted: BTreeMap::new(),
            unnamed: Unnamed::default(),
            parses: Parses::default(),
            settings: Settings::default(),
            told: Told::default(),
            bytes_max: bytes_max as usize,
        }
    }

    pub fn lore(&self) -> &Arc<Lore> {
        &self.lore
    }

    /// Whether a survey would tell anything new.
    pub fn is_signalled(&self) -> bool {
        self.is_unsure() || !self.parses.made.is_empty()
    }

    /// Whether something may have changed that these notes do not tell. Statements that came and went they do, as
    /// long as it is not too many.
    pub fn is_unsure(&self) -> bool {
        let Parses { made, untold, .. } = &self.parses;
        self.settled || self.present || self.eased || *untold || made.len() > MADE_MAX
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

    /// Whether all that the last survey said still holds once what is under way is undone. Named statements of
    /// the extended protocol are amended.
    pub fn is_rebuildable(&self) -> bool {
        !self.settled && !self.lasted && !self.parses.untold && self.pins().next().is_none()
    }

    /// What no survey sees.
    pub fn pins(&self) -> impl Iterator<Item = Pin> {
        let is_too_large = self.unnamed.too_large || self.told.is_too_much;
        let too_large = is_too_large.then_some(Pin::TooLarge);
        let unknown = self.has_unknown_meaning().then_some(Pin::UnreplayableStatement);
        self.pins.iter().copied().chain(too_large).chain(unknown)
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
            under: under.values(greeting).unwrap_or_default(),
        };
        Some(Carried {
            parsed,
            doubtful: *doubtful,
            told: *told,
        })
    }

    /// All that is known of the session without asking, if it was asked for `ledger`.
    pub fn known(&self, ledger: Option<&Ledger>, greeting: &Values) -> Known {
        let made = self.parses.made.values().flatten();
        let parsed = made.map(|made| Parsed {
            body: made.body.clone(),
            under: made.under.values(greeting).unwrap_or_default(),
        });
        let listed = ledger.into_iter().flat_map(Ledger::statements);
        let listed = listed.filter(|statement| {
            statement.origin == Origin::Parse && !self.parses.made.contains_key(&statement.name)
        });
        let made = self.parses.made.iter().filter(|(_, made)| made.is_some());
        let names = listed
            .map(|statement| &statement.name)
            .chain(made.map(|(name, _)| name));
        let told = names.filter_map(|name| Some((name.clone(), self.told.of(name)?)));
        Known {
            ledger: ledger.cloned(),
            values: self.settings.values(greeting),
            since: self.since(greeting),
            parsed: parsed.collect(),
            told: told.collect(),
            is_all: self.is_all_there_is(),
        }
    }

    /// Whether these notes and the last survey say all.
    pub fn is_all_there_is(&self) -> bool {
        !self.is_unsure() && self.is_rebuildable()
    }

    /// What statements were read under that came since the last survey.
    pub fn since(&self, greeting: &Values) -> Since {
        let parsed = self.parses.made.iter().map(|(name, made)| {
            let under = made.as_ref().and_then(|made| made.under.values(greeting));
            (name.clone(), under)
        });
        Since {
            parsed: parsed.collect(),
            by_sql: self.settings.by_sql(greeting),
            steady: self.settings.steady(greeting),
            untold_set: self.settings.untold_set,
        }
    }

    /// What the greeting told holds on, whatever the next one tells.
    pub fn keep_greeting(&mut self, greeting: &Values) {
        self.settings.keep_greeting(greeting);
        if let Some(values) = self.unnamed.under.values(greeting) {
            self.unnamed.under = Under::Told(values);
        }
    }

    /// Postgres was asked, at a safe point, and the answer is remembered.
    pub fn surveyed(&mut self, ledger: &Ledger, greeting: &Values) {
        self.settings.surveyed(ledger.values(), greeting);
        let parsed = ledger
            .statements()
            .iter()
            .filter(|statement| statement.origin == Origin::Parse);
        let names: BTreeSet<u64> = parsed.map(|statement| digest(&statement.name)).collect();
        self.told.retain(|name| names.contains(&name));
        (self.settled, self.present) = (false, false);
        (self.lasting, self.lasted, self.eased) = (false, false, false);
        self.parses.surveyed();
    }

    /// Nothing is in flight.
    pub fn quiet(&mut self) {
        self.parses.quiet();
    }

    /// What was under way is lost, and its transaction with it.
    pub fn undone(&mut self) {
        (self.present, self.lasting, self.lasted) = (false, false, false);
        self.quiet();
        self.unnamed.doubtful = true;
    }

    /// A message of the client's. Most say nothing, which is seen where they pass; the rest is kept out of the way.
    #[inline]
    pub fn asked(&mut self, tag: u8, body: &[u8]) {
        match tag {
            b'Q' => self.query(body),
            b'P' => self.parse(body),
            b'B' if self.spotted.is_empty() && self.unnamed.spotted.is_none() => {}
            b'B' => self.bind(body),
            b'C' => self.close(body),
            b'D' if body.first() == Some(&b'S') => self.describe(body),
            b'F' => self.call(body),
            b'S' => self.parses.units_sent += 1,
            _ => {}
        }
    }

    /// A message of the server's.
    #[inline]
    pub fn answered(&mut self, tag: u8, body: &[u8]) {
        match tag {
            b'C' => {
                if tag_signals(body) {
                    self.completed(body);
                }
                // The client may count on it, whatever becomes of the rest.
                self.lasted |= self.lasting;
            }
            b'Z' => self.ready(body.first().copied()),
            b'1' | b'3' | b't' => self.answered_parse(tag, body),
            b'S' => self.settings.told(body),
            b'E' => self.refused(body),
            _ => {}
        }
    }

    #[inline(never)]
    fn answered_parse(&mut self, tag: u8, body: &[u8]) {
        let unit = self.parses.units_done;
        let under = |in_doubt| self.settings.under(unit, in_doubt);
        match self.parses.answered(tag, under) {
            Answered::Nothing => {}
            Answered::Made(name) => self.told.forget(name),
            Answered::Unnamed(under) => self.unnamed.under = under,
            Answered::Closed(name) => {
                self.spotted.remove(&name);
                self.told.forget(digest(&name));
            }
            Answered::Describes(name) => self.told.takes(name, body),
        }
    }

    /// Right after a ParameterDescription: what the statement gives. The body of a RowDescription, or nothing.
    #[inline(never)]
    pub fn described(&mut self, columns: &[u8]) {
        if let Some(told) = self.told.gives(columns) {
            self.unnamed.told = Some(told);
        }
        // It stays made, or closed, whatever becomes of the rest.
        self.lasted |= self.lasting;
    }

    #[inline(never)]
    fn refused(&mut self, error: &[u8]) {
        self.unnamed.doubtful = true;
        let state = error_field(error, b'C');
        self.disowned |= state.is_some_and(is_disowned);
    }

    #[inline(never)]
    fn query(&mut self, body: &[u8]) {
        self.hear_news();
        // The message ends where its text does, or the server refuses it.
        let text = body.strip_suffix(b"\0").unwrap_or(body);
        let spotted = self.vocabulary.read(text);
        self.settings.asked(text, spotted.signalled);
        self.ran(&spotted);
        self.parses.units_sent += 1;
        // A simple query drops the unnamed statement first of all.
        self.drop_unnamed();
    }

    fn hear_news(&mut self) {
        if self.news.has_changed().unwrap_or(false) {
            self.vocabulary = self.news.borrow_and_update().clone();
        }
    }

    #[inline(never)]
    fn parse(&mut self, body: &[u8]) {
        self.hear_news();
        let name = name_in(body);
        let text = body.get(name.len() + 1..).unwrap_or_default();
        let end = memchr(0, text).unwrap_or(text.len());
        let spotted = self.vocabulary.read(&text[..end]);
        self.settings.asked(&text[..end], spotted.signalled);
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

    /// `body` is None if it is too long to be kept.
    fn named(&mut self, name: &[u8], body: Option<&[u8]>, spotted: Spotted) {
        let kept = body.filter(|body| self.parses.bytes + body.len() <= self.bytes_max);
        if let Some(body) = kept {
            self.parses.bytes += body.len();
        } else {
            (self.present, self.lasting) = (true, true);
        }
        let in_doubt = self.settings.is_in_doubt(self.parses.units_sent);
        self.parses.expect(Pending::Parse(kept.map(Into::into), in_doubt));
        if is_of_note(&spotted) {
            self.spot(name, spotted);
        } else if !self.spotted.is_empty() && name != ANY_OTHER {
            self.spotted.remove(name);
        }
    }

    fn spot(&mut self, name: &[u8], spotted: Spotted) {
        let has_room = self.spotted.len() < SPOTTED_MAX && name.len() <= NAME_MAX;
        if has_room || self.spotted.contains_key(name) {
            self.spotted.insert(name.into(), Arc::new(spotted));
            return;
        }
        if spotted.blind || !self.lore.note(&spotted) {
            self.pin(Pin::UnknownSettings);
        }
        let before = self.spotted.get(ANY_OTHER).map(|before| before.unseen);
        let others = Spotted {
            signalled: true,
            lasting: true,
            unseen: spotted.unseen | before.unwrap_or_default(),
            ..Spotted::default()
        };
        self.spotted.insert(ANY_OTHER.into(), Arc::new(others));
    }

    #[inline(never)]
    fn bind(&mut self, body: &[u8]) {
        let statement = body
            .iter()
            .position(|byte| *byte == 0)
            .map_or(&b""[..], |end| name_in(&body[end + 1..]));
        let spotted = if statement.is_empty() {
            self.unnamed.spotted.clone()
        } else {
            let known = self.spotted.get(statement);
            known.or_else(|| self.spotted.get(ANY_OTHER)).cloned()
        };
        if let Some(spotted) = spotted {
            self.ran(&spotted);
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
        self.parses.expect(Pending::Close(is_kept.then(|| name.into())));
        if is_unnamed {
            self.drop_unnamed();
        }
    }

    #[inline(never)]
    fn describe(&mut self, body: &[u8]) {
        let name = name_in(&body[1..]);
        let is_kept = name.len() <= NAME_MAX;
        self.told.is_too_much |= !is_kept;
        self.parses.expect(match is_kept {
            true => Pending::Describe(name.into()),
            // Something that is answered.
            false => Pending::Parse(None, false),
        });
    }

    #[inline(never)]
    fn call(&mut self, body: &[u8]) {
        let oid = body.first_chunk().map_or(0, |oid| u32::from_be_bytes(*oid));
        if function_signals(oid) {
            (self.present, self.lasting, self.hidden) = (true, true, true);
        }
        self.parses.units_sent += 1;
    }

    /// The beginning of a large message of the client's.
    #[inline(never)]
    pub fn asked_beginning(&mut self, tag: u8, body: &[u8]) {
        self.listening = None;
        match tag {
            b'Q' => self.listener.begin(Message::Query),
            b'P' => self.listener.begin(Message::Parse),
            b'B' => return self.bind(body),
            b'F' => return self.call(body),
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
        if tag == b'Q' {
            self.ran(&spotted);
            self.parses.units_sent += 1;
            self.drop_unnamed();
        } else if self.listener.is_named() {
            // Its name went by with its first piece: whatever it is run as may change anything.
            self.named(b"", None, Spotted::default());
            self.ran(&spotted);
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
    fn ran(&mut self, spotted: &Spotted) {
        if !is_of_note(spotted) {
            return;
        }
        if spotted.signalled {
            self.hidden = true;
            self.settings.may_change(self.parses.units_sent);
        }
        self.present |= spotted.signalled;
        self.lasting |= spotted.lasting;
        if spotted.blind || !self.lore.note(spotted) {
            self.pin(Pin::UnknownSettings);
        }
        Pin::of_unseen(spotted.unseen).for_each(|pin| self.pin(pin));
    }

    #[inline(never)]
    fn completed(&mut self, tag: &[u8]) {
        if tag_eases(tag) {
            self.eased = true;
            return;
        }
        let unit = self.parses.units_done;
        match tag.starts_with(b"PREPARE") {
            true => self.settings.prepared(unit),
            false => self.settings.may_have_changed(unit),
        }
        self.present = true;
        self.hidden |= !tag_tells_all(tag);
        self.lasting |= tag_lasts(tag);
        if tag.starts_with(b"LOAD") {
            Pin::of_unseen(Unseen::LIBRARY).for_each(|pin| self.pin(pin));
        }
        if tag_redefines(tag) {
            self.lore.doubt();
        }
    }

    fn ready(&mut self, status: Option<u8>) {
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

    fn pin(&mut self, pin: Pin) {
        if !self.pins.contains(&pin) {
            self.pins.push(pin);
        }
    }

    fn drop_unnamed(&mut self) {
        if !self.unnamed.body.is_empty() || self.unnamed.too_large {
            self.unnamed = Unnamed::default();
        }
    }
}

fn is_of_note(spotted: &Spotted) -> bool {
    spotted.signalled || spotted.blind || !spotted.unseen.is_empty() || !spotted.settings.is_empty()
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
    use super::*;

    /// `>Q text`, `>P name text`, `>B statement`, `>C name`, `>S`; `<C tag`, `<Z status`, `<1`, `<3`, `<E`.
    fn after(steps: &[&str]) -> Notes {
        let mut notes = Notes::new(Arc::new(Lore::plain()), 200);
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
        notes
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
    fn a_setting_is_a_signal_until_a_survey() {
        let mut notes = after(&[">Q SET work_mem = '5MB'", "<C SET", "<Z I"]);
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
            ">Q SET LOCAL a.b = 1",
            "<C SET",
            "<Z T",
        ];
        let mut notes = after(&begun);
        assert!(notes.is_signalled() && notes.is_rebuildable());
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
            notes.bind(format!("\0{name}\0").as_bytes());
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
            notes.described(columns);
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
}
