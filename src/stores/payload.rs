//! Shapes to credentials. A payload is recognised by its keys and never mixed: keys of two shapes are an
//! error, because guessing wrong logs in with the wrong password.

pub(in crate::stores) mod change;
mod dotenv;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod json;
mod outline;
mod shapes;

use std::sync::Arc;

pub(in crate::stores) use self::json::Json;
use self::shapes::Shape;
use super::{DigestKey, HostInSecret};
use crate::config::Fields;
use crate::credentials::{Credential, Password, Position};

/// Why a payload is no credential. Says where, never what was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    #[error("it is not UTF-8 text")]
    NotText,
    #[error(
        "it is not JSON (line {line}, column {column}); if it is NAME=value text, choose its names with `fields`"
    )]
    NotJson { line: usize, column: usize },
    #[error("its JSON is broken at line {line}, column {column}")]
    BrokenJson { line: usize, column: usize },
    #[error("line {line} is not NAME=value")]
    NotDotEnv { line: usize },
    #[error("the quote opened in line {line} is never closed")]
    UnclosedQuote { line: usize },
    #[error("a key stands twice (line {line})")]
    DuplicateKey { line: usize },
    #[error("it has no shape that is known: choose its keys with `fields`")]
    Unrecognised,
    #[error("it has keys of two shapes, {0} and {1}: remove one, or choose its keys with `fields`")]
    Ambiguous(ShapeName, ShapeName),
    #[error("the {position} {part} is absent")]
    Absent { position: Position, part: Part },
    #[error("the {position} {part} is empty")]
    EmptyPart { position: Position, part: Part },
    #[error("the {position} {part} is not text")]
    PartNotText { position: Position, part: Part },
    #[error("the {position} user contains a NUL")]
    NulInUser { position: Position },
    #[error("its list of credentials is empty")]
    EmptyList,
    #[error("its list has more than {max} credentials")]
    LongList { max: usize },
}

/// One half of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    User,
    Password,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::Password => "password",
        })
    }
}

pub use self::shapes::ShapeName;

/// What one payload holds: at least one pair, best first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    pub pairs: Vec<Pair>,
    pub host: Option<HostInSecret>,
}

/// A user and a password out of one payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub position: Position,
    pub user: Arc<str>,
    pub password: Password,
}

impl Pair {
    pub(super) fn new(
        position: Position,
        user: &str,
        password: impl Into<Vec<u8>>,
    ) -> Result<Self, PayloadError> {
        let password = Password::new(password);
        let empty = |part| PayloadError::EmptyPart { position, part };
        if user.is_empty() {
            return Err(empty(Part::User));
        }
        if user.contains('\0') {
            return Err(PayloadError::NulInUser { position });
        }
        if password.is_empty() {
            return Err(empty(Part::Password));
        }
        Ok(Self {
            position,
            user: user.into(),
            password,
        })
    }

    /// A password may be any bytes, a user is text.
    pub(super) fn from_bytes(
        position: Position,
        user: &[u8],
        password: impl Into<Vec<u8>>,
    ) -> Result<Self, PayloadError> {
        let part = Part::User;
        let user = std::str::from_utf8(user).map_err(|_| PayloadError::PartNotText { position, part })?;
        Self::new(position, user, password)
    }

    /// With the version that the store gave to it.
    #[cfg(any(feature = "aws", feature = "vault"))]
    pub(super) fn versioned(self, version: &Arc<str>) -> Credential {
        Credential {
            user: self.user,
            password: self.password,
            version: Arc::clone(version),
            position: self.position,
        }
    }

    /// With a version made of its own values, for stores that have none.
    pub(super) fn digested(self, digests: &DigestKey) -> Credential {
        Credential {
            version: digests.version(&[self.user.as_bytes(), self.password.expose()]),
            user: self.user,
            password: self.password,
            position: self.position,
        }
    }
}

/// Reads one payload. `fields` says where things are; without it they are recognised.
pub fn parse(bytes: &[u8], fields: Option<&Fields>) -> Result<Payload, PayloadError> {
    let text = std::str::from_utf8(bytes).map_err(|_| PayloadError::NotText)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match fields {
        Some(fields) if !text.trim_start().starts_with(['{', '[']) => {
            let variables = dotenv::DotEnv::parse(text)?;
            shapes::by_fields(fields, |name| Ok(variables.get(name)), None)
        }
        fields => parse_json(&Json::parse(text)?, fields),
    }
}

/// One part of a JSON text, as it is written there.
#[cfg(feature = "vault")]
pub(super) fn part_of(text: &str, path: &str) -> Option<change::Bytes> {
    let node = outline::Node::of(text).ok()?;
    let part = &text[node.at(path)?.span.clone()];
    Some(change::Bytes::new(part.as_bytes().to_vec()))
}

pub(super) fn parse_json(json: &Json, fields: Option<&Fields>) -> Result<Payload, PayloadError> {
    match fields {
        Some(fields) => shapes::by_fields(fields, |path| shapes::text_at(json, path), shapes::host(json)),
        None => Shape::recognise(json)?.credentials(json),
    }
}
