//! One credential of one read of a store: who logs in, with what, and where the store held it.
//! Whether it works is not known here.

use std::fmt;
use std::sync::Arc;

use super::Password;

/// One atomic tuple as one read of a store gave it. Never assembled from two reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    pub user: Arc<str>,
    pub password: Password,
    /// What the store calls this value: a version id, a number, a digest. Says nothing secret.
    pub version: Arc<str>,
    pub position: Position,
}

impl Credential {
    /// The same user and password, whatever the store calls them. What is known of a login is known
    /// under this identity.
    pub fn is_same_login(&self, other: &Self) -> bool {
        self.user == other.user && self.password == other.password
    }
}

/// Where the store holds a credential. It orders the tries and proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Position {
    Current,
    Next,
    Previous,
    Index(u16),
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Current => f.write_str("current"),
            Self::Next => f.write_str("next"),
            Self::Previous => f.write_str("previous"),
            Self::Index(index) => write!(f, "{index}"),
        }
    }
}
