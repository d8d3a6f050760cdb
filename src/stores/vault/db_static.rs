use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::VaultClient;
use super::time::rfc3339;
use super::wire::Request;
use crate::backoff::Backoff;
use crate::config::Vault;
use crate::credentials::Position;
use crate::stores::payload::Pair;
use crate::stores::{Calls, DigestKey, Operation, Reading, Store, StoreError, StoreFuture};

/// A static role of the database engine: one user, whose password Vault rotates on its own schedule.
///
/// Versions are made of the values: what Vault says about the time of a rotation is not to be relied on.
pub struct VaultDbStaticStore {
    client: VaultClient,
    mount: String,
    role: String,
    digests: DigestKey,
    /// While Vault says that a rotation is due and does not make it.
    overdue: Backoff,
}

/// `GET /v1/<mount>/static-creds/<role>`
#[derive(Deserialize)]
struct StaticAnswer {
    data: StaticCredential,
}

#[derive(Deserialize)]
struct StaticCredential {
    username: String,
    password: String,
    /// Seconds to the next rotation. Absent or negative values have been seen.
    #[serde(default)]
    ttl: Option<i64>,
    #[serde(default)]
    last_vault_rotation: Option<String>,
}

/// A rotation is not over in the second it is due.
const AFTER_ROTATION: Duration = Duration::from_secs(1);

/// A rotation that does not come is looked for this often at least, or as often as the poll.
const OVERDUE_CAP: Duration = Duration::from_secs(300);

impl VaultDbStaticStore {
    pub fn new(vault: Vault, mount: String, role: String, digests: DigestKey) -> Result<Self, StoreError> {
        Ok(Self {
            client: VaultClient::new(vault)?,
            mount,
            role,
            digests,
            overdue: Backoff::starting_at(AFTER_ROTATION),
        })
    }

    async fn take(&mut self) -> Result<Reading, StoreError> {
        let path = [self.mount.as_str(), "static-creds", self.role.as_str()];
        let request = Request::get(&path);
        let answer = self.client.call(Operation::VaultRead, &request).await?;
        let StaticAnswer { data } = answer.given()?;
        let password = Zeroizing::new(data.password);
        let pair = Pair::new(Position::Current, &data.username, password.as_bytes())?;
        let rotation = data.ttl.map(|ttl| match u64::try_from(ttl) {
            Ok(ttl @ 1..) => {
                self.overdue.reset();
                Duration::from_secs(ttl) + AFTER_ROTATION
            }
            _ => self.overdue.next(OVERDUE_CAP),
        });
        let rotated_at = data.last_vault_rotation.as_deref().and_then(rfc3339);
        Ok(Reading {
            read_by: [rotation, self.client.upkeep_in()].into_iter().flatten().min(),
            ..Reading::of(vec![pair.digested(&self.digests)]).made_at(rotated_at)
        })
    }
}

impl Store for VaultDbStaticStore {
    fn read(&mut self) -> StoreFuture<'_, Result<Reading, StoreError>> {
        Box::pin(self.take())
    }

    fn calls(&self) -> Arc<Calls> {
        Arc::clone(&self.client.calls)
    }
}
