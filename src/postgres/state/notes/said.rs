//! What a client says in statements so plain that their own text tells what they do: from the text to the server's answer.
//! What came of it since the last survey is in [`kept`].

mod kept;

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::Arc;

use super::super::known::Again;
use super::parses::Parses;
use crate::postgres::wire::bound::parameters;
use crate::postgres::wire::state_words::plain::{Argument, Call, Effect, Plain, is_certain};
use crate::postgres::wire::tag::status;
use kept::{Ended, Kept, SaidStep};

/// Statements with a name whose text is plain: drivers keep those that they say often.
const NAMED_MAX: usize = 32;
/// In flight, and of those that are coming: more are not waited for.
const PENDING_MAX: usize = 64;

/// Sent, and not answered.
struct Pending {
    unit: u64,
    /// What was executed before it in its unit.
    before: u32,
    /// None: its tag tells what it did.
    steps: Option<Vec<SaidStep>>,
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
    /// The unit that is being answered has failed.
    failed: bool,
    kept: Kept,
}

impl Said {
    /// Statements of a simple query, the only message of its unit.
    pub fn asked(&mut self, unit: u64, statements: Vec<Plain>) {
        for (before, plain) in (0..).zip(statements) {
            let steps = match plain {
                Plain::Other => None,
                plain => match steps(&plain, None) {
                    // Its parameters have no value, and the server says so.
                    None => return,
                    steps => steps,
                },
            };
            self.expect(Pending { unit, before, steps });
        }
    }

    fn expect(&mut self, pending: Pending) {
        match self.pending.len() < PENDING_MAX {
            true => self.pending.push_back(pending),
            false => self.kept.miss(),
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
        let unit = self.pending.back().map(|pending| pending.unit);
        let last = self.pending.iter().rev();
        let asked = last
            .take_while(|pending| Some(pending.unit) == unit)
            .filter_map(|pending| pending.steps.as_ref());
        self.portal
            .iter()
            .chain(asked)
            .flatten()
            .any(SaidStep::changes_literals)
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
            let steps = Some(steps);
            self.expect(Pending { unit, before, steps });
        }
    }

    /// The server is through with a statement, the one after `before` others in `unit`.
    pub fn done(&mut self, unit: u64, before: u32, tag: &[u8], parses: &mut Parses) -> Done {
        if tag.starts_with(b"COMMIT") {
            self.kept.commit();
        } else if tag.starts_with(b"ROLLBACK") && !tag.starts_with(b"ROLLBACK PREPARED") {
            self.kept.rolled_back();
        }
        while self
            .pending
            .front()
            .is_some_and(|pending| (pending.unit, pending.before) < (unit, before))
        {
            self.pending.pop_front();
            self.kept.miss();
        }
        let next = self.pending.front();
        if next.is_none_or(|pending| (pending.unit, pending.before) != (unit, before)) {
            return Done::Other;
        }
        let Some(steps) = self.pending.pop_front().and_then(|pending| pending.steps) else {
            return Done::Other;
        };
        let mut done = Done::Plain;
        for step in steps {
            done = done.max(match step.effect.reads() {
                _ if step.changes_literals() => Done::PlainAndLiterals,
                true => Done::PlainAndRead,
                false => Done::Plain,
            });
            self.enter(step, parses);
        }
        done
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
        self.kept.parsed(name);
    }

    fn enter(&mut self, step: SaidStep, parses: &mut Parses) {
        if let Effect::Drops(name) = &step.effect {
            self.named.remove(name);
        }
        self.kept.enter(step, parses);
    }

    /// A statement is no more.
    pub fn closed(&mut self, name: &[u8]) {
        self.kept.closed(name);
        self.named.remove(name);
    }

    /// The rest of the unit is left out. What follows it was sent for what it was to make.
    pub fn failed(&mut self, unit: u64) {
        self.failed = true;
        (self.unnamed, self.portal) = (None, None);
        if self.pending.iter().any(|pending| pending.unit > unit) {
            self.kept.miss();
        }
    }

    /// The unit is over. True: something may have changed that is not kept here.
    pub fn ready(&mut self, status: Option<u8>, unit: u64) -> bool {
        let failed = mem::take(&mut self.failed);
        self.coming.retain(|(coming, ..)| *coming > unit);
        while let Some(pending) = self.pending.front()
            && pending.unit <= unit
        {
            self.pending.pop_front();
            if !failed {
                // Begun and not ended, or ended by something else than was expected.
                self.kept.miss();
            }
        }
        match (status, failed) {
            (Some(status::IDLE), true) => self.kept.ended(Ended::RolledBack),
            (Some(status::IDLE), false) => self.kept.ended(Ended::Committed),
            _ => self.kept.goes_on(),
        }
    }

    /// The open transaction is lost, with what was in flight.
    pub fn undone(&mut self) {
        self.kept.undone();
        self.pending.clear();
        self.coming.clear();
        (self.failed, self.portal) = (false, None);
    }

    pub fn surveyed(&mut self) {
        self.kept.surveyed();
    }

    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Whether there is nothing here.
    pub fn is_blank(&self) -> bool {
        let holds = self.unnamed.is_some() || self.portal.is_some() || !self.named.is_empty();
        !holds && self.pending.is_empty() && self.kept.is_blank()
    }

    /// Whether the unnamed statement is plain.
    pub fn is_unnamed_plain(&self) -> bool {
        self.unnamed.is_some()
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

/// What a plain statement comes to with the parameters of `bind`. None: it can't be told.
fn steps(plain: &Plain, bind: Option<&[u8]>) -> Option<Vec<SaidStep>> {
    match plain {
        Plain::Nothing | Plain::Other => Some(Vec::new()),
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
