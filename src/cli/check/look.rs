//! Secrets first, then everything that can be tried with them, then what it means for each role.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::endpoints::{Candidate, Visit, Visited, visit_all};
use super::findings::{
    Findings, LoginFinding, LoginResult, Outcome, RoleFinding, SecretFinding, SecretState, Trouble,
};
use super::listeners;
use super::secrets::{self, ReadSecret};
use crate::config::{Auth, Config, Role};
use crate::names::{Endpoint, RoleName, UpstreamName};
use crate::postgres::Target;
use crate::server::Loaded;

/// Stores that are read, and endpoints that are looked at.
const AT_ONCE: usize = 16;

/// `unseen`: roles whose passwords somebody else brings.
pub(super) async fn look(config: &Config, loaded: Loaded, unseen: &[RoleName]) -> Findings {
    // Before anything takes long: a running pgswivel is asked, too.
    let listeners = listeners::tried(config);
    let read = all(loaded.secrets.into_iter().map(secrets::read)).await;
    let mut groups: BTreeMap<Endpoint, Vec<Visit>> = BTreeMap::new();
    for visit in visits(config, loaded.pools.values().map(|pool| &pool.target), &read) {
        groups.entry(visit.endpoint.clone()).or_default().push(visit);
    }
    let refusals_max = config.limits.refused_logins_per_minute;
    let visited = all(groups.into_values().map(|group| visit_all(group, refusals_max))).await;
    let mut visited: Vec<Visited> = visited.into_iter().flatten().collect();
    visited.sort_by_key(|visited| visited.order);
    let mut endpoints = Vec::new();
    let mut logins = Vec::new();
    for visited in visited {
        endpoints.push(visited.endpoint);
        logins.extend(visited.logins);
    }
    let secrets = described(config, read);
    let roles: Vec<RoleFinding> = config
        .roles
        .values()
        .map(|role| RoleFinding {
            unseen: unseen.contains(&role.name).then(no_password),
            ..judged(role, config, &secrets, &logins)
        })
        .collect();
    let outcomes = roles.iter().map(|role| role.result);
    Findings {
        result: outcomes
            .chain(secrets.iter().map(outcome))
            .chain(
                listeners
                    .iter()
                    .filter_map(|listener| listener.trouble.as_ref())
                    .map(|_| Outcome::Failed),
            )
            .max()
            .unwrap_or(Outcome::Fine),
        roles,
        listeners,
        secrets,
        endpoints,
        logins,
    }
}

/// Runs all, some of them at once. The answers are in the order of the questions.
async fn all<F>(futures: impl Iterator<Item = F>) -> Vec<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let running: Vec<_> = futures
        .map(|future| {
            let turns = Arc::clone(&turns);
            tokio::spawn(async move {
                let _turn = turns.acquire().await;
                future.await
            })
        })
        .collect();
    let mut answers = Vec::new();
    for answer in running {
        match answer.await {
            Ok(answer) => answers.push(answer),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
    answers
}

/// Every endpoint of every upstream, with the credentials of the secrets that its roles use.
fn visits<'a>(
    config: &Config,
    targets: impl Iterator<Item = &'a Arc<Target>>,
    read: &[ReadSecret],
) -> Vec<Visit> {
    let mut visits = Vec::new();
    for target in targets {
        let candidates: Vec<Candidate> = read
            .iter()
            .flat_map(|secret| candidates(config, &target.upstream.name, secret))
            .collect();
        for endpoint in &target.upstream.hosts {
            visits.push(Visit {
                order: visits.len(),
                target: Arc::clone(target),
                endpoint: endpoint.clone(),
                candidates: candidates.clone(),
            });
        }
    }
    visits
}

fn candidates(config: &Config, upstream: &UpstreamName, read: &ReadSecret) -> Vec<Candidate> {
    let users = config.roles.values();
    let users: Vec<&Arc<Role>> = users
        .filter(|role| role.upstream == *upstream && role.secret == read.secret.name)
        .collect();
    if users.is_empty() {
        return Vec::new();
    }
    let mut set_roles: Vec<String> = users.iter().filter_map(|role| role.set_role.clone()).collect();
    set_roles.sort();
    set_roles.dedup();
    let credentials = read.credentials.iter();
    credentials
        .map(|credential| Candidate {
            secret: read.secret.name.clone(),
            source: read.secret.source.clone(),
            credential: credential.clone(),
            set_roles: set_roles.clone(),
        })
        .collect()
}

