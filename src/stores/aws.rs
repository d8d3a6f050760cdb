//! What the AWS stores share: the SDK's own chain of settings and credentials, and one reading of its
//! errors.
//!
//! Retries are switched off everywhere: the caller of a store knows better how long to wait, and every call
//! is counted.

mod errors;
mod identity;
mod memory;
mod rds_iam;
mod secrets_manager;
mod sign;
mod ssm;
mod stages;

use std::error::Error;
use std::io;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;

pub use self::rds_iam::RdsIamStore;
pub use self::secrets_manager::{SecretsManagerStore, SecretsManagerWriter};
#[cfg(feature = "vault")]
pub(super) use self::sign::Signer;
pub use self::ssm::SsmStore;
use super::{Said, StoreError, Unsuitable};
use crate::config::Aws;

/// Asks the environment, the profile and the machine, as every AWS SDK does. An ARN knows its own region.
pub(super) async fn load(aws: &Aws, id: &str) -> Result<SdkConfig, StoreError> {
    let region = region_of_arn(id).or(aws.region.as_deref());
    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if let Some(region) = region {
        loader = loader.region(Region::new(region.to_owned()));
    }
    let config = loader.load().await;
    match config.region() {
        Some(_) => Ok(config),
        None => Err(StoreError::Unsuitable(Unsuitable::NoRegion)),
    }
}

/// `arn:partition:service:region:account:resource`
fn region_of_arn(id: &str) -> Option<&str> {
    let mut parts = id.strip_prefix("arn:")?.split(':').skip(2);
    parts.next().filter(|region| !region.is_empty())
}

/// Credentials for a signature of our own.
pub(super) async fn credentials(config: &SdkConfig) -> Result<Credentials, StoreError> {
    let provider = config
        .credentials_provider()
        .ok_or_else(|| StoreError::Nobody(Said::new("no AWS credentials are configured")))?;
    provider
        .provide_credentials()
        .await
        .map_err(|error| credentials_failure(&error))
}

fn credentials_failure(error: &CredentialsError) -> StoreError {
    match error {
        // The library's own words are a list of everywhere it looked.
        CredentialsError::CredentialsNotLoaded(_) => {
            StoreError::Nobody(Said::new("no AWS credentials were found"))
        }
        CredentialsError::InvalidConfiguration(_) | CredentialsError::Unhandled(_) => {
            StoreError::Nobody(Said::chain(error))
        }
        error if lacks_a_file(error) => StoreError::Nobody(Said::chain(error)),
        error if let Some(refusal) = identity::refusal(error) => refusal,
        _ => StoreError::Unreachable(Said::chain(error)),
    }
}

/// A token that is mounted for this process is not there, or not for it.
fn lacks_a_file(error: &CredentialsError) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
            );
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_knows_its_region() {
        let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/orders-AbCdEf";
        assert_eq!(region_of_arn(arn), Some("eu-west-1"));
        assert_eq!(region_of_arn("arn:aws:ssm::123456789012:parameter/x"), None);
        assert_eq!(region_of_arn("prod/orders"), None);
    }
}
