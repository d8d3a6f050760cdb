//! Which named statements came and went since Postgres was last asked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::super::ledger::Values;
use super::known_as;
use super::told::Told;
use crate::postgres::wire::described::digest;
use crate::postgres::wire::parts::{string, string_here};
use crate::postgres::wire::state_words::Spotted;
use crate::postgres::wire::tag::from_server;

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
    pub told: Told,
    /// What PREPARE made last.
    pub made_by_sql: Option<Box<[u8]>>,
    /// Descriptions of portals that are on their way.
    pub portals: u32,
    /// What the answers belong to is not known before all is quiet.
    lost: bool,
    pub units_sent: u64,
    pub units_done: u64,
}

/// A Parse that was answered.
pub(super) struct Made {
    pub body: Box<[u8]>,
    pub under: Under,
    /// The unit in which it was answered.
    unit: u64,
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
    /// The body, if it has a name and is kept; and whether it may meet other settings than are told by then.
    Parse(Option<Box<[u8]>>, bool),
    /// A Parse under a name that is known for what it does.
    Instead(Box<Remade>),
    /// A Parse without a name.
    Unnamed(bool),
    /// The name, if it is a statement with one.
    Close(Option<Box<[u8]>>),
    /// The name of a statement.
    Describe(Box<[u8]>),
    /// Of a portal: the digest of its statement's name.
    Portal(u64),
}

/// What an answer says of named statements.
pub(super) enum Answered {
    Nothing,
    Unnamed(Under),
    /// There is no such statement any more.
    Closed(Box<[u8]>),
    /// It is another one, of which this is known.
    Replaced(Box<[u8]>, Option<Arc<Spotted>>),
}

/// What a statement of this name is once it is made.
pub(super) struct Remade {
    pub body: Option<Box<[u8]>>,
    pub name: Box<[u8]>,
    pub spotted: Option<Arc<Spotted>>,
    pub in_doubt: bool,
}

impl Parses {
    pub fn expect(&mut self, pending: Pending) {
        let sent = self.units_sent;
        if let Some((unit, times, last)) = self.pending.back_mut()
            && *unit == sent
            && last.is_counted_with(&pending)
        {
            *times = times.saturating_add(1);
            return;
        }
        self.portals += u32::from(matches!(pending, Pending::Portal(_)));
        if !self.lost && self.pending.len() < PENDING_MAX {
            self.pending.push_back((sent, 1, pending));
        } else {
            self.forget(&pending);
            self.settle();
            (self.lost, self.untold) = (true, true);
        }
    }

    /// A ParseComplete, CloseComplete or ParameterDescription: replies come in the order of what they answer.
    pub fn answered(&mut self, tag: u8, body: &[u8], under: impl FnOnce(bool) -> Under) -> Answered {
        if let Some((_, times @ 2.., _)) = self.pending.front_mut() {
            *times -= 1;
            return Answered::Nothing;
        }
        let Some((.., answered)) = self.pending.pop_front() else {
            return Answered::Nothing;
        };
        match (tag, answered) {
            (from_server::PARSE_COMPLETE, Pending::Parse(Some(body), in_doubt)) => {
                self.make(known_as(string_here(&body)).into(), body, under(in_doubt));
                Answered::Nothing
            }
            (from_server::PARSE_COMPLETE, Pending::Instead(remade)) => {
                let Remade {
                    body,
                    name,
                    spotted,
                    in_doubt,
                } = *remade;
                if let Some(body) = body {
                    self.make(name.clone(), body, under(in_doubt));
                }
                Answered::Replaced(name, spotted)
            }
            (from_server::PARSE_COMPLETE, Pending::Unnamed(in_doubt)) => Answered::Unnamed(under(in_doubt)),
            (from_server::CLOSE_COMPLETE, Pending::Close(Some(name))) => {
                self.change(name.clone(), None);
                Answered::Closed(name)
            }
            (from_server::PARAMETER_DESCRIPTION, Pending::Describe(name)) => {
                self.told.takes(&name, body);
                Answered::Nothing
            }
            (_, pending) => {
                self.forget(&pending);
                Answered::Nothing
            }
        }
    }

    fn make(&mut self, name: Box<[u8]>, body: Box<[u8]>, under: Under) {
        let unit = self.units_done;
        self.change(name, Some(Made { body, under, unit }));
    }

