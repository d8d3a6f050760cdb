//! The orchestrator of rotations: a client of stores, of Postgres and of running pgswivels, and never of the proxy's
//! insides. Whatever it needs to know it asks anew: no state of its own outlives it.

pub mod age;
mod database;
pub mod gate;
pub mod password;
mod sidecar;

use std::sync::Arc;

pub use self::database::{Backend, DatabaseError, Server, Session};
pub use self::sidecar::{Answer, SidecarError, Sidecars};
use crate::config::{Config, Problem, Problems, Rotation, Secret};
use crate::credentials::Credential;
use crate::names::Endpoint;
use crate::stores::{self, DigestKey, Reading, Store, StoreError, Surroundings};

/// A rotation with everything that it asks, made ready: files are read, nothing is dialled yet.
pub struct Opened {
    pub rotation: Arc<Rotation>,
    secret: Box<dyn Store>,
    admin: Box<dyn Store>,
    /// Every endpoint of every upstream, once.
    pub servers: Vec<Server>,
    pub sidecars: Sidecars,
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
        let digests = DigestKey::random();
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
        let secret = open(&config.secrets[&rotation.secret]);
        let admin = open(&config.secrets[&rotation.admin]);
        match (secret, admin) {
            (Some(secret), Some(admin)) if problems.is_empty() => Ok(Self {
                rotation: Arc::clone(rotation),
                secret,
                admin,
                servers,
                sidecars: Sidecars::new(rotation.sidecars.clone(), config.admin.token.clone()),
            }),
            _ => Err(Problems::from(problems)),
        }
    }

    async fn read_secret(&mut self) -> Result<Reading, StoreError> {
        stores::read(&mut *self.secret).await
    }

    /// Whoever may look at the servers, by the store's own order.
    async fn read_admin(&mut self) -> Result<Vec<Credential>, StoreError> {
        Ok(stores::read(&mut *self.admin).await?.credentials)
    }
}
