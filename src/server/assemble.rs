//! Turns a configuration into what runs: a target an upstream, a keeper a secret, a mapping a role.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::{debug, warn};

use super::Failure;
use crate::config::{Config, Secret, Upstream};
use crate::credentials::{Credential, Verdicts};
use crate::keeper::{self, Policy, ProofError, Prove};
use crate::names::{Endpoint, SecretName, UpstreamName};
use crate::net::tls::ServerTls;
use crate::postgres::{self, AttemptError, Credentials, Lobby, Target, Wing};
use crate::stores::{self, DigestKey, Surroundings};

pub struct Assembly {
    pub wing: Wing,
    pub keepers: BTreeMap<SecretName, keeper::Handle>,
}

type Targets = BTreeMap<UpstreamName, Arc<Target>>;

pub fn assemble(config: &Config, lobby: Lobby, digests: &DigestKey) -> Result<Assembly, Failure> {
    let tls = config.listen.tls.as_ref().map(ServerTls::load).transpose();
    let tls = tls.map_err(Failure::ListenTls)?;
    let targets = config
        .upstreams
        .values()
        .map(|upstream| Ok((upstream.name.clone(), Arc::new(target(upstream)?))))
        .collect::<Result<Targets, Failure>>()?;
    let mut keepers = BTreeMap::new();
    for secret in config.secrets.values() {
        let users = targets_of(&secret.name, config, &targets);
        // A secret that no role uses is not read: reading may cost money, and make leases.
        if !users.is_empty() {
            keepers.insert(secret.name.clone(), keep(secret, users, config, &lobby, digests)?);
        }
    }
    let mut wing = Wing::new(&config.listen, tls, config.limits, lobby);
    for role in config.roles.values() {
        let (Some(target), Some(keeper)) = (targets.get(&role.upstream), keepers.get(&role.secret)) else {
            continue;
        };
        let credentials = Credentials {
            page: keeper.page.clone(),
            verdicts: Arc::clone(&keeper.verdicts),
            patience: config.login.patience,
        };
        wing.add(Arc::clone(role), Arc::clone(target), credentials);
    }
    Ok(Assembly { wing, keepers })
}

fn target(upstream: &Arc<Upstream>) -> Result<Target, Failure> {
    let target = Target::load(Arc::clone(upstream)).map_err(|source| Failure::UpstreamTls {
        upstream: upstream.name.to_string(),
        source,
    })?;
    match target.tls.roots_skipped() {
        0 => {}
        skipped => {
            warn!(upstream = %upstream.name, skipped, "some root certificates can't be read and do not count")
        }
    }
    Ok(target)
}

/// The upstreams that a secret opens.
fn targets_of(secret: &SecretName, config: &Config, targets: &Targets) -> Vec<Arc<Target>> {
    let mut names: Vec<&UpstreamName> = config
        .roles
        .values()
        .filter(|role| role.secret == *secret)
        .map(|role| &role.upstream)
        .collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .filter_map(|name| targets.get(name))
        .cloned()
        .collect()
}

fn keep(
    secret: &Arc<Secret>,
    users: Vec<Arc<Target>>,
    config: &Config,
    lobby: &Lobby,
    digests: &DigestKey,
) -> Result<keeper::Handle, Failure> {
    let endpoints: Vec<Endpoint> = users
        .iter()
        .flat_map(|target| target.upstream.hosts.clone())
        .collect();
    let around = Surroundings {
        endpoints: &endpoints,
        digests,
    };
    let store = stores::open(secret, around).map_err(|source| Failure::Store {
        secret: secret.name.to_string(),
        source,
    })?;
    let policy = Policy {
        endpoints,
        refused_retry: config.login.refused_retry,
    };
    Ok(keeper::start(secret, store, prover(users, lobby.clone()), policy))
}

/// A real login to an endpoint of any of these upstreams.
fn prover(users: Vec<Arc<Target>>, lobby: Lobby) -> Prove {
    let shared = Arc::new((users, lobby));
    Arc::new(
        move |credential: Credential, endpoint: Endpoint, verdicts: Arc<dyn Verdicts>| {
            let shared = Arc::clone(&shared);
            Box::pin(async move {
                let (users, lobby) = &*shared;
                let owner = users
                    .iter()
                    .find(|target| target.upstream.hosts.contains(&endpoint));
                let target = owner.ok_or(ProofError::Unrelated)?;
                match postgres::prove(lobby, target, &*verdicts, &credential, &endpoint).await {
                    Some(Ok(())) => Ok(()),
                    Some(Err(AttemptError::Fatal {
                        authenticated: true, ..
                    })) => Ok(()),
                    Some(Err(AttemptError::Refused(refusal, _))) => Err(ProofError::Refused(refusal)),
                    Some(Err(AttemptError::NotYet(error))) => {
                        debug!(%endpoint, %error, "a credential can't be proven yet");
                        Err(ProofError::Unreachable)
                    }
                    Some(Err(AttemptError::Fatal { error, .. })) => {
                        warn!(%endpoint, %error, "a credential can't be proven");
                        Err(ProofError::Unrelated)
                    }
                    None => Err(ProofError::Unrelated),
                }
            })
        },
    )
}
