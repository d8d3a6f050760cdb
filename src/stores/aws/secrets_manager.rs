mod write;

use std::sync::Arc;
use std::time::SystemTime;

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::StalledStreamProtectionConfig;
use aws_sdk_secretsmanager::config::retry::RetryConfig;
use tokio::time::Instant;

pub use self::write::SecretsManagerWriter;
use super::errors::from_sdk;
use super::memory::{Memory, Value, Valueless};
use super::stages::{Stage, Stages, look_again_in};
use crate::config::{Aws, Fields};
use crate::credentials::Credential;
use crate::stores::payload;
use crate::stores::{
    Calls, Operation, Reading, Said, Skipped, Store, StoreError, StoreFuture, Warning, check_size,
};

/// One secret with its stages AWSCURRENT, AWSPENDING and AWSPREVIOUS.
///
/// `DescribeSecret` is cheap and says which version holds which stage; the value of a version never changes,
/// so it is fetched once, whatever stages it goes through.
pub struct SecretsManagerStore {
    id: String,
    aws: Aws,
    fields: Option<Fields>,
    settings: Option<SdkConfig>,
    client: Option<Client>,
    memory: Memory,
    calls: Arc<Calls>,
}

impl SecretsManagerStore {
    pub fn new(id: String, aws: Aws, fields: Option<Fields>) -> Self {
        Self {
            id,
            aws,
            fields,
            settings: None,
            client: None,
            memory: Memory::default(),
            calls: Arc::default(),
        }
    }

    /// Takes settings and credentials that are known already, instead of asking the machine for them.
    pub fn with_settings(self, settings: SdkConfig) -> Self {
        Self {
            settings: Some(settings),
            ..self
        }
    }

    async fn take(&mut self) -> Result<Reading, StoreError> {
        let client = self.client().await?;
        let described = match self.describe(&client).await {
            Ok(stages) if stages.is_deleted => {
                return Err(StoreError::Missing(Said::new("it is scheduled for deletion")));
            }
            Ok(stages) => Some(stages),
            Err(StoreError::Denied(_)) => None,
            Err(error) => return Err(error),
        };
        let mut round = Round {
            store: self,
            client: &client,
            next: self.memory.after(described),
        };
        let current = round.current().await?;
        let (pending, pending_skipped) = round.beside(Stage::Pending, &current).await;
        let (previous, previous_skipped) = round.beside(Stage::Previous, &current).await;
        let mut next = round.next;
        let values = [Some(&current), pending.as_ref(), previous.as_ref()];
        next.values = values.into_iter().flatten().cloned().collect();
        let made = next.values.iter().filter_map(|value| value.made()).collect();
        let read_by = next
            .pending
            .as_ref()
            .map(|pending| look_again_in(pending.since.elapsed()));
        self.memory = next;

        let payload = current.payload.clone()?;
        let mut credentials: Vec<Credential> = payload
            .pairs
            .into_iter()
            .map(|pair| pair.versioned(&current.version))
            .collect();
        for (value, stage) in [(pending, Stage::Pending), (previous, Stage::Previous)] {
            credentials.extend(value.and_then(|value| value.leading(stage)));
        }
        Ok(Reading {
            read_by,
            host: payload.host,
            skipped: [pending_skipped, previous_skipped]
                .into_iter()
                .flatten()
                .collect(),
            made,
            ..Reading::of(credentials)
        })
    }

    async fn client(&mut self) -> Result<Client, StoreError> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let config = match &self.settings {
            Some(config) => config.clone(),
            None => super::load(&self.aws, &self.id).await?,
        };
        let mut settings = aws_sdk_secretsmanager::config::Builder::from(&config)
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if let Some(endpoint) = &self.aws.endpoint {
            settings = settings.endpoint_url(endpoint);
        }
        let client = Client::from_conf(settings.build());
        self.client = Some(client.clone());
        Ok(client)
    }

    async fn describe(&self, client: &Client) -> Result<Stages, StoreError> {
        self.calls.count(Operation::DescribeSecret);
        let description = client.describe_secret().secret_id(&self.id).send().await;
        let description = description.map_err(|error| from_sdk(&error))?;
        Ok(Stages::from_description(&description))
    }

    /// A stage is always named: without it some answers are of another version than the one just promoted.
    async fn fetch(
        &self,
        client: &Client,
        stage: Stage,
        version: Option<&str>,
    ) -> Result<Arc<Value>, StoreError> {
        self.calls.count(Operation::GetSecretValue);
        let answer = client
            .get_secret_value()
            .secret_id(&self.id)
            .version_stage(stage.name())
            .set_version_id(version.map(str::to_owned))
            .send()
            .await
            .map_err(|error| from_sdk(&error))?;
        let bytes = match (answer.secret_string(), answer.secret_binary()) {
            (Some(text), _) => text.as_bytes(),
            (None, Some(bytes)) => bytes.as_ref(),
            (None, None) => &[],
        };
        let parse = || {
            check_size(bytes)?;
            Ok(payload::parse(bytes, self.fields.as_ref())?)
        };
        Ok(Arc::new(Value {
            version: answer.version_id().or(version).unwrap_or_default().into(),
            payload: parse(),
            made: answer
                .created_date()
                .and_then(|at| SystemTime::try_from(*at).ok()),
        }))
    }
}

