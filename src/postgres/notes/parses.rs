//! Which named statements came and went since Postgres was last asked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::super::wire::state_words::Spotted;
use super::known_as;

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
    /// By name: the body that made it, or None: closed.
    pub made: BTreeMap<Box<[u8]>, Option<Box<[u8]>>>,
    /// Of the bodies in both.
    pub bytes: usize,
    /// Something came or went since the last survey that is not in here.
    pub untold: bool,
    /// What the answers belong to is not known before all is quiet.
    lost: bool,
    pub units_sent: u64,
    pub units_done: u64,
}

pub(super) enum Pending {
    /// The body, if it has a name and is kept.
    Parse(Option<Box<[u8]>>),
    /// A Parse under a name that is known for what it does.
    Instead(Box<Remade>),
    /// The name, if it is a statement with one.
    Close(Option<Box<[u8]>>),
}

/// What a statement of this name is once it is made.
pub(super) struct Remade {
    pub body: Option<Box<[u8]>>,
    pub name: Box<[u8]>,
    pub spotted: Option<Arc<Spotted>>,
}

/// What an answer changed.
pub(super) enum Answered {
    Nothing,
    /// A statement of this name is no more.
    Closed(Box<[u8]>),
    /// It is another one, of which this is known.
    Replaced(Box<[u8]>, Option<Arc<Spotted>>),
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

    /// A ParseComplete or CloseComplete: replies come in the order of what they answer.
    pub fn answered(&mut self, tag: u8) -> Answered {
        if let Some((_, times @ 2.., _)) = self.pending.front_mut() {
            *times -= 1;
            return Answered::Nothing;
        }
        let Some(answered) = self.pending.pop_front() else {
            return Answered::Nothing;
        };
        match (tag, answered) {
            (b'1', (.., Pending::Parse(Some(body)))) => {
                self.change(known_as(name_in(&body)).into(), Some(body));
                Answered::Nothing
            }
            (b'1', (.., Pending::Instead(remade))) => {
                let Remade { body, name, spotted } = *remade;
                if let Some(body) = body {
                    self.change(name.clone(), Some(body));
                }
                Answered::Replaced(name, spotted)
            }
            (b'3', (.., Pending::Close(Some(name)))) => {
                self.change(name.clone(), None);
                Answered::Closed(name)
            }
            (_, (.., pending)) => {
                self.forget(&pending);
                Answered::Nothing
            }
        }
    }

    fn change(&mut self, name: Box<[u8]>, body: Option<Box<[u8]>>) {
        let is_kept = self.made.contains_key(&name) || self.made.len() < MADE_MAX;
        let before = match is_kept {
            true => self.made.insert(name, body).flatten(),
            false => body,
        };
        self.untold |= !is_kept;
        self.forget(&Pending::Parse(before));
    }

    fn forget(&mut self, pending: &Pending) {
        let body = match pending {
            Pending::Parse(body) => body,
            Pending::Instead(remade) => &remade.body,
            Pending::Close(_) => &None,
        };
        if let Some(body) = body {
            self.bytes -= body.len().min(self.bytes);
        }
    }

    /// The statement of which a ParseComplete comes next.
    pub fn parsed_next(&self) -> Option<&[u8]> {
        match self.pending.front() {
            Some((.., Pending::Parse(Some(body)))) => Some(known_as(name_in(body))),
            Some((.., Pending::Instead(remade))) => Some(&remade.name),
            _ => None,
        }
    }

    /// Whether a statement of this name was asked for, and may come to be.
    pub fn is_coming(&self, name: &[u8]) -> bool {
        self.lost
            || self.pending.iter().any(|(.., pending)| match pending {
                Pending::Parse(Some(body)) => known_as(name_in(body)) == name,
                // Too large to be kept, or without a name.
                Pending::Parse(None) => true,
                Pending::Instead(remade) => *remade.name == *name,
                Pending::Close(_) => false,
            })
    }

    /// A statement was dropped by its name.
    pub fn drop_named(&mut self, name: &[u8]) {
        self.change(known_as(name).into(), None);
    }

    /// All statements were dropped.
    pub fn drop_all(&mut self) {
        for body in std::mem::take(&mut self.made).into_values() {
            self.forget(&Pending::Parse(body));
        }
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
        matches!(
            (self, next),
            (Parse(None), Parse(None)) | (Close(None), Close(None))
        )
    }
}

/// The string that `body` begins with.
pub(super) fn name_in(body: &[u8]) -> &[u8] {
    let end = body.iter().position(|byte| *byte == 0);
    &body[..end.unwrap_or(body.len())]
}
