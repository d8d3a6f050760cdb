//! Writes the report: what is configured, what the keepers know, and who is on what.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::readiness::ready;
use super::report::{
    CallsReport, CredentialReport, EndpointReport, MovesReport, PinReport, ReadsReport, RemovedSecretReport,
    Report, RescuesReport, RoleReport, SecretReport, Stage, UpstreamReport, UserReport,
};
use super::{Active, Facts, words};
use crate::access::leave::{Departure, Policy};
use crate::access::roster::{Aboard, Pinned};
use crate::config::{Auth, Config, Secret, SessionsPolicy};
use crate::credentials::Page;
use crate::journal::rfc3339;
use crate::keeper::{self, CredentialStatus, EndpointStatus, Standing, Status};
use crate::metrics::{Metrics, Move, Rescue};
use crate::names::SecretName;

pub fn report(facts: &Facts) -> Report {
    let active = facts.active.borrow().clone();
    let reasons = ready(facts).reasons;
    let metrics = &facts.records.metrics;
    let users = super::users::all(&active, &facts.roster);
    Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        time: rfc3339(SystemTime::now()),
        uptime_seconds: facts.started.elapsed().as_secs(),
        ready: reasons.is_empty(),
        reasons,
        stopping: *facts.stopping.borrow(),
        clients: metrics.clients_now(),
        held: metrics.held_now(),
        roles: roles(&active.config),
        upstreams: upstreams(facts, &active.config),
        secrets: active
            .keepers
            .iter()
            .filter_map(|(name, keeper)| {
                let secret = active.config.secrets.get(name)?;
                Some(secret_report(secret, keeper, facts, &users))
            })
            .collect(),
        removed_secrets: removed_secrets(&active, facts, &users),
        users,
    }
}

fn roles(config: &Config) -> Vec<RoleReport> {
    let roles = config.roles.values();
    roles
        .map(|role| RoleReport {
            role: role.name.to_string(),
            auth: match role.auth {
                Auth::Scram(_) => "scram",
                Auth::Trust => "trust",
            }
            .to_owned(),
            upstream: role.upstream.to_string(),
            secret: role.secret.to_string(),
            set_role: role.set_role.clone(),
        })
        .collect()
}

fn upstreams(facts: &Facts, config: &Config) -> Vec<UpstreamReport> {
    let links = facts.roster.links();
    let upstreams = config.upstreams.values();
    upstreams
        .map(|upstream| UpstreamReport {
            upstream: upstream.name.to_string(),
            endpoints: upstream.hosts.iter().map(ToString::to_string).collect(),
            database: upstream.database.clone(),
            links: count(links.get(&upstream.name).copied().unwrap_or_default()),
            connections_max: upstream.connections_max,
        })
        .collect()
}

fn secret_report(
    secret: &Secret,
    keeper: &keeper::Handle,
    facts: &Facts,
    users: &[UserReport],
) -> SecretReport {
    let status = keeper.status();
    let page = keeper.page.borrow().clone();
    // After the status: a credential that has just retired may be found in use, never the other way round.
    let aboard = facts.roster.aboard(&secret.name);
    let leader = (status.credentials.iter()).find(|known| known.standing == Standing::Leading);
    let about = About {
        leader: leader.map(|leader| Arc::clone(&leader.user)),
        works: status.proven,
        users,
    };
    let age = leader.map(|leader| leader.age);
    let mut credentials: Vec<CredentialReport> = status
        .credentials
        .iter()
        .map(|known| {
            let aboard = aboard.iter().find(|aboard| known.is_of(&aboard.credential));
            about.known(known, aboard)
        })
        .collect();
    let is_forgotten = |aboard: &&Aboard| {
        let mut known = status.credentials.iter();
        !known.any(|known| known.is_of(&aboard.credential))
    };
    credentials.extend((aboard.iter().filter(is_forgotten)).map(|aboard| about.forgotten(aboard)));
    let replaced = replaced_users(secret, &credentials, users);
    let leaves = leaves(secret, &page, &aboard);
    let stage = stage(&status, &replaced, leaves);
    SecretReport {
        secret: secret.name.to_string(),
        store: secret.source.store().to_owned(),
        words: words::of_secret(stage, &credentials, &replaced),
        safe_to_revoke: stage == Stage::SafeToRevoke,
        replaced_users: replaced.iter().map(|replaced| replaced.user.clone()).collect(),
        stage,
        generation: status.generation,
        working: status.proven,
        age_seconds: age.map(|age| age.as_secs()),
        max_age_seconds: secret.max_age.map(|max_age| max_age.as_secs()),
        max_age_exceeded: secret
            .max_age
            .is_some_and(|max_age| age.is_some_and(|age| age > max_age)),
        poll_seconds: secret.poll.as_secs_f64(),
        sessions: policy_word(secret.sessions).to_owned(),
        grace_seconds: secret.grace.as_secs_f64(),
        reads: reads(&status),
        moves: moves(&facts.records.metrics, &secret.name),
        rescues: rescues(&facts.records.metrics, &secret.name),
        credentials,
    }
}

