//! Turns the parts of a configuration into what runs: a keeper a secret, a mapping a role.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::parts::{OpenSecret, Parts};
use crate::config::Config;
use crate::credentials::{Credential, Verdicts};
use crate::keeper::{self, Policy, ProofError, Prove, Records};
use crate::names::{Endpoint, SecretName};
use crate::postgres::{self, AttemptError, Credentials, Lobby, Proof, Target, Wing};

pub struct Assembly {
    pub wing: Wing,
    pub keepers: BTreeMap<SecretName, keeper::Handle>,
}

pub fn assemble(config: &Config, parts: Parts, lobby: Lobby, records: &Records) -> Assembly {
    let keepers: BTreeMap<_, _> = parts
        .secrets
        .into_iter()
        .map(|open| {
            (
                open.secret.name.clone(),
                keep(open, config, &lobby, records.clone()),
            )
        })
        .collect();
    let mut wing = Wing::new(&config.listen, parts.tls, config.limits, lobby);
    for role in config.roles.values() {
        let (Some(target), Some(keeper)) = (parts.targets.get(&role.upstream), keepers.get(&role.secret))
        else {
            continue;
        };
        let Some(secret) = config.secrets.get(&role.secret) else {
            continue;
        };
        let credentials = Credentials {
            page: keeper.page.clone(),
            verdicts: Arc::clone(&keeper.verdicts),
            patience: config.login.patience,
            policy: postgres::Policy {
                sessions: secret.sessions,
                grace: secret.grace,
            },
        };
        wing.add(Arc::clone(role), Arc::clone(target), credentials);
    }
    Assembly { wing, keepers }
}

fn keep(open: OpenSecret, config: &Config, lobby: &Lobby, records: Records) -> keeper::Handle {
    let policy = Policy {
        endpoints: open.endpoints(),
        refused_retry: config.login.refused_retry,
    };
    records.metrics.begin_secret(&open.secret.name);
    let prove = prover(open.secret.name.clone(), open.users, lobby.clone());
    keeper::start(&open.secret, open.store, prove, policy, records)
}

/// A real login to an endpoint of any of these upstreams.
fn prover(secret: SecretName, users: Vec<Arc<Target>>, lobby: Lobby) -> Prove {
    let shared = Arc::new((secret, users, lobby));
    Arc::new(
        move |credential: Credential, endpoint: Endpoint, verdicts: Arc<dyn Verdicts>| {
            let shared = Arc::clone(&shared);
            Box::pin(async move {
                let (secret, users, lobby) = &*shared;
                let mut targets = users.iter();
                // A configuration that no longer names the endpoint no longer asks about it either.
                let owner = targets.find(|target| target.upstream.hosts.contains(&endpoint));
                let target = owner.ok_or(ProofError::LeftToOthers)?;
                let proof = Proof {
                    target,
                    secret,
                    credential: &credential,
                    endpoint: &endpoint,
                };
                match postgres::prove(lobby, proof, &*verdicts).await {
                    None => Err(ProofError::LeftToOthers),
                    Some(Ok(())) => Ok(()),
                    Some(Err(AttemptError::Refused(refusal, _))) => Err(ProofError::Refused(refusal)),
                    Some(Err(AttemptError::NotYet(error))) => Err(ProofError::Unreachable(Arc::new(error))),
                    Some(Err(AttemptError::Fatal {
                        authenticated: true, ..
                    })) => Ok(()),
                    Some(Err(AttemptError::Fatal { error, .. })) => {
                        Err(ProofError::Unrelated(Arc::new(error)))
                    }
                }
            })
        },
    )
}