impl Store for SecretsManagerStore {
    fn read(&mut self) -> StoreFuture<'_, Result<Reading, StoreError>> {
        Box::pin(async {
            let reading = self.take().await;
            let region = self.client.as_ref().and_then(|client| client.config().region());
            let reading = reading.map_err(|error| match region {
                Some(region) => error.looked_for_in(region.as_ref()),
                None => error,
            });
            if let Err(StoreError::Expired(_)) = &reading {
                // With it goes the identity that it holds: a file or an endpoint has another one, or will.
                self.client = None;
            }
            reading
        })
    }

    /// Somebody's password changed: a pending version may have its value by now.
    fn refused(&mut self, _version: &str) {
        if let Some(pending) = &mut self.memory.pending {
            pending.valueless = None;
        }
    }

    fn warning(&self) -> Option<Warning> {
        self.memory.cannot_describe.then_some(Warning::CannotDescribe)
    }

    fn calls(&self) -> Arc<Calls> {
        Arc::clone(&self.calls)
    }
}

/// One read under way. `next` becomes the memory when it is complete.
struct Round<'a> {
    store: &'a SecretsManagerStore,
    client: &'a Client,
    next: Memory,
}

/// Where to find the value of a stage.
enum StagePlace {
    Nowhere,
    Version(Arc<str>),
    /// The store has to say which version it is.
    Stage,
}

impl Round<'_> {
    fn place(&self, stage: Stage) -> StagePlace {
        let Some(stages) = &self.next.stages else {
            return StagePlace::Stage;
        };
        match (stages.versions(stage), self.next.resolved(stage)) {
            ([], _) => StagePlace::Nowhere,
            ([version], _) | (_, Some(version)) => StagePlace::Version(Arc::clone(version)),
            (_, None) => StagePlace::Stage,
        }
    }

    async fn fetch(&mut self, stage: Stage, place: StagePlace) -> Result<Option<Arc<Value>>, StoreError> {
        let version = match place {
            StagePlace::Nowhere => return Ok(None),
            StagePlace::Version(version) => Some(version),
            StagePlace::Stage => None,
        };
        if let Some(known) = version.as_deref().and_then(|version| self.next.value(version)) {
            return Ok(Some(known));
        }
        let value = self.store.fetch(self.client, stage, version.as_deref()).await?;
        if version.is_none() {
            self.next.resolved.push((stage, Arc::clone(&value.version)));
        }
        Ok(Some(value))
    }

    async fn current(&mut self) -> Result<Arc<Value>, StoreError> {
        let place = self.place(Stage::Current);
        let was_described = matches!(place, StagePlace::Version(_));
        match self.fetch(Stage::Current, place).await {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(StoreError::Empty),
            // Described a moment ago: the label has moved on, or is not everywhere yet.
            Err(StoreError::Missing(_)) if was_described => Err(StoreError::Unsettled),
            Err(error) => Err(error),
        }
    }

    /// A stage beside the current one. Whatever is wrong with it is no error of the read.
    async fn beside(&mut self, stage: Stage, current: &Value) -> (Option<Arc<Value>>, Option<Skipped>) {
        let place = self.place(stage);
        let changed_at = self.next.stages.as_ref().and_then(|stages| stages.changed_at);
        if let (Stage::Pending, StagePlace::Version(version)) = (stage, &place) {
            if *version == current.version {
                self.next.pending = None;
                return (None, None);
            }
            if !self.next.notice_pending(version).may_have_a_value(changed_at) {
                return (None, None);
            }
        }
        let fetched = self.fetch(stage, place).await;
        if stage == Stage::Pending {
            self.remember_pending(&fetched, current, changed_at);
        }
        let why = match fetched {
            Ok(None) | Err(StoreError::Missing(_) | StoreError::Unsettled) => return (None, None),
            Ok(Some(value)) if value.version == current.version => return (None, None),
            Ok(Some(value)) => match &value.payload {
                Ok(_) => return (Some(value), None),
                Err(error) => {
                    let why = error.clone();
                    let position = stage.position();
                    return (Some(value), Some(Skipped { position, why }));
                }
            },
            Err(error) => error,
        };
        let position = stage.position();
        (None, Some(Skipped { position, why }))
    }

    fn remember_pending(
        &mut self,
        fetched: &Result<Option<Arc<Value>>, StoreError>,
        current: &Value,
        changed_at: Option<i64>,
    ) {
        match fetched {
            Ok(Some(value)) if value.version != current.version => {
                self.next.notice_pending(&value.version).valueless = None;
            }
            Err(StoreError::Missing(_)) if self.next.stages.is_some() => {
                if let Some(pending) = &mut self.next.pending {
                    pending.valueless = Some(Valueless {
                        tried_at: Instant::now(),
                        changed_at,
                    });
                }
            }
            Err(error) if !matches!(error, StoreError::Missing(_)) => {}
            _ => self.next.pending = None,
        }
    }
}
