//! What is known of a session without asking its link: the last survey, and what was noted since. Pure.

use std::sync::Arc;

use super::ledger::{Ledger, Since, Values};
use crate::postgres::wire::described::Shape;

/// What is known of a session without asking its link.
#[derive(Default)]
pub struct Known {
    /// What the last survey said. None: there was no reason for one.
    pub ledger: Option<Ledger>,
    /// What its server told before anything was [said](Self::said) since.
    pub before: Values,
    /// What it told since, or with its greeting.
    pub values: Values,
    pub since: Since,
    /// Named statements that came to be since, in the order of their names.
    pub parsed: Vec<Parsed>,
    /// What has to be said after that, in its order.
    pub said: Vec<Again>,
    /// What the client was told of statements: their names, and what they take and give.
    pub told: Vec<(Box<[u8]>, Shape)>,
    /// There is nothing else.
    pub is_all: bool,
}

/// A client's own Parse, and what it was read under.
#[derive(Clone)]
pub struct Parsed {
    pub body: Box<[u8]>,
    pub under: Arc<Values>,
}

/// The client's Parse of its unnamed statement.
#[derive(Clone)]
pub struct Unnamed {
    pub parsed: Parsed,
    /// There may never have been such a statement.
    pub doubtful: bool,
    /// What the client was told that it takes and gives.
    pub told: Option<Shape>,
}

/// What to say to a link, so that it becomes what another one was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Again {
    /// One statement, in the client's encoding.
    Text(Box<[u8]>),
    /// One that stands alone in its unit.
    Alone(Box<[u8]>),
    SetConfig {
        name: Box<[u8]>,
        value: Box<[u8]>,
    },
    /// The setting is there, if with an empty value: that it once was set does not end with a transaction.
    Touch(Box<[u8]>),
    /// The body of a Parse message.
    Parse(Box<[u8]>),
}
