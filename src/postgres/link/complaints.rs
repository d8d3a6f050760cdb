//! What goes wrong for many clients at once is said a few times, not once for each of them.

use std::error::Error;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::complaint::{self, Over};
use crate::metrics::Limit;
use crate::names::Endpoint;

/// A limit that turned nobody away for so long is not reached any more.
const LIMIT_QUIET: Duration = Duration::from_secs(60);
/// A login is no end of the failures before it while others fail beside it.
const ENDPOINT_QUIET: Duration = Duration::from_secs(5);
/// Nobody gave a wrong password for so long.
const STRANGERS_QUIET: Duration = Duration::from_secs(60);
/// As long as a name can be in Postgres.
const NAME_CHARS_MAX: usize = 63;

#[derive(Debug, Default)]
pub struct Complaints {
    limits: complaint::Complaints<&'static str>,
    endpoints: complaint::Complaints<Endpoint>,
    strangers: complaint::Complaints<()>,
}

impl Complaints {
    /// For a limit. One that only the client itself is up against is its own affair.
    pub fn limit_reached(&self, limit: Limit, error: &dyn Error) {
        let (Limit::Clients | Limit::Startups | Limit::QueueWait | Limit::Cancels) = limit else {
            return;
        };
        let limit = limit.label();
        if let Some(failures) = self.limits.failed(limit, now()) {
            warn!(limit = format!("limits.{limit}"), failures, %error, "a limit turns clients away");
        }
    }

    /// A client that did not prove who it is. Of many names one is shown: anybody can make them up.
    pub fn stranger(&self, name: &str) {
        if let Some(failures) = self.strangers.failed((), now()) {
            let role: String = name.chars().take(NAME_CHARS_MAX).collect();
            warn!(
                ?role,
                failures, "clients come with a wrong password, or as a role that is not configured"
            );
        }
    }

    /// What a server itself said is its client's affair; a refusal is the keeper's.
    pub fn login_failed(&self, endpoint: &Endpoint, error: &dyn Error, is_clients_affair: bool) {
        if is_clients_affair {
            return;
        }
        if let Some(failures) = self.endpoints.failed(endpoint.clone(), now()) {
            warn!(%endpoint, failures, %error, "logins to an endpoint fail");
        }
    }

    pub fn reached(&self, endpoint: &Endpoint) {
        if let Some(Over { failures, lasted }) = self.endpoints.ended_after(endpoint, ENDPOINT_QUIET, now()) {
            info!(%endpoint, failures, ?lasted, "logins to an endpoint succeed again");
        }
    }

    /// Nothing tells that a limit is no longer reached, but that nobody is turned away. To be called now and then.
    pub fn say_what_is_over(&self) {
        for (limit, Over { failures, lasted }) in self.limits.take_quiet(LIMIT_QUIET, now()) {
            info!(
                limit = format!("limits.{limit}"),
                failures,
                ?lasted,
                "a limit turns nobody away any more"
            );
        }
        for ((), Over { failures, lasted }) in self.strangers.take_quiet(STRANGERS_QUIET, now()) {
            info!(
                failures,
                ?lasted,
                "no client comes with a wrong password any more"
            );
        }
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
