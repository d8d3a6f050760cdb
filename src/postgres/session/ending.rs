//! How a session ends when its client does not end it, and what the client is told then.

use bytes::{Bytes, BytesMut};

use super::crossing::Failed;
use crate::access;
use crate::postgres::client::refusal::Side;
use crate::postgres::link::no_link::NoLink;
use crate::postgres::relay::{End, Loss};
use crate::postgres::state::ledger::Pin;
use crate::postgres::wire::aftermath::Unanswerable;
use crate::postgres::wire::frame::BadLength;
use crate::postgres::wire::read::error_field;
use crate::postgres::wire::say::{self, Fatal};
use crate::postgres::wire::tag::field;

/// Why a session is over.
#[derive(Debug)]
pub enum Over {
    End(End),
    Stopping,
    /// The secret's deadline has come.
    Cut(Vec<access::pin::Pin>),
    /// The link was lost, and with it what can't be made again.
    Gone(Gone),
}

impl From<End> for Over {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

/// What the client of a session is told at its end.
#[derive(Debug, thiserror::Error)]
pub enum Ending {
    /// What the server itself said.
    #[error("the database refused the connection")]
    Server {
        /// Of its ErrorResponse.
        body: Bytes,
    },
    #[error("the connection to the database was lost")]
    LinkLost,
    #[error("invalid message length")]
    BadLength(#[from] BadLength),
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

impl Ending {
    pub fn side(&self) -> Side {
        match self {
            Self::BadLength(_) => Side::Client,
            Self::Server { .. } | Self::Gone(_) | Self::LinkLost => Side::Upstream,
            Self::Cut { .. } | Self::Stopping => Side::Us,
        }
    }

    pub fn sqlstate(&self) -> &str {
        match self {
            Self::Gone(gone) => gone.said(field::SQLSTATE).unwrap_or("08006"),
            Self::BadLength(_) => "08P01",
            Self::LinkLost | Self::Server { .. } => "08006",
            Self::Stopping | Self::Cut { .. } => "57P01",
        }
    }

    /// The FATAL that ends the connection.
    pub fn write(&self, out: &mut BytesMut) {
        if let Self::Server { body } = self {
            return say::error_body(out, body);
        }
        let text = self.to_string();
        // Of a session that ends with its link the server's last words are passed on, and ours explain them.
        let last_words = match self {
            Self::Gone(gone) => gone.said(field::MESSAGE),
            _ => None,
        };
        let fatal = Fatal {
            sqlstate: self.sqlstate(),
            message: last_words.unwrap_or(&text),
            detail: last_words.is_some().then_some(&text),
            hint: None,
        };
        fatal.write(out);
    }
}

impl From<Loss> for Ending {
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
    fn what_the_server_said_at_the_end_is_passed_on_byte_for_byte() {
        let body = b"SFATAL\0VFATAL\0C57P01\0Mno\xff\0\0";
        let mut out = BytesMut::new();
        let loss = Loss {
            fatal: Some(Bytes::from_static(body)),
            ..Loss::default()
        };
        Ending::from(loss).write(&mut out);
        assert_eq!(&out[5..], body);
    }

    #[test]
    fn the_last_words_of_the_server_come_first_and_why_the_session_ends_explains_them() {
        let mut out = BytesMut::new();
        let gone = Gone {
            reason: Unrecoverable::Unsurveyed,
            fatal: Some(Bytes::from_static(b"SFATAL\0C57P02\0Mcrash\0\0")),
        };
        Ending::Gone(gone).write(&mut out);
        let said = |code| error_field(&out[5..], code).map(String::from_utf8_lossy);
        assert_eq!(said(field::SQLSTATE).as_deref(), Some("57P02"));
        assert_eq!(said(field::MESSAGE).as_deref(), Some("crash"));
        assert!(said(field::DETAIL).is_some_and(|text| text.contains("is not known")));
    }
}
