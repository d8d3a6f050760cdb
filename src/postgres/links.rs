//! Where sessions get their links from.

use std::time::Duration;

use tokio::time::timeout;
use tracing::debug;

use super::Mapping;
use super::by_the_book::{AttemptError, LoginError as Denied};
use super::errors::ClientError;
use super::login::{Link, LoginError, login};
use super::roster::Berth;
use super::wire::opening::Startup;
use super::wire::say;
use crate::credentials::Credential;
use crate::limit::Permit;
use crate::names::RoleName;

/// A link, and its share of the upstream's `connections_max`.
#[derive(Debug)]
pub struct Lent {
    pub arrival: Arrival,
    pub connection: Permit,
}

/// A link, and its place in the roster.
#[derive(Debug)]
pub struct Arrival {
    pub link: Link,
    pub berth: Berth,
}

/// A link for a session of this role that began with `startup`.
pub async fn obtain(
    mapping: &Mapping,
    startup: &Startup,
    wait: Duration,
    session: u64,
) -> Result<Lent, ClientError> {
    let target = &mapping.target;
    let limit = target.upstream.connections_max;
    let connection = timeout(wait, target.connections.take()).await;
    let Ok(connection) = connection else {
        return Err(ClientError::QueueWait { wait, limit });
    };
    let arrival = log_in(mapping, startup, session).await?;
    Ok(Lent { arrival, connection })
}

/// A new link for this role, whatever `connections_max` says: it takes the place of one that goes, or goes soon.
pub async fn log_in(mapping: &Mapping, startup: &Startup, session: u64) -> Result<Arrival, ClientError> {
    let target = &mapping.target;
    let attempt = |credential: Credential, endpoint| async move {
        let berth = mapping.roster.enter(&mapping.role.secret, &credential);
        match login(target, &endpoint, &credential, startup).await {
            Ok(link) => {
                mapping.complaints.reached(&endpoint);
                Ok(Arrival { link, berth })
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
    match mapping.book.login(&target.upstream.hosts, attempt).await {
        Ok(logged_in) => Ok(logged_in.link),
        Err(denied) => Err(explain(denied, mapping)),
    }
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
