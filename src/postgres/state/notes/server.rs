//! What a server answers.

use super::super::ledger::Pin;
use super::Notes;
use super::changes::Transaction;
use super::parses::{Answered, Under};
use super::said::Done;
use crate::postgres::wire::read::{error_field, is_disowned};
use crate::postgres::wire::state_words::{
    Unseen, ends_transaction, tag_eases, tag_lasts, tag_redefines, tag_signals, tag_tells_all,
};
use crate::postgres::wire::tag::{field, from_server, status};

impl Notes {
    #[inline(never)]
    pub(super) fn answered_parse(&mut self, tag: u8, body: &[u8]) {
        if tag == from_server::PARSE_COMPLETE
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
        if tag != from_server::PARAMETER_DESCRIPTION {
            self.changes.answered();
        }
    }

    /// The client has not heard what was acknowledged in the unit that is under way.
    #[inline(never)]
    pub fn taken_back(&mut self) {
        for name in self.parses.taken_back() {
            if let Some(said) = &mut self.said {
                said.closed(&name);
            }
        }
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
    pub(super) fn told(&mut self, body: &[u8]) {
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
    pub(super) fn refused(&mut self, error: &[u8]) {
        self.unnamed.doubtful = true;
        if let Some(said) = &mut self.said {
            said.failed(self.parses.units_done);
        }
        let state = error_field(error, field::SQLSTATE);
        self.disowned |= state.is_some_and(is_disowned);
    }

    /// The beginning of a large message of the server's, which answers something.
    #[inline(never)]
    pub fn answered_beginning(&mut self, tag: u8) {
        // It takes more parameters than anybody compares.
        if tag == from_server::PARAMETER_DESCRIPTION {
            self.parses.told.is_too_much = true;
            // Whatever it is, it is answered.
            self.parses.answered(b'\0', b"", |_| Under::Unknown);
        }
    }

    #[inline(never)]
    pub(super) fn completed(&mut self, tag: &[u8]) {
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
                if done >= Done::PlainAndRead && !self.unnamed.body.is_empty() && !said.is_unnamed_plain() {
                    self.changes.may_change();
                }
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
        self.changes.may_change();
        self.hidden |= !tag_tells_all(tag);
        self.may_last(tag);
        if tag.starts_with(b"DO") {
            for pin in std::mem::take(&mut self.in_do) {
                self.pin(pin);
            }
        }
        if tag.starts_with(b"LOAD") {
            Pin::of_unseen(Unseen::LIBRARY).for_each(|pin| self.pin(pin));
        }
        if tag_redefines(tag) {
            self.risky.doubt();
        }
    }

    pub(super) fn completed_plain(&mut self, tag: &[u8], done: Done) {
        self.may_last(tag);
        let unit = self.parses.units_done;
        if tag.starts_with(b"PREPARE") {
            let name = self.parses.made_by_sql.take();
            self.settings.prepared(unit, name);
        } else if done == Done::PlainAndLiterals {
            self.settings.may_have_changed(unit);
        }
    }

    pub(super) fn ready(&mut self, status: Option<u8>) {
        self.done = 0;
        if self.settings.is_fresh || self.settings.may_revert {
            self.settings.ready(status);
        }
        if self.said.is_some() {
            self.said_ready(status);
        }
        self.changes.ready(match status {
            Some(status::IDLE) => Transaction::Over,
            _ => Transaction::GoesOn,
        });
        self.parses.unit_done();
    }

    #[inline(never)]
    pub(super) fn said_ready(&mut self, status: Option<u8>) {
        if let Some(said) = &mut self.said
            && said.ready(status, self.parses.units_done)
        {
            self.changes.may_change();
        }
        self.tidy();
    }

    fn may_last(&mut self, tag: &[u8]) {
        if tag_lasts(tag) {
            self.changes.may_last();
        }
    }
}
