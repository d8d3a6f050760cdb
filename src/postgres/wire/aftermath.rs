//! What a client is told when the server that owed it answers is gone, so that it can go on with another one.
//!
//! The client gets what a server would have said that failed at everything in flight: an ERROR and ReadyForQuery
//! for each Query and FunctionCall, one ERROR for the extended messages before a Sync and ReadyForQuery for the
//! Sync. Statements of which nobody knows whether they were carried out are never said to have failed: their
//! error is `transaction_resolution_unknown`.
//!
//! A transaction stays what the client takes it for: lost, it is a failed one, and the next link has to be put into
//! a failed transaction ([`Aftermath::transaction_failed`]). There Postgres itself does the rest: ROLLBACK works
//! and nothing else does. Otherwise what a client has sent ahead, believing itself in a transaction, would be
//! carried out on its own.

mod again;
mod repeatable;
#[cfg(test)]
mod tests;
mod unfinished;
mod walk;

use bytes::{BufMut, BytesMut};

use super::read::error_field;
use super::say;
use super::tag::{field, status};
use super::tracker::{Copy, Tracker, Transaction};
use super::work::Status;
pub use again::Again;
pub use unfinished::Unfinished;
pub use walk::Behind;
use walk::{Left, Step, Walked, walk};

/// Bytes of what one client is answered for all that it had in flight.
const ANSWER_MAX: usize = 16 << 20;
/// A lost link that left no word is as good as one that an administrator ended.
const ADMIN_SHUTDOWN: &[u8] = b"57P01";
const RESOLUTION_UNKNOWN: &[u8] = b"08007";

/// What was lost with a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFlight {
    Nothing,
    /// A transaction that waited for its next statement.
    OpenTransaction,
    /// One that had failed before.
    FailedTransaction,
    Autocommit,
    Transaction,
    /// The end of a transaction may have been in flight.
    Commit,
    CopyIn,
    CopyOut,
    /// What was in flight is asked of the next link.
    AskedAgain,
}

impl InFlight {
    /// For logs and metrics; does not change.
    pub fn label(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::OpenTransaction => "open_transaction",
            Self::FailedTransaction => "failed_transaction",
            Self::Autocommit => "autocommit",
            Self::Transaction => "transaction",
            Self::Commit => "commit",
            Self::CopyIn => "copy_in",
            Self::CopyOut => "copy_out",
            Self::AskedAgain => "asked_again",
        }
    }
}

/// Why a client can't be answered: its session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswerable {
    #[error("a message to the client was cut in the middle")]
    CutOff,
    #[error("replication was under way")]
    Replication,
    #[error("it is not known what the client waits for")]
    Unclear,
    #[error("more requests were in flight than can be answered at once")]
    TooMany,
}

/// How a client's session goes on, worked out before anything is said or changed.
#[derive(Debug)]
pub struct Aftermath {
    pub in_flight: InFlight,
    /// Whether everything in flight is known to have left no trace.
    pub outcome_known: bool,
    /// The next link has to be in a failed transaction before the client is heard again.
    pub transaction_failed: bool,
    /// What the client gets now.
    pub answer: BytesMut,
    /// Messages of the client are ignored up to its Sync, and no server knows.
    skipping: bool,
    unfinished: Unfinished,
}

impl Aftermath {
    /// `behind`: what the client has sent that the tracker was not shown. `fatal`: the body of the last words of the
    /// server, if it had any.
    pub fn of(tracker: &Tracker, behind: Behind, fatal: Option<&[u8]>) -> Result<Self, Unanswerable> {
        if tracker.copy() == Copy::Both {
            return Err(Unanswerable::Replication);
        }
        if !tracker.is_certain() {
            return Err(Unanswerable::Unclear);
        }
        let outcome = walk(tracker, behind, |_| {});
        let in_flight = outcome.in_flight(tracker);
        let error = outcome.error(tracker.transaction(), fatal);
        let mut answer = BytesMut::new();
        walk(tracker, behind, |step| match step {
            _ if answer.len() > ANSWER_MAX => {}
            Step::Fails => answer.put_slice(&error),
            Step::RolledBack => say::command_complete(&mut answer, "ROLLBACK"),
            Step::Ready(transaction) => ready(&mut answer, transaction),
        });
        if answer.len() > ANSWER_MAX {
            return Err(Unanswerable::TooMany);
        }
        let unfinished = match outcome.left {
            Left::Skipping => Unfinished::Skips,
            Left::News => Unfinished::Waits {
                error: error.freeze(),
                in_unit: tracker.unit().begun,
            },
            Left::Nothing if matches!(tracker.copy(), Copy::In { open: true, .. }) => Unfinished::Copies,
            Left::Nothing => Unfinished::Nothing,
        };
        Ok(Self {
            in_flight,
            outcome_known: !outcome.unknown,
            transaction_failed: transaction(outcome.status) == Transaction::Failed,
            answer,
            skipping: outcome.left == Left::Skipping,
            unfinished,
        })
    }

