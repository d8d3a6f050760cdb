//! Back to what was current before.

use super::super::facts::{Facts, Standing};
use super::alternating::{close, ending, forward};
use super::{Done, Goal, Refusal, Step, Which};
use crate::config::{Rotation, Style};

pub(super) fn steps(
    facts: &Facts,
    rotation: &Rotation,
    done: &Done,
    notes: &mut Vec<String>,
) -> Result<Vec<Step>, Refusal> {
    if done.withdrawn {
        // It was in the store, so somebody may be on it: that is waited for, as always.
        let open = ending(facts, rotation, done);
        let steps = open
            .iter()
            .flat_map(|old| close(facts, old, &Goal::Forward, done));
        return Ok(steps.filter(|step| !matches!(step, Step::Soak { .. })).collect());
    }
    if done.promoted.is_some() || done.goes_back {
        return match rotation.style {
            Style::Single => super::single::steps(facts, rotation, &Goal::Forward, done),
            Style::Alternating => super::alternating::steps(facts, rotation, &Goal::Forward, done, notes),
        };
    }
    let is_kept =
        rotation.keep_next && !done.restored && !facts.primaries().any(|server| server.next == Standing::In);
    if let Some(next) = facts.next().filter(|_| !is_kept) {
        return Ok(before_promotion(facts, rotation, done, &next.user));
    }
    match rotation.style {
        Style::Single => Err(Refusal::firm(
            "nothing is half-done, and what was current before can't become so by itself: `rotate run` makes a new password",
        )),
        Style::Alternating => after_promotion(facts, rotation, done, notes),
    }
}

/// The servers first: what one of them takes must be in the store.
fn before_promotion(facts: &Facts, rotation: &Rotation, done: &Done, next: &str) -> Vec<Step> {
    let current = facts.holding.current.user.to_string();
    let mut steps = Vec::new();
    match rotation.style {
        Style::Single => {
            let changed = facts.primaries().filter(|server| server.current != Standing::In);
            steps.extend(changed.map(|server| Step::Password {
                user: current.clone(),
                which: Which::Current,
                login: false,
                on: server.endpoint.clone(),
            }));
        }
        Style::Alternating => {
            let open = facts
                .primaries()
                .filter(|server| facts.holding.next.is_none() && next != current && server.can_log_in(next));
            steps.extend(open.map(|server| Step::Close {
                user: next.to_owned(),
                on: server.endpoint.clone(),
            }));
        }
    }
    if !done.proven {
        steps.push(Step::Prove {
            user: current,
            which: Which::Current,
        });
    }
    if facts.holding.next.is_some() && !rotation.keep_next {
        steps.push(Step::Withdraw {
            user: next.to_owned(),
        });
    }
    steps
}

fn after_promotion(
    facts: &Facts,
    rotation: &Rotation,
    done: &Done,
    notes: &mut Vec<String>,
) -> Result<Vec<Step>, Refusal> {
    let current = &*facts.holding.current.user;
    let open = ending(facts, rotation, done);
    // Who is being closed is not made current again, nor who can't log in: that may be the twin, retired long ago.
    let logs_in = facts.primaries().any(|server| server.previous == Standing::In);
    let previous = facts.holding.previous.as_ref();
    let previous = previous.filter(|_| done.left.is_empty() && logs_in);
    if let Some(previous) = previous.filter(|previous| open.contains(&previous.user.to_string())) {
        notes.push(format!(
            "{current} is current already: this is a rotation back to {}, with the password that the store holds as previous",
            previous.user
        ));
        return forward(facts, rotation, &previous.user, &Goal::Forward, done);
    }
    if open.is_empty() {
        return Err(Refusal::firm(format!(
            "nothing is half-done: {current} is current, and no other of `users` can log in. `rotate run` makes a new credential"
        )));
    }
    notes.push(format!(
        "the store holds no other credential to go back to: {current} stays current, and {} is closed",
        open.join(", ")
    ));
    Ok(open
        .iter()
        .flat_map(|old| close(facts, old, &Goal::Forward, done))
        .collect())
}
