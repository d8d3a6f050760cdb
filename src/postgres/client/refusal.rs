//! Why a client is turned away before it has a session, and what it is told. What Postgres says is passed on as it came.

use std::time::Duration;

use bytes::BytesMut;

use crate::metrics::Limit;
use crate::postgres::link::no_link::NoLink;
use crate::postgres::wire::frame::BadLength;
use crate::postgres::wire::opening::BadOpening;
use crate::postgres::wire::say::{self, Fatal};
use crate::postgres::wire::scram::server::ScramServerError;

/// Who has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Upstream,
    Us,
}

/// Names the local role at most, never the upstream's user.
#[derive(Debug, thiserror::Error)]
pub enum TurnedAway {
    #[error(transparent)]
    Opening(#[from] BadOpening),
    #[error("received unencrypted data after a request for encryption")]
    EarlyData,
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
    #[error("this listener accepts encrypted connections only")]
    TlsRequired,
    #[error("this listener has no TLS certificate (listen.tls)")]
    TlsUnavailable,
    #[error("expected a password message, got message type {0:?}")]
    NoPassword(char),
    #[error(transparent)]
    Scram(#[from] ScramServerError),
    #[error("invalid message length")]
    BadLength(#[from] BadLength),
    #[error("password authentication failed for user \"{role}\"")]
    WrongPassword { role: String },
    #[error(
        "database \"{asked}\" is not where role \"{role}\" leads, which is \"{database}\" (upstream.{upstream}.other_database)"
    )]
    OtherDatabase {
        asked: String,
        role: String,
        database: String,
        upstream: String,
    },
    #[error("the login was not finished within {limit:?} (limits.startup_time)")]
    StartupTime { limit: Duration },
    #[error("sorry, too many clients already: {limit} (limits.clients)")]
    TooManyClients { limit: u32 },
    #[error("sorry, too many clients are logging in already: {limit} (limits.startups)")]
    TooManyStartups { limit: u32 },
    #[error(transparent)]
    NoLink(#[from] NoLink),
    #[error("terminating connection because pgswivel is stopping")]
    Stopping,
}

impl TurnedAway {
    pub fn side(&self) -> Side {
        match self {
            Self::Opening(_)
            | Self::EarlyData
            | Self::NoUser
            | Self::TlsRequired
            | Self::TlsUnavailable
            | Self::NoPassword(_)
            | Self::Scram(_)
            | Self::BadLength(_)
            | Self::WrongPassword { .. }
            | Self::OtherDatabase { .. }
            | Self::StartupTime { .. } => Side::Client,
            Self::NoLink(NoLink::QueueWait { .. }) => Side::Us,
            Self::NoLink(_) => Side::Upstream,
            Self::TooManyClients { .. } | Self::TooManyStartups { .. } | Self::Stopping => Side::Us,
        }
    }

    /// The limit that was hit, if it was one.
    pub fn limit(&self) -> Option<Limit> {
        match self {
            Self::Opening(BadOpening::Length) => Some(Limit::StartupPacket),
            Self::StartupTime { .. } => Some(Limit::StartupTime),
            Self::TooManyClients { .. } => Some(Limit::Clients),
            Self::TooManyStartups { .. } => Some(Limit::Startups),
            Self::NoLink(NoLink::QueueWait { .. }) => Some(Limit::QueueWait),
            _ => None,
        }
    }

    pub fn sqlstate(&self) -> &str {
        match self {
            Self::Opening(BadOpening::Version(..)) => "0A000",
            Self::Opening(_) | Self::EarlyData | Self::BadLength(_) | Self::NoPassword(_) => "08P01",
            Self::NoUser | Self::TlsRequired | Self::TlsUnavailable => "28000",
            Self::Scram(error) => error.sqlstate(),
            Self::WrongPassword { .. } => "28P01",
            Self::OtherDatabase { .. } => "3D000",
            Self::TooManyClients { .. } | Self::TooManyStartups { .. } => "53300",
            Self::StartupTime { .. } => "08006",
            Self::NoLink(no_link) => no_link.sqlstate(),
            Self::Stopping => "57P01",
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::TlsRequired => Some("Connect with sslmode=require or stricter."),
            Self::WrongPassword { .. } => Some(
                "pgswivel asks for the name and the password of one of its own roles, not for the database's.",
            ),
            Self::NoLink(NoLink::NoCredential { .. }) => {
                Some("Run \"pgswivel check\" beside it: it tries every credential of the secret once.")
            }
            _ => None,
        }
    }

    /// The FATAL that ends the connection.
    pub fn write(&self, out: &mut BytesMut) {
        if let Self::NoLink(NoLink::Server { body, authenticated }) = self {
            // Clients tell a refusal of the login from one of the session by what came before it.
            if *authenticated {
                say::authentication_ok(out);
            }
            return say::error_body(out, body);
        }
        let fatal = Fatal {
            sqlstate: self.sqlstate(),
            message: &self.to_string(),
            detail: None,
            hint: self.hint(),
        };
        fatal.write(out);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::postgres::wire::read::error_field;

    #[test]
    fn a_fatal_has_severity_sqlstate_and_text() {
        let mut out = BytesMut::new();
        TurnedAway::TooManyClients { limit: 7 }.write(&mut out);
        assert_eq!(out[0], b'E');
        let body = &out[5..];
        assert_eq!(error_field(body, b'V'), Some(&b"FATAL"[..]));
        assert_eq!(error_field(body, b'C'), Some(&b"53300"[..]));
        let text = error_field(body, b'M').unwrap();
        assert!(String::from_utf8_lossy(text).contains("limits.clients"));
    }

    #[test]
    fn what_the_server_said_is_passed_on_byte_for_byte() {
        let body = b"SFATAL\0VFATAL\0C3D000\0Mno\xff\0\0";
        let mut out = BytesMut::new();
        let error = |authenticated| NoLink::Server {
            body: Bytes::from_static(body),
            authenticated,
        };
        let error = |authenticated| TurnedAway::from(error(authenticated));
        error(false).write(&mut out);
        assert_eq!(&out[5..], body);

        let refusal = out.split();
        error(true).write(&mut out);
        assert_eq!(&out[..9], b"R\0\0\0\x08\0\0\0\0");
        assert_eq!(&out[9..], &refusal);
    }
}
