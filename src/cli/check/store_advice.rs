//! What to do when a secret can't be read, or can be and yet is not as it should be.

use super::findings::{SecretState, Trouble};
use crate::config::{Secret, Source};
use crate::stores::{HostInSecret, PayloadError, Skipped, StoreError, Warning};

const IDENTITY: &str = "give this process AWS credentials (task role, service account, profile or environment); where STS refused a role, let \
     the role's trust policy name who asks";

const EXPIRED: &str =
    "no policy helps: see who renews these keys (profile, environment, container or instance role)";

const CLOCK: &str = "no policy helps: set this machine's clock (NTP), a signature is good for minutes";

pub(super) fn trouble(error: &StoreError, secret: &Secret) -> Trouble {
    let said = error.to_string();
    let message = match error {
        StoreError::Unparsable(_) | StoreError::Unsuitable(_) => said.as_str(),
        // What follows there is advice to anybody; here is some for this store.
        _ => said
            .rsplit_once(": ")
            .map_or(said.as_str(), |(message, _)| message),
    };
    Trouble {
        kind: error.label(),
        message: message.to_owned(),
        advice: advice(error, secret),
    }
}

/// Whether it is the store that is wrong, or the way to it.
pub(super) fn state(error: &StoreError) -> SecretState {
    match error {
        StoreError::Unreachable(_) | StoreError::Slow { .. } | StoreError::Throttled { .. } => {
            SecretState::Unreachable
        }
        _ => SecretState::Failed,
    }
}

fn advice(error: &StoreError, secret: &Secret) -> String {
    let name = &secret.name;
    match error {
        StoreError::Missing(_) => missing(secret),
        StoreError::Denied(_) => denied(&secret.source),
        StoreError::Nobody(_) => IDENTITY.to_owned(),
        StoreError::Expired(_) => EXPIRED.to_owned(),
        StoreError::Clock(_) => CLOCK.to_owned(),
        StoreError::Throttled { .. } => {
            format!("check again later; if it lasts, raise secret.{name}.poll or the store's limit")
        }
        StoreError::Unreachable(_) => unreachable(secret),
        StoreError::Slow { .. } => match &secret.source {
            Source::Command { .. } => {
                format!("see why the program takes so long, or raise secret.{name}.timeout")
            }
            _ => unreachable(secret),
        },
        StoreError::Unparsable(PayloadError::BrokenJson { .. }) => {
            "correct it there (a comma too many, a quote too few)".to_owned()
        }
        StoreError::Unparsable(_) => {
            format!("put one of the known shapes in it, or name its keys in secret.{name}.fields")
        }
        StoreError::TooLarge { .. } | StoreError::Empty => {
            format!("see whether secret.{name}.id names the right place, and put a user and a password there")
        }
        StoreError::Unsettled => "check again; if it lasts, something keeps rewriting the secret".to_owned(),
        StoreError::Failed(_) => match &secret.source {
            Source::Command { .. } => "run the program by hand, as this user".to_owned(),
            _ => "check again; if it lasts, see the store's own log".to_owned(),
        },
        StoreError::Unsuitable(_) => format!("change secret.{name}"),
    }
}

fn missing(secret: &Secret) -> String {
    let name = &secret.name;
    match &secret.source {
        Source::File { .. } => format!("see whether the file is mounted, or correct secret.{name}.id"),
        Source::Env { .. } => format!("set the variable, or name another one in secret.{name}"),
        Source::Command { .. } => format!("install the program, or correct secret.{name}.id"),
        Source::AwsSecretsManager { .. } | Source::AwsSsm { .. } => {
            format!("create it and give it a value, or correct secret.{name}.id or the region")
        }
        _ => format!("create it and give it a value, or correct secret.{name}.id and where it is looked for"),
    }
}

fn denied(source: &Source) -> String {
    let read = |path: String| {
        format!("give this token a policy with: path \"{path}\" {{ capabilities = [\"read\"] }}")
    };
    match source {
        Source::AwsSecretsManager { .. } => {
            "allow this identity secretsmanager:DescribeSecret and secretsmanager:GetSecretValue on the secret, and \
             kms:Decrypt if it has a key of its own"
                .to_owned()
        }
        Source::AwsSsm { .. } => {
            "allow this identity ssm:GetParameter on the parameter, and kms:Decrypt if it has a key of its own"
                .to_owned()
        }
        Source::AwsRdsIam { .. } => IDENTITY.to_owned(),
        Source::VaultKv { mount, path, .. } => read(format!("{mount}/data/{path}")),
        Source::VaultDbStatic { mount, role, .. } => read(format!("{mount}/static-creds/{role}")),
        Source::VaultDb { mount, role, .. } => read(format!("{mount}/creds/{role}")),
        Source::File { .. } => "let the user that pgswivel runs as read the file".to_owned(),
        Source::Command { .. } => "let the user that pgswivel runs as execute the program".to_owned(),
        _ => "let this pgswivel read it there".to_owned(),
    }
}

