//! The Postgres wing. The only door is [`serve`].

mod auth;
mod cancel;
mod errors;
mod links;
pub mod login;
mod relay;
mod session;
mod startup;
mod talk;
pub mod wire;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use crate::config::{Auth, Limits, Role};
use crate::credentials::{Page, Verdicts};
use crate::names::RoleName;
use crate::net::Socket;
use crate::net::tls::ServerTls;
use cancel::Cancels;
use login::Target;
use wire::opening::Startup;
use wire::scram::server::{SaltSecret, Verifier};

/// A connection that a listener accepted.
#[derive(Debug)]
pub struct Client {
    pub socket: Socket,
    /// Names its session in the log.
    pub id: u64,
    /// The listener can be reached from elsewhere.
    pub must_encrypt: bool,
}

/// What a role is mapped to.
pub struct Mapping {
    pub role: Arc<Role>,
    pub target: Arc<Target>,
    pub page: watch::Receiver<Arc<Page>>,
    pub verdicts: Arc<dyn Verdicts>,
    /// The upstream's `connections_max`, shared by all roles that use it.
    pub connections: Arc<Semaphore>,
    pub queue_wait: Duration,
    /// None: `trust`.
    verifier: Option<Arc<Verifier>>,
}

/// What all sessions of one configuration share.
pub struct Wing {
    mappings: BTreeMap<RoleName, Arc<Mapping>>,
    tls: Option<ServerTls>,
    limits: Limits,
    scram_iterations: NonZeroU32,
    salts: SaltSecret,
    cancels: Arc<Cancels>,
    startups: Semaphore,
    seats: Arc<Semaphore>,
    /// True: sessions end now.
    stop: watch::Receiver<bool>,
}

/// The door: one client, from accept to close.
pub async fn serve(client: Client, wing: Arc<Wing>) {
    session::run(client, wing).await;
}
