//! Which named statements came and went since Postgres was last asked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::super::ledger::Values;
use super::super::wire::described::digest;

/// More kinds of messages in turn are not remembered until they are answered.
const PENDING_MAX: usize = 4096;
/// Room for so many is kept at rest.
const PENDING_KEPT: usize = 16;
/// More names are not remembered until Postgres is asked.
const MADE_MAX: usize = 4096;
/// Nor is a longer one.
pub(super) const NAME_MAX: usize = 1024;

/// Named statements that were made, or dropped, since the last survey. Whatever a client says, it grows no further
/// than its bounds; what would not fit is [`untold`](Self::untold).
#[derive(Default)]
pub(super) struct Parses {
    /// Sent and not answered, each in the unit that ends with a ReadyForQuery, and how often in a row.
    pending: VecDeque<(u64, u32, Pending)>,
    /// By name: what made it, or None: closed.
    pub made: BTreeMap<Box<[u8]>, Option<Made>>,
    /// Of the bodies in both.
    pub bytes: usize,
    /// Something came or went since the last survey that is not in here.
    pub untold: bool,
    /// What the answers belong to is not known before all is quiet.
    lost: bool,
    pub units_sent: u64,
    pub units_done: u64,
}

/// A Parse that was answered.
pub(super) struct Made {
    pub body: Box<[u8]>,
    pub under: Under,
}

/// What a statement was read under: what the server had told until then.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) enum Under {
    /// With its greeting and nothing since.
    #[default]
    Greeting,
    Told(Arc<Values>),
    Unknown,
}

pub(super) enum Pending {
    /// The body, if it is kept; and whether it may meet other settings than are told by then.
    Parse(Option<Box<[u8]>>, bool),
    /// A Parse without a name.
    Unnamed(bool),
    /// The name, if it is a statement with one.
    Close(Option<Box<[u8]>>),
    /// The name of a statement.
    Describe(Box<[u8]>),
}

/// What an answer says of named statements.
pub(super) enum Answered {
    Nothing,
    Made(u64),
    Unnamed(Under),
    /// There is no such statement any more.
    Closed(Box<[u8]>),
    /// What this statement takes is said here, what it gives comes next.
    Describes(Box<[u8]>),
}

impl Parses {
    pub fn expect(&mut self, pending: Pending) {
        let sent = self.units_sent;
        if let Some((unit, times, last)) = self.pending.back_mut()
            && *unit == sent
            && last.is_counted_with(&pending)
        {
            *times = times.saturating_add(1);
        } else if !self.lost && self.pending.len() < PENDING_MAX {
            self.pending.push_back((sent, 1, pending));
        } else {
            self.forget(&pending);
            self.settle();
            (self.lost, self.untold) = (true, true);
        }
    }

    /// A ParseComplete, CloseComplete or ParameterDescription: replies come in the order of what they answer.
    pub fn answered(&mut self, tag: u8, under: impl FnOnce(bool) -> Under) -> Answered {
        if let Some((_, times @ 2.., _)) = self.pending.front_mut() {
            *times -= 1;
            return Answered::Nothing;
        }
        match (tag, self.pending.pop_front()) {
            (b'1', Some((.., Pending::Parse(Some(body), in_doubt)))) => {
                let name: Box<[u8]> = name_in(&body).into();
                let answered = Answered::Made(digest(&name));
                let under = under(in_doubt);
                self.change(name, Some(Made { body, under }));
                answered
            }
            (b'1', Some((.., Pending::Unnamed(in_doubt)))) => Answered::Unnamed(under(in_doubt)),
            (b'3', Some((.., Pending::Close(Some(name))))) => {
                self.change(name.clone(), None);
                Answered::Closed(name)
            }
            (b't', Some((.., Pending::Describe(name)))) => Answered::Describes(name),
            (_, Some((.., pending))) => {
                self.forget(&pending);
                Answered::Nothing
            }
            (_, None) => Answered::Nothing,
        }
    }

    fn change(&mut self, name: Box<[u8]>, made: Option<Made>) {
        let is_kept = self.made.contains_key(&name) || self.made.len() < MADE_MAX;
        let before = match is_kept {
            true => self.made.insert(name, made).flatten(),
            false => made,
        };
        self.untold |= !is_kept;
        self.release(before.map_or(0, |made| made.body.len()));
    }

    fn forget(&mut self, pending: &Pending) {
        if let Pending::Parse(Some(body), _) = pending {
            self.release(body.len());
        }
    }

    fn release(&mut self, bytes: usize) {
        self.bytes -= bytes.min(self.bytes);
    }

    /// What was not answered in it never will be.
    pub fn unit_done(&mut self) {
        self.units_done += 1;
        while let Some((.., pending)) = self.pending.pop_front_if(|(unit, ..)| *unit < self.units_done) {
            self.forget(&pending);
        }
    }

    /// Nothing is in flight.
    pub fn quiet(&mut self) {
        self.units_done = self.units_sent;
        if !self.pending.is_empty() || self.pending.capacity() > PENDING_KEPT || self.lost {
            self.settle();
        }
    }

    #[inline(never)]
    fn settle(&mut self) {
        for (.., pending) in std::mem::take(&mut self.pending) {
            self.forget(&pending);
        }
        self.lost = false;
    }

    /// Postgres was asked, with nothing in flight.
    pub fn surveyed(&mut self) {
        self.made.clear();
        self.bytes = 0;
        self.untold = false;
    }

    /// How many entries there is room for.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.pending.capacity() + self.made.len()
    }
}

impl Pending {
    /// Whether it is enough to know how many of both there are.
    fn is_counted_with(&self, next: &Self) -> bool {
        use Pending::*;
        match (self, next) {
            (Parse(None, _), Parse(None, _)) | (Close(None), Close(None)) => true,
            (Unnamed(one), Unnamed(other)) => one == other,
            (Describe(one), Describe(other)) => one.is_empty() && other.is_empty(),
            _ => false,
        }
    }
}

/// The string that `body` begins with.
pub(super) fn name_in(body: &[u8]) -> &[u8] {
    let end = body.iter().position(|byte| *byte == 0);
    &body[..end.unwrap_or(body.len())]
}
