//! Who refused to give this process an identity, and why: the SDK asks STS and container endpoints on its own, and
//! wraps what they answer.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_secretsmanager::config::http::HttpResponse;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;

use super::errors::from_sdk;
use crate::stores::{Said, StoreError};

/// How the SDK begins what it says of a container's endpoint that answered, and not with keys.
const NO_KEYS: &str = "Non-success status from HTTP credential provider: ";

/// None: nobody who could be asked refused; the way to them may be what is wrong.
pub(super) fn refusal(error: &CredentialsError) -> Option<StoreError> {
    let mut cause = error.source();
    while let Some(error) = cause {
        let refusal = by_sts::<AssumeRoleWithWebIdentityError>(error)
            .or_else(|| by_sts::<AssumeRoleError>(error))
            .or_else(|| by_container(error));
        if refusal.is_some() {
            return refusal;
        }
        cause = error.source();
    }
    None
}

fn by_sts<E>(error: &(dyn Error + 'static)) -> Option<StoreError>
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let error: &SdkError<E, HttpResponse> = error.downcast_ref()?;
    error.as_service_error()?;
    let of = |said: Said| Said::new(format_args!("STS: {said}"));
    Some(match from_sdk(error) {
        // It is not the secret that is denied.
        StoreError::Denied(said) => StoreError::Nobody(of(said)),
        StoreError::Failed(said) if is_about_the_token(error) => StoreError::Nobody(of(said)),
        StoreError::Failed(said) => StoreError::Failed(of(said)),
        StoreError::Expired(said) => StoreError::Expired(of(said)),
        StoreError::Clock(said) => StoreError::Clock(of(said)),
        other => other,
    })
}

/// What the cluster signed for this process does not please the role.
fn is_about_the_token<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
    matches!(
        code,
        Some("InvalidIdentityToken" | "IDPRejectedClaim" | "ValidationError")
    )
}

/// `403`, as the SDK writes it; a server that fails may not fail the next time.
fn by_container(error: &(dyn Error + 'static)) -> Option<StoreError> {
    let said = error.to_string();
    let status = said.strip_prefix(NO_KEYS)?;
    let status = status.trim_start_matches(|c: char| !c.is_ascii_digit());
    let status: u16 = status.get(..3)?.parse().ok()?;
    let said = Said::new(format_args!("the container's role gives no keys: HTTP {status}"));
    (400..500).contains(&status).then_some(StoreError::Nobody(said))
}
