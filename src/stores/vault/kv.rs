mod write;

use std::sync::Arc;

use serde::Deserialize;

use self::write::KvWhole;
use super::time::rfc3339;
use super::wire::Request;
use super::{Answer, VaultClient};
use crate::config::{Fields, Vault};
use crate::credentials::{Credential, Position};
use crate::stores::payload::{self, Json, Payload};
use crate::stores::write::WritableStore;
use crate::stores::write::in_payload::InPayload;
use crate::stores::{Calls, Made, Operation, Reading, Said, Store, StoreError, StoreFuture};

/// A secret of a KV engine, version 2. Versions are kept, so the one before the current is an alternate for
/// free.
pub struct VaultKvStore {
    client: VaultClient,
    mount: String,
    path: String,
    fields: Option<Fields>,
    previous: Option<Previous>,
}

/// The version before the current one, as it was found when the current one appeared.
struct Previous {
    beside: KvMetadata,
    credential: Option<Credential>,
    made: Option<Made>,
}

/// `GET /v1/<mount>/data/<path>`
#[derive(Deserialize)]
struct KvAnswer {
    data: KvVersion,
}

#[derive(Deserialize)]
struct KvVersion {
    data: Json,
    metadata: KvMetadata,
}

/// Numbers start again when a secret is made anew: only with its time does a version have an identity.
#[derive(Clone, PartialEq, Deserialize)]
struct KvMetadata {
    version: u64,
    #[serde(default)]
    created_time: String,
}

impl KvMetadata {
    fn made(&self) -> Option<Made> {
        Some(Made {
            version: self.version.to_string().into(),
            at: rfc3339(&self.created_time)?,
        })
    }
}

impl VaultKvStore {
    pub fn new(
        vault: Vault,
        mount: String,
        path: String,
        fields: Option<Fields>,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            client: VaultClient::new(vault)?,
            mount,
            path,
            fields,
            previous: None,
        })
    }

    pub fn writable(self) -> Box<dyn WritableStore> {
        let fields = self.fields.clone();
        Box::new(InPayload {
            whole: KvWhole(self),
            fields,
        })
    }

    async fn take(&mut self) -> Result<Reading, StoreError> {
        let current = self.fetch(None).await?.given()?.data;
        let payload = self.parse(&current)?;
        let version = Arc::from(current.metadata.version.to_string());
        let pairs = payload.pairs.into_iter();
        let mut credentials: Vec<Credential> = pairs.map(|pair| pair.versioned(&version)).collect();
        credentials.extend(self.before(&current.metadata).await?);
        Ok(Reading {
            host: payload.host,
            read_by: self.client.upkeep_in(),
            made: self.made(&current.metadata),
            ..Reading::of(credentials)
        })
    }

    fn made(&self, current: &KvMetadata) -> Vec<Made> {
        let previous = self.previous.as_ref().and_then(|previous| previous.made.clone());
        current.made().into_iter().chain(previous).collect()
    }

    /// A version never changes its value, so the one before is asked for once.
    async fn before(&mut self, current: &KvMetadata) -> Result<Option<Credential>, StoreError> {
        if let Some(previous) = &self.previous
            && previous.beside == *current
        {
            return Ok(previous.credential.clone());
        }
        let (credential, made) = match current.version {
            0 | 1 => (None, None),
            number => match self.fetch(Some(number - 1)).await? {
                Answer::Given(KvAnswer { data }) => (self.leading(&data), data.metadata.made()),
                // Deleted, destroyed, trimmed, or not for us to see.
                Answer::Refused(refusal) if (400..429).contains(&refusal.status) => (None, None),
                Answer::Refused(refusal) => return Err(refusal.into_error()),
            },
        };
        self.previous = Some(Previous {
            beside: current.clone(),
            credential: credential.clone(),
            made,
        });
        Ok(credential)
    }

    fn leading(&self, version: &KvVersion) -> Option<Credential> {
        let mut pair = self.parse(version).ok()?.pairs.into_iter().next()?;
        pair.position = Position::Previous;
        Some(pair.versioned(&version.metadata.version.to_string().into()))
    }

    fn parse(&self, version: &KvVersion) -> Result<Payload, StoreError> {
        match &version.data {
            Json::Null => Err(StoreError::Missing(Said::new(format_args!(
                "version {} is deleted",
                version.metadata.version
            )))),
            json if json.is_empty() => Err(StoreError::Empty),
            json => Ok(payload::parse_json(json, self.fields.as_ref())?),
        }
    }

    async fn fetch(&mut self, version: Option<u64>) -> Result<Answer<KvAnswer>, StoreError> {
        let path = [self.mount.as_str(), "data", self.path.as_str()];
        let mut request = Request::get(&path);
        if let Some(version) = version {
            request = request.with_query("version", version);
        }
        self.client.call(Operation::VaultRead, &request).await
    }
}

impl Store for VaultKvStore {
    fn read(&mut self) -> StoreFuture<'_, Result<Reading, StoreError>> {
        Box::pin(self.take())
    }

    fn calls(&self) -> Arc<Calls> {
        Arc::clone(&self.client.calls)
    }
}
