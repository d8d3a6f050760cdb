//! Whether a statement may have changed what a session holds, from its text and from the tag that answered it.
//!
//! Nothing here understands SQL. A word that is there for another reason costs one survey; a word that is
//! missed costs a session its state. So in doubt the answer is yes.
//!
//! A text is read for the words of a [`Vocabulary`]; a text that comes in pieces by a [`Listener`]. What a
//! command says of itself when it is done is judged by [`tag_signals`]. What functions, views and triggers
//! do out of sight is told by the database once ([`LEARN_QUERY`]) and condensed by [`learn`].
//!
//! A statement that is kept under a name does what its text says each time it runs: whoever keeps it keeps
//! its [`Spotted`] as well.
//!
//! Not covered, because no text or catalog row shows it in words:
//!
//! * functions written in C, other than those that `words` names, and what functions in PL/Python and PL/Perl keep
//!   elsewhere than in `GD`, `SD` and `%_SHARED`
//! * in a client's text, operators and casts whose function is risky; in any text, the call `(row).function`
//! * a risky domain inside an array or a composite type, and risky expressions in an index
//! * tables that SELECT INTO or CREATE TABLE AS makes while `pg_temp` stands first in search_path
//! * names with letters beyond ASCII, when the client's encoding is not the one they were learned in
//! * what sequences gave to a session, which nothing can carry: that it asks for it is seen

pub(in crate::postgres) mod blanks;
mod execute;
mod glance;
mod learning;
mod listener;
mod parameters;
mod place;
pub mod plain;
mod setting;
mod tags;
#[cfg(test)]
mod tests;
mod tokens;
mod unseen;
mod vocabulary;
mod words;

pub use learning::{DEFINED, DEFINITIONS_MAX, Definition, LEARN_QUERY, Learned, Risk, counted, learn};
pub use listener::{Listener, Message};
pub use parameters::Parameters;
pub use tags::{
    Called, ends_transaction, function_called, tag_eases, tag_lasts, tag_redefines, tag_signals,
    tag_tells_all,
};
pub use unseen::Unseen;
pub use vocabulary::Vocabulary;

use setting::Named;

/// More names in one text than this are not kept; the text is then blind.
const NAMES_MAX: usize = 64;

/// What one statement text gives away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spotted {
    /// It may change what the session holds in a way that no tag tells.
    pub signalled: bool,
    /// Not all of that would be undone by a rollback.
    pub lasting: bool,
    /// Custom settings that it names, in lower case: pg_settings does not list those. To learn a name does
    /// not mean that it was set.
    pub settings: Vec<String>,
    /// It sets something whose name can't be known from here.
    pub blind: bool,
    /// State that no survey can see.
    pub unseen: Unseen,
    /// If it is a DO that runs, it executes what its text does not show.
    pub dynamic: bool,
    /// The same: it is in a language that keeps data of its own.
    pub foreign: bool,
    /// It asks what a sequence gave to this session.
    pub asks: bool,
    /// Parameters that name a setting.
    pub parameters: Parameters,
    /// Libraries that a LOAD in it names, in the order of the text. They are loaded if LOAD's tag comes.
    pub libraries: Vec<String>,
}

impl Spotted {
    /// What set_config does with this name.
    pub fn set_config(name: &[u8]) -> Self {
        let mut spotted = Self {
            signalled: true,
            ..Self::default()
        };
        match setting::of_value(name) {
            Named::Custom(name) => spotted.learn_setting(&name),
            Named::Seed => spotted.unseen |= Unseen::SEED,
            Named::Unknown => spotted.blind = true,
            Named::Nothing | Named::Parameter(_) => {}
        }
        spotted
    }

    /// What either does.
    pub fn merge(&mut self, other: &Self) {
        self.signalled |= other.signalled;
        self.lasting |= other.lasting;
        self.blind |= other.blind;
        self.unseen |= other.unseen;
        self.dynamic |= other.dynamic;
        self.foreign |= other.foreign;
        self.asks |= other.asks;
        self.parameters.merge(other.parameters);
        other
            .settings
            .iter()
            .for_each(|name| self.learn_setting(name.as_bytes()));
        other
            .libraries
            .iter()
            .for_each(|name| self.learn_library(name.as_bytes()));
    }

    fn learn_setting(&mut self, name: &[u8]) {
        let name = std::str::from_utf8(name).map(str::to_ascii_lowercase);
        self.blind |= !keep(&mut self.settings, name.ok());
    }

    fn learn_library(&mut self, name: &[u8]) {
        let name = std::str::from_utf8(name).map(str::to_owned);
        if !keep(&mut self.libraries, name.ok()) {
            self.unseen |= Unseen::LIBRARY;
        }
    }
}

/// False: there is a name that could not be kept.
fn keep(names: &mut Vec<String>, name: Option<String>) -> bool {
    match name {
        Some(name) if names.contains(&name) => true,
        Some(name) if names.len() < NAMES_MAX => {
            names.push(name);
            true
        }
        _ => false,
    }
}
