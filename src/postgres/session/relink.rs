//! The one way to put a session on another link, planned or not.

use std::mem;

use super::held::{Next, address_of};
use super::run::Session;
use crate::access::roster::Registration;
use crate::net::Stream;
use crate::postgres::link::login::Backend;
use crate::postgres::relay::{ProcessIds, Relay};
use crate::postgres::state::ledger::{Ledger, Values};

impl Session {
    /// Puts the session on another link; `change` has the relay take it. Returns what is left behind.
    pub fn put_on(
        &mut self,
        next: Next,
        change: impl FnOnce(&mut Relay<Stream, Stream>, Stream, Option<ProcessIds>) -> Stream,
    ) -> (Stream, Registration) {
        // Cancel requests go to the new backend.
        if let Some(place) = &self.place {
            place.repoint(address_of(&next.facts, &next.stream, &next.pool.target));
        }
        let ids = self.process_ids(next.facts.backend.as_ref());
        self.leaves_with(next.ledger);
        let left = change(&mut self.relay, next.stream, ids);
        self.relay.resume(&next.messages, &next.unread);
        (self.held.facts, self.held.pool) = (next.facts, next.pool);
        let mut left_registration = mem::replace(&mut self.held.registration, next.registration);
        left_registration.unseat();
        self.held.registration.seat(self.id);
        (left, left_registration)
    }

    /// All that there is to know is in the ledger now.
    pub fn holds(&mut self, ledger: Ledger) {
        let greeting = self.greeting();
        if let Some(notes) = self.relay.notes_mut() {
            notes.surveyed(&ledger, &greeting);
        }
        self.held.ledger = Some(Box::new(ledger));
    }

    /// The same, and the session is about to change to another link: that has its own greeting.
    fn leaves_with(&mut self, ledger: Ledger) {
        let greeting = self.greeting();
        if let Some(notes) = self.relay.notes_mut() {
            notes.keep_greeting(&greeting);
        }
        self.holds(ledger);
    }

    /// What the link's server told of its settings when the session came to it.
    pub fn greeting(&self) -> Values {
        Values::told(&self.held.facts.greeting.messages)
    }

    fn process_ids(&self, backend: Option<&Backend>) -> Option<ProcessIds> {
        Some(ProcessIds {
            backend: backend?.process_id,
            known: self.place.as_ref()?.process_id(),
        })
    }
}
