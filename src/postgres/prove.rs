//! Whether a credential works: one login, and what it says to whoever keeps the secret.

use super::link::farewell::leave;
use super::link::login_error::LoginError;
use super::link::target::Target;
use super::link::{arrival, examine};
use super::service::Shared;
use crate::access::log_in::{self, AttemptError};
use crate::credentials::{Credential, Verdicts};
use crate::names::{Endpoint, SecretName};

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
        tokio::spawn(leave(link.stream, registration));
        Ok(())
    };
    log_in::prove(&shared.gates, verdicts, credential, endpoint, attempt).await
}
