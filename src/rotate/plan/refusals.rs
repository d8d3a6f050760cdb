//! Why nothing is done, each with what to do about it; and what somebody should know before.

use std::fmt;

use super::super::database::{Drift, DriftKind, identifier};
use super::super::facts::{Facts, ServerFacts, Standing};
use super::super::password;
use super::{Goal, Step};
use crate::config::{Rotation, Style};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub words: String,
    /// Somebody who knows better may go on.
    pub can_be_forced: bool,
}

impl Refusal {
    pub(super) fn firm(words: impl Into<String>) -> Self {
        Self {
            words: words.into(),
            can_be_forced: false,
        }
    }

    fn soft(words: impl Into<String>) -> Self {
        Self {
            words: words.into(),
            can_be_forced: true,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)?;
        match self.can_be_forced {
            true => f.write_str(" (or --force)"),
            false => Ok(()),
        }
    }
}

pub(super) fn all(facts: &Facts, rotation: &Rotation, goal: &Goal, steps: &[Step]) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    refusals.extend(upstreams(facts, rotation));
    refusals.extend(current_user(facts, rotation));
    for server in facts.primaries() {
        refusals.extend(rights(server, steps));
    }
    if let Some(writer) = &facts.holding.other_writer {
        refusals.push(Refusal::soft(format!(
            "somebody else writes this secret ({writer}): two who rotate put each other's passwords back"
        )));
    }
    if let Some(next) = facts.next()
        && steps.iter().any(|step| matches!(step, Step::Promote { .. }))
        && let Err(weak) = password::check(&next.password, &next.user)
    {
        refusals.push(Refusal::soft(format!(
            "what comes next in the store is weak: {weak}"
        )));
    }
    if rotation.style == Style::Alternating && !matches!(goal, Goal::Emergency { .. }) {
        refusals.extend(twins(facts, rotation, goal, steps));
    }
    refusals
}

fn upstreams(facts: &Facts, rotation: &Rotation) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for upstream in &rotation.upstreams {
        let mut servers = facts
            .servers
            .iter()
            .filter(|server| server.upstream == *upstream)
            .peekable();
        if servers.peek().is_some() && !servers.any(|server| server.greeting.is_primary) {
            refusals.push(Refusal::firm(format!(
                "upstream {upstream} has no primary among its hosts: only there can a role be changed"
            )));
        }
    }
    for server in facts.servers.iter().filter(|server| server.trusts) {
        refusals.push(Refusal::firm(format!(
            "{} lets {} in whatever the password (pg_hba.conf says trust, or the like): no login from here proves anything there",
            server.endpoint, facts.holding.current.user
        )));
    }
    refusals
}

fn current_user(facts: &Facts, rotation: &Rotation) -> Vec<Refusal> {
    let user = &*facts.holding.current.user;
    let mut refusals = Vec::new();
    if user.starts_with("pg_") {
        refusals.push(Refusal::firm(format!("{user} is a reserved role")));
    }
    for server in facts.primaries() {
        let Some(role) = server.roles.get(user) else {
            refusals.push(Refusal::firm(format!(
                "{} knows no role {user}, which the store holds as current: correct the secret or the upstreams",
                server.endpoint
            )));
            continue;
        };
        if role.is_superuser && rotation.admin != rotation.secret {
            refusals.push(Refusal::firm(format!(
                "{user} is a superuser on {}: no application should be, and nobody but itself may rotate it",
                server.endpoint
            )));
        }
        for (name, _) in server.roles.iter().filter(|(_, role)| role.is_expired) {
            refusals.push(Refusal::firm(format!(
                "VALID UNTIL of {name} is over on {}, so no new password would let it in: ALTER ROLE {} VALID UNTIL 'infinity'",
                server.endpoint,
                identifier(name)
            )));
        }
    }
    refusals
}

/// Whether whoever asks may do what is to be done.
fn rights(server: &ServerFacts, steps: &[Step]) -> Vec<Refusal> {
    let mut named: Vec<&str> = Vec::new();
    for step in steps {
        let (Step::Password { user, on, .. } | Step::Close { user, on }) = step else {
            continue;
        };
        let role = server.roles.get(user);
        if *on == server.endpoint
            && role.is_some_and(|role| !role.may_change)
            && !named.contains(&user.as_str())
        {
            named.push(user);
        }
    }
    let admin = &server.greeting.admin;
    let unending = |step: &Step| match step {
        Step::End { user } => server
            .roles
            .get(user)
            .filter(|role| !role.may_end)
            .map(|_| user.clone()),
        _ => None,
    };
    let unending = steps.iter().filter_map(unending).map(|user| {
        Refusal::soft(format!(
            "{admin} may not end sessions of {user} on {}, if any are left: GRANT pg_signal_backend TO {}",
            server.endpoint,
            identifier(admin)
        ))
    });
    let refusal = |user: &str| {
        let how = match server.greeting.version {
            160_000.. => format!(
                "ALTER ROLE {} CREATEROLE; GRANT {} TO {} WITH ADMIN TRUE, INHERIT FALSE",
                identifier(admin),
                identifier(user),
                identifier(admin)
            ),
            _ => format!("ALTER ROLE {} CREATEROLE", identifier(admin)),
        };
        Refusal::firm(format!(
            "{admin} may not change {user} on {}: {how}",
            server.endpoint
        ))
    };
    named.into_iter().map(refusal).chain(unending).collect()
}

