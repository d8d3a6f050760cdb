//! What is left to do for a client once it was answered.

use bytes::{BufMut, Bytes, BytesMut};

use super::super::frame::Fate;
use super::super::tag::from_client;
use super::super::tracker::{Tracker, Transaction};
use super::super::work::Asked;
use super::ready;

/// What a client that was answered is still to be told or kept from, on its next link.
#[derive(Debug, Default)]
pub enum Unfinished {
    #[default]
    Nothing,
    /// This error is the answer to its next request, whatever it is: it has sent nothing since it was told that
    /// all was well. Only a ROLLBACK asks for nothing that is lost, unless it comes in the middle of a unit of the
    /// extended protocol, of which the client takes more for done than a transaction undoes.
    Waits { error: Bytes, in_unit: bool },
    /// An error of the extended protocol was told: up to its Sync, the client's messages are ignored.
    Skips,
    /// It was sending the data of a COPY, and may not have noticed yet.
    Copies,
}

impl Unfinished {
    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// A message from the client passes. What it is answered, if it is not the server that answers, is put into
    /// `out`.
    pub fn meet(&mut self, tag: u8, asked: &Asked, tracker: &mut Tracker, out: &mut BytesMut) -> Fate {
        match self {
            Self::Nothing => Fate::PassedOn,
            Self::Copies
                if matches!(
                    tag,
                    from_client::COPY_DATA | from_client::COPY_DONE | from_client::COPY_FAIL
                ) =>
            {
                Fate::Dropped
            }
            Self::Skips if !matches!(tag, from_client::SYNC | from_client::TERMINATE) => Fate::Dropped,
            Self::Copies | Self::Skips => {
                *self = Self::Nothing;
                Fate::PassedOn
            }
            // They ask for nothing.
            Self::Waits { .. }
                if matches!(
                    tag,
                    from_client::FLUSH
                        | from_client::COPY_DATA
                        | from_client::COPY_DONE
                        | from_client::COPY_FAIL
                        | from_client::TERMINATE
                ) =>
            {
                Fate::PassedOn
            }
            Self::Waits { error, in_unit } => {
                let lost = tracker.transaction() != Transaction::Idle && !*in_unit;
                // There are clients that close what they need no more and never look at the answer. A failed
                // transaction closes it as well.
                if lost && tag == from_client::CLOSE {
                    return Fate::PassedOn;
                }
                if lost
                    && matches!(tag, from_client::QUERY | from_client::PARSE | from_client::BIND)
                    && asked.statement.rolls_back()
                {
                    *self = Self::Nothing;
                    return Fate::PassedOn;
                }
                // What comes in one unit with that, the failed transaction refuses.
                if lost && tracker.is_amid_unit() {
                    return Fate::PassedOn;
                }
                // An answer of our own has its place behind the server's.
                if tracker.owes() {
                    return Fate::Held;
                }
                out.put_slice(error);
                *self = Self::Nothing;
                match tag {
                    from_client::QUERY | from_client::FUNCTION_CALL => ready(out, tracker.transaction()),
                    // The server has the ReadyForQuery that it asks for.
                    from_client::SYNC => return Fate::PassedOn,
                    _ => {
                        tracker.settle(tracker.transaction(), true);
                        *self = Self::Skips;
                    }
                }
                Fate::Dropped
            }
        }
    }
}
