//! Which named statements came and went since Postgres was last asked.

use std::collections::{BTreeMap, VecDeque};

/// Named statements that were made, or dropped, since the last survey.
#[derive(Default)]
pub(super) struct Parses {
    /// Sent and not answered, each in the unit that ends with a ReadyForQuery.
    pub pending: VecDeque<(u64, Pending)>,
    /// By name: the body that made it, or None: closed.
    pub made: BTreeMap<Box<[u8]>, Option<Box<[u8]>>>,
    pub bytes: usize,
    pub units_sent: u64,
    pub units_done: u64,
}

pub(super) enum Pending {
    /// The body, if it has a name and is kept.
    Parse(Option<Box<[u8]>>),
    /// The name, if it is a statement with one.
    Close(Option<Box<[u8]>>),
}

impl Parses {
    pub fn expect(&mut self, pending: Pending) {
        self.pending.push_back((self.units_sent, pending));
    }

    /// A ParseComplete or CloseComplete: replies come in the order of what they answer. Returns the name of a
    /// statement that is no more.
    pub fn answered(&mut self, tag: u8) -> Option<Box<[u8]>> {
        match (tag, self.pending.pop_front()) {
            (b'1', Some((_, Pending::Parse(Some(body))))) => {
                self.made.insert(name_in(&body).into(), Some(body));
                None
            }
            (b'3', Some((_, Pending::Close(Some(name))))) => {
                if let Some(Some(body)) = self.made.insert(name.clone(), None) {
                    self.bytes -= body.len().min(self.bytes);
                }
                Some(name)
            }
            _ => None,
        }
    }

    /// What was not answered in it never will be.
    pub fn unit_done(&mut self) {
        self.units_done += 1;
        while self
            .pending
            .front()
            .is_some_and(|(unit, _)| *unit < self.units_done)
        {
            self.pending.pop_front();
        }
    }
}

/// The string that `body` begins with.
pub(super) fn name_in(body: &[u8]) -> &[u8] {
    let end = body.iter().position(|byte| *byte == 0);
    &body[..end.unwrap_or(body.len())]
}
