//! Everything that a configuration has set going, and how it becomes what another one wants. Sessions stay.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::Failure;
use super::doors::{Doors, Hall, is_exposed};
use super::fleet::{Fleet, Surroundings};
use super::keepers::Keepers;
use super::limits;
use super::parts::{Connections, Parts, Pools};
use crate::access::leave::Policy;
use crate::admin::Scene;
use crate::config::{Auth, Config, Problem, Problems};
use crate::keeper::Records;
use crate::limit::Limit;
use crate::net::Peer;
use crate::net::listen::{BindError, Bound, Passed, bind};
use crate::net::tls::ServerTls;
use crate::postgres::{Credentials, Service, Shared};
use crate::stores::DigestKey;

pub struct House {
    shared: Shared,
    digests: DigestKey,
    passed: Passed,
    keepers: Keepers,
    connections: Connections,
    doors: Doors,
    places: Arc<Limit>,
    service: watch::Sender<Arc<Service>>,
    scene: watch::Sender<Arc<Scene>>,
    records: Records,
    fleet: Option<Fleet>,
}

impl House {
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
        let parts = load(&config, &digests, &Connections::new()).await?;
        let bound = bind(&config.listen.addresses, &passed, &[]).await?;
        check_exposure(&config, &bound)?;
        let mut keepers = Keepers::none(shared.clone(), records.clone());
        keepers.change(parts.secrets, config.login);
        let scene = scene(config, &keepers);
        let connections = connections_of(&parts.pools);
        let service = assemble(&scene, parts.tls, parts.pools, &shared).await;
        let (scene, service) = (Arc::new(scene), service.open());
        let fleet = fleet_of(&scene, &service, &shared, records);
        let service = watch::Sender::new(service);
        let hall = Hall {
            sessions,
            places: Limit::new(limits::places(&scene.config.limits)),
            numbers: Arc::new(AtomicU64::new(1)),
            service: service.subscribe(),
            metrics: Arc::clone(&records.metrics),
        };
        let places = Arc::clone(&hall.places);
        let mut doors = Doors::none(hall);
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
            scene: watch::Sender::new(scene),
            records: records.clone(),
            fleet,
        })
    }

    /// All of it, or nothing and why not.
    pub async fn change(&mut self, mut config: Config) -> Result<(), Problems> {
        limits::fit_open_files(&mut config);
        let config = Arc::new(config);
        let parts = load(&config, &self.digests, &self.connections).await?;
        let bound = self.bind(&config).await?;
        check_exposure(&config, &bound)?;
        self.set_limits(&config);
        self.keepers.change(parts.secrets, config.login);
        let scene = scene(config, &self.keepers);
        self.remember_connections(&parts.pools);
        let service = assemble(&scene, parts.tls, parts.pools, &self.shared).await;
        let (scene, service) = (Arc::new(scene), service.open());
        self.fleet = fleet_of(&scene, &service, &self.shared, &self.records);
        self.service.send_replace(service);
        self.keepers.announce(scene.config.login);
        self.doors.change(bound);
        self.scene.send_replace(scene);
        Ok(())
    }

    pub fn refresh(&self) {
        self.keepers.refresh();
    }

    /// What is in use.
    pub fn scene(&self) -> watch::Receiver<Arc<Scene>> {
        self.scene.subscribe()
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

fn scene(config: Arc<Config>, keepers: &Keepers) -> Scene {
    Scene {
        tell_fleet: config.fleet.as_ref().map(|_| Arc::default()),
        config,
        keepers: keepers.handles(),
    }
}

fn fleet_of(scene: &Arc<Scene>, service: &Service, shared: &Shared, records: &Records) -> Option<Fleet> {
    let (fleet, told) = (scene.config.fleet.as_ref()?, scene.tell_fleet.as_ref()?);
    let around = Surroundings {
        scene: Arc::clone(scene),
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
) -> Result<Parts, Problems> {
    let (config, digests, connections) = (Arc::clone(config), digests.clone(), connections.clone());
    let loading = spawn_blocking(move || Parts::load(&config, &digests, &connections));
    loading
        .await
        .expect("reading files does not panic, and nobody cancels it")
}

/// A role's password is made into a verifier, which takes its time.
async fn assemble(scene: &Scene, tls: Option<ServerTls>, pools: Pools, shared: &Shared) -> Service {
    let (config, keepers) = (Arc::clone(&scene.config), scene.keepers.clone());
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
