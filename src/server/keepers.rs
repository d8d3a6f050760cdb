//! The keepers of the secrets that some role uses, and how a changed configuration changes them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::loaded::OpenSecret;
use super::story;
use crate::access::log_in::AttemptError;
use crate::config::{LoginPolicy, Secret};
use crate::credentials::{Credential, Verdicts};
use crate::keeper::{self, Policy, ProofError, Prove, Records, Turns};
use crate::metrics::Task;
use crate::names::{Endpoint, SecretName};
use crate::postgres::{self, Proof, Shared, Target};
use crate::stores::DigestKey;
use crate::supervise::supervise;

/// The upstreams that a secret opens.
type Users = Vec<Arc<Target>>;

pub struct Keepers {
    shared: Shared,
    records: Records,
    turns: Arc<Turns>,
    kept: BTreeMap<SecretName, RunningKeeper>,
}

struct RunningKeeper {
    keeper: keeper::Handle,
    secret: Arc<Secret>,
    endpoints: Vec<Endpoint>,
    digests: DigestKey,
    users: watch::Sender<Users>,
    _story: AbortOnDropHandle<()>,
}

impl Keepers {
    pub fn none(shared: Shared, records: Records) -> Self {
        Self {
            shared,
            records,
            turns: Arc::default(),
            kept: BTreeMap::new(),
        }
    }

    /// Starts those that are new and lets those go that are not used any more: they run on until the last session goes
    /// that began with them. A secret that is read elsewhere keeps its keeper, with all that is known.
    pub fn change(&mut self, secrets: Vec<OpenSecret>, login: LoginPolicy) {
        let mut before = std::mem::take(&mut self.kept);
        for open in secrets {
            let name = open.secret.name.clone();
            let kept = match before.remove(&name) {
                Some(kept) => kept.reopened(open),
                None => {
                    let policy = self.policy(open.endpoints(), login);
                    RunningKeeper::start(open, policy, &self.shared, &self.records)
                }
            };
            self.kept.insert(name, kept);
        }
    }

    /// To be called when new sessions go by the new configuration: those there are look at it again.
    pub fn announce(&self, login: LoginPolicy) {
        for kept in self.kept.values() {
            let policy = self.policy(kept.endpoints.clone(), login);
            kept.keeper.change(policy, &kept.secret);
        }
    }

    pub fn refresh(&self) {
        self.kept.values().for_each(|kept| kept.keeper.refresh());
    }

    fn policy(&self, endpoints: Vec<Endpoint>, login: LoginPolicy) -> Policy {
        Policy {
            endpoints,
            refused_retry: login.refused_retry,
            turns: Arc::clone(&self.turns),
        }
    }

    pub fn handles(&self) -> BTreeMap<SecretName, keeper::Handle> {
        let handle = |(name, kept): (&SecretName, &RunningKeeper)| (name.clone(), kept.keeper.clone());
        self.kept.iter().map(handle).collect()
    }
}

impl RunningKeeper {
    fn start(open: OpenSecret, policy: Policy, shared: &Shared, records: &Records) -> Self {
        let endpoints = open.endpoints();
        let users = watch::Sender::new(open.users);
        let name = &open.secret.name;
        records.metrics.begin_secret(name);
        let prove = prover(name.clone(), users.subscribe(), shared.clone());
        let keeper = keeper::start(&open.secret, open.store, prove, policy, records.clone());
        let (page, roster) = (keeper.page.clone(), Arc::clone(shared.roster()));
        let name = name.clone();
        let story = supervise(Task::Story, Arc::clone(&records.metrics), async move || {
            story::tell(name.clone(), page.clone(), Arc::clone(&roster)).await;
        });
        Self {
            keeper,
            secret: open.secret,
            endpoints,
            digests: open.digests,
            users,
            _story: AbortOnDropHandle::new(tokio::spawn(story)),
        }
    }

    fn reopened(self, open: OpenSecret) -> Self {
        let endpoints = open.endpoints();
        let (before, after) = (&self.secret, &open.secret);
        let is_elsewhere = before.source != after.source
            || before.fields != after.fields
            || !self.digests.is_same(&open.digests)
            || after.source.names_its_endpoints() && self.endpoints != endpoints;
        if is_elsewhere {
            self.keeper.read_from(after, open.store);
        }
        self.users.send_replace(open.users);
        Self {
            secret: open.secret,
            endpoints,
            digests: open.digests,
            ..self
        }
    }
}

/// A real login to an endpoint of any of these upstreams.
fn prover(secret: SecretName, users: watch::Receiver<Users>, shared: Shared) -> Prove {
    Arc::new(
        move |credential: Credential, endpoint: Endpoint, verdicts: Arc<dyn Verdicts>| {
            let (secret, users, shared) = (secret.clone(), users.borrow().clone(), shared.clone());
            Box::pin(async move {
                let mut targets = users.iter();
                // A configuration that no longer names the endpoint no longer asks about it either.
                let owner = targets.find(|target| target.upstream.hosts.contains(&endpoint));
                let target = owner.ok_or(ProofError::LeftToOthers)?;
                let proof = Proof {
                    target,
                    secret: &secret,
                    credential: &credential,
                    endpoint: &endpoint,
                };
                match postgres::prove(&shared, proof, &*verdicts).await {
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
