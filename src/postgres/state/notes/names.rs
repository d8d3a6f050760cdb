//! Names of custom settings that a session has used.

use std::collections::BTreeSet;

use super::super::risky_names::RiskyNames;

/// So many names of one session are shared with the others of its database.
const SHARED_MAX: u16 = 64;
/// So many more are kept for itself. What is set beyond that is not known.
const OWN_MAX: usize = 1024;

#[derive(Default)]
pub(super) struct Names {
    is_used: bool,
    shared: u16,
    own: BTreeSet<String>,
}

impl Names {
    /// False: there is no room for all of them.
    pub fn note(&mut self, names: &[String], risky: &RiskyNames) -> bool {
        self.is_used |= !names.is_empty();
        names.iter().all(|name| self.note_one(name, risky))
    }

    fn note_one(&mut self, name: &str, risky: &RiskyNames) -> bool {
        if self.own.contains(name) || risky.knows(name) {
            return true;
        }
        if self.shared < SHARED_MAX && risky.share(name) {
            self.shared += 1;
            return true;
        }
        self.own.len() < OWN_MAX && self.own.insert(name.to_owned())
    }

    /// Whether there was any.
    pub fn is_used(&self) -> bool {
        self.is_used
    }

    pub fn own(&self) -> impl Iterator<Item = &str> {
        self.own.iter().map(String::as_str)
    }
}