fn unreachable(secret: &Secret) -> String {
    let name = &secret.name;
    match &secret.source {
        Source::AwsSecretsManager { .. } | Source::AwsSsm { .. } | Source::AwsRdsIam { .. } => {
            "check region and endpoint, name resolution, and the route to AWS (VPC endpoint, NAT, security group)"
                .to_owned()
        }
        Source::VaultKv { vault, .. } | Source::VaultDbStatic { vault, .. } | Source::VaultDb { vault, .. } => {
            format!(
                "check that Vault runs at {}, unsealed, and that secret.{name}.ca knows who issued its certificate",
                vault.address
            )
        }
        _ => "check that what holds it is well and near".to_owned(),
    }
}

pub(super) fn warning(warning: Warning) -> Trouble {
    let (message, advice) = match warning {
        Warning::CannotRotate => (
            "it cannot rotate: environment variables are read once",
            "use another store for a credential that changes",
        ),
        Warning::MountedAlone => (
            "the file is a mount of its own (subPath) and will not follow a replaced file",
            "mount its directory instead",
        ),
        Warning::CannotDescribe => (
            "secretsmanager:DescribeSecret is denied, so every poll fetches the values",
            "allow it to this identity",
        ),
    };
    Trouble {
        kind: warning.label(),
        message: message.to_owned(),
        advice: advice.to_owned(),
    }
}

pub(super) fn skipped(skipped: &Skipped, secret: &Secret) -> Trouble {
    let trouble = trouble(&skipped.why, secret);
    Trouble {
        message: format!(
            "its {} credential can't be used: {}",
            skipped.position, trouble.message
        ),
        ..trouble
    }
}

pub(super) fn other_host(named: &HostInSecret) -> Trouble {
    let host = match named.port {
        Some(port) => format!("{}:{port}", named.host),
        None => named.host.clone(),
    };
    Trouble {
        kind: "other_host",
        message: format!("it names the host {host}, which is not configured and not followed"),
        advice: "see which of the two is right".to_owned(),
    }
}

pub(super) fn old(age: &str, secret: &Secret) -> Trouble {
    let name = &secret.name;
    Trouble {
        kind: "old",
        message: format!("its current credential is {age} old, more than secret.{name}.max_age"),
        advice: "rotate it, or see why its rotation stopped".to_owned(),
    }
}

pub(super) fn too_many(limit: usize) -> Trouble {
    Trouble {
        kind: "too_many",
        message: format!("it holds more than {limit} credentials, and only the first {limit} are looked at"),
        advice: "take the dead ones off the list".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{self, Flags, Surroundings};

    /// Nothing but the one variable that a configuration needs.
    struct Bare;

    impl Surroundings for Bare {
        fn variable(&self, name: &str) -> Option<std::ffi::OsString> {
            ["PGSWIVEL_PASSWORD", "VAULT_TOKEN"]
                .contains(&name)
                .then(|| "local".into())
        }

        fn read(&self, _: &std::path::Path) -> std::io::Result<Vec<u8>> {
            Err(std::io::ErrorKind::NotFound.into())
        }
    }

    fn secret(url: &str) -> Arc<Secret> {
        let flags = Flags {
            upstream: Some("postgres://db.internal/orders?sslmode=verify-full".to_owned()),
            secret: Some(url.to_owned()),
            ..Flags::default()
        };
        let config = config::load(&flags, &Bare).unwrap_or_else(|problems| panic!("{problems}"));
        config.secrets.into_values().next().unwrap()
    }

    #[cfg(all(feature = "aws", feature = "vault"))]
    #[test]
    fn who_is_denied_hears_what_to_allow() {
        for (url, permission) in [
            ("aws-secretsmanager:prod/orders", "secretsmanager:GetSecretValue"),
            ("aws-ssm:/prod/orders", "ssm:GetParameter"),
            (
                "vault-kv:secret/prod/orders?address=https://vault.internal",
                "\"secret/data/prod/orders\"",
            ),
            (
                "vault-db-static:database/orders?address=https://vault.internal",
                "\"database/static-creds/orders\"",
            ),
            (
                "vault-db:database/orders?address=https://vault.internal",
                "\"database/creds/orders\"",
            ),
        ] {
            let advice = denied(&secret(url).source);
            assert!(advice.contains(permission), "{url}: {advice}");
        }
    }

    #[test]
    fn a_message_is_followed_by_one_advice_alone() {
        let secret = secret("file:/run/secrets/orders.json");
        let slow = StoreError::Slow {
            limit: std::time::Duration::from_secs(10),
        };
        assert_eq!(
            trouble(&slow, &secret).message,
            "the store did not answer within 10 s"
        );
        assert_eq!(
            trouble(&StoreError::Empty, &secret).message,
            "the secret is empty"
        );
    }
}
