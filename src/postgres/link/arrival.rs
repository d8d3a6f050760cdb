//! Logs in for a role, and registers the link in the roster before the first byte is sent.

use std::sync::Arc;

use tracing::debug;

use super::farewell::leave;
use super::login::{Link, login};
use super::login_error::LoginError;
use super::no_link::NoLink;
use super::pool::Pool;
use super::way::Way;
use crate::access::log_in::AttemptError;
use crate::access::roster::Registration;
use crate::credentials::Credential;
use crate::metrics::{self, Metrics};
use crate::names::{RoleName, SecretName};
use crate::postgres::wire::opening::Startup;
use crate::postgres::wire::say;

/// A link, its place in the roster, and where it leads.
#[derive(Debug)]
pub struct Arrival {
    pub link: Link,
    pub registration: Registration,
    pub pool: Arc<Pool>,
}

impl Arrival {
    /// Nobody needs it after all.
    pub fn part(self) {
        tokio::spawn(leave(self.link.stream, self.registration));
    }
}

/// Logs in without taking one of `connections_max`: the caller has one, will give up another link soon, or needs a link that
/// does not count.
pub async fn log_in(way: &Way, startup: &Startup, session: u64) -> Result<Arrival, NoLink> {
    let pool = &way.pool;
    let kind = &way.kind_of(startup);
    let attempt = |credential: Credential, endpoint| async move {
        let epoch = kind
            .as_ref()
            .map_or(0, |kind| pool.epoch(kind, &endpoint, &credential.user));
        let registration = way
            .roster
            .enter(&way.role.secret, &way.role.upstream, &credential);
        let result = login(&pool.target, &endpoint, &credential, startup).await;
        count(way.metrics(), &way.role.secret, &credential, &result);
        match result {
            Ok(mut link) => {
                link.facts.epoch = epoch;
                way.complaints.reached(&endpoint);
                Ok(Arrival {
                    link,
                    registration,
                    pool: Arc::clone(pool),
                })
            }
            Err(error) => {
                way.complaints
                    .login_failed(&endpoint, &error, error.is_clients_affair());
                debug!(session, %endpoint, version = %credential.version, %error, "login failed");
                Err(AttemptError::from(name_the_role(
                    error,
                    &credential.user,
                    &way.role.name,
                )))
            }
        }
    };
    match way.access.log_in(&pool.target.upstream.hosts, attempt).await {
        Ok(logged_in) => Ok(logged_in.link),
        Err(denied) => Err(NoLink::of(denied, &way.role.name)),
    }
}

/// One login more, whatever came of it.
pub fn count<L>(
    metrics: &Metrics,
    secret: &SecretName,
    credential: &Credential,
    result: &Result<L, LoginError>,
) {
    let (outcome, sqlstate) = match result {
        Ok(_) => (metrics::Login::Accepted, None),
        Err(error) => (error.outcome(), error.sqlstate()),
    };
    metrics.login(secret, outcome, sqlstate, credential.position);
}

/// A server's refusal may quote the upstream's user. The client knows its role, and no more.
fn name_the_role(error: LoginError, user: &str, role: &RoleName) -> LoginError {
    match error {
        LoginError::Server { body, authenticated } => LoginError::Server {
            body: say::requote(&body, user, role.as_str()).into(),
            authenticated,
        },
        other => other,
    }
}
