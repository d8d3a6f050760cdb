//! What plain statements did since the last survey, in the order in which it has to be said again.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use super::super::super::known::Again;
use super::super::super::ledger::told_for_reading;
use super::super::parses::Parses;
use crate::postgres::wire::state_words::plain::Effect;

/// More statements are not kept between two surveys.
const SAID_MAX: usize = 64;
/// Nor is more text.
const SAID_BYTES_MAX: usize = 32 * 1024;
/// Parse messages whose place among what was said is kept.
const PLACES_MAX: usize = 256;

/// One statement that was said.
#[derive(Clone, Debug)]
pub struct SaidStep {
    /// None: nothing is left to say of it.
    pub again: Option<Again>,
    pub effect: Effect,
}

/// In the order in which it has to be said again.
#[derive(Clone, Debug)]
enum Entry {
    Said(SaidStep),
    /// The name of a statement that was parsed at this place.
    Parsed(Box<[u8]>),
}

/// How a transaction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Committed,
    RolledBack,
}

#[derive(Default)]
pub struct Kept {
    lasting: Vec<Entry>,
    /// In the transaction that is open.
    open: Vec<Entry>,
    /// So much of it was rolled back, unless that went to a savepoint only.
    rolled_back: Option<usize>,
    /// Text is read in another way until the transaction ends.
    reads_locally: bool,
    /// The open transaction went back to a savepoint.
    unclear: bool,
    /// Something was said that is not kept.
    incomplete: bool,
}

impl Kept {
    pub fn enter(&mut self, step: SaidStep, parses: &mut Parses) {
        if let Effect::Makes(name) = &step.effect {
            parses.is_made_by_sql(name);
        }
        match &step.effect {
            Effect::Local(name) => {
                self.reads_locally |= step.effect.reads();
                if let Some(name) = name {
                    self.touch(&name.clone());
                }
                return;
            }
            Effect::Drops(name) => {
                let name = name.clone();
                self.closed(&name);
                parses.drop_named(&name);
                return;
            }
            Effect::DropsAll => {
                self.drop_statements(parses);
                return self.keep(Entry::Said(step));
            }
            // No rollback brings them back.
            Effect::Discards => self.drop_statements(parses),
            Effect::Makes(_) if self.open.is_empty() && !self.reads_locally => {
                return self.keep(Entry::Said(step));
            }
            Effect::Makes(_) => self.incomplete |= self.reads_locally,
            Effect::Setting(_) | Effect::Channels => {}
        }
        self.open.push(Entry::Said(step));
        self.bound();
    }

    fn drop_statements(&mut self, parses: &mut Parses) {
        self.lasting.retain(|entry| !entry.is_statement());
        self.open.retain(|entry| !entry.is_statement());
        parses.drop_all();
    }

    /// A named statement was parsed.
    pub fn parsed(&mut self, name: &[u8]) {
        if self.reads_locally {
            self.incomplete = true;
        }
        let in_transaction = !self.open.is_empty();
        let sequence = match in_transaction {
            true => &mut self.open,
            false => &mut self.lasting,
        };
        // Among what does not matter for it, it may as well come first.
        let matters = sequence.iter().any(|entry| match entry {
            Entry::Said(step) => step.effect.reads(),
            Entry::Parsed(_) => false,
        });
        if matters || in_transaction {
            sequence.push(Entry::Parsed(name.into()));
            self.bound();
        }
    }

    /// A statement is no more.
    pub fn closed(&mut self, name: &[u8]) {
        let is_gone = |entry: &Entry| match entry {
            Entry::Said(SaidStep {
                effect: Effect::Makes(made),
                ..
            }) => &**made == name,
            Entry::Parsed(parsed) => &**parsed == name,
            Entry::Said(_) => false,
        };
        self.lasting.retain(|entry| !is_gone(entry));
        self.open.retain(|entry| !is_gone(entry));
    }

    /// Something was said that is not kept.
    pub fn miss(&mut self) {
        self.incomplete = true;
    }

    /// The server has said so. Unless it goes to a savepoint, the transaction is over with its unit.
    pub fn rolled_back(&mut self) {
        self.rolled_back = Some(self.open.len());
    }

    /// The unit is over, and with it the transaction. True: something may have changed that is not kept here.
    pub fn ended(&mut self, how: Ended) -> bool {
        if let Some(end) = self.rolled_back.take() {
            self.roll_back(end);
        }
        match how {
            Ended::RolledBack => self.roll_back(self.open.len()),
            Ended::Committed => self.commit(),
        }
        self.reads_locally = false;
        mem::take(&mut self.unclear) | self.incomplete
    }

    /// The unit is over, and a transaction is open: the same, of what is no part of it.
    pub fn goes_on(&mut self) -> bool {
        // To a savepoint, or to the beginning of the next transaction.
        self.unclear |= self.rolled_back.take().is_some_and(|end| end > 0);
        self.incomplete
    }

    /// The transaction is, or nothing was in one.
    pub fn commit(&mut self) {
        // ROLLBACK TO, in the same message.
        self.unclear |= self.rolled_back.take().is_some_and(|end| end > 0);
        for entry in mem::take(&mut self.open) {
            if let Entry::Said(step) = &entry {
                match &step.effect {
                    Effect::Discards => {
                        self.discard(entry);
                        continue;
                    }
                    // What was set before is of no use, if it is not for what comes between.
                    Effect::Setting(Some(name)) if !step.effect.reads() => {
                        self.lasting.retain(|entry| !entry.sets(name));
                    }
                    _ => {}
                }
            }
            self.keep(entry);
        }
        self.reads_locally = false;
    }

