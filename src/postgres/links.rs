//! Where sessions get their links from.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::debug;

use super::Mapping;
use super::errors::ClientError;
use super::farewell::leave;
use super::lender::{Kind, Offer, Ticket, look_first};
use super::login::{Link, LoginError, Target, login};
use super::wire::opening::Startup;
use super::wire::say;
use crate::access::log_in::{AttemptError, Denied};
use crate::access::roster::Registration;
use crate::credentials::Credential;
use crate::limit::Permit;
use crate::metrics::{self, Limit, Metrics};
use crate::names::{RoleName, SecretName};

/// A link, and its share of the upstream's `connections_max`.
#[derive(Debug)]
pub struct Lent {
    pub arrival: Arrival,
    pub connection: Permit,
    /// Who else it can be lent to; None: nobody.
    pub kind: Option<Kind>,
}

/// A link, its place in the roster, and where it leads.
#[derive(Debug)]
pub struct Arrival {
    pub link: Link,
    pub registration: Registration,
    pub target: Arc<Target>,
}

/// A link for a session of this role that began with `startup`.
pub async fn obtain(
    mapping: &Arc<Mapping>,
    startup: &Startup,
    wait: Duration,
    session: u64,
) -> Result<Lent, ClientError> {
    let target = &mapping.target;
    let mut ticket = match target.lender.offer(mapping.kind_of(startup), mapping, startup) {
        Offer::Ready(lent) => return Ok(*lent),
        Offer::Queue(ticket) => ticket,
    };
    let connection = match wait_with(&mut ticket, mapping, wait).await? {
        Turn::Link(lent) => return Ok(*lent),
        Turn::Connection(connection) => connection,
    };
    let kind = ticket.leave();
    // Boxed: most clients are lent a link.
    let mut arrived = Box::pin(log_in(mapping, startup, session)).await;
    // The server has no room left, but would have without the links that wait here for a client.
    while let Err(error) = &arrived
        && error.is_server_full()
        && let Some(leaving) = target.lender.make_room()
    {
        // Gone, or given up on: the server has the last word on whether there is room now.
        let _ = leaving.await;
        arrived = Box::pin(log_in(mapping, startup, session)).await;
    }
    let mut arrival = arrived?;
    if let Some(kind) = &kind {
        target.lender.share(kind, &mut arrival.link.facts.greeting);
        if let Err(error) = Box::pin(look_first(kind, &mut arrival)).await {
            debug!(session, %error, "link lost before it was used");
            tokio::spawn(leave(arrival.link.stream, arrival.registration));
            arrival = Box::pin(log_in(mapping, startup, session)).await?;
        }
    }
    Ok(Lent {
        arrival,
        connection,
        kind,
    })
}

enum Turn {
    Link(Box<Lent>),
    /// There is room for a link of one's own.
    Connection(Permit),
}

async fn wait_with(ticket: &mut Ticket, mapping: &Mapping, wait: Duration) -> Result<Turn, ClientError> {
    let target = &mapping.target;
    if let Some(lent) = ticket.expected().await {
        return Ok(Turn::Link(Box::new(lent)));
    }
    if let Some(connection) = target.connections.try_take() {
        return Ok(Turn::Connection(connection));
    }
    mapping.access.metrics.hit(Limit::ConnectionsMax);
    ticket.insist();
    target.lender.make_room();
    let turn = async {
        tokio::select! {
            biased;
            lent = ticket.given() => Turn::Link(Box::new(lent)),
            connection = target.connections.take() => Turn::Connection(connection),
        }
    };
    let limit = target.upstream.connections_max;
    let turn = timeout(wait, turn).await;
    turn.map_err(|_| ClientError::QueueWait { wait, limit })
}

/// A new link for this role, whatever `connections_max` says: it takes the place of one that goes, or goes soon.
pub async fn log_in(mapping: &Mapping, startup: &Startup, session: u64) -> Result<Arrival, ClientError> {
    let target = &mapping.target;
    let kind = &mapping.kind_of(startup);
    let attempt = |credential: Credential, endpoint| async move {
        let epoch = kind
            .as_ref()
            .map_or(0, |kind| target.lender.epoch(kind, &endpoint, &credential.user));
        let registration = mapping
            .roster
            .enter(&mapping.role.secret, &mapping.role.upstream, &credential);
        let result = login(target, &endpoint, &credential, startup).await;
        count(
            &mapping.access.metrics,
            &mapping.role.secret,
            &credential,
            &result,
        );
        match result {
            Ok(mut link) => {
                link.facts.epoch = epoch;
                mapping.complaints.reached(&endpoint);
                Ok(Arrival {
                    link,
                    registration,
                    target: Arc::clone(target),
                })
            }
            Err(error) => {
                mapping.complaints.login_failed(&endpoint, &error);
                debug!(session, %endpoint, version = %credential.version, %error, "login failed");
                Err(AttemptError::from(name_the_role(
                    error,
                    &credential.user,
                    &mapping.role.name,
                )))
            }
        }
    };
    match mapping.access.log_in(&target.upstream.hosts, attempt).await {
        Ok(logged_in) => Ok(logged_in.link),
        Err(denied) => Err(explain(denied, mapping)),
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

fn explain(denied: Denied<LoginError>, mapping: &Mapping) -> ClientError {
    let role = mapping.role.name.to_string();
    match denied {
        Denied::Refused(_) => ClientError::NoCredential { role },
        Denied::NoCredential => ClientError::NoSecretYet { role },
        Denied::NotYet(Some(LoginError::Server { body, authenticated }))
        | Denied::Fatal(LoginError::Server { body, authenticated }) => {
            ClientError::Server { body, authenticated }
        }
        Denied::NotYet(error) => ClientError::NotYet {
            reason: error.map_or_else(|| "no endpoint answered".to_owned(), |error| error.to_string()),
        },
        Denied::Fatal(error) => ClientError::Unusable {
            reason: error.to_string(),
        },
    }
}
