//! What passing messages give away about the state of a session, between two surveys.

mod changes;
mod client;
mod judgement;
mod names;
mod news;
mod parses;
mod ran;
mod said;
mod sequences;
mod server;
mod settings;
mod tell;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::BytesMut;
use tokio::sync::watch;

use super::ledger::{Ledger, Pin, Values};
use super::risky_names::RiskyNames;
use crate::postgres::wire::described::{Shape, digest};
use crate::postgres::wire::state_words::{Listener, Spotted, Vocabulary, tag_signals};
use crate::postgres::wire::tag::{from_client, from_server};
use changes::Changes;
use client::bound_to;
use judgement::Judgement;
use names::Names;
use parses::{Parses, Under};
use said::Said;
use sequences::Sequences;
use settings::Settings;

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
    risky: Arc<RiskyNames>,
    vocabulary: Arc<Vocabulary>,
    news: watch::Receiver<Arc<Vocabulary>>,
    listener: Listener,
    /// Which message the listener is in the middle of.
    listening: Option<u8>,
    changes: Changes,
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
    pub fn risky(&self) -> &Arc<RiskyNames> {
        &self.risky
    }

    pub fn new(risky: Arc<RiskyNames>, bytes_max: u32) -> Self {
        let mut news = risky.vocabulary();
        let vocabulary = news.borrow_and_update().clone();
        let sequences = Sequences::new(risky.asks_sequences());
        Self {
            risky,
            vocabulary,
            news,
            listener: Listener::default(),
            listening: None,
            changes: Changes::default(),
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
        let mut names = self.risky.settings();
        names.extend(self.names.own().map(str::to_owned));
        names
    }

    /// Whether a survey would tell anything new.
    pub fn is_signalled(&self) -> bool {
        self.is_unsure()
            || !self.parses.made.is_empty()
            || self.said.as_ref().is_some_and(|said| said.kept().is_news())
    }

    /// Whether something may have changed that these notes do not tell, or not for long. Statements that came and went
    /// they do, as long as it is not too many.
    pub fn is_unsure(&self) -> bool {
        let Parses { made, untold, .. } = &self.parses;
        self.changes.are_possible()
            || self.eased
            || *untold
            || made.len() > MADE_MAX
            || self.said.as_ref().is_some_and(|said| said.kept().wants_survey())
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
        self.changes.would_be_undone()
            && !self.parses.untold
            && self.lasting_pins().next().is_none()
            && self.said.as_ref().is_none_or(|said| said.kept().is_complete())
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
            false => self.risky.asks_sequences() && self.parses.units_sent > 0,
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
        match is_news {
            true => self.changes.surveyed_in_part(),
            false => self.changes.surveyed(),
        }
        self.surveyed_at = self.parses.units_sent;
        self.eased = false;
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
        self.changes.undone();
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
            from_client::QUERY => self.query(body),
            from_client::PARSE => self.parse(body),
            from_client::BIND => {
                self.bound = bound_to(body);
                if !self.has_nothing_to_bind() {
                    self.bind(body, true);
                }
            }
            from_client::EXECUTE => {
                self.executed += 1;
                if self.said.is_some() {
                    self.execute(body);
                }
            }
            from_client::CLOSE => self.close(body),
            from_client::DESCRIBE => self.describe(body),
            from_client::FUNCTION_CALL => self.call(body),
            from_client::SYNC => {
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
            from_server::COMMAND_COMPLETE => {
                if self.said.is_some() || tag_signals(body) || self.settings.may_revert {
                    self.completed(body);
                }
                self.done += 1;
                self.sequences.completed(body);
                // The client may count on it, whatever becomes of the rest.
                self.changes.answered();
            }
            from_server::EMPTY_QUERY | from_server::PORTAL_SUSPENDED => self.done += 1,
            from_server::READY => self.ready(body.first().copied()),
            from_server::PARSE_COMPLETE
            | from_server::CLOSE_COMPLETE
            | from_server::PARAMETER_DESCRIPTION => self.answered_parse(tag, body),
            from_server::PARAMETER_STATUS => self.told(body),
            from_server::ERROR => self.refused(body),
            _ => {}
        }
    }

    /// How many entries there is room for.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.parses.capacity() + self.spotted.len()
    }
}

/// Postgres cuts names of statements.
const NAME_KEPT: usize = 63;

fn known_as(name: &[u8]) -> &[u8] {
    &name[..name.len().min(NAME_KEPT)]
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
            .field("changes", &self.changes)
            .field("pins", &self.pins)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
