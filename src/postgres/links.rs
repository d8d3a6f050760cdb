//! Where sessions get their links from.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::errors::ClientError;
use super::login::{Consequence, Link, LoginError, login};
use super::wire::opening::Startup;
use super::{Credentials, Mapping};

/// A link, and its share of the upstream's `connections_max`.
#[derive(Debug)]
pub struct Lent {
    pub link: Link,
    pub connection: OwnedSemaphorePermit,
}

/// A link for a session of this role that began with `startup`.
pub async fn obtain(
    mapping: &Mapping,
    startup: &Startup,
    wait: Duration,
    session: u64,
) -> Result<Lent, ClientError> {
    let limit = mapping.target.upstream.connections_max;
    let connection = timeout(wait, Arc::clone(&mapping.target.connections).acquire_owned()).await;
    let Ok(Ok(connection)) = connection else {
        return Err(ClientError::QueueWait { wait, limit });
    };
    let Credentials { page, verdicts } = &mapping.credentials;
    let page = Arc::clone(&page.borrow());
    let mut last = None;
    for endpoint in &mapping.target.upstream.hosts {
        for candidate in page.tries(endpoint, Instant::now()) {
            match login(&mapping.target, endpoint, &candidate.credential, startup).await {
                Ok(link) => {
                    verdicts.proven(&candidate.credential, endpoint);
                    return Ok(Lent { link, connection });
                }
                Err(error) => {
                    tracing::debug!(session, %endpoint, %error, "login failed");
                    let consequence = error.consequence();
                    if let Consequence::NextCredential(refusal) = consequence {
                        verdicts.refused(&candidate.credential, endpoint, refusal);
                    }
                    last = Some(error);
                    if !matches!(consequence, Consequence::NextCredential(_)) {
                        break;
                    }
                }
            }
        }
    }
    Err(explain(last, mapping))
}

fn explain(error: Option<LoginError>, mapping: &Mapping) -> ClientError {
    let role = mapping.role.name.to_string();
    match error {
        None => ClientError::NoCredential { role },
        Some(error) => match (error.consequence(), error) {
            (Consequence::NextCredential(_), _) => ClientError::NoCredential { role },
            (_, LoginError::Server { body, .. }) => ClientError::Server(body),
            (Consequence::Later, error) => ClientError::NotYet {
                reason: error.to_string(),
            },
            (_, error) => ClientError::Unusable {
                reason: error.to_string(),
            },
        },
    }
}
