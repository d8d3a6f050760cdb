//! What a client said since the last survey in statements so plain that their own text tells what they did: it is kept,
//! and can be said again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::sync::Arc;

use super::super::known::Again;
use super::super::ledger::told_for_reading;
use super::parses::Parses;
use crate::postgres::wire::bound::parameters;
use crate::postgres::wire::state_words::plain::{Argument, Call, Effect, Plain, is_certain};
use crate::postgres::wire::tag::status;

/// More statements are not kept between two surveys.
const SAID_MAX: usize = 64;
/// Nor is more text.
const SAID_BYTES_MAX: usize = 32 * 1024;
/// Statements with a name whose text is plain: drivers keep those that they say often.
const NAMED_MAX: usize = 32;
/// In flight, and of those that are coming: more are not waited for.
const PENDING_MAX: usize = 64;
/// Parse messages whose place among what was said is kept.
const PLACES_MAX: usize = 256;

/// One statement that was said.
#[derive(Clone, Debug)]
struct SaidStep {
    /// None: nothing is left to say of it.
    again: Option<Again>,
    effect: Effect,
}

/// In the order in which it has to be said again.
#[derive(Clone, Debug)]
enum Entry {
    Said(SaidStep),
    /// The name of a statement that was parsed at this place.
    Parsed(Box<[u8]>),
}

/// Sent, and not answered.
struct Pending {
    unit: u64,
    /// What was executed before it in its unit.
    before: u32,
    steps: Vec<SaidStep>,
}

/// Its unit, its name, and what its text is if that is plain.
type Coming = (u64, Box<[u8]>, Option<Arc<Plain>>);

#[derive(Default)]
pub(super) struct Said {
    unnamed: Option<Arc<Plain>>,
    named: BTreeMap<Box<[u8]>, Arc<Plain>>,
    /// Parsed by name in that unit, and not answered. None: not plain.
    coming: Vec<Coming>,
    /// What is bound to the unnamed portal.
    portal: Option<Vec<SaidStep>>,
    pending: VecDeque<Pending>,
    /// In the transaction that is open.
    open: Vec<Entry>,
    /// So much of it was rolled back, unless that went to a savepoint only.
    rolled_back: Option<usize>,
    /// Text is read in another way until the transaction ends.
    reads_locally: bool,
    failed: bool,
    /// The open transaction went back to a savepoint.
    unclear: bool,
    kept: Vec<Entry>,
    /// Something was said that is not kept.
    incomplete: bool,
}

impl Said {
    /// Statements of a simple query, the only message of its unit.
    pub fn asked(&mut self, unit: u64, statements: Vec<Plain>) {
        for (before, plain) in (0..).zip(statements) {
            let Some(steps) = steps(&plain, None) else {
                // Its parameters have no value, and the server says so.
                return;
            };
            self.expect(Pending { unit, before, steps });
        }
    }

    fn expect(&mut self, pending: Pending) {
        match self.pending.len() < PENDING_MAX {
            true => self.pending.push_back(pending),
            false => self.incomplete = true,
        }
    }

    pub fn forget_unnamed(&mut self) {
        (self.unnamed, self.portal) = (None, None);
    }

    /// A Parse: `plain` says what its text is.
    pub fn parse(&mut self, unit: u64, name: &[u8], plain: Option<Plain>) {
        let plain = plain.map(Arc::new);
        if name.is_empty() {
            self.unnamed = plain;
        } else if plain.is_some() || self.named.contains_key(name) || self.coming(name).is_some() {
            if self.coming.len() == PENDING_MAX {
                // None of these names is known to be plain any more.
                self.named.clear();
                self.coming.clear();
                return;
            }
            self.coming.push((unit, name.into(), plain));
        }
    }

    fn coming(&self, name: &[u8]) -> Option<&Option<Arc<Plain>>> {
        let coming = self.coming.iter().rev();
        coming
            .filter(|(_, coming, _)| **coming == *name)
            .map(|(_, _, plain)| plain)
            .next()
    }

    /// A whole Bind. True: what is bound is plain.
    pub fn bind(&mut self, portal: &[u8], statement: &[u8], body: &[u8]) -> bool {
        let plain = match statement {
            b"" => self.unnamed.as_ref(),
            name => match self.coming(name) {
                Some(coming) => coming.as_ref(),
                None => self.named.get(name),
            },
        };
        let steps = plain
            .filter(|_| portal.is_empty())
            .and_then(|plain| steps(plain, Some(body)));
        let is_plain = steps.is_some();
        if portal.is_empty() {
            self.portal = steps;
        }
        is_plain
    }

    /// Whether what was asked for, or bound, last may change how literals are read.
    pub fn may_change_literals(&self) -> bool {
        let asked = self.pending.back().map(|pending| &pending.steps);
        let steps = self.portal.iter().chain(asked).flatten();
        steps.into_iter().any(|step| changes_literals(&step.effect))
    }