    /// Of what will be asked of the next link: the client is told nothing.
    pub fn unnoticed() -> Self {
        Self {
            in_flight: InFlight::AskedAgain,
            outcome_known: true,
            transaction_failed: false,
            answer: BytesMut::new(),
            skipping: false,
            unfinished: Unfinished::Nothing,
        }
    }

    /// Everything that was in flight counts as answered, and `still` says what is left to do.
    pub fn settle(self, tracker: &mut Tracker, unfinished: &mut Unfinished) {
        let transaction = match self.transaction_failed {
            true => Transaction::Failed,
            false => Transaction::Idle,
        };
        tracker.settle(transaction, self.skipping);
        match (&*unfinished, self.unfinished) {
            // The link was lost again before the client could be told of the first time.
            (Unfinished::Waits { .. }, Unfinished::Nothing) | (Unfinished::Copies, Unfinished::Nothing) => {}
            (_, new) => *unfinished = new,
        }
    }
}

impl Walked {
    fn in_flight(&self, tracker: &Tracker) -> InFlight {
        match (tracker.copy(), tracker.transaction()) {
            (Copy::In { .. }, _) => InFlight::CopyIn,
            (Copy::Out, _) => InFlight::CopyOut,
            (_, Transaction::Open) if self.left == Left::News && !tracker.unit().begun => {
                InFlight::OpenTransaction
            }
            _ if !self.says && self.left != Left::News => match self.status {
                Status::Idle => InFlight::Nothing,
                _ => InFlight::FailedTransaction,
            },
            (_, Transaction::Idle) => InFlight::Autocommit,
            _ if self.unknown => InFlight::Commit,
            _ => InFlight::Transaction,
        }
    }

    fn error(&self, began: Transaction, fatal: Option<&[u8]>) -> BytesMut {
        let text: &[u8] = match (self.unknown, began) {
            (true, Transaction::Idle) => {
                b"the connection to the database was lost: whether the statement was carried out is not known"
            }
            (true, _) => {
                b"the connection to the database was lost: whether the transaction was committed is not known"
            }
            (false, Transaction::Idle) => {
                b"the connection to the database was lost: the statement was not carried out"
            }
            (false, _) => b"the connection to the database was lost: the transaction was rolled back",
        };
        let said_in = |code| fatal.and_then(|fatal| error_field(fatal, code));
        let state = said_in(field::SQLSTATE).filter(|state| state.len() == ADMIN_SHUTDOWN.len());
        let state = match self.unknown {
            true => RESOLUTION_UNKNOWN,
            false => state.unwrap_or(ADMIN_SHUTDOWN),
        };
        let mut body = BytesMut::new();
        for (code, value) in [
            (field::SEVERITY, b"ERROR".as_slice()),
            (field::SEVERITY_UNTRANSLATED, b"ERROR"),
            (field::SQLSTATE, state),
            (field::MESSAGE, text),
        ] {
            put(&mut body, code, &[value]);
        }
        if let Some(said) = said_in(field::MESSAGE) {
            put(
                &mut body,
                field::DETAIL,
                &[b"The server's last words were: ", said],
            );
        }
        put(
            &mut body,
            field::HINT,
            &[b"The session goes on with another connection."],
        );
        put(&mut body, field::ROUTINE, &[b"pgswivel"]);
        body.put_u8(0);
        let mut message = BytesMut::new();
        say::error_body(&mut message, &body);
        message
    }
}

fn put(body: &mut BytesMut, code: u8, value: &[&[u8]]) {
    body.put_u8(code);
    value.iter().for_each(|part| body.put_slice(part));
    body.put_u8(0);
}

fn ready(out: &mut BytesMut, transaction: Transaction) {
    say::ready(
        out,
        if transaction == Transaction::Idle {
            status::IDLE
        } else {
            status::FAILED
        },
    );
}

fn transaction(status: Status) -> Transaction {
    match status {
        Status::Idle => Transaction::Idle,
        _ => Transaction::Failed,
    }
}
