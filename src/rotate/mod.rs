//! The orchestrator of rotations: a client of stores, of Postgres and of running pgswivels, and never of the proxy's
//! insides. Whatever it needs to know it asks anew: no state of its own outlives it.

pub mod age;
mod database;
mod evidence;
pub mod facts;
mod fleet;
pub mod gate;
mod outcome;
pub mod password;
pub mod plan;
pub mod run;
mod sidecar;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use self::database::{Backend, DatabaseError, Server, Session};
pub use self::fleet::Fleet;
pub use self::sidecar::{Answer, SidecarError, Sidecars};
use crate::config::{Config, Problem, Problems, Rotation, Secret};
use crate::credentials::Credential;
use crate::names::Endpoint;
use crate::stores::{self, DigestKey, Reading, Store, StoreError, Surroundings, WritableStore};

/// A rotation with everything that it asks, made ready: files are read, nothing is dialled yet.
pub struct Opened {
    pub rotation: Arc<Rotation>,
    secret: Box<dyn Store>,
    admin: Box<dyn Store>,
    /// Every endpoint of every upstream, once.
    pub servers: Vec<Server>,
    pub sidecars: Sidecars,
    /// Those that say themselves where they are.
    pub fleet: Option<Fleet>,
    /// What its sessions are called on the servers.
    application: Arc<str>,
}

impl Opened {
    /// All of it, or everything that is wrong with the files and places that it names.
    pub fn load(config: &Config, rotation: &Arc<Rotation>) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let mut servers: Vec<Server> = Vec::new();
        for name in &rotation.upstreams {
            match Server::all(&config.upstreams[name]) {
                Ok(found) => servers.extend(found),
                Err(error) => problems.push(Problem {
                    path: format!("upstream.{name}.tls"),
                    message: error.to_string(),
                }),
            }
        }
        let mut known: Vec<Endpoint> = Vec::new();
        servers.retain(|server| {
            let is_new = !known.contains(&server.endpoint);
            known.push(server.endpoint.clone());
            is_new
        });
        known.sort();
        known.dedup();
        let application = application(rotation);
        for server in &mut servers {
            server.application = Arc::clone(&application);
        }
        let shared = config.version_key(&rotation.secret).map(DigestKey::shared);
        let secret = &config.secrets[&rotation.secret];
        let fleet = Fleet::of(rotation.fleet.as_ref(), secret, shared.is_some());
        let digests = shared.unwrap_or_else(DigestKey::random);
        let mut open = |secret: &Secret| {
            let around = Surroundings {
                endpoints: &known,
                digests: &digests,
            };
            stores::open(secret, around)
                .map_err(|error| {
                    problems.push(Problem {
                        path: format!("secret.{}", secret.name),
                        message: error.to_string(),
                    });
                })
                .ok()
        };
        let secret = open(secret);
        let admin = open(&config.secrets[&rotation.admin]);
        match (secret, admin) {
            (Some(secret), Some(admin)) if problems.is_empty() => Ok(Self {
                rotation: Arc::clone(rotation),
                secret,
                admin,
                servers,
                sidecars: Sidecars::new(rotation.sidecars.clone(), config.admin.token.clone()),
                fleet,
                application,
            }),
            _ => Err(Problems::from(problems)),
        }
    }

    /// The secret as something that can be written, or why it can't.
    pub fn open_store(&self, config: &Config) -> Result<Box<dyn WritableStore>, StoreError> {
        stores::open_writable(&config.secrets[&self.rotation.secret], &DigestKey::random())
    }

    /// How old the store says the current credential is.
    pub async fn age(&mut self) -> Result<Option<Duration>, StoreError> {
        let reading = self.read_secret().await?;
        let current = &reading.credentials[0];
        let made = reading.made.iter().find(|made| made.version == current.version);
        Ok(made.map(|made| SystemTime::now().duration_since(made.at).unwrap_or_default()))
    }

    async fn read_secret(&mut self) -> Result<Reading, StoreError> {
        stores::read(&mut *self.secret).await
    }

    /// Whoever may look at the servers, by the store's own order.
    async fn read_admin(&mut self) -> Result<Vec<Credential>, StoreError> {
        Ok(stores::read(&mut *self.admin).await?.credentials)
    }
}

/// Within the 63 bytes that a server keeps of it.
fn application(rotation: &Rotation) -> Arc<str> {
    let host: String = evidence::host().chars().take(20).collect();
    let name = format!("pgswivel rotate {} {host}:{}", rotation.name, std::process::id());
    name.chars()
        .filter(char::is_ascii)
        .take(63)
        .collect::<String>()
        .into()
}