/// Whether an application can't tell one user from the other.
fn twins(facts: &Facts, rotation: &Rotation, goal: &Goal, steps: &[Step]) -> Vec<Refusal> {
    let target = steps.iter().find_map(|step| match step {
        Step::Promote { user } => Some(user.as_str()),
        _ => None,
    });
    let Some(target) = target else {
        return Vec::new();
    };
    let current = &*facts.holding.current.user;
    let mut refusals = Vec::new();
    for server in facts.primaries() {
        let drifts = server.drift.iter();
        refusals.extend(drifts.map(|drift| Refusal::soft(drifted(drift, server, current, target, rotation))));
        let limit = server
            .roles
            .get(target)
            .or(server.roles.get(current))
            .map(|role| role.connections_max);
        let there = server.backends_of(current).len();
        if let Some(limit @ 0..) = limit
            && usize::try_from(limit).is_ok_and(|limit| limit < there)
        {
            refusals.push(Refusal::soft(format!(
                "{there} connections are on {current} on {}, and {target} may have {limit}: raise its CONNECTION LIMIT",
                server.endpoint
            )));
        }
    }
    let previous = facts.holding.previous.as_ref();
    let is_previous = *goal == Goal::Back && previous.is_some_and(|previous| *previous.user == *target);
    for server in &facts.servers {
        let there = server.backends_of(target);
        // It gets the password that it has.
        let is_kept = is_previous && server.previous == Standing::In;
        if server.next != Standing::In && !is_kept && !there.is_empty() {
            let shown: Vec<String> = there.iter().take(5).map(ToString::to_string).collect();
            refusals.push(Refusal::soft(format!(
                "{target} is about to get another password, and somebody is logged in with the one it has, on {}: {}",
                server.endpoint,
                shown.join("; ")
            )));
        }
    }
    refusals
}

fn drifted(drift: &Drift, server: &ServerFacts, current: &str, target: &str, rotation: &Rotation) -> String {
    let Drift {
        role,
        database,
        what,
        count,
    } = drift;
    let place = match database.as_str() {
        "" => format!("on {}", server.endpoint),
        database => format!("in database {database} on {}", server.endpoint),
    };
    let other = if role == current { target } else { current };
    let owner = rotation.owner.as_deref();
    match (what, owner) {
        (DriftKind::Owns, Some(owner)) => format!(
            "{role} itself owns {count} objects {place}, which {other} does not: REASSIGN OWNED BY {} TO {} there, and let its \
             sessions be {owner} (ALTER ROLE … SET role)",
            identifier(role),
            identifier(owner)
        ),
        (DriftKind::Owns, None) => format!(
            "{role} itself owns {count} objects {place}, which {other} does not: give them to a role that both are in, and name it \
             as `owner`"
        ),
        (DriftKind::Granted, _) => format!(
            "{role} has privileges on {count} objects {place} that {other} has not: grant them to a role that both are in"
        ),
    }
}

pub(super) fn notes(facts: &Facts, rotation: &Rotation, steps: &[Step]) -> Vec<String> {
    let mut notes = Vec::new();
    let current = &*facts.holding.current.user;
    for server in &facts.servers {
        if let (Standing::Refused(words), false) = (&server.current, server.next == Standing::In) {
            notes.push(format!(
                "{} refuses {current} with what the store holds as current ({words}): somebody changed one and not the other; this \
                 run mends that",
                server.endpoint
            ));
        }
    }
    let is_replaced = steps.iter().any(|step| matches!(step, Step::Promote { .. }));
    let on_it: usize = facts
        .servers
        .iter()
        .map(|server| server.backends_of(current).len())
        .sum();
    if rotation.style == Style::Single && is_replaced && on_it > 0 {
        notes.push(format!(
            "{on_it} connections are on {current} now and stay; whoever is not behind pgswivel can't log in again with the old \
             password from the first ALTER ROLE on"
        ));
    }
    if rotation.style == Style::Alternating
        && is_replaced
        && steps.iter().any(|step| matches!(step, Step::Mint { .. }))
    {
        notes.push(
            "the secret has no place for what comes next: if it is killed between the servers and the store, the next run \
             closes the twin again, and the one after that begins anew"
                .to_owned(),
        );
    }
    notes
}
