//! A new password of the same user: next to the store, then to the servers, and only then current. At each moment every
//! server takes something that the store holds.

use super::super::facts::{Facts, Standing};
use super::{Done, Goal, Refusal, Step, Which, is_known};
use crate::config::Rotation;
use crate::stores::NextPlace;

pub(super) fn steps(
    facts: &Facts,
    rotation: &Rotation,
    goal: &Goal,
    done: &Done,
) -> Result<Vec<Step>, Refusal> {
    let user = facts.holding.current.user.to_string();
    if let Some(old) = &done.promoted {
        return Ok(after(
            facts,
            rotation,
            goal,
            done,
            old.password != facts.holding.current.password,
        ));
    }
    if facts.holding.next_place == NextPlace::None {
        return Err(Refusal::firm(
            "the secret has no place for what comes next, so between the servers and the store nobody could log in: give it one \
             ({\"current\": …, \"next\": …}, DB_PASS_NEXT, or next_password in `fields`), or let two users take turns",
        ));
    }
    let mut steps = Vec::new();
    match facts.next() {
        Some(next) if is_known(facts, goal, done) => steps.extend([
            Step::Withdraw {
                user: next.user.to_string(),
            },
            Step::Stage { user: user.clone() },
        ]),
        None => steps.push(Step::Stage { user: user.clone() }),
        Some(next) if *next.user != *user => {
            return Err(Refusal::firm(format!(
                "what comes next in the store is of {}, and {user} is current: this style has one user. Take it out, or list both \
                 in `users`",
                next.user
            )));
        }
        Some(_) => {}
    }
    let mut open = facts
        .primaries()
        .filter(|server| server.next != Standing::In)
        .peekable();
    if open.peek().is_some() && !done.seen {
        steps.push(Step::Seen);
    }
    steps.extend(open.map(|server| Step::Password {
        user: user.clone(),
        which: Which::Next,
        login: false,
        on: server.endpoint.clone(),
    }));
    if !done.proven {
        steps.push(Step::Prove {
            user: user.clone(),
            which: Which::Next,
        });
    }
    steps.push(Step::Promote { user });
    steps.extend(after(facts, rotation, goal, done, true));
    Ok(steps)
}

fn after(facts: &Facts, rotation: &Rotation, goal: &Goal, done: &Done, is_another: bool) -> Vec<Step> {
    let user = facts.holding.current.user.to_string();
    let mut steps = Vec::new();
    if !done.followed {
        steps.push(Step::Followed);
    }
    if matches!(goal, Goal::Emergency { .. }) && done.ended.is_empty() {
        steps.push(Step::End { user: user.clone() });
    }
    if done.refused.is_empty() && is_another {
        steps.push(Step::Refused { user: user.clone() });
    }
    if rotation.keep_next && !done.kept_next && (done.promoted.is_none() || facts.holding.next.is_none()) {
        steps.push(Step::KeepNext { user });
    }
    steps
}
