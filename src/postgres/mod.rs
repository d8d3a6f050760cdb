//! Postgres: clients and their sessions, links to servers, and what goes between. The only door is [`serve`].
//!
//! Its floors, from the top down; whoever is on one may import what is on a lower one, and `tests/floor_plan.rs` sees to
//! it: session · client · service · link · relay and talk · state · wire.

mod client;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod link;
mod relay;
mod service;
mod session;
mod state;
mod talk;
#[cfg(test)]
mod tests;
pub mod wire;

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::access::log_in::{self, AttemptError};
use crate::credentials::{Credential, Verdicts};
use crate::limit::Permit;
use crate::names::{Endpoint, SecretName};
pub use client::Client;
pub use link::examine::{Admission, Examination, Reached, database, examine};
pub use link::fleet_link::{FleetLink, FleetLinkError, ServedDatabase};
pub use link::login_error::LoginError;
pub use link::pool::Pool;
pub use link::target::Target;
pub use service::{Credentials, Service, Shared};

/// Serves one accepted connection. A session is a task of its own: nothing of how it began stays in memory, and
/// little code stands between its sockets and what it does with them.
pub async fn serve(client: Client, service: Arc<Service>, admission: Permit, tasks: TaskTracker) {
    if let Some(session) = session::begin::begin(client, service).await {
        tasks.spawn(session.run(admission));
    }
}

/// What is to be proven, and where.
#[derive(Clone, Copy)]
pub struct Proof<'a> {
    pub target: &'a Target,
    pub secret: &'a SecretName,
    pub credential: &'a Credential,
    pub endpoint: &'a Endpoint,
}

/// Proves a credential by a real login, and reports the verdict. None: somebody else's login told, or will.
pub async fn prove(
    shared: &Shared,
    proof: Proof<'_>,
    verdicts: &dyn Verdicts,
) -> Option<Result<(), AttemptError<LoginError>>> {
    let Proof {
        target,
        secret,
        credential,
        endpoint,
    } = proof;
    let attempt = async {
        let registration = shared.roster().enter(secret, &target.upstream.name, credential);
        let proof = link::examine::prove(target, endpoint, credential).await;
        link::arrival::count(&shared.metrics, secret, credential, &proof);
        let link = proof.map_err(AttemptError::from)?;
        // What a proof says does not wait for its backend's end.
        tokio::spawn(link::farewell::leave(link.stream, registration));
        Ok(())
    };
    log_in::prove(&shared.gates, verdicts, credential, endpoint, attempt).await
}
