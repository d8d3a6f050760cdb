//! Reads each secret that a role uses, once.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::findings::{CredentialFinding, HostFinding, SecretFinding, SecretState};
use super::store_advice;
use crate::cli::table::rough;
use crate::config::Secret;
use crate::credentials::{Credential, LISTED_MAX, Position};
use crate::names::SecretName;
use crate::server::OpenSecret;
use crate::stores::{self, Reading, StoreError, Warning};

/// A secret that was read, or could not be.
pub(super) struct ReadSecret {
    pub(super) secret: Arc<Secret>,
    /// Those that are looked at, best first. None at all: see the finding.
    pub(super) credentials: Vec<Credential>,
    pub(super) finding: SecretFinding,
}

impl ReadSecret {
    pub(super) fn is(&self, name: &SecretName) -> bool {
        self.secret.name == *name
    }
}

/// Makes one read of the store. What a store makes for it (a lease) ends by itself.
pub(super) async fn read(mut open: OpenSecret) -> ReadSecret {
    let result = stores::read(open.store.as_mut()).await;
    let warning = open.store.warning();
    match result {
        Ok(reading) => taken_in(&open, reading, warning),
        Err(error) => ReadSecret {
            finding: unread(&open.secret, &error, warning),
            secret: open.secret,
            credentials: Vec::new(),
        },
    }
}

/// A secret that no role uses.
pub(super) fn unused(secret: &Secret) -> SecretFinding {
    finding(secret, SecretState::Unused)
}

fn finding(secret: &Secret, state: SecretState) -> SecretFinding {
    SecretFinding {
        secret: secret.name.to_string(),
        store: secret.source.store(),
        state,
        credentials: Vec::new(),
        host_in_secret: None,
        trouble: None,
        warnings: Vec::new(),
    }
}

fn unread(secret: &Secret, error: &StoreError, warning: Option<Warning>) -> SecretFinding {
    SecretFinding {
        trouble: Some(store_advice::trouble(error, secret)),
        warnings: warning.map(store_advice::warning).into_iter().collect(),
        ..finding(secret, store_advice::state(error))
    }
}

fn taken_in(open: &OpenSecret, mut reading: Reading, warning: Option<Warning>) -> ReadSecret {
    let secret = &open.secret;
    let mut warnings: Vec<_> = warning.map(store_advice::warning).into_iter().collect();
    let skipped = reading.skipped.iter();
    warnings.extend(skipped.map(|skipped| store_advice::skipped(skipped, secret)));
    let host_in_secret = reading.host.as_ref().map(|named| HostFinding {
        host: named.host.clone(),
        port: named.port,
        is_configured: named.is_among(&open.endpoints()),
    });
    if let (
        Some(named),
        Some(HostFinding {
            is_configured: false, ..
        }),
    ) = (&reading.host, &host_in_secret)
    {
        warnings.push(store_advice::other_host(named));
    }
    if reading.credentials.len() > LISTED_MAX {
        warnings.push(store_advice::too_many(LISTED_MAX));
        reading.credentials.truncate(LISTED_MAX);
    }
    if let Some(age) = too_old(secret, &reading) {
        warnings.push(store_advice::old(&rough(age), secret));
    }
    let credentials = reading.credentials.iter();
    ReadSecret {
        secret: Arc::clone(secret),
        finding: SecretFinding {
            credentials: credentials
                .map(|credential| described(credential, &reading))
                .collect(),
            host_in_secret,
            warnings,
            ..finding(secret, SecretState::Read)
        },
        credentials: reading.credentials,
    }
}

fn described(credential: &Credential, reading: &Reading) -> CredentialFinding {
    let ends = [reading.lease.map(|lease| lease.left), reading.logins_for];
    CredentialFinding {
        position: credential.position.to_string(),
        version: credential.version.to_string(),
        user: credential.user.to_string(),
        age_seconds: age(credential, reading).map(|age| age.as_secs()),
        left_seconds: ends.into_iter().flatten().min().map(|left| left.as_secs()),
    }
}

/// A store whose clock is ahead of ours made it just now.
fn age(credential: &Credential, reading: &Reading) -> Option<Duration> {
    let made = reading
        .made
        .iter()
        .find(|made| made.version == credential.version)?;
    Some(SystemTime::now().duration_since(made.at).unwrap_or_default())
}

fn too_old(secret: &Secret, reading: &Reading) -> Option<Duration> {
    let current = reading.credentials.first()?;
    if !matches!(current.position, Position::Current | Position::Index(_)) {
        return None;
    }
    age(current, reading).filter(|age| secret.max_age.is_some_and(|limit| *age > limit))
}
