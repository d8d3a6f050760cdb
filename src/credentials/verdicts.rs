//! How a login tells what Postgres said of its credential. Who hears that, and what follows from it, is not known here.

use super::Credential;
use crate::names::Endpoint;

/// Why Postgres turned a login away for the credential's sake. Nothing else means "try another one".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// 28P01.
    BadPassword,
    /// 28000: pg_hba, NOLOGIN or TLS as well as the password, so it says little about the password.
    NotAllowed,
}

impl Refusal {
    pub fn from_sqlstate(sqlstate: &str) -> Option<Self> {
        match sqlstate {
            "28P01" => Some(Self::BadPassword),
            "28000" => Some(Self::NotAllowed),
            _ => None,
        }
    }

    pub fn sqlstate(self) -> &'static str {
        match self {
            Self::BadPassword => "28P01",
            Self::NotAllowed => "28000",
        }
    }
}

/// Where a login reports what Postgres said about a credential.
///
/// A report is in the book, and on the published page, before the call returns: whoever waits for a
/// verdict may be let go right after it.
pub trait Verdicts: Send + Sync {
    fn proven(&self, credential: &Credential, endpoint: &Endpoint);

    fn refused(&self, credential: &Credential, endpoint: &Endpoint, refusal: Refusal);

    /// Asks for a read of the store, soon. The keeper spaces the reads; asking often costs nothing.
    fn refresh_wanted(&self);
}
