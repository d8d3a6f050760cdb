//! What passing messages give away about the state of a session, between two surveys.

mod parses;
mod said;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use memchr::memchr;
use tokio::sync::watch;

use super::ledger::Pin;
use super::lore::Lore;
use super::wire::bound;
use super::wire::read::error_field;
use super::wire::state_words::plain::{self, Plain};
use super::wire::state_words::{
    Listener, Message, Spotted, Unseen, Vocabulary, function_signals, tag_eases, tag_lasts, tag_redefines,
    tag_signals,
};
use parses::{NAME_MAX, Parses, Pending, name_in};
pub use said::Again;
use said::{Done, Said};

/// How a server refuses the work of a user who was dropped, or has lost every right, under a live session.
const DISOWNED: [&[u8]; 3] = [b"42501", b"42704", b"28000"];

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
    pins: Vec<Pin>,
    /// Of statements that do more than their message says, each time they are run.
    spotted: BTreeMap<Box<[u8]>, Arc<Spotted>>,
    unnamed: Unnamed,
    parses: Parses,
    /// What was said in plain statements. None: nothing.
    said: Option<Box<Said>>,
    /// Of the unit that is being sent: how many of its statements were executed.
    executed: u32,
    /// Of the unit that is being answered: how many were.
    done: u32,
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
            pins: Vec::new(),
            spotted: BTreeMap::new(),
            unnamed: Unnamed::default(),
            parses: Parses::default(),
            said: None,
            executed: 0,
            done: 0,
            bytes_max: bytes_max as usize,
        }
    }

    pub fn lore(&self) -> &Arc<Lore> {
        &self.lore
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

    pub fn is_disowned(&self) -> bool {
        self.disowned
    }

    /// Whether the last survey and these notes tell all there is once what is under way is undone.
    pub fn is_rebuildable(&self) -> bool {
        !self.settled
            && !self.lasted
            && !self.parses.untold
            && self.pins.is_empty()
            && !self.unnamed.too_large
            && self.said.as_ref().is_none_or(|said| said.is_complete())
    }

    /// What has to be said after what the last survey told, in its order.
    pub fn again(&self) -> Vec<Again> {
        match &self.said {
            Some(said) => said.again(&self.parses),
            None => self.made().map(|body| Again::Parse(body.into())).collect(),
        }
    }

    /// What no survey sees.
    pub fn pins(&self) -> impl Iterator<Item = Pin> {
        let too_large = self.unnamed.too_large.then_some(Pin::TooLarge);
        self.pins.iter().copied().chain(too_large)
    }

    /// The body of the client's Parse, if its unnamed statement may be alive.
    pub fn unnamed(&self) -> Option<&[u8]> {
        (!self.unnamed.body.is_empty()).then_some(&self.unnamed.body)
    }

    /// Whether it is not sure that there ever was such a statement.
    pub fn is_unnamed_doubtful(&self) -> bool {
        self.unnamed.doubtful
    }

    /// Statements that were made and not dropped since the last survey: bodies of Parse messages.
    fn made(&self) -> impl Iterator<Item = &[u8]> {
        self.parses.made.values().filter_map(|body| body.as_deref())
    }

    /// Statements of the last survey that are there no more, or were made anew since.
    pub fn is_replaced(&self, name: &[u8]) -> bool {
        self.parses.made.contains_key(name)
    }

    /// Postgres was asked, at a safe point.
    pub fn surveyed(&mut self) {
        (self.settled, self.present) = (false, false);
        (self.lasting, self.lasted, self.eased) = (false, false, false);
        self.parses.surveyed();
        if let Some(said) = &mut self.said {
            said.surveyed();
        }
        self.tidy();
    }

    /// Nothing is in flight.
    pub fn quiet(&mut self) {
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

    /// A message of the client's. Most say nothing, which is seen where they pass; the rest is kept out of the way.
    #[inline]
    pub fn asked(&mut self, tag: u8, body: &[u8]) {
        match tag {
            b'Q' => self.query(body),
            b'P' => self.parse(body),
            b'B' if self.spotted.is_empty() && self.unnamed.spotted.is_none() && self.said.is_none() => {}
            b'B' => self.bind(body, true),
            b'E' => {
                self.executed += 1;
                if self.said.is_some() {
                    self.execute(body);
                }
            }
            b'C' => self.close(body),
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
                if self.said.is_some() || tag_signals(body) {
                    self.completed(body);
                }
                self.done += 1;
                // The client may count on it, whatever becomes of the rest.
                self.lasted |= self.lasting;
            }
            b'I' | b's' => self.done += 1,
            b'Z' => self.ready(body.first().copied()),
            b'1' | b'3' => self.parsed_or_closed(tag),
            b'E' => self.refused(body),
            _ => {}
        }
    }

    #[inline(never)]
    fn parsed_or_closed(&mut self, tag: u8) {
        if tag == b'1'
            && let Some(said) = &mut self.said
            && let Some(name) = self.parses.parsed_next()
        {
            said.parsed(name);
        }
        if let Some(closed) = self.parses.answered(tag) {
            self.spotted.remove(&closed);
            if let Some(said) = &mut self.said {
                said.closed(&closed);
            }
        }
        // It stays made, or closed, whatever becomes of the rest.
        self.lasted |= self.lasting;
    }

    #[inline(never)]
    fn refused(&mut self, error: &[u8]) {
        self.unnamed.doubtful = true;
        if let Some(said) = &mut self.said {
            said.failed(self.parses.units_done);
        }
        let state = error_field(error, b'C');
        self.disowned |= state.is_some_and(|state| DISOWNED.contains(&state));
    }

    #[inline(never)]
    fn query(&mut self, body: &[u8]) {
        self.hear_news();
        // The message ends where its text does, or the server refuses it.
        let text = body.strip_suffix(b"\0").unwrap_or(body);
        let spotted = self.vocabulary.read(text);
        // After an error the server leaves out this one as well, or does not.
        let is_alone = std::mem::take(&mut self.executed) == 0;
        match self.plain(text, &spotted).filter(|_| is_alone) {
            Some(statements) => {
                self.name_settings(&spotted);
                let unit = self.parses.units_sent;
                self.said.get_or_insert_default().asked(unit, statements);
            }
            None => self.ran(&spotted),
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
        let plain = self.plain(&text[..end], &spotted);
        if plain.is_some() || self.said.is_some() {
            self.parse_plain(name, plain, body);
        }
        if name.is_empty() {
            self.parses.expect(Pending::Parse(None));
            if self.unnamed.body.capacity() > UNNAMED_KEPT.max(2 * body.len()) {
                self.unnamed.body = BytesMut::new();
            }
            self.unnamed.body.clear();
            self.unnamed.too_large = body.len() > self.bytes_max;
            if !self.unnamed.too_large {
                self.unnamed.body.put_slice(body);
            }
            self.unnamed.doubtful = false;
            self.unnamed.spotted = is_of_note(&spotted).then(|| Arc::new(spotted));
        } else {
            self.named(name, Some(body), spotted);
        }
    }

    #[inline(never)]
    fn parse_plain(&mut self, name: &[u8], plain: Option<Vec<Plain>>, body: &[u8]) {
        // More than one statement is refused.
        let plain = plain.and_then(|mut plain| plain.pop().filter(|_| plain.is_empty()));
        let plain = plain.filter(|plain| bound::declared(body).is_some_and(|types| plain.accepts(types)));
        if plain.is_some() || self.said.is_some() {
            let unit = self.parses.units_sent;
            self.said.get_or_insert_default().parse(unit, name, plain);
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
        self.parses.expect(Pending::Parse(kept.map(Into::into)));
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

    /// `whole` or its beginning.
    #[inline(never)]
    fn bind(&mut self, body: &[u8], whole: bool) {
        let (portal, statement) = bound::names(body);
        let spotted = if statement.is_empty() {
            self.unnamed.spotted.clone()
        } else {
            let known = self.spotted.get(statement);
            known.or_else(|| self.spotted.get(ANY_OTHER)).cloned()
        };
        if let Some(said) = &mut self.said
            && said.bind(portal, statement, if whole { body } else { b"" })
        {
            let settings = said.bound_names().filter(|name| plain::is_custom(name));
            let settings = settings.map(|name| String::from_utf8_lossy(name).into_owned());
            let named = Spotted {
                settings: settings.collect(),
                ..Spotted::default()
            };
            self.name_settings(&named);
        } else if let Some(spotted) = spotted {
            self.ran(&spotted);
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
        self.parses.expect(Pending::Close(is_kept.then(|| name.into())));
        if is_unnamed {
            self.drop_unnamed();
        }
    }

    #[inline(never)]
    fn call(&mut self, body: &[u8]) {
        let oid = body.first_chunk().map_or(0, |oid| u32::from_be_bytes(*oid));
        if function_signals(oid) {
            (self.present, self.lasting) = (true, true);
        }
        self.parses.units_sent += 1;
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
                if let Some(said) = &mut self.said {
                    said.parse(self.parses.units_sent, name_in(body), None);
                }
                self.listener.begin(Message::Parse);
            }
            b'B' => return self.bind(body, false),
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
            self.parses.expect(Pending::Parse(None));
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
        self.present |= spotted.signalled;
        self.lasting |= spotted.lasting;
        if spotted.blind {
            self.pin(Pin::UnknownSettings);
        }
        self.name_settings(spotted);
        Pin::of_unseen(spotted.unseen).for_each(|pin| self.pin(pin));
    }

    fn name_settings(&mut self, spotted: &Spotted) {
        if !self.lore.note(spotted) {
            self.pin(Pin::UnknownSettings);
        }
    }

    #[inline(never)]
    fn completed(&mut self, tag: &[u8]) {
        if let Some(said) = &mut self.said {
            let done = said.done(self.parses.units_done, self.done, tag, &mut self.parses);
            if done != Done::Other {
                self.lasting |= tag_lasts(tag);
                // What was parsed before it, and is not the statement itself, can't be put in its place.
                self.present |=
                    done == Done::PlainAndRead && !self.unnamed.body.is_empty() && !said.is_unnamed_plain();
                return;
            }
            if !tag_signals(tag) {
                return;
            }
        }
        if tag_eases(tag) {
            self.eased = true;
            return;
        }
        self.present = true;
        self.lasting |= tag_lasts(tag);
        if tag.starts_with(b"LOAD") {
            Pin::of_unseen(Unseen::LIBRARY).for_each(|pin| self.pin(pin));
        }
        if tag_redefines(tag) {
            self.lore.doubt();
        }
    }

    fn ready(&mut self, status: Option<u8>) {
        self.done = 0;
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
            self.present |= said.ready(status, self.parses.units_done, &mut self.parses);
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
        let again = notes.again().into_iter().map(|again| match again {
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
            notes.surveyed();
            assert!(!notes.is_signalled() && again(&notes).is_empty() && notes.said.is_none());
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
        assert!(notes.lore().settings().contains("a.b"));
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
        let names = notes
            .made()
            .map(|body| String::from_utf8_lossy(name_in(body)).into_owned());
        names.collect()
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
        notes.surveyed();
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
        notes.surveyed();
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
        assert!(made(&notes).is_empty() && notes.is_replaced(b"one"));
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
            notes.surveyed();
            notes.bind(format!("\0{name}\0").as_bytes(), true);
            notes.ready(Some(b'I'));
            assert!(!notes.is_rebuildable(), "{bind}");
        }
    }

    #[test]
    fn the_unnamed_statement_lives_until_the_next_query() {
        let parsed = [">P  SELECT 1", ">S", "<1", "<Z I"];
        let notes = after(&parsed);
        assert!(notes.unnamed().is_some() && !notes.is_unnamed_doubtful());
        let notes = after(&[&parsed[..], &["<E"]].concat());
        assert!(notes.is_unnamed_doubtful());
        for end in [">Q SELECT 1", ">C "] {
            let notes = after(&[&parsed[..], &[end]].concat());
            assert!(notes.unnamed().is_none(), "{end}");
        }
        let long = format!(">P  SELECT '{}'", "x".repeat(300));
        assert_eq!(after(&[&long]).pins().collect::<Vec<_>>(), [Pin::TooLarge]);
    }

    #[test]
    fn what_no_survey_sees_pins() {
        let notes = after(&[">Q SELECT dblink_connect('a')", "<C SELECT 1", "<Z I"]);
        assert_eq!(notes.pins().collect::<Vec<_>>(), [Pin::ForeignConnections]);
        let notes = after(&[">Q LOAD 'auto_explain'", "<C LOAD", "<Z I"]);
        assert_eq!(notes.pins().collect::<Vec<_>>(), [Pin::LoadedLibrary]);
    }
}