    /// Names of settings that the portal sets.
    pub fn bound_names(&self) -> impl Iterator<Item = &[u8]> {
        let steps = self.portal.iter().flatten();
        steps.filter_map(|step| match &step.effect {
            Effect::Setting(name) | Effect::Local(name) => name.as_deref(),
            _ => None,
        })
    }

    /// An Execute of the unnamed portal.
    pub fn execute(&mut self, unit: u64, before: u32) {
        if let Some(steps) = self.portal.take() {
            self.expect(Pending { unit, before, steps });
        }
    }

    /// The server is through with a statement, the one after `before` others in `unit`.
    pub fn done(&mut self, unit: u64, before: u32, tag: &[u8], parses: &mut Parses) -> Done {
        if tag.starts_with(b"COMMIT") {
            self.commit();
            self.reads_locally = false;
        } else if tag.starts_with(b"ROLLBACK") && !tag.starts_with(b"ROLLBACK PREPARED") {
            self.rolled_back = Some(self.open.len());
        }
        while self
            .pending
            .front()
            .is_some_and(|pending| (pending.unit, pending.before) < (unit, before))
        {
            self.pending.pop_front();
            self.incomplete = true;
        }
        let next = self.pending.front();
        if next.is_none_or(|pending| (pending.unit, pending.before) != (unit, before)) {
            return Done::Other;
        }
        let steps = self.pending.pop_front().map(|pending| pending.steps);
        let mut done = Done::Plain;
        for step in steps.unwrap_or_default() {
            done = done.max(match step.effect.reads() {
                _ if changes_literals(&step.effect) => Done::PlainAndLiterals,
                true => Done::PlainAndRead,
                false => Done::Plain,
            });
            self.enter(step, parses);
        }
        done
    }

    fn enter(&mut self, step: SaidStep, parses: &mut Parses) {
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
        self.kept.retain(|entry| !entry.is_statement());
        self.open.retain(|entry| !entry.is_statement());
        parses.drop_all();
    }

