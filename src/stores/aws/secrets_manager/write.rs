//! Writes a secret of Secrets Manager. What comes next waits at AWSPENDING where the payload itself has no place for it,
//! as in a rotation of AWS's own; what is current moves by its label, which the service lets go only from the version
//! that it is expected on.

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::operation::describe_secret::DescribeSecretOutput;
use aws_sdk_secretsmanager::operation::put_secret_value::builders::PutSecretValueFluentBuilder;
use aws_sdk_secretsmanager::primitives::{Blob, DateTime};

use super::SecretsManagerStore;
use crate::random;
use crate::stores::aws::errors::from_sdk;
use crate::stores::aws::stages::{Stage, Stages};
use crate::stores::payload::change::{self, Bytes, Found};
use crate::stores::write::{Change, Holding, NextPlace, Revision, WritableStore, WriteError, foreign};
use crate::stores::{Operation, Said, StoreError, StoreFuture, check_size};

/// Holds a new version until AWSCURRENT is on it: a version without a label may be cleaned away, and AWSPENDING would
/// say that it comes next.
const NEW: &str = "PGSWIVEL";

pub struct SecretsManagerWriter(SecretsManagerStore);

impl SecretsManagerWriter {
    pub fn new(store: SecretsManagerStore) -> Self {
        Self(store)
    }
}

/// What one description and the values that it names say.
struct State {
    current: Version,
    pending: Option<Version>,
    /// AWSPENDING stands on it, and it has no value.
    pending_id: Option<String>,
    previous: Option<Version>,
    other_writer: Option<Said>,
}

struct Version {
    id: String,
    /// In nanoseconds.
    made_at: Option<i128>,
    payload: Bytes,
    is_binary: bool,
}

impl State {
    fn revision(&self) -> Revision {
        let pending = self.pending_id.as_deref().unwrap_or("-");
        Revision::new(format!("{}/{pending}", self.current.id))
    }
}

impl SecretsManagerWriter {
    async fn state(&mut self) -> Result<State, StoreError> {
        let client = self.0.client().await?;
        self.0.calls.count(Operation::DescribeSecret);
        let described = client.describe_secret().secret_id(&self.0.id).send().await;
        let described = described.map_err(|error| from_sdk(&error))?;
        let stages = Stages::from_description(&described);
        if stages.is_deleted {
            return Err(StoreError::Missing(Said::new("it is scheduled for deletion")));
        }
        // A reader may choose when a label is on two versions; who writes has to know.
        let one = |stage| match stages.versions(stage) {
            [] => Ok(None),
            [version] => Ok(Some(version.to_string())),
            _ => Err(StoreError::Unsettled),
        };
        let current = one(Stage::Current)?.ok_or(StoreError::Empty)?;
        let previous = one(Stage::Previous)?.filter(|id| *id != current);
        // What was current before does not come next: the label was left behind.
        let pending = one(Stage::Pending)?.filter(|id| *id != current && Some(id) != previous.as_ref());
        Ok(State {
            pending: self.beside(&client, Stage::Pending, pending.as_deref()).await?,
            pending_id: pending,
            previous: self.beside(&client, Stage::Previous, previous.as_deref()).await?,
            current: self.fetch_raw(&client, Stage::Current, &current).await?,
            other_writer: other_writer(&described),
        })
    }

