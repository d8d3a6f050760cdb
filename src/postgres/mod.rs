//! Postgres: clients and their sessions, links to servers, and what goes between. The only door is [`serve`].
//!
//! Its floors, from the top down; whoever is on one may import what is on a lower one, and `tests/floor_plan.rs` sees to
//! it: session · client and prove · service · link · relay and talk · state · wire.

mod client;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod link;
mod prove;
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

use crate::limit::Permit;
pub use client::Client;
pub use link::examine::{Admission, Examination, Reached, database, examine};
pub use link::fleet_link::{FleetLink, FleetLinkError, ServedDatabase};
pub use link::login_error::LoginError;
pub use link::pool::Pool;
pub use link::target::Target;
pub use prove::{Proof, prove};
pub use service::{Credentials, Service, Shared};

/// Serves one accepted connection. A session is a task of its own: nothing of how it began stays in memory, and
/// little code stands between its sockets and what it does with them.
pub async fn serve(client: Client, service: Arc<Service>, admission: Permit, tasks: TaskTracker) {
    if let Some(session) = session::begin::begin(client, service).await {
        tasks.spawn(session.run(admission));
    }
}
