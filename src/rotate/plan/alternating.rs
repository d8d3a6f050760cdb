//! Two or more users that take turns. The current one logs in all the while; another gets a new password and becomes current;
//! the old one is closed when nobody is on it.

use super::super::facts::{Facts, Standing, twin};
use super::{Done, Goal, Refusal, Step, Which, is_known};
use crate::config::Rotation;

pub(super) fn steps(
    facts: &Facts,
    rotation: &Rotation,
    goal: &Goal,
    done: &Done,
    notes: &mut Vec<String>,
) -> Result<Vec<Step>, Refusal> {
    let current = &*facts.holding.current.user;
    let Some(twin) = twin(&rotation.users, current) else {
        return Err(Refusal::firm(format!(
            "the store's current user is {current}, which is not one of `users`: list it, or correct the secret"
        )));
    };
    let ending = match goal {
        Goal::Emergency { role } if *role != current && done.promoted.is_none() => {
            let mut steps = close(facts, role, goal, done);
            // Or the next run would let it in again, with the password that somebody knows.
            let is_next = facts
                .holding
                .next
                .as_ref()
                .is_some_and(|next| *next.user == **role);
            steps.extend(is_next.then(|| Step::Withdraw { user: role.clone() }));
            return Ok(steps);
        }
        // Others can wait.
        Goal::Emergency { .. } => done.promoted.iter().map(|old| old.user.to_string()).collect(),
        Goal::Forward | Goal::Back => ending(facts, rotation, done),
    };
    if facts.next().is_none() && !ending.is_empty() {
        if done.promoted.is_none() {
            notes.push(format!(
                "{} can still log in or is logged in, while {current} is current: this run ends that, and makes nothing new",
                ending.join(", ")
            ));
        }
        return Ok(ending
            .iter()
            .flat_map(|old| close(facts, old, goal, done))
            .collect());
    }
    forward(facts, rotation, twin, goal, done)
}

/// Whose end this process is at, or has to come to.
pub(super) fn ending(facts: &Facts, rotation: &Rotation, done: &Done) -> Vec<String> {
    let promoted = done.promoted.as_ref().map(|old| old.user.to_string());
    let begun = promoted.into_iter().chain(done.left.iter().cloned());
    let mut ending: Vec<String> = Vec::new();
    for user in begun.chain(still_open(facts, rotation)) {
        if !ending.contains(&user) {
            ending.push(user);
        }
    }
    ending
}

/// Others than the current one that can log in somewhere, or are.
fn still_open(facts: &Facts, rotation: &Rotation) -> Vec<String> {
    let is_open = |user: &&String| {
        **user != *facts.holding.current.user && (facts.can_log_in(user) || facts.is_on(user))
    };
    rotation.users.iter().filter(is_open).cloned().collect()
}

pub(super) fn forward(
    facts: &Facts,
    rotation: &Rotation,
    twin: &str,
    goal: &Goal,
    done: &Done,
) -> Result<Vec<Step>, Refusal> {
    let current = &*facts.holding.current.user;
    let known = facts.next().filter(|_| is_known(facts, goal, done));
    let next = facts.next().filter(|_| known.is_none());
    let target = match next {
        Some(next) if rotation.users.iter().any(|user| **user == *next.user) && *next.user != *current => {
            next.user.to_string()
        }
        Some(next) => {
            return Err(Refusal::firm(format!(
                "what comes next in the store is of {}, and it is the turn of {twin}: take it out of the store",
                next.user
            )));
        }
        None => twin.to_owned(),
    };
    let mut steps = made_alike(facts, rotation, current, &target);
    let can_stage = facts.holding.next_place.takes(&target, current);
    steps.extend(known.map(|known| Step::Withdraw {
        user: known.user.to_string(),
    }));
    if next.is_none() {
        steps.push(match can_stage {
            true => Step::Stage { user: target.clone() },
            false => Step::Mint { user: target.clone() },
        });
    }
    let mut open = facts
        .primaries()
        .filter(|server| server.next != Standing::In)
        .peekable();
    if can_stage && open.peek().is_some() && !done.seen {
        steps.push(Step::Seen);
    }
    steps.extend(open.map(|server| Step::Password {
        user: target.clone(),
        which: Which::Next,
        login: true,
        on: server.endpoint.clone(),
    }));
    if !done.proven {
        steps.push(Step::Prove {
            user: target.clone(),
            which: Which::Next,
        });
    }
    steps.push(Step::Promote { user: target });
    steps.extend(close(facts, current, goal, done));
    Ok(steps)
}

/// The twin is there, with what its twin has.
fn made_alike(facts: &Facts, rotation: &Rotation, current: &str, target: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for server in facts.primaries() {
        let Some(like) = server.roles.get(current) else {
            continue;
        };
        let on = || server.endpoint.clone();
        let there = server.roles.get(target);
        if there.is_none() {
            steps.push(Step::Create {
                role: target.to_owned(),
                like: current.to_owned(),
                on: on(),
            });
        }
        let groups = like.groups.iter().chain(&rotation.owner);
        let mut missing: Vec<&String> = groups
            .filter(|group| !there.is_some_and(|there| there.groups.contains(*group)))
            .collect();
        missing.dedup();
        steps.extend(missing.into_iter().map(|group| Step::Grant {
            group: group.clone(),
            role: target.to_owned(),
            on: on(),
        }));
        let settings = like
            .settings
            .iter()
            .filter(|setting| !there.is_some_and(|there| there.settings.contains(*setting)));
        steps.extend(settings.map(|setting| Step::Set {
            role: target.to_owned(),
            setting: setting.clone(),
            on: on(),
        }));
    }
    steps
}

/// The old user's end.
pub(super) fn close(facts: &Facts, old: &str, goal: &Goal, done: &Done) -> Vec<Step> {
    let is_in = |list: &[String]| list.iter().any(|user| user == old);
    let old = || old.to_owned();
    let mut steps = Vec::new();
    if matches!(goal, Goal::Emergency { .. }) {
        if !done.followed {
            steps.push(Step::Followed);
        }
    } else {
        if !is_in(&done.left) {
            steps.push(Step::Left { user: old() });
        }
        if !is_in(&done.soaked) {
            steps.push(Step::Soak { user: old() });
        }
    }
    let open = facts.primaries().filter(|server| server.can_log_in(&old()));
    steps.extend(open.map(|server| Step::Close {
        user: old(),
        on: server.endpoint.clone(),
    }));
    // Once more if somebody came in by a replica that had not heard of it yet.
    if !is_in(&done.ended) || is_in(&done.refused) && facts.is_on(&old()) {
        steps.push(Step::End { user: old() });
    }
    if !is_in(&done.refused) {
        steps.push(Step::Refused { user: old() });
    }
    steps
}
