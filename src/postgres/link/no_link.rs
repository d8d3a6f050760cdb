//! Why there is no link for a session. Names the local role at most, never the upstream's user.

use std::time::Duration;

use bytes::Bytes;

use super::login_error::LoginError;
use crate::access::log_in::Denied;
use crate::names::RoleName;
use crate::postgres::wire::read::{error_field, passes};
use crate::postgres::wire::tag::field;

const TOO_MANY_CONNECTIONS: &[u8] = b"53300";

#[derive(Debug, thiserror::Error)]
pub enum NoLink {
    #[error("no connection to the database became free within {wait:?} (limits.queue_wait, {limit} in use)")]
    QueueWait { wait: Duration, limit: u32 },
    #[error(
        "password authentication failed for user \"{role}\": the database accepts no credential it maps to"
    )]
    NoCredential { role: String },
    #[error("the secret store has not given a credential for \"{role}\" yet")]
    NoSecretYet { role: String },
    #[error("the database can't be reached yet: {reason}")]
    NotYet { reason: String },
    #[error("the database can't be used: {reason}")]
    Unusable { reason: String },
    /// What the server itself said.
    #[error("the database refused the connection")]
    Server {
        /// Of its ErrorResponse.
        body: Bytes,
        /// It came after AuthenticationOk.
        authenticated: bool,
    },
}

impl NoLink {
    pub fn of(denied: Denied<LoginError>, role: &RoleName) -> Self {
        let role = role.to_string();
        match denied {
            Denied::Refused(_) => Self::NoCredential { role },
            Denied::NoCredential => Self::NoSecretYet { role },
            Denied::NotYet(Some(LoginError::Server { body, authenticated }))
            | Denied::Fatal(LoginError::Server { body, authenticated }) => {
                Self::Server { body, authenticated }
            }
            Denied::NotYet(error) => Self::NotYet {
                reason: error.map_or_else(|| "no endpoint answered".to_owned(), |error| error.to_string()),
            },
            Denied::Fatal(error) => Self::Unusable {
                reason: error.to_string(),
            },
        }
    }

    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::QueueWait { .. } => "53300",
            Self::NoCredential { .. } => "28P01",
            Self::NotYet { .. } | Self::NoSecretYet { .. } => "57P03",
            Self::Unusable { .. } | Self::Server { .. } => "08006",
        }
    }

    /// The server refused the login because it has too many sessions.
    pub fn is_server_full(&self) -> bool {
        matches!(self, Self::Server { body, .. } if error_field(body, field::SQLSTATE) == Some(TOO_MANY_CONNECTIONS))
    }

    /// Whether the server may let in the same client in a moment.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Server { body, .. } if error_field(body, field::SQLSTATE).is_some_and(passes))
    }
}
