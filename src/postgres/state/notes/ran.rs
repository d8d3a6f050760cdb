//! Notes what an executed statement may have changed.

use super::super::ledger::Pin;
use super::{Notes, is_of_note};
use crate::postgres::wire::bound::parameter;
use crate::postgres::wire::state_words::{Parameters, Spotted, Unseen};

impl Notes {
    /// A statement with this text was given to the server to run.
    #[inline]
    pub(super) fn ran(&mut self, spotted: &Spotted, bind: Option<&[u8]>) {
        if is_of_note(spotted) {
            self.ran_of_note(spotted, bind);
        }
    }

    #[inline(never)]
    pub(super) fn ran_of_note(&mut self, spotted: &Spotted, bind: Option<&[u8]>) {
        if spotted.signalled {
            // What is said before anything is known is read again.
            self.hidden |= self.vocabulary.is_learned();
            self.settings.may_change(self.parses.units_sent);
            self.changes.may_change();
        }
        if spotted.lasting {
            self.changes.may_last();
        }
        if spotted.asks {
            self.sequences.asked();
            self.risky.sequences_asked();
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
    pub(super) fn name_parameters(&mut self, parameters: Parameters, bind: Option<&[u8]>) {
        let Some(bind) = bind else {
            return self.unknown(parameters.outlive(), Unseen::NONE);
        };
        for (index, outlives) in parameters.each() {
            match index.and_then(|index| parameter(bind, index)) {
                Some(name) => self.set_config(Some(name)),
                None => self.unknown(outlives, Unseen::NONE),
            }
        }
    }

    pub(super) fn set_config(&mut self, name: Option<&[u8]>) {
        match name {
            Some(name) => self.ran(&Spotted::set_config(name), None),
            None => self.pin(Pin::UnknownSettings),
        }
    }

    pub(super) fn unknown(&mut self, blind: bool, unseen: Unseen) {
        if blind {
            self.pin(Pin::UnknownSettings);
        }
        Pin::of_unseen(unseen).for_each(|pin| self.pin(pin));
    }

    pub(super) fn name_settings(&mut self, spotted: &Spotted) {
        if !self.names.note(&spotted.settings, &self.risky) {
            self.pin(Pin::UnknownSettings);
        }
    }

    pub(super) fn pin(&mut self, pin: Pin) {
        if !self.pins.contains(&pin) {
            self.pins.push(pin);
        }
    }
}