/// What links are on, and no keeper knows of any more.
fn removed_secrets(active: &Active, facts: &Facts, users: &[UserReport]) -> Vec<RemovedSecretReport> {
    let about = About {
        leader: None,
        works: false,
        users,
    };
    let names = facts.roster.secrets();
    let removed = names.iter().filter(|name| !active.keepers.contains_key(*name));
    let report = |name: &SecretName| {
        let aboard = facts.roster.aboard(name);
        let credentials: Vec<CredentialReport> =
            aboard.iter().map(|aboard| about.forgotten(aboard)).collect();
        (!credentials.is_empty()).then(|| RemovedSecretReport {
            secret: name.to_string(),
            words: words::of_removed(&credentials),
            credentials,
        })
    };
    removed.filter_map(report).collect()
}

/// Those that new logins of this secret do not begin with, and links may have been on.
fn replaced_users<'a>(
    secret: &Secret,
    credentials: &[CredentialReport],
    users: &'a [UserReport],
) -> Vec<&'a UserReport> {
    let is_wanted = |user: &UserReport| user.wanted_by.iter().any(|name| *name == *secret.name.as_str());
    let is_retired = |user: &UserReport| {
        (credentials.iter()).any(|known| known.standing == "retired" && known.user == user.user)
    };
    (users.iter())
        .filter(|user| is_retired(user) && !is_wanted(user))
        .collect()
}

/// Whether some session is on its way to another link.
fn leaves(secret: &Secret, page: &Page, aboard: &[Aboard]) -> bool {
    let policy = Policy {
        sessions: secret.sessions,
        grace: secret.grace,
    };
    let now = Instant::now().into_std();
    let retired = (aboard.iter()).filter(|aboard| page.retirement(&aboard.credential).is_some());
    retired.into_iter().any(|aboard| {
        let departure = policy.departure(page, &aboard.credential, 0.0, now);
        matches!(departure, Departure::Leave(_))
    })
}

/// Where the rotation stands. What counts is what the store puts first, and who is on the users that were replaced.
fn stage(status: &Status, replaced: &[&UserReport], leaves: bool) -> Stage {
    if status.credentials.is_empty() {
        return Stage::NothingRead;
    }
    if !status.proven {
        return Stage::NothingWorks;
    }
    let listed = status.credentials.iter().filter(|known| known.listed);
    let first = listed.min_by_key(|known| known.position);
    if let Some(first) = first.filter(|first| first.standing != Standing::Leading) {
        let is_proven = first.endpoints.iter().any(|endpoint| endpoint.proven);
        return if is_proven { Stage::Proven } else { Stage::Seen };
    }
    if leaves {
        Stage::Moving
    } else if replaced.is_empty() {
        Stage::Steady
    } else if replaced.iter().all(|user| user.unused) {
        Stage::SafeToRevoke
    } else {
        Stage::Leading
    }
}

/// What the words about a credential of one secret depend on.
struct About<'a> {
    leader: Option<Arc<str>>,
    works: bool,
    users: &'a [UserReport],
}

