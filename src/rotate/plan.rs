//! What there is to do, from what is so and what is wanted. Pure.
//!
//! The list holds only what is not so yet. Whoever works through it does the first step, looks again, and makes a new list:
//! so there is nothing to remember, and to go on is to begin.

mod alternating;
mod back;
mod refusals;
mod single;
mod step;
#[cfg(test)]
mod tests;

pub use self::refusals::Refusal;
pub use self::step::{Step, Which};
use super::Backend;
use super::facts::Facts;
use crate::config::{Rotation, Style};
use crate::names::Endpoint;
use crate::stores::Login;

/// Which way it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// A new credential, or the end of what was begun.
    Forward,
    /// What was current before all this.
    Back,
    /// Somebody knows the credential of this role: a new one, and nobody is left on the old one.
    Emergency { role: String },
}

/// What this process has done that nobody can see in store or servers. All of it is done again by whoever comes next.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Made here, and in no store yet.
    pub minted: Option<Login>,
    /// What waits in the store was made by this process.
    pub staged: bool,
    /// Every pgswivel has read what was staged.
    pub seen: bool,
    pub proven: bool,
    /// What was current before this process made something else current.
    pub promoted: Option<Login>,
    /// Every pgswivel has read what was promoted.
    pub followed: bool,
    /// Users that nobody is on.
    pub left: Vec<String>,
    pub soaked: Vec<String>,
    pub ended: Vec<String>,
    pub refused: Vec<String>,
    pub kept_next: bool,
    /// A server has the current password again.
    pub restored: bool,
    /// What was staged is taken back.
    pub withdrawn: bool,
    /// A rotation back to what was current before is under way.
    pub goes_back: bool,
    /// Who was on the user when every server took the new password.
    pub on_it: Vec<(Endpoint, Vec<Backend>)>,
}

/// Where a rotation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Situation {
    /// Nothing is under way.
    Rest,
    /// The next one waits in the store, and no server takes it yet.
    Staged,
    /// Some server takes the next one.
    Changed,
    /// The new one is current, and the old user can still log in or is on some server.
    Promoted,
}

#[derive(Debug)]
pub struct Plan {
    pub situation: Situation,
    pub steps: Vec<Step>,
    /// Any of them, and nothing is done.
    pub refusals: Vec<Refusal>,
    /// What somebody should know before it begins.
    pub notes: Vec<String>,
}

/// What there is to do.
pub fn plan(facts: &Facts, rotation: &Rotation, goal: &Goal, done: &Done) -> Plan {
    let situation = situation(facts, rotation);
    let mut notes = Vec::new();
    let steps = match (rotation.style, goal) {
        (_, Goal::Back) => back::steps(facts, rotation, done, &mut notes),
        (Style::Single, _) => single::steps(facts, rotation, goal, done),
        (Style::Alternating, _) => alternating::steps(facts, rotation, goal, done, &mut notes),
    };
    let (mut steps, mut refusals) = match steps {
        Ok(steps) => (steps, Vec::new()),
        Err(refusal) => (Vec::new(), vec![refusal]),
    };
    if rotation.sidecars.is_empty() && rotation.fleet.is_none() {
        steps.retain(|step| !matches!(step, Step::Seen | Step::Followed));
    }
    refusals.extend(refusals::all(facts, rotation, goal, &steps));
    notes.extend(refusals::notes(facts, rotation, &steps));
    if matches!(goal, Goal::Emergency { .. })
        && is_left_from_before(facts, done)
        && !is_known(facts, goal, done)
    {
        notes.push(
            "a server takes already what waited in the secret as next, so that becomes current: if somebody has read the secret \
             itself, run this once more for it"
                .to_owned(),
        );
    }
    Plan {
        situation,
        steps,
        refusals,
        notes,
    }
}

/// Something waits in the store that another process put there.
fn is_left_from_before(facts: &Facts, done: &Done) -> bool {
    facts.holding.next.is_some() && !done.staged && done.promoted.is_none()
}

/// In an emergency what waits in the store may be known as well: whoever has read what is current has read that, too. As
/// long as no server takes it, nobody needs it.
fn is_known(facts: &Facts, goal: &Goal, done: &Done) -> bool {
    let is_taken = || {
        facts
            .primaries()
            .any(|server| server.next == super::facts::Standing::In)
    };
    matches!(goal, Goal::Emergency { .. }) && is_left_from_before(facts, done) && !is_taken()
}

pub fn situation(facts: &Facts, rotation: &Rotation) -> Situation {
    use super::facts::Standing::In;
    let current = &*facts.holding.current.user;
    if facts.next().is_some() {
        return match facts.primaries().any(|server| server.next == In) {
            true => Situation::Changed,
            // It always waits there.
            false if rotation.keep_next => Situation::Rest,
            false => Situation::Staged,
        };
    }
    let is_open = |user: &&String| **user != current && (facts.can_log_in(user) || facts.is_on(user));
    match rotation.users.iter().any(|user| is_open(&user)) {
        true => Situation::Promoted,
        false => Situation::Rest,
    }
}

impl Situation {
    pub fn words(self) -> &'static str {
        match self {
            Self::Rest => "nothing is under way",
            Self::Staged => "half-done: the next credential waits in the store, and no server takes it yet",
            Self::Changed => "half-done: a server takes the next credential, and it is not current yet",
            Self::Promoted => {
                "half-done: the new credential is current, and another of the users is not closed yet"
            }
        }
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Staged => "staged",
            Self::Changed => "changed",
            Self::Promoted => "promoted",
        }
    }
}