    /// A named statement was parsed.
    pub fn parsed(&mut self, name: &[u8]) {
        if let Some(at) = self.coming.iter().position(|(_, coming, _)| **coming == *name) {
            let (_, name, plain) = self.coming.remove(at);
            self.named.remove(&name);
            if let Some(plain) = plain.filter(|_| self.named.len() < NAMED_MAX) {
                self.named.insert(name, plain);
            }
        }
        if self.reads_locally {
            self.incomplete = true;
        }
        let in_transaction = !self.open.is_empty();
        let sequence = match in_transaction {
            true => &mut self.open,
            false => &mut self.kept,
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
        self.kept.retain(|entry| !is_gone(entry));
        self.open.retain(|entry| !is_gone(entry));
        self.named.remove(name);
    }

    /// The rest of the unit is left out. What follows it was sent for what it was to make.
    pub fn failed(&mut self, unit: u64) {
        self.failed = true;
        (self.unnamed, self.portal) = (None, None);
        self.incomplete |= self.pending.iter().any(|pending| pending.unit > unit);
    }

    /// The unit is over. True: something may have changed that is not kept here.
    pub fn ready(&mut self, status: Option<u8>, unit: u64) -> bool {
        let failed = mem::take(&mut self.failed);
        let rolled_back = self.rolled_back.take();
        self.coming.retain(|(coming, ..)| *coming > unit);
        while let Some(pending) = self.pending.front()
            && pending.unit <= unit
        {
            self.pending.pop_front();
            // Begun and not ended, or ended by something else than was expected.
            self.incomplete |= !failed;
        }
        if status == Some(status::IDLE) {
            if let Some(end) = rolled_back {
                self.roll_back(end);
            }
            match failed {
                true => self.roll_back(self.open.len()),
                false => self.commit(),
            }
            self.reads_locally = false;
            return mem::take(&mut self.unclear) | self.incomplete;
        }
        // To a savepoint, or to the beginning of the next transaction.
        self.unclear |= rolled_back.is_some_and(|end| end > 0);
        self.incomplete
    }

    fn commit(&mut self) {
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
                        self.kept.retain(|entry| !entry.sets(name));
                    }
                    _ => {}
                }
            }
            self.keep(entry);
        }
    }

    /// Nothing of what was said is left but that custom settings are there.
    fn discard(&mut self, entry: Entry) {
        let kept = mem::take(&mut self.kept);
        self.keep(entry);
        for entry in kept {
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
        if !name.contains(&b'.') || self.kept.iter().any(|entry| entry.sets(name)) {
            return;
        }
        self.keep(Entry::Said(SaidStep {
            again: Some(Again::Touch(name.into())),
            effect: Effect::Setting(Some(name.into())),
        }));
    }

    fn keep(&mut self, entry: Entry) {
        self.kept.push(entry);
        self.bound();
    }

    fn bound(&mut self) {
        let all = || self.kept.iter().chain(&self.open);
        let parsed = all().filter(|entry| matches!(entry, Entry::Parsed(_))).count();
        let bytes: usize = all().map(Entry::bytes).sum();
        let said = self.kept.len() + self.open.len() - parsed;
        if said > SAID_MAX || parsed > PLACES_MAX || bytes > SAID_BYTES_MAX {
            self.incomplete = true;
            self.kept.clear();
        }
    }

    /// The open transaction is lost, with what was in flight.
    pub fn undone(&mut self) {
        self.open.clear();
        self.pending.clear();
        self.coming.clear();
        self.unclear = false;
        (self.rolled_back, self.failed, self.reads_locally, self.portal) = (None, false, false, None);
    }

    pub fn surveyed(&mut self) {
        self.kept.clear();
        self.incomplete = false;
    }

    /// Whether anything is kept that no survey has told of.
    pub fn is_news(&self) -> bool {
        !(self.kept.is_empty() && self.open.is_empty())
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
        !self.open.is_empty() || !self.kept.iter().all(is_touch)
    }

    /// Whether there is nothing here.
    pub fn is_blank(&self) -> bool {
        let holds = self.unnamed.is_some() || self.portal.is_some() || !self.named.is_empty();
        !(holds
            || self.is_news()
            || self.reads_locally
            || self.incomplete
            || self.unclear
            || !self.pending.is_empty())
    }

    /// Whether the unnamed statement is plain.
    pub fn is_unnamed_plain(&self) -> bool {
        self.unnamed.is_some()
    }

    /// All that has to be said, in its order; and the names of the statements that are made there, rather than before
    /// anything is said.
    pub fn again(&self, parses: &Parses) -> (Vec<Again>, BTreeSet<&[u8]>) {
        let mut last: BTreeMap<&[u8], usize> = BTreeMap::new();
        for (at, entry) in self.kept.iter().enumerate() {
            if let Entry::Parsed(name) = entry {
                last.insert(name, at);
            }
        }
        let body = |name: &[u8]| parses.made.get(name)?.as_ref().map(|made| &made.body);
        let mut again: Vec<Again> = Vec::new();
        for (at, entry) in self.kept.iter().enumerate() {
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

/// Whose statement has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Done {
    Other,
    Plain,
    /// A plain one after which text may be read in another way.
    PlainAndRead,
    /// And the literals in it, too.
    PlainAndLiterals,
}

/// Which are those that the server tells of: what becomes of the others is asked for.
fn changes_literals(effect: &Effect) -> bool {
    match effect {
        Effect::Setting(name) | Effect::Local(name) => name
            .as_deref()
            .is_none_or(|name| told_for_reading().any(|reading| reading.eq_ignore_ascii_case(name))),
        Effect::Discards => true,
        Effect::Channels | Effect::Makes(_) | Effect::Drops(_) | Effect::DropsAll => false,
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

/// What a plain statement comes to with the parameters of `bind`. None: it can't be told.
fn steps(plain: &Plain, bind: Option<&[u8]>) -> Option<Vec<SaidStep>> {
    match plain {
        Plain::Nothing => Some(Vec::new()),
        Plain::Text { text, effect } => {
            let again = match effect {
                Effect::Discards => Again::Alone(text.clone()),
                _ => Again::Text(text.clone()),
            };
            Some(vec![SaidStep {
                again: Some(again),
                effect: effect.clone(),
            }])
        }
        Plain::SetConfig(calls) => {
            let parameters = match bind {
                Some(body) => parameters(body)?,
                None => Vec::new(),
            };
            calls.iter().map(|call| set_config(call, &parameters)).collect()
        }
    }
}

fn set_config(call: &Call, parameters: &[Option<&[u8]>]) -> Option<SaidStep> {
    let value = |argument: &Argument| match argument {
        Argument::Value(value) => Some(value.clone()),
        Argument::Parameter(number) => {
            let value = parameters.get(usize::from(*number) - 1).copied().flatten();
            value.map(Into::into)
        }
    };
    let (name, new) = (value(&call.name)?, value(&call.value)?);
    if !is_certain(&name) || !name.is_ascii() {
        return None;
    }
    let setting = Some(name.to_ascii_lowercase().into());
    let effect = match &*value(&call.local)? {
        b"true" | b"t" | b"1" | b"\x01" | b"on" | b"yes" => Effect::Local(setting),
        b"false" | b"f" | b"0" | b"\0" | b"off" | b"no" => Effect::Setting(setting),
        _ => return None,
    };
    let again = Again::SetConfig { name, value: new };
    Some(SaidStep {
        again: Some(again),
        effect,
    })
}
