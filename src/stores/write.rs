//! Stores that can be written: the trait, and what is true of every write.
//!
//! Each write is made against what was seen before it (compare-and-set as far as the store can do it), and what it made
//! of the secret is read back before it counts. A write whose outcome is not known, because its answer got lost, is
//! looked up as well.

pub(super) mod in_payload;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{PayloadError, READ_TIME_MAX, Said, StoreError, StoreFuture};
use crate::credentials::Password;

/// A user and a password that go into a store together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub user: Arc<str>,
    pub password: Password,
}

/// What a store calls one state of a secret. Two that are equal are one state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision(Arc<str>);

impl Revision {
    pub(crate) fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// Nothing secret.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a secret holds, as of one look.
#[derive(Clone, Debug)]
pub struct Holding {
    pub current: Login,
    pub next: Option<Login>,
    pub previous: Option<Login>,
    pub next_place: NextPlace,
    pub revision: Revision,
    /// Somebody who also writes here, as far as the store tells.
    pub other_writer: Option<Said>,
}

/// Whether there is somewhere for what comes next, beside what is current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextPlace {
    None,
    /// For another password of the same user.
    SameUser,
    AnyUser,
}

/// One step of a rotation in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Put what comes next beside what is current.
    Stage(Login),
    /// What came next becomes current.
    Promote(Login),
    /// What came next is taken back.
    Withdraw(Login),
    /// Becomes current at once, where there is no place for what comes next.
    Replace(Login),
}

impl Change {
    fn is_made(&self, holding: &Holding) -> bool {
        match self {
            Self::Stage(login) => holding.next.as_ref() == Some(login),
            Self::Withdraw(login) => holding.next.as_ref() != Some(login),
            Self::Promote(login) => holding.current == *login && holding.next.as_ref() != Some(login),
            Self::Replace(login) => holding.current == *login,
        }
    }
}

/// One secret in one store that can be changed, by one task at a time.
pub trait WritableStore: Send {
    /// Reads everything once. Use [`look`], which adds the deadline.
    fn look(&mut self) -> StoreFuture<'_, Result<Holding, StoreError>>;

    /// Makes one change to what was seen, and to nothing else. Use [`write()`], which reads it back.
    fn change<'a>(
        &'a mut self,
        change: &'a Change,
        since: &'a Holding,
    ) -> StoreFuture<'a, Result<(), WriteError>>;

    /// For one look or one change.
    fn time_max(&self) -> Duration {
        READ_TIME_MAX
    }
}

/// Why nothing was written, or why it is not known whether it was. No variant carries a byte of a payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "the payload has no place for what comes next: give it one ({{\"current\": …, \"next\": …}}, DB_PASS_NEXT, or \
         next_password in `fields`)"
    )]
    NoPlaceForNext,
    #[error("the payload's place for what comes next is for the same user: give it next_user in `fields`")]
    NextIsOfSameUser,
    #[error(
        "something else is in the place for what comes next: go on with it, or take it out, before another is put there"
    )]
    NextIsTaken,
    #[error("what comes next is not what was put there: somebody else writes here")]
    NextIsAnother,
    #[error("a password that is no text can't be kept in this payload")]
    PasswordIsNotText,
    #[error("somebody else changed the secret meanwhile ({0}): see who writes here, and start again")]
    Foreign(Said),
    #[error("what was written is not what is there now: somebody else writes here")]
    NotThere,
    #[error("{0}")]
    ReadOnly(Said),
}

impl From<PayloadError> for WriteError {
    fn from(error: PayloadError) -> Self {
        Self::Store(error.into())
    }
}

/// One look at a store, within its time.
pub async fn look(store: &mut dyn WritableStore) -> Result<Holding, StoreError> {
    let limit = store.time_max();
    match timeout(limit, store.look()).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::Slow { limit }),
    }
}

/// Looks at what was written, in a store where that may take a moment to be seen.
const LOOKS_MAX: u32 = 6;
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Makes one change to what was seen, and answers with what is there then.
pub async fn write(
    store: &mut dyn WritableStore,
    change: &Change,
    since: &Holding,
) -> Result<Holding, WriteError> {
    if change.is_made(since) {
        return Ok(since.clone());
    }
    let limit = store.time_max();
    let written = match timeout(limit, store.change(change, since)).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::Slow { limit }.into()),
    };
    match written {
        // The answer may have got lost, and not the change.
        Ok(()) | Err(WriteError::Store(_)) => {}
        Err(error) => return Err(error),
    }
    let mut wait = LOOK_AGAIN_AFTER;
    for _ in 1..LOOKS_MAX {
        match look(store).await {
            Ok(holding) if change.is_made(&holding) => return Ok(holding),
            _ if written.is_err() => break,
            _ => sleep(wait).await,
        }
        wait *= 2;
    }
    written?;
    Err(WriteError::NotThere)
}

pub(super) fn foreign(was: &Revision, is: &Revision) -> WriteError {
    WriteError::Foreign(Said::new(format_args!("it was at {was}, and is at {is}")))
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
