//! Writes a parameter: a new version of a SecureString, under the key and in the tier that it has.

use serde::Deserialize;

use super::{Answer, SsmStore};
use crate::stores::aws::errors::broken_answer;
use crate::stores::payload::change::Bytes;
use crate::stores::write::in_payload::Whole;
use crate::stores::write::{Revision, WriteError};
use crate::stores::{Operation, Said, StoreError, StoreFuture, check_size};

/// The parameter as a payload that can be put back whole.
pub(super) struct SsmWhole(pub(super) SsmStore);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DescribeAnswer {
    #[serde(default)]
    parameters: Vec<Description>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Description {
    name: String,
    #[serde(rename = "Type")]
    kind: String,
    key_id: Option<String>,
    tier: Option<String>,
    data_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutAnswer {
    version: i64,
}

impl SsmWhole {
    async fn get(&mut self) -> Result<(Bytes, Revision), StoreError> {
        let parameter = self.0.parameter().await?;
        let revision = Revision::new(parameter.version.to_string());
        let bytes = Bytes::new(parameter.value.into_bytes());
        check_size(&bytes)?;
        Ok((bytes, revision))
    }

    /// What a new version has to repeat: without it, it would be under the account's default key.
    async fn describe(&mut self) -> Result<Description, StoreError> {
        let name = name_of(&self.0.id).to_owned();
        let filter = serde_json::json!({ "Key": "Name", "Option": "Equals", "Values": [name] });
        let body = serde_json::json!({ "ParameterFilters": [filter] });
        let answer = self
            .0
            .call(Operation::DescribeParameters, "DescribeParameters", &body)
            .await?;
        let described: DescribeAnswer = read(&answer)?;
        let found = described
            .parameters
            .into_iter()
            .find(|found| found.name.trim_start_matches('/') == name.trim_start_matches('/'));
        found.ok_or_else(|| StoreError::Missing(Said::new(format_args!("no parameter {name} is described"))))
    }

    async fn put(&mut self, payload: &Bytes, since: &Revision) -> Result<(), WriteError> {
        let described = self.describe().await?;
        if described.kind != "SecureString" {
            return Err(WriteError::ReadOnly(Said::new(
                "the parameter is no SecureString: a password does not belong there in the clear",
            )));
        }
        let text = std::str::from_utf8(payload).map_err(|_| WriteError::PasswordIsNotText)?;
        let mut body = serde_json::json!({
            "Name": described.name, "Value": text, "Type": described.kind, "Overwrite": true,
        });
        for (key, value) in [
            ("KeyId", described.key_id),
            ("Tier", described.tier),
            ("DataType", described.data_type),
        ] {
            if let Some(value) = value {
                body[key] = value.into();
            }
        }
        let answer = self
            .0
            .call(Operation::PutParameter, "PutParameter", &body)
            .await?;
        let made: PutAnswer = read(&answer)?;
        let expected = since.as_str().parse::<i64>().ok().map(|was| was + 1);
        match expected == Some(made.version) {
            true => Ok(()),
            // The service has no compare-and-set, but counts: what was in between is a version of its own, and is kept.
            false => Err(WriteError::Foreign(Said::new(format_args!(
                "it was at version {since}, and this write became {}",
                made.version
            )))),
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(answer: &Answer) -> Result<T, StoreError> {
    match answer.status {
        200 => serde_json::from_slice(&answer.body).map_err(|_| broken_answer(answer.status)),
        _ => Err(answer.refusal()),
    }
}

/// `arn:aws:ssm:region:account:parameter/prod/orders` is `/prod/orders`: only `GetParameter` takes the one for the other.
fn name_of(id: &str) -> &str {
    let Some((_, path)) = id
        .strip_prefix("arn:")
        .and_then(|arn| arn.split_once(":parameter"))
    else {
        return id;
    };
    match path[1..].contains('/') {
        true => path,
        false => path.trim_start_matches('/'),
    }
}

impl Whole for SsmWhole {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_has_a_name() {
        let arn = "arn:aws:ssm:eu-west-1:123456789012:parameter";
        assert_eq!(name_of(&format!("{arn}/prod/orders")), "/prod/orders");
        assert_eq!(name_of(&format!("{arn}/orders")), "orders");
        assert_eq!(name_of("/prod/orders"), "/prod/orders");
        assert_eq!(name_of("orders"), "orders");
    }
}
