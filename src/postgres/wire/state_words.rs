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
//! * functions written in C, other than those that `words` names, and what PL/Python and PL/Perl keep
//!   elsewhere than in `GD` and `%_SHARED`
//! * in a client's text, operators and casts whose function is risky; in any text, the call `(row).function`
//! * a risky domain inside an array or a composite type, and risky expressions in an index
//! * tables that SELECT INTO or CREATE TABLE AS makes while `pg_temp` stands first in search_path
//! * names with letters beyond ASCII, when the client's encoding is not the one they were learned in
//! * currval and lastval, which nothing can carry

pub(super) mod blanks;
mod execute;
mod glance;
mod learning;
mod listener;
mod place;
mod setting;
mod tags;
#[cfg(test)]
mod tests;
mod unseen;
mod vocabulary;
mod words;

pub use learning::{DEFINED, DEFINITIONS_MAX, Definition, LEARN_QUERY, Learned, Risk, digest, learn};
pub use listener::{Listener, Message};
pub use tags::{function_signals, tag_eases, tag_lasts, tag_redefines, tag_signals};
pub use unseen::Unseen;
pub use vocabulary::Vocabulary;

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
    /// Libraries that a LOAD in it names, in the order of the text. They are loaded if LOAD's tag comes.
    pub libraries: Vec<String>,
}

impl Spotted {
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
