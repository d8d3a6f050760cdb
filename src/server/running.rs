//! Everything that a configuration has set going, and how it becomes what another one wants. Sessions stay.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::Failure;
use super::doors::{Accept, Doors, is_exposed};
use super::fleet::{Fleet, Surroundings};
use super::keepers::Keepers;
use super::limits;
use super::loaded::{Connections, Loaded, Pools};
use crate::access::leave::Policy;
use crate::admin::Active;
use crate::config::{Auth, Config, Problem, Problems};
use crate::keeper::Records;
use crate::limit::Limit;
use crate::net::Peer;
use crate::net::listen::{BindError, Bound, Passed, bind};
use crate::net::tls::ServerTls;
use crate::postgres::{Credentials, Service, Shared};
use crate::stores::DigestKey;

pub struct Running {
    shared: Shared,
    digests: DigestKey,
    passed: Passed,
    keepers: Keepers,
    connections: Connections,
    doors: Doors,
    places: Arc<Limit>,
    service: watch::Sender<Arc<Service>>,
    active: watch::Sender<Arc<Active>>,
    records: Records,
    fleet: Option<Fleet>,
}

impl Running {
    /// Nobody is let in before everything is there.
    pub async fn open(
        mut config: Config,
        shared: Shared,
        records: &Records,
        passed: Passed,
        sessions: TaskTracker,
    ) -> Result<Self, Failure> {
        limits::fit_open_files(&mut config);
        shared.set_limits(&config.limits);
        let (config, digests) = (Arc::new(config), DigestKey::random());
        let loaded = load(&config, &digests, &Connections::new()).await?;
        let bound = bind(&config.listen.addresses, &passed, &[]).await?;
        check_exposure(&config, &bound)?;
        let mut keepers = Keepers::none(shared.clone(), records.clone());
        keepers.change(loaded.secrets, config.login);
        let active = active(config, &keepers);
        let connections = connections_of(&loaded.pools);
        let service = assemble(&active, loaded.tls, loaded.pools, &shared).await;
        let (active, service) = (Arc::new(active), service.open());
        let fleet = fleet_of(&active, &service, &shared, records);
        let service = watch::Sender::new(service);
        let accept = Accept {
            sessions,
            places: Limit::new(limits::places(&active.config.limits)),
            numbers: Arc::new(AtomicU64::new(1)),
            service: service.subscribe(),
            metrics: Arc::clone(&records.metrics),
        };
        let places = Arc::clone(&accept.places);
        let mut doors = Doors::none(accept);
        doors.change(bound);
        Ok(Self {
            shared,
            digests,
            passed,
            keepers,
            connections,
            doors,
            places,
            service,
            active: watch::Sender::new(active),
            records: records.clone(),
            fleet,
        })
    }

    /// All of it, or nothing and why not.
    pub async fn change(&mut self, mut config: Config) -> Result<(), Problems> {
        limits::fit_open_files(&mut config);
        let config = Arc::new(config);
        let loaded = load(&config, &self.digests, &self.connections).await?;
        let bound = self.bind(&config).await?;
        check_exposure(&config, &bound)?;
        self.set_limits(&config);
        self.keepers.change(loaded.secrets, config.login);
        let active = active(config, &self.keepers);
        self.remember_connections(&loaded.pools);
        let service = assemble(&active, loaded.tls, loaded.pools, &self.shared).await;
        let (active, service) = (Arc::new(active), service.open());
        self.fleet = fleet_of(&active, &service, &self.shared, &self.records);
        self.service.send_replace(service);
        self.keepers.announce(active.config.login);
        self.doors.change(bound);
        self.active.send_replace(active);
        Ok(())
    }

    pub fn refresh(&self) {
        self.keepers.refresh();
    }

    /// What is in use.
    pub fn active(&self) -> watch::Receiver<Arc<Active>> {
        self.active.subscribe()
    }

    async fn bind(&self, config: &Config) -> Result<Bound, Problems> {
        let held = self.doors.held();
        match bind(&config.listen.addresses, &self.passed, &held).await {
            Ok(bound) => Ok(bound),
            Err(error @ BindError::Overlaps { .. }) => {
                warn!(keys = "listen.address", %error, "a change needs a restart");
                Ok(Bound {
                    fresh: Vec::new(),
                    kept: held,
                })
            }
            Err(error) => Err(address_problem(error.to_string())),
        }
    }