    /// Nothing of what was said is left but that custom settings are there.
    fn discard(&mut self, entry: Entry) {
        let lasting = mem::take(&mut self.lasting);
        self.keep(entry);
        for entry in lasting {
            if let Entry::Said(SaidStep {
                effect: Effect::Setting(Some(name)),
                ..
            }) = entry
            {
                self.touch(&name);
            }
        }
    }

    /// Statements were made, which a rollback leaves, by what it takes away.
    fn roll_back(&mut self, end: usize) {
        // Statements among them may have been closed since.
        let end = end.min(self.open.len());
        for entry in self.open.drain(..end).collect::<Vec<_>>() {
            match entry {
                Entry::Said(SaidStep {
                    effect: Effect::Setting(Some(name)),
                    ..
                }) => self.touch(&name),
                entry => self.incomplete |= entry.outlives_rollback(),
            }
        }
    }

    fn touch(&mut self, name: &[u8]) {
        if !name.contains(&b'.') || self.lasting.iter().any(|entry| entry.sets(name)) {
            return;
        }
        self.keep(Entry::Said(SaidStep {
            again: Some(Again::Touch(name.into())),
            effect: Effect::Setting(Some(name.into())),
        }));
    }

    fn keep(&mut self, entry: Entry) {
        self.lasting.push(entry);
        self.bound();
    }

    fn bound(&mut self) {
        let all = || self.lasting.iter().chain(&self.open);
        let parsed = all().filter(|entry| matches!(entry, Entry::Parsed(_))).count();
        let bytes: usize = all().map(Entry::bytes).sum();
        let said = self.lasting.len() + self.open.len() - parsed;
        if said > SAID_MAX || parsed > PLACES_MAX || bytes > SAID_BYTES_MAX {
            self.incomplete = true;
            self.lasting.clear();
        }
    }

    /// The open transaction is lost.
    pub fn undone(&mut self) {
        self.open.clear();
        self.unclear = false;
        (self.rolled_back, self.reads_locally) = (None, false);
    }

    pub fn surveyed(&mut self) {
        self.lasting.clear();
        self.incomplete = false;
    }

    /// Whether anything is kept that no survey has told of.
    pub fn is_news(&self) -> bool {
        !(self.lasting.is_empty() && self.open.is_empty())
    }

    /// Whether what is kept, with what a survey told before, is all there is.
    pub fn is_complete(&self) -> bool {
        !self.incomplete
    }

    /// Whether it is time for a survey. What was only touched can wait.
    pub fn wants_survey(&self) -> bool {
        let is_touch = |entry: &Entry| {
            matches!(
                entry,
                Entry::Said(SaidStep {
                    again: Some(Again::Touch(_)),
                    ..
                })
            )
        };
        !self.open.is_empty() || !self.lasting.iter().all(is_touch)
    }

    /// Whether there is nothing here.
    pub fn is_blank(&self) -> bool {
        !(self.is_news() || self.reads_locally || self.incomplete || self.unclear)
    }

    /// All that has to be said, in its order; and the names of the statements that are made there, rather than before
    /// anything is said.
    pub fn again(&self, parses: &Parses) -> (Vec<Again>, BTreeSet<&[u8]>) {
        let mut last: BTreeMap<&[u8], usize> = BTreeMap::new();
        for (at, entry) in self.lasting.iter().enumerate() {
            if let Entry::Parsed(name) = entry {
                last.insert(name, at);
            }
        }
        let body = |name: &[u8]| parses.made.get(name)?.as_ref().map(|made| &made.body);
        let mut again: Vec<Again> = Vec::new();
        for (at, entry) in self.lasting.iter().enumerate() {
            match entry {
                Entry::Said(step) => again.extend(step.again.clone()),
                Entry::Parsed(name) if last.get(&**name) == Some(&at) => {
                    again.extend(body(name).map(|body| Again::Parse(body.clone())));
                }
                Entry::Parsed(_) => {}
            }
        }
        (again, last.into_keys().collect())
    }
}

impl SaidStep {
    /// Whether it changes settings of those that the server tells of: what becomes of the others is asked for.
    pub fn changes_literals(&self) -> bool {
        match &self.effect {
            Effect::Setting(name) | Effect::Local(name) => name
                .as_deref()
                .is_none_or(|name| told_for_reading().any(|reading| reading.eq_ignore_ascii_case(name))),
            Effect::Discards => true,
            Effect::Channels | Effect::Makes(_) | Effect::Drops(_) | Effect::DropsAll => false,
        }
    }
}

impl Entry {
    fn is_statement(&self) -> bool {
        match self {
            Self::Said(step) => matches!(step.effect, Effect::Makes(_)),
            Self::Parsed(_) => true,
        }
    }

    /// All of it, or a part.
    fn outlives_rollback(&self) -> bool {
        self.is_statement()
            || matches!(
                self,
                Self::Said(SaidStep {
                    effect: Effect::Discards,
                    ..
                })
            )
    }

    fn sets(&self, name: &[u8]) -> bool {
        matches!(self, Self::Said(SaidStep { effect: Effect::Setting(Some(set)), .. }) if **set == *name)
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Said(step) => match &step.again {
                Some(Again::Text(text) | Again::Alone(text) | Again::Touch(text) | Again::Parse(text)) => {
                    text.len()
                }
                Some(Again::SetConfig { name, value }) => name.len() + value.len(),
                None => 0,
            },
            Self::Parsed(name) => name.len(),
        }
    }
}