    async fn beside(
        &self,
        client: &Client,
        stage: Stage,
        version: Option<&str>,
    ) -> Result<Option<Version>, StoreError> {
        let Some(version) = version else {
            return Ok(None);
        };
        match self.fetch_raw(client, stage, version).await {
            Ok(version) => Ok(Some(version)),
            // A label without a value, or one that has just moved on.
            Err(StoreError::Missing(_) | StoreError::Unsettled) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn fetch_raw(&self, client: &Client, stage: Stage, version: &str) -> Result<Version, StoreError> {
        self.0.calls.count(Operation::GetSecretValue);
        let answer = client
            .get_secret_value()
            .secret_id(&self.0.id)
            .version_id(version)
            .version_stage(stage.name())
            .send()
            .await
            .map_err(|error| from_sdk(&error))?;
        let (bytes, is_binary) = match (answer.secret_string(), answer.secret_binary()) {
            (Some(text), _) => (text.as_bytes(), false),
            (None, Some(bytes)) => (bytes.as_ref(), true),
            (None, None) => (&[][..], false),
        };
        check_size(bytes)?;
        Ok(Version {
            id: version.to_owned(),
            made_at: answer.created_date().map(DateTime::as_nanos),
            payload: Bytes::new(bytes.to_vec()),
            is_binary,
        })
    }

    fn find(&self, version: &Version) -> Result<Found, StoreError> {
        Ok(change::find(&version.payload, self.0.fields.as_ref())?)
    }

    async fn take(&mut self) -> Result<Holding, StoreError> {
        let state = self.state().await?;
        let found = self.find(&state.current)?;
        // What is in the stages beside may be of another shape: then it is nobody's login.
        let leading = |version: &Option<Version>| {
            let found = self.find(version.as_ref()?).ok()?;
            Some(found.current)
        };
        let in_payload = found.next_place != NextPlace::None;
        Ok(Holding {
            next: match in_payload {
                true => found.next,
                false => leading(&state.pending),
            },
            previous: found.previous.or_else(|| leading(&state.previous)),
            next_place: match in_payload {
                true => found.next_place,
                false => NextPlace::AnyUser,
            },
            revision: state.revision(),
            current: found.current,
            other_writer: state.other_writer,
        })
    }

    async fn put(&mut self, wanted: &Change, since: &Holding) -> Result<(), WriteError> {
        let state = self.state().await?;
        if state.revision() != since.revision {
            return Err(foreign(&since.revision, &state.revision()));
        }
        let fields = self.0.fields.clone();
        let in_payload = self.find(&state.current)?.next_place != NextPlace::None;
        if in_payload || matches!(wanted, Change::Replace(_)) {
            let payload = change::change(&state.current.payload, fields.as_ref(), wanted)?;
            let new = self.put_version(&state.current, &payload, NEW).await?;
            self.move_label(Stage::Current.name(), Some(&state.current.id), Some(&new))
                .await?;
            // It has done what it is for. Left behind, it does no harm.
            let _ = self.move_label(NEW, Some(&new), None).await;
            return Ok(());
        }
        let is_next = |login| since.next.as_ref() == Some(login);
        match (wanted, &state.pending) {
            (Change::Stage(_), Some(_)) => Err(WriteError::NextIsTaken),
            (Change::Stage(login), None) => {
                let replaced = Change::Replace(login.clone());
                let payload = change::change(&state.current.payload, fields.as_ref(), &replaced)?;
                let pending = Stage::Pending.name();
                self.put_version(&state.current, &payload, pending).await?;
                Ok(())
            }
            (Change::Promote(login), Some(pending)) if is_next(login) => {
                let replaced = Change::Replace(login.clone());
                let payload = change::change(&state.current.payload, fields.as_ref(), &replaced)?;
                // Somebody has edited the rest since it was staged: that is not to be undone.
                let is_outdated = state.current.made_at >= pending.made_at && payload != pending.payload;
                let promoted = match is_outdated {
                    true => self.put_version(&state.current, &payload, NEW).await?,
                    false => pending.id.clone(),
                };
                let current = Stage::Current.name();
                self.move_label(current, Some(&state.current.id), Some(&promoted))
                    .await?;
                if is_outdated {
                    let _ = self.move_label(NEW, Some(&promoted), None).await;
                }
                // The service may have taken it away by itself.
                let _ = self
                    .move_label(Stage::Pending.name(), Some(&pending.id), None)
                    .await;
                Ok(())
            }
            (Change::Withdraw(login), Some(pending)) if is_next(login) => {
                self.move_label(Stage::Pending.name(), Some(&pending.id), None)
                    .await
            }
            _ => Err(WriteError::NextIsAnother),
        }
    }

    /// A new version, of the kind that the current one is, under one label. Sent twice with one token, it is made once.
    async fn put_version(
        &mut self,
        like: &Version,
        payload: &Bytes,
        label: &str,
    ) -> Result<String, WriteError> {
        let client = self.0.client().await?;
        let token = token();
        let request = client
            .put_secret_value()
            .secret_id(&self.0.id)
            .client_request_token(&token)
            .version_stages(label);
        self.0.calls.count(Operation::PutSecretValue);
        let answer = with_payload(request, like, payload)?.send().await;
        answer.map_err(|error| refused(from_sdk(&error)))?;
        Ok(token)
    }

    async fn move_label(
        &mut self,
        label: &str,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<(), WriteError> {
        let client = self.0.client().await?;
        self.0.calls.count(Operation::UpdateSecretVersionStage);
        let answer = client
            .update_secret_version_stage()
            .secret_id(&self.0.id)
            .version_stage(label)
            .set_remove_from_version_id(from.map(str::to_owned))
            .set_move_to_version_id(to.map(str::to_owned))
            .send()
            .await;
        answer.map_err(|error| refused(from_sdk(&error)))?;
        Ok(())
    }
}

/// The label that was to be moved is not where it was.
fn refused(error: StoreError) -> WriteError {
    match error {
        StoreError::Failed(said) if said.to_string().contains("InvalidParameterException") => {
            WriteError::Foreign(said)
        }
        error => error.into(),
    }
}

fn with_payload(
    request: PutSecretValueFluentBuilder,
    like: &Version,
    payload: &Bytes,
) -> Result<PutSecretValueFluentBuilder, WriteError> {
    if like.is_binary {
        return Ok(request.secret_binary(Blob::new(payload.to_vec())));
    }
    let text = std::str::from_utf8(payload).map_err(|_| WriteError::PasswordIsNotText)?;
    Ok(request.secret_string(text))
}

/// A version id of our own, as the service wants it: a UUID.
fn token() -> String {
    let mut bytes: [u8; 16] = random::bytes();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let number = u128::from_be_bytes(bytes);
    let hex = format!("{number:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Two who rotate put each other's passwords back.
fn other_writer(described: &DescribeSecretOutput) -> Option<Said> {
    if let Some(service) = described.owning_service() {
        return Some(Said::new(format_args!("{service} owns this secret")));
    }
    let rotates = described.rotation_enabled() == Some(true);
    rotates.then(|| Said::new("Secrets Manager rotates it by a schedule of its own"))
}

impl WritableStore for SecretsManagerWriter {
    fn look(&mut self) -> StoreFuture<'_, Result<Holding, StoreError>> {
        Box::pin(self.take())
    }

    fn change<'a>(
        &'a mut self,
        change: &'a Change,
        since: &'a Holding,
    ) -> StoreFuture<'a, Result<(), WriteError>> {
        Box::pin(self.put(change, since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_uuid_and_never_the_same() {
        let one = token();
        assert_eq!(one.len(), 36);
        assert_eq!(&one[14..15], "4");
        assert!("89ab".contains(&one[19..20]));
        assert_ne!(one, token());
    }
}
