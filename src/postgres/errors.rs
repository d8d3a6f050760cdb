//! What pgswivel itself tells a client. What Postgres says is passed on as it came.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::crossing::Failed;
use super::ledger::Pin;
use super::no_link::NoLink;
use super::relay::Loss;
use super::wire::aftermath::Unanswerable;
use super::wire::frame::BadLength;
use super::wire::opening::BadOpening;
use super::wire::read::error_field;
use super::wire::say;
use super::wire::scram::server::ScramServerError;
use super::wire::tag::field;
use crate::access;
use crate::metrics::Limit;

/// Who has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Upstream,
    Us,
}

/// A reason to end a client's connection. Names the local role at most, never the upstream's user.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
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
    /// What the server itself said.
    #[error("the database refused the connection")]
    Server {
        /// Of its ErrorResponse.
        body: Bytes,
    },
    #[error("the connection to the database was lost")]
    LinkLost,
    #[error("terminating connection because pgswivel is stopping")]
    Stopping,
    #[error(
        "terminating connection because its credential has been replaced and it can't move: {}",
        list(reasons.iter().map(|pin| pin.label()))
    )]
    Cut { reasons: Vec<access::pin::Pin> },
    #[error("the connection to the database was lost, and the session with it: {}", .0.reason)]
    Gone(Gone),
}

/// What can't be made again on another link.
#[derive(Debug)]
pub struct Gone {
    pub reason: Unrecoverable,
    /// The body of what the server said when it ended the link.
    pub fatal: Option<Bytes>,
}

impl Gone {
    fn said(&self, field: u8) -> Option<&str> {
        let said = error_field(self.fatal.as_deref()?, field)?;
        str::from_utf8(said).ok()
    }
}

/// Why a session ends with its link.
#[derive(Debug, thiserror::Error)]
pub enum Unrecoverable {
    #[error("{} can't be made again", list(.0.iter().map(|pin| pin.label())))]
    Pinned(Vec<Pin>),
    #[error("what it has set since it was last at rest is not known")]
    Unsurveyed,
    #[error("{0}")]
    Unanswerable(#[from] Unanswerable),
    #[error("what it was can't be made again: {0}")]
    Rebuilding(Failed),
    #[error("{0}")]
    Login(NoLink),
}

fn list(pins: impl Iterator<Item = &'static str>) -> String {
    let labels: Vec<&str> = pins.collect();
    if labels.is_empty() {
        return "it was never idle".to_owned();
    }
    labels.join(", ")
}

impl ClientError {
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
            Self::NoLink(_) | Self::Server { .. } | Self::Gone(_) | Self::LinkLost => Side::Upstream,
            Self::TooManyClients { .. }
            | Self::TooManyStartups { .. }
            | Self::Cut { .. }
            | Self::Stopping => Side::Us,
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
            Self::Gone(gone) => gone.said(field::SQLSTATE).unwrap_or("08006"),
            Self::Opening(BadOpening::Version(..)) => "0A000",
            Self::Opening(_) | Self::EarlyData | Self::BadLength(_) | Self::NoPassword(_) => "08P01",
            Self::NoUser | Self::TlsRequired | Self::TlsUnavailable => "28000",
            Self::Scram(error) => error.sqlstate(),
            Self::WrongPassword { .. } => "28P01",
            Self::OtherDatabase { .. } => "3D000",
            Self::TooManyClients { .. } | Self::TooManyStartups { .. } => "53300",
            Self::StartupTime { .. } | Self::LinkLost | Self::Server { .. } => "08006",
            Self::NoLink(no_link) => no_link.sqlstate(),
            Self::Stopping | Self::Cut { .. } => "57P01",
        }
    }

    /// Of a session that ends with its link the server's last words are passed on, and ours explain them.
    fn last_words(&self) -> Option<&str> {
        match self {
            Self::Gone(gone) => gone.said(field::MESSAGE),
            _ => None,
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
        match self {
            Self::NoLink(NoLink::Server { body, authenticated }) => {
                // Clients tell a refusal of the login from one of the session by what came before it.
                if *authenticated {
                    say::authentication_ok(out);
                }
                return say::error_body(out, body);
            }
            Self::Server { body } => return say::error_body(out, body),
            _ => {}
        }
        let message = self.to_string();
        let mut fields = vec![
            (field::SEVERITY, "FATAL"),
            (field::SEVERITY_UNTRANSLATED, "FATAL"),
            (field::SQLSTATE, self.sqlstate()),
        ];
        match self.last_words() {
            Some(said) => fields.extend([(field::MESSAGE, said), (field::DETAIL, message.as_str())]),
            None => fields.push((field::MESSAGE, message.as_str())),
        }
        fields.extend(self.hint().map(|hint| (field::HINT, hint)));
        fields.push((field::ROUTINE, "pgswivel"));
        say::error(out, &fields);
    }
}

impl From<Loss> for ClientError {
    fn from(loss: Loss) -> Self {
        match loss.fatal {
            Some(body) => Self::Server { body },
            None => Self::LinkLost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fatal_has_severity_sqlstate_and_text() {
        let mut out = BytesMut::new();
        ClientError::TooManyClients { limit: 7 }.write(&mut out);
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
        let error = |authenticated| ClientError::from(error(authenticated));
        error(false).write(&mut out);
        assert_eq!(&out[5..], body);

        let refusal = out.split();
        error(true).write(&mut out);
        assert_eq!(&out[..9], b"R\0\0\0\x08\0\0\0\0");
        assert_eq!(&out[9..], &refusal);
    }
}