    /// A RowDescription, or NoData, that is no statement's: a portal's, if one is asked for.
    pub fn answered_portal(&mut self) {
        let Some((unit, times, Pending::Portal(name))) = self.pending.front_mut() else {
            return;
        };
        if *unit == self.units_done {
            self.told.portal_of(*name);
            *times -= 1;
            if *times == 0 {
                self.pending.pop_front();
                self.portals -= 1;
            }
        }
    }

    /// What was answered in a unit may have been read under something else.
    pub fn doubt_made_in(&mut self, unit: u64) {
        for made in self.made.values_mut().flatten() {
            if made.unit == unit {
                made.under = Under::Unknown;
            }
        }
    }

    /// PREPARE made a statement of this name.
    pub fn is_made_by_sql(&mut self, name: &[u8]) {
        self.told.forget(digest(known_as(name)));
        self.made_by_sql = Some(known_as(name).into());
    }

    fn change(&mut self, name: Box<[u8]>, made: Option<Made>) {
        self.told.forget(digest(&name));
        let is_kept = self.made.contains_key(&name) || self.made.len() < MADE_MAX;
        let before = match is_kept {
            true => self.made.insert(name, made).flatten(),
            false => made,
        };
        self.untold |= !is_kept;
        self.release(before.map_or(0, |made| made.body.len()));
    }

    fn forget(&mut self, pending: &Pending) {
        let body = match pending {
            Pending::Parse(body, _) => body,
            Pending::Instead(remade) => &remade.body,
            Pending::Portal(_) => {
                self.portals -= 1;
                return;
            }
            Pending::Unnamed(_) | Pending::Close(_) | Pending::Describe(_) => return,
        };
        self.release(body.as_ref().map_or(0, |body| body.len()));
    }

    fn release(&mut self, bytes: usize) {
        self.bytes -= bytes.min(self.bytes);
    }

    /// The statement of which a ParseComplete comes next.
    pub fn parsed_next(&self) -> Option<&[u8]> {
        match self.pending.front() {
            Some((.., Pending::Parse(Some(body), _))) => Some(known_as(string_here(body))),
            Some((.., Pending::Instead(remade))) => Some(&remade.name),
            _ => None,
        }
    }

    /// The names of those that were made, with what their Parse said.
    pub fn texts(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let made = self.made.iter();
        made.filter_map(|(name, made)| Some((&**name, text_in(&made.as_ref()?.body)?)))
    }

    /// Whether a statement of this name was asked for, and may come to be.
    pub fn is_coming(&self, name: &[u8]) -> bool {
        self.lost
            || self.pending.iter().any(|(.., pending)| match pending {
                Pending::Parse(Some(body), _) => known_as(string_here(body)) == name,
                // Too large to be kept.
                Pending::Parse(None, _) => true,
                Pending::Instead(remade) => *remade.name == *name,
                Pending::Unnamed(_) | Pending::Close(_) | Pending::Describe(_) | Pending::Portal(_) => false,
            })
    }

    /// A statement was dropped by its name.
    pub fn drop_named(&mut self, name: &[u8]) {
        self.change(known_as(name).into(), None);
    }

    /// Nobody has heard of what was made in the unit that is under way, and its link is lost. These are the names.
    pub fn taken_back(&mut self) -> Vec<Box<[u8]>> {
        let unit = self.units_done;
        let is_of_unit = |made: &Option<Made>| made.as_ref().is_some_and(|made| made.unit == unit);
        let names = self.made.iter().filter(|(_, made)| is_of_unit(made));
        let names: Vec<_> = names.map(|(name, _)| name.clone()).collect();
        names.iter().for_each(|name| self.drop_named(name));
        names
    }

    /// All statements were dropped.
    pub fn drop_all(&mut self) {
        self.told = Told::default();
        for made in std::mem::take(&mut self.made).into_values().flatten() {
            self.release(made.body.len());
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
        match (self, next) {
            (Parse(None, _), Parse(None, _)) | (Close(None), Close(None)) => true,
            (Unnamed(one), Unnamed(other)) => one == other,
            (Portal(one), Portal(other)) => one == other,
            (Describe(one), Describe(other)) => one.is_empty() && other.is_empty(),
            _ => false,
        }
    }
}

/// What stands behind the name in the body of a Parse.
pub(super) fn text_in(body: &[u8]) -> Option<&[u8]> {
    let (_, text) = string(body)?;
    Some(string_here(text))
}
