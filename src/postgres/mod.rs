//! The Postgres wing. The only door is [`serve`].

mod arrival;
mod auth;
mod begin;
mod bell;
mod cancel;
mod close;
mod complaints;
mod crossing;
mod ending;
mod entry;
mod examine;
mod exchange;
mod farewell;
mod fleet_link;
mod held;
mod known;
mod lane;
mod learn;
mod leaving;
mod ledger;
mod login;
mod login_error;
mod moving;
mod no_link;
mod notes;
mod obtain;
mod pool;
mod rebuilding;
mod refusal;
mod relay;
mod replay;
mod rescue;
mod risky_names;
mod run;
mod scram_keys;
mod seldom;
mod service;
mod startup;
mod survey;
mod talk;
mod target;
#[cfg(test)]
mod tests;
mod warm;
mod way;
pub mod wire;

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::access::log_in::{self, AttemptError};
use crate::credentials::{Credential, Verdicts};
use crate::limit::Permit;
use crate::names::{Endpoint, SecretName};
use crate::net::Socket;
pub use examine::{Admission, Examination, Reached, database, examine};
pub use fleet_link::{FleetLink, FleetLinkError, ServedDatabase};
pub use login_error::LoginError;
pub use pool::Pool;
pub use service::{Credentials, Service, Shared};
pub use target::Target;

/// A connection that a listener accepted.
#[derive(Debug)]
pub struct Client {
    pub socket: Socket,
    /// Names its session in the log.
    pub id: u64,
    /// The listener can be reached from elsewhere.
    pub must_encrypt: bool,
}

/// Serves one accepted connection. A session is a task of its own: nothing of how it began stays in memory, and
/// little code stands between its sockets and what it does with them.
pub async fn serve(client: Client, service: Arc<Service>, admission: Permit, tasks: TaskTracker) {
    if let Some(session) = begin::begin(client, service).await {
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
        let proof = examine::prove(target, endpoint, credential).await;
        arrival::count(&shared.metrics, secret, credential, &proof);
        let link = proof.map_err(AttemptError::from)?;
        // What a proof says does not wait for its backend's end.
        tokio::spawn(farewell::leave(link.stream, registration));
        Ok(())
    };
    log_in::prove(&shared.gates, verdicts, credential, endpoint, attempt).await
}
