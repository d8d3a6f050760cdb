//! What goes wrong for many clients at once is said a few times, not once for each of them.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::cancel::CancelError;
use super::errors::ClientError;
use super::login::LoginError;
use crate::complaint::{self, Over};
use crate::names::Endpoint;

/// A limit that turned nobody away for so long is not reached any more.
const LIMIT_QUIET: Duration = Duration::from_secs(60);
/// A login is no end of the failures before it while others fail beside it.
const ENDPOINT_QUIET: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub struct Complaints {
    limits: complaint::Complaints<&'static str>,
    endpoints: complaint::Complaints<Endpoint>,
}

impl Complaints {
    /// If it was for a limit, that is.
    pub fn turned_away(&self, error: &ClientError) {
        if let Some(limit) = error.limit() {
            self.limit_reached(limit, error);
        }
    }

    pub fn not_cancelled(&self, error: &CancelError) {
        if matches!(error, CancelError::TooMany) {
            self.limit_reached("limits.cancels", error);
        }
    }

    /// What a server itself said is its client's affair; a refusal is the keeper's.
    pub fn login_failed(&self, endpoint: &Endpoint, error: &LoginError) {
        if error.is_clients_affair() {
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
            info!(limit, failures, ?lasted, "a limit turns nobody away any more");
        }
    }

    fn limit_reached(&self, limit: &'static str, error: &dyn std::error::Error) {
        if let Some(failures) = self.limits.failed(limit, now()) {
            warn!(limit, failures, error = %error, "a limit turns clients away");
        }
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