impl About<'_> {
    fn known(&self, known: &CredentialStatus, aboard: Option<&Aboard>) -> CredentialReport {
        let (standing, retired) = match known.standing {
            Standing::Leading => ("leading", None),
            Standing::Waiting => ("waiting", None),
            Standing::Retired { ago } => ("retired", Some(ago)),
        };
        self.told(CredentialReport {
            user: known.user.to_string(),
            version: known.version.to_string(),
            position: known.position.to_string(),
            listed: known.listed,
            age_seconds: Some(seconds(known.age)),
            retired_seconds_ago: retired.map(seconds),
            lease_left_seconds: known.lease_left.map(seconds),
            endpoints: known.endpoints.iter().map(endpoint_report).collect(),
            ..used(standing, aboard)
        })
    }

    /// One that the book remembers no longer, and links still use.
    fn forgotten(&self, aboard: &Aboard) -> CredentialReport {
        self.told(CredentialReport {
            user: aboard.credential.user.to_string(),
            version: aboard.credential.version.to_string(),
            position: aboard.credential.position.to_string(),
            ..used("retired", Some(aboard))
        })
    }

    fn told(&self, mut report: CredentialReport) -> CredentialReport {
        let is_unused = (self.users.iter()).any(|user| user.user == report.user && user.unused);
        report.safe_to_revoke = report.standing == "retired" && is_unused;
        let same_user = self.leader.as_deref() == Some(&report.user);
        report.words = words::of_credential(&report, same_user, self.works);
        report
    }
}

/// What the roster knows of a credential.
fn used(standing: &str, aboard: Option<&Aboard>) -> CredentialReport {
    CredentialReport {
        user: String::new(),
        version: String::new(),
        position: String::new(),
        standing: standing.to_owned(),
        words: String::new(),
        listed: false,
        safe_to_revoke: false,
        age_seconds: None,
        retired_seconds_ago: None,
        lease_left_seconds: None,
        endpoints: Vec::new(),
        sessions: count(aboard.map_or(0, |aboard| aboard.sessions)),
        links: count(aboard.map_or(0, |aboard| aboard.links)),
        pinned: aboard
            .into_iter()
            .flat_map(|aboard| &aboard.pinned)
            .map(|(session, pinned)| pin_report(*session, pinned))
            .collect(),
    }
}

fn endpoint_report(endpoint: &EndpointStatus) -> EndpointReport {
    EndpointReport {
        endpoint: endpoint.endpoint.to_string(),
        proven: endpoint.proven,
        refused: endpoint.refused.map(|refusal| refusal.sqlstate().to_owned()),
        blocked_seconds: endpoint.blocked_for.map(seconds),
    }
}

fn pin_report(session: u64, pinned: &Pinned) -> PinReport {
    PinReport {
        session,
        reasons: (pinned.reasons.iter())
            .map(|pin| pin.label().to_owned())
            .collect(),
        since_seconds: seconds(pinned.since.elapsed()),
        left_seconds: (pinned.until).map(|until| seconds(until.saturating_duration_since(Instant::now()))),
    }
}

fn reads(status: &Status) -> ReadsReport {
    let calls = status.calls.iter();
    ReadsReport {
        ok: status.reads.succeeded,
        failed: status.reads.failed,
        last_success_seconds_ago: status.last_success.map(seconds),
        last_failure_seconds_ago: status.last_failure.map(seconds),
        as_of_seconds_ago: status.as_of_ago.map(seconds),
        error: status.reads.error.as_ref().map(ToString::to_string),
        warning: status.reads.warning.map(|warning| warning.label().to_owned()),
        calls: calls
            .map(|(operation, count)| CallsReport {
                operation: operation.label().to_owned(),
                count: *count,
            })
            .collect(),
    }
}

fn moves(metrics: &Metrics, secret: &SecretName) -> MovesReport {
    MovesReport {
        moved: metrics.moves(secret, Move::Moved),
        pinned: metrics.moves(secret, Move::Pinned),
        put_off: metrics.moves(secret, Move::PutOff),
        cut: metrics.moves(secret, Move::Cut),
    }
}

fn rescues(metrics: &Metrics, secret: &SecretName) -> RescuesReport {
    RescuesReport {
        unnoticed: metrics.rescues(secret, Rescue::Unnoticed),
        interrupted: metrics.rescues(secret, Rescue::Interrupted),
        lost: metrics.rescues(secret, Rescue::Lost),
    }
}

fn policy_word(policy: SessionsPolicy) -> &'static str {
    match policy {
        SessionsPolicy::Auto => "auto",
        SessionsPolicy::Keep => "keep",
        SessionsPolicy::Move => "move",
        SessionsPolicy::Cut => "cut",
    }
}

fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// To the millisecond.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}