fn described(config: &Config, mut read: Vec<ReadSecret>) -> Vec<SecretFinding> {
    let secrets = config.secrets.values();
    secrets
        .map(|secret| {
            let found = read.iter().position(|read| read.is(&secret.name));
            match found {
                Some(index) => read.swap_remove(index).finding,
                None => secrets::unused(secret),
            }
        })
        .collect()
}

fn outcome(secret: &SecretFinding) -> Outcome {
    match secret.state {
        SecretState::Read | SecretState::Unused => Outcome::Fine,
        SecretState::Unreachable => Outcome::Unreachable,
        SecretState::Failed => Outcome::Failed,
    }
}

/// A role works when on every endpoint some credential of its secret does all that its sessions need.
fn judged(role: &Role, config: &Config, secrets: &[SecretFinding], logins: &[LoginFinding]) -> RoleFinding {
    let upstream = config.upstreams.get(&role.upstream);
    let secret = secrets
        .iter()
        .find(|secret| secret.secret == role.secret.as_str());
    let mut finding = RoleFinding {
        role: role.name.to_string(),
        auth: match role.auth {
            Auth::Scram(_) => "scram",
            Auth::Trust => "trust",
        },
        upstream: role.upstream.to_string(),
        secret: role.secret.to_string(),
        database: upstream.and_then(|upstream| upstream.database.clone()),
        set_role: role.set_role.clone(),
        result: Outcome::Fine,
        trouble: None,
        unseen: None,
    };
    if let Some(secret) = secret.filter(|secret| secret.state != SecretState::Read) {
        finding.result = outcome(secret);
        finding.trouble = Some(Trouble {
            kind: "secret_unread",
            message: format!("its secret {:?} can't be read", secret.secret),
            advice: "see above".to_owned(),
        });
        return finding;
    }
    for endpoint in upstream
        .map(|upstream| upstream.hosts.as_slice())
        .unwrap_or_default()
    {
        let at = endpoint.to_string();
        let tries = logins.iter().filter(|login| login.endpoint == at);
        let tries: Vec<&LoginFinding> = tries
            .filter(|login| login.upstream == finding.upstream && login.secret == finding.secret)
            .collect();
        let Some((outcome, trouble)) = failure(role, &at, &tries) else {
            continue;
        };
        // The worst of them is the one to see.
        if outcome > finding.result {
            finding.result = outcome;
            finding.trouble = Some(trouble);
        }
    }
    finding
}

/// Why a role can't work on an endpoint where these logins were tried.
fn failure(role: &Role, endpoint: &str, tries: &[&LoginFinding]) -> Option<(Outcome, Trouble)> {
    let becomes = |login: &&&LoginFinding| {
        let wanted = role.set_role.as_ref();
        wanted.is_none_or(|wanted| login.set_roles.iter().any(|set| set.role == *wanted && set.works))
    };
    let accepted: Vec<_> = tries
        .iter()
        .filter(|login| login.result == LoginResult::Accepted)
        .collect();
    if accepted.iter().any(becomes) {
        return None;
    }
    let advice = "see above".to_owned();
    let (outcome, kind, message) = if !accepted.is_empty() {
        let message = format!("no credential that works on {endpoint} can set its role");
        (Outcome::Failed, "set_role", message)
    } else if tries.iter().all(|login| login.result == LoginResult::Unreachable) {
        let message = format!("{endpoint} can't be reached");
        (Outcome::Unreachable, "unreachable", message)
    } else {
        let message = format!("no credential works on {endpoint}");
        (Outcome::Failed, "no_credential_works", message)
    };
    Some((
        outcome,
        Trouble {
            kind,
            message,
            advice,
        },
    ))
}

fn no_password() -> Trouble {
    Trouble {
        kind: "password_unseen",
        message: "its local password can't be seen from here".to_owned(),
        advice:
            "whatever starts `run` has to set PGSWIVEL_PASSWORD or PGSWIVEL_PASSWORD_FILE, as a unit does"
                .to_owned(),
    }
}
