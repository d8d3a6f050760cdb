//! What a client says.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use super::super::ledger::Pin;
use super::parses::{NAME_MAX, Pending, Remade, Under};
use super::{
    ANY_OTHER, NAME_KEPT, Notes, PLAIN_MAX, SPOTTED_MAX, UNNAMED_KEPT, Unnamed, is_of_note, known_as,
};
use crate::postgres::wire::bound::{self, argument};
use crate::postgres::wire::described::digest;
use crate::postgres::wire::parts::string_here;
use crate::postgres::wire::state_words::plain::{self, Plain};
use crate::postgres::wire::state_words::{Called, Message, Spotted, Unseen, function_called};
use crate::postgres::wire::tag::{from_client, object};

impl Notes {
    #[inline(never)]
    pub(super) fn query(&mut self, body: &[u8]) {
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
    pub(super) fn plain(&self, text: &[u8], spotted: &Spotted) -> Option<Vec<Plain>> {
        let may_be =
            plain::may_be_plain(text, spotted.signalled) && text.len() <= PLAIN_MAX.min(self.bytes_max);
        if may_be {
            self.read_plain(text, spotted)
        } else {
            None
        }
    }

    /// `spotted`: in all of the text.
    #[inline(never)]
    pub(super) fn read_plain(&self, text: &[u8], spotted: &Spotted) -> Option<Vec<Plain>> {
        let nothing = Spotted::default();
        let is_bare = |statement: &[u8]| {
            let is_known = self.vocabulary.is_learned();
            is_known && (*spotted == nothing || self.vocabulary.read(statement) == nothing)
        };
        let is_certain = |plain: &Plain| match plain {
            Plain::Text { text, .. } => {
                let words = self.vocabulary.read_words(text);
                !words.signalled && !words.blind && words.unseen.is_empty()
            }
            Plain::SetConfig(_) | Plain::Nothing | Plain::Other => true,
        };
        plain::read(text, is_bare).filter(|statements| statements.iter().all(is_certain))
    }

    #[inline(never)]
    pub(super) fn parse(&mut self, body: &[u8]) {
        self.hear_news();
        let name = string_here(body);
        let text = body.get(name.len() + 1..).unwrap_or_default();
        let text = string_here(text);
        let spotted = self.vocabulary.read(text);
        self.sequences.read(text);
        self.settings.asked(text, spotted.signalled);
        let plain = self.plain(text, &spotted);
        let is_kept = (plain.is_some() || self.said.is_some()) && self.parse_plain(name, plain, body);
        if !is_kept {
            self.note_early(text);
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
    pub(super) fn parse_plain(&mut self, name: &[u8], plain: Option<Vec<Plain>>, body: &[u8]) -> bool {
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
    pub(super) fn named(&mut self, name: &[u8], body: Option<&[u8]>, spotted: Spotted) {
        let kept = body.filter(|body| self.parses.bytes + body.len() <= self.bytes_max);
        if let Some(body) = kept {
            self.parses.bytes += body.len();
        } else {
            self.changes.may_do_anything();
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

    pub(super) fn spot(&mut self, name: &[u8], spotted: Spotted) {
        let has_room = self.spotted.len() < SPOTTED_MAX && name.len() <= NAME_MAX;
        if has_room || self.spotted.contains_key(name) {
            self.spotted.insert(name.into(), Arc::new(spotted));
            return;
        }
        let is_known = self.names.note(&spotted.settings, &self.risky);
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
    pub(super) fn bind(&mut self, body: &[u8], whole: bool) {
        let (portal, statement) = bound::names(body);
        let spotted = if statement.is_empty() {
            self.unnamed.spotted.clone()
        } else {
            let statement = known_as(statement);
            if self.judgement.doubts(statement) {
                self.changes.may_do_anything();
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
    pub(super) fn execute(&mut self, body: &[u8]) {
        if let Some(said) = &mut self.said
            && body.first() == Some(&0)
        {
            said.execute(self.parses.units_sent, self.executed - 1);
        }
    }

    #[inline(never)]
    pub(super) fn close(&mut self, body: &[u8]) {
        let statement = body.split_first().filter(|(kind, _)| **kind == object::STATEMENT);
        let name = statement.map_or(&b""[..], |(_, name)| string_here(name));
        let is_unnamed = statement.is_some() && name.is_empty();
        if name.len() > NAME_MAX {
            self.changes.may_do_anything();
        }
        let is_kept = !name.is_empty() && name.len() <= NAME_MAX;
        self.parses
            .expect(Pending::Close(is_kept.then(|| known_as(name).into())));
        if is_unnamed {
            self.drop_unnamed();
        }
    }

    #[inline(never)]
    pub(super) fn describe(&mut self, body: &[u8]) {
        let Some((kind, name)) = body.split_first() else {
            return;
        };
        let name = known_as(string_here(name));
        match (*kind, self.bound) {
            (object::STATEMENT, _) => self.parses.expect(Pending::Describe(name.into())),
            (object::PORTAL, Some((portal, statement)))
                if portal == digest_of(name) && !self.parses.told.knows(statement) =>
            {
                self.parses.expect(Pending::Portal(statement));
            }
            _ => {}
        }
    }

    #[inline(never)]
    pub(super) fn call(&mut self, body: &[u8]) {
        let oid = body.first_chunk().map_or(0, |oid| u32::from_be_bytes(*oid));
        let called = function_called(oid);
        if called != Called::Nothing {
            self.changes.may_do_anything();
            self.hidden = true;
            self.settings.may_change(self.parses.units_sent);
        }
        match called {
            Called::Nothing | Called::AdvisoryLock => {}
            Called::SetConfig => self.set_config(argument(body)),
            Called::SetSeed => self.pin(Pin::RandomSeed),
            Called::Anything => self.pin(Pin::UnknownSettings),
        }
        self.parses.units_sent += 1;
    }

    /// The beginning of a large message of the client's.
    #[inline(never)]
    pub fn asked_beginning(&mut self, tag: u8, body: &[u8]) {
        self.listening = None;
        match tag {
            from_client::QUERY => {
                self.executed = 0;
                self.listener.begin(Message::Query);
            }
            from_client::PARSE => {
                let name = known_as(string_here(body));
                if let Some(said) = &mut self.said {
                    said.parse(self.parses.units_sent, name, None);
                }
                self.listening_name = name.into();
                self.listener.begin(Message::Parse);
            }
            from_client::BIND => {
                self.bound = bound_to(body);
                return self.bind(body, false);
            }
            from_client::FUNCTION_CALL => return self.call(body),
            // Names of which only the beginning counts.
            from_client::CLOSE => return self.close(body),
            from_client::DESCRIBE => return self.describe(body),
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
        if tag == from_client::QUERY {
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

    pub(super) fn drop_unnamed(&mut self) {
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
pub(super) fn bound_to(body: &[u8]) -> Option<(u64, u64)> {
    match body {
        // Most have neither.
        [0, 0, ..] => None,
        [0, statement @ ..] => Some((0, digest_here(statement))),
        body => {
            let (portal, statement) = bound::names(body);
            let names = (digest_of(portal), digest_here(statement));
            (!statement.is_empty()).then_some(names)
        }
    }
}

/// Of the name that `text` begins with.
#[inline]
fn digest_here(text: &[u8]) -> u64 {
    digest(text.iter().take(NAME_KEPT).take_while(|byte| **byte != 0))
}

/// Of a portal, which most often has no name.
#[inline]
fn digest_of(portal: &[u8]) -> u64 {
    match portal {
        b"" => 0,
        name => digest(known_as(name)),
    }
}
