//! Writes a secret of a KV engine: a new version, which Vault makes only if the one before is still the last.

use zeroize::Zeroizing;

use super::{KvMetadata, VaultKvStore};
use crate::stores::payload::change::Bytes;
use crate::stores::vault::Answer;
use crate::stores::vault::wire::Request;
use crate::stores::write::in_payload::Whole;
use crate::stores::write::{Revision, WriteError};
use crate::stores::{Operation, PayloadError, Said, StoreError, StoreFuture, payload};

/// The secret as a payload that can be put back whole.
pub(super) struct KvWhole(pub(super) VaultKvStore);

#[derive(serde::Deserialize)]
struct MetadataAnswer {
    data: MetadataOnly,
}

#[derive(serde::Deserialize)]
struct MetadataOnly {
    metadata: KvMetadata,
}

#[derive(serde::Deserialize)]
struct Written {}

impl KvWhole {
    async fn get(&mut self) -> Result<(Bytes, Revision), StoreError> {
        let path = [self.0.mount.as_str(), "data", self.0.path.as_str()];
        let answer = self
            .0
            .client
            .call_raw(Operation::VaultRead, &Request::get(&path))
            .await?;
        let body = answer.given()?;
        let broken = || StoreError::Failed(Said::new("its answer can't be understood"));
        let MetadataAnswer { data } = serde_json::from_slice(&body).map_err(|_| broken())?;
        let text = std::str::from_utf8(&body).map_err(|_| broken())?;
        // As it stands in the answer: numbers and order too are somebody's.
        let payload = payload::part_of(text, "data.data").ok_or_else(broken)?;
        Ok((payload, revision(&data.metadata)))
    }

    async fn put(&mut self, payload: &Bytes, since: &Revision) -> Result<(), WriteError> {
        let version = since.as_str().split('@').next().unwrap_or_default();
        let text = std::str::from_utf8(payload).map_err(|_| PayloadError::NotText)?;
        let body = Zeroizing::new(format!("{{\"options\":{{\"cas\":{version}}},\"data\":{text}}}"));
        let path = [self.0.mount.as_str(), "data", self.0.path.as_str()];
        let request = Request::post_text(&path, body.as_str());
        let answer: Answer<Written> = self.0.client.call(Operation::VaultWrite, &request).await?;
        match answer {
            Answer::Given(Written {}) => Ok(()),
            Answer::Refused(refusal) if refusal.is_about_check_and_set() => Err(WriteError::Foreign(
                Said::new(format_args!("version {version} is not the last any more")),
            )),
            Answer::Refused(refusal) => Err(refusal.into_error().into()),
        }
    }
}

/// Numbers start again when a secret is made anew.
fn revision(metadata: &KvMetadata) -> Revision {
    Revision::new(format!("{}@{}", metadata.version, metadata.created_time))
}

impl Whole for KvWhole {
    fn fetch(&mut self) -> StoreFuture<'_, Result<(Bytes, Revision), StoreError>> {
        Box::pin(self.get())
    }

    fn replace<'a>(
        &'a mut self,
        payload: &'a Bytes,
        since: &'a Revision,
    ) -> StoreFuture<'a, Result<(), WriteError>> {
        Box::pin(self.put(payload, since))
    }
}