    fn set_limits(&self, config: &Config) {
        self.shared.set_limits(&config.limits);
        self.places.set(limits::places(&config.limits));
    }

    /// Who is on an upstream that is gone counts if it comes back.
    fn remember_connections(&mut self, pools: &Pools) {
        self.connections.retain(|_, open| Arc::strong_count(open) > 1);
        self.connections.extend(connections_of(pools));
        for (name, pool) in pools {
            if let Some(open) = self.connections.get(name) {
                open.set(pool.target.upstream.connections_max);
            }
        }
    }
}

fn active(config: Arc<Config>, keepers: &Keepers) -> Active {
    Active {
        tell_fleet: config.fleet.as_ref().map(|_| Arc::default()),
        config,
        keepers: keepers.handles(),
    }
}

fn fleet_of(active: &Arc<Active>, service: &Service, shared: &Shared, records: &Records) -> Option<Fleet> {
    let (fleet, told) = (active.config.fleet.as_ref()?, active.tell_fleet.as_ref()?);
    let around = Surroundings {
        active: Arc::clone(active),
        databases: service.databases(),
        roster: Arc::clone(shared.roster()),
        metrics: Arc::clone(&records.metrics),
    };
    Some(Fleet::begin(fleet, around, told))
}

fn connections_of(pools: &Pools) -> Connections {
    (pools.iter())
        .map(|(name, pool)| (name.clone(), Arc::clone(&pool.connections)))
        .collect()
}

async fn load(
    config: &Arc<Config>,
    digests: &DigestKey,
    connections: &Connections,
) -> Result<Loaded, Problems> {
    let (config, digests, connections) = (Arc::clone(config), digests.clone(), connections.clone());
    let loading = spawn_blocking(move || Loaded::load(&config, &digests, &connections));
    loading
        .await
        .expect("reading files does not panic, and nobody cancels it")
}

/// A role's password is made into a verifier, which takes its time.
async fn assemble(active: &Active, tls: Option<ServerTls>, pools: Pools, shared: &Shared) -> Service {
    let (config, keepers) = (Arc::clone(&active.config), active.keepers.clone());
    let shared = shared.clone();
    let assembling = spawn_blocking(move || {
        let mut service = Service::new(&config.listen, tls, config.limits, shared);
        for role in config.roles.values() {
            let (Some(pool), Some(keeper), Some(secret)) = (
                pools.get(&role.upstream),
                keepers.get(&role.secret),
                config.secrets.get(&role.secret),
            ) else {
                continue;
            };
            let credentials = Credentials {
                page: keeper.page.clone(),
                verdicts: Arc::clone(&keeper.verdicts),
                patience: config.login.patience,
                policy: Policy {
                    sessions: secret.sessions,
                    grace: secret.grace,
                },
            };
            service.add(Arc::clone(role), Arc::clone(pool), credentials);
        }
        service
    });
    assembling
        .await
        .expect("deriving keys does not panic, and nobody cancels it")
}

/// What is written is checked where it is read; where systemd listens, and what names stand for, is known here.
fn check_exposure(config: &Config, bound: &Bound) -> Result<(), Problems> {
    let mut wanted = (bound.fresh.iter().map(|listener| listener.at())).chain(&bound.kept);
    let Some(exposed) = wanted.find(|at| is_exposed(at)) else {
        return Ok(());
    };
    if config.listen.tls.is_none() && !config.listen.insecure {
        let message = "set listen.tls, or listen.insecure = true to go without";
        return Err(exposure_problem(exposed, message));
    }
    if config.roles.values().any(|role| role.auth == Auth::Trust) {
        return Err(exposure_problem(
            exposed,
            "trust is only for loopback and Unix listeners",
        ));
    }
    Ok(())
}

fn exposure_problem(exposed: &Peer, message: &str) -> Problems {
    address_problem(format!("others can reach {exposed}: {message}"))
}

fn address_problem(message: String) -> Problems {
    Problems::from(vec![Problem {
        path: "listen.address".to_owned(),
        message,
    }])
}
