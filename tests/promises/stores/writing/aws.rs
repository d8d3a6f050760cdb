use std::hash::{BuildHasher, RandomState};

use pgswivel::config;
use pgswivel::stores::{
    self, Change, NextPlace, SecretsManagerStore, SecretsManagerWriter, SsmStore, WritableStore, WriteError,
};
use serde_json::json;

use super::{Place, keeps_everything, login, look, positions};
use crate::stores::aws::{keys, settings};
use crate::stores::contract::CANARY;
use crate::support::aws::{Aws, Secret};

fn endpoint(aws: &Aws) -> config::Aws {
    config::Aws {
        region: None,
        endpoint: Some(aws.url()),
    }
}

struct Parameter<'a> {
    aws: &'a Aws,
    name: String,
}

impl<'a> Parameter<'a> {
    fn new(aws: &'a Aws) -> Self {
        let name = format!("/prod/written-{:016x}", RandomState::new().hash_one(()));
        Self { aws, name }
    }
}

impl Place for Parameter<'_> {
    fn open(&self) -> Box<dyn WritableStore> {
        let store = SsmStore::new(self.name.clone(), endpoint(self.aws), None);
        store.with_settings(settings(keys())).writable()
    }

    async fn put(&self, text: &str) {
        let body = json!({
            "Name": self.name, "Value": text, "Type": "SecureString", "Overwrite": true, "KeyId": "alias/orders",
        });
        self.aws.call("AmazonSSM.PutParameter", body).await;
    }

    async fn text(&self) -> String {
        let body = json!({ "Name": self.name, "WithDecryption": true });
        let answer = self.aws.call("AmazonSSM.GetParameter", body).await;
        answer["Parameter"]["Value"].as_str().unwrap().to_owned()
    }
}

aws_promise! {
    async fn a_parameter_keeps_the_contract_of_writing(aws) {
        let parameter = Parameter::new(aws);
        keeps_everything(&parameter).await;
    }
}

aws_promise! {
    /// A write that says nothing of the key would move the password under the account's default key.
    async fn a_parameter_stays_a_secure_string_under_its_key(aws) {
        let parameter = Parameter::new(aws);
        parameter.put(&positions("app_a", 1)).await;
        let mut store = parameter.open();
        let seen = look(&mut *store).await;
        let change = Change::Stage(login("app_a", 2));
        stores::write(&mut *store, &change, &seen).await.unwrap();
        let filter = json!({ "Key": "Name", "Option": "Equals", "Values": [parameter.name] });
        let described = aws
            .call("AmazonSSM.DescribeParameters", json!({ "ParameterFilters": [filter] }))
            .await;
        let described = &described["Parameters"][0];
        assert_eq!((&described["Type"], &described["KeyId"]), (&json!("SecureString"), &json!("alias/orders")));
    }
}

aws_promise! {
    async fn a_parameter_in_the_clear_is_not_written(aws) {
        let parameter = Parameter::new(aws);
        let text = positions("app_a", 1);
        let body = json!({ "Name": parameter.name, "Value": text, "Type": "String" });
        aws.call("AmazonSSM.PutParameter", body).await;
        let mut store = parameter.open();
        let seen = look(&mut *store).await;
        let change = Change::Stage(login("app_a", 2));
        let error = stores::write(&mut *store, &change, &seen).await.unwrap_err();
        assert!(error.to_string().contains("SecureString"), "{error}");
    }
}

struct InStages<'a> {
    aws: &'a Aws,
    secret: Secret<'a>,
}

impl<'a> InStages<'a> {
    async fn new(aws: &'a Aws, text: &str) -> Self {
        let secret = aws.name_a_secret();
        secret.create(text).await;
        Self { aws, secret }
    }

    async fn at(&self, stage: &str) -> Option<String> {
        let listed = self.secret.call("DescribeSecret", json!({})).await;
        let versions = listed["VersionIdsToStages"].as_object().unwrap();
        let is_there = |stages: &serde_json::Value| stages.as_array().unwrap().contains(&json!(stage));
        let (version, _) = versions.iter().find(|(_, stages)| is_there(stages))?;
        let value = self
            .secret
            .call("GetSecretValue", json!({ "VersionId": version }))
            .await;
        Some(value["SecretString"].as_str().unwrap().to_owned())
    }
}

impl Place for InStages<'_> {
    fn open(&self) -> Box<dyn WritableStore> {
        let store = SecretsManagerStore::new(self.secret.name.clone(), endpoint(self.aws), None);
        Box::new(SecretsManagerWriter::new(store.with_settings(settings(keys()))))
    }

    /// By labels: moto forgets what it has moved when it is given a new current value.
    async fn put(&self, text: &str) {
        let version = self.secret.put_pending(text).await;
        self.secret.promote(&version).await;
    }

    async fn text(&self) -> String {
        self.at("AWSCURRENT").await.unwrap()
    }
}

fn plain(user: &str, number: u32) -> String {
    format!(r#"{{"engine":"postgres","username":"{user}","password":"{CANARY}-{number}","port":5432}}"#)
}

aws_promise! {
    async fn a_managed_secret_keeps_the_contract_of_writing(aws) {
        keeps_everything(&InStages::new(aws, &plain("app_a", 1)).await).await;
    }
}

aws_promise! {
    async fn a_plain_secret_waits_at_awspending_and_moves_by_its_labels(aws) {
        let place = InStages::new(aws, &plain("app_a", 1)).await;
        let mut store = place.open();
        let seen = look(&mut *store).await;
        assert_eq!((&seen.next, seen.next_place), (&None, NextPlace::AnyUser));
        let next = login("app_b", 2);
        let staged = stores::write(&mut *store, &Change::Stage(next.clone()), &seen).await.unwrap();
        assert_eq!((&staged.current, staged.next.as_ref()), (&login("app_a", 1), Some(&next)));
        assert_eq!(place.at("AWSPENDING").await, Some(plain("app_b", 2)));
        assert_eq!(place.text().await, plain("app_a", 1));

        let promoted = stores::write(&mut *store, &Change::Promote(next.clone()), &staged).await.unwrap();
        assert_eq!((&promoted.current, &promoted.next), (&next, &None));
        assert_eq!(promoted.previous, Some(login("app_a", 1)));
        assert_eq!(place.text().await, plain("app_b", 2));
        assert_eq!(place.at("AWSPREVIOUS").await, Some(plain("app_a", 1)));

        let third = login("app_a", 3);
        let staged = stores::write(&mut *store, &Change::Stage(third.clone()), &promoted).await.unwrap();
        let withdrawn = stores::write(&mut *store, &Change::Withdraw(third), &staged).await.unwrap();
        assert_eq!((&withdrawn.current, &withdrawn.next), (&next, &None));
        assert_eq!(place.text().await, plain("app_b", 2));
    }
}

aws_promise! {
    /// In the part of it that is nobody's login.
    async fn what_somebody_edits_while_a_login_is_staged_is_kept_when_it_becomes_current(aws) {
        let place = InStages::new(aws, &plain("app_a", 1)).await;
        let mut store = place.open();
        let seen = look(&mut *store).await;
        let next = login("app_b", 2);
        stores::write(&mut *store, &Change::Stage(next.clone()), &seen).await.unwrap();
        let edited = |text: String| text.replace("5432", "6432");
        place.secret.call("PutSecretValue", json!({
            "SecretString": edited(plain("app_a", 1)),
            "ClientRequestToken": "22222222-2222-4222-8222-222222222222",
        }))
        .await;
        let seen = look(&mut *store).await;
        assert_eq!(seen.next.as_ref(), Some(&next));
        let promoted = stores::write(&mut *store, &Change::Promote(next.clone()), &seen).await.unwrap();
        assert_eq!((&promoted.current, &promoted.next), (&next, &None));
        assert_eq!(place.text().await, edited(plain("app_b", 2)));
        assert_eq!(place.at("AWSPREVIOUS").await, Some(edited(plain("app_a", 1))));
        assert_eq!(place.at("AWSPENDING").await, None);
    }
}

aws_promise! {
    async fn a_version_that_somebody_else_made_pending_is_not_taken_for_ours(aws) {
        let place = InStages::new(aws, &plain("app_a", 1)).await;
        let mut store = place.open();
        let seen = look(&mut *store).await;
        place.secret.put_pending(&plain("app_a", 9)).await;
        let change = Change::Stage(login("app_a", 2));
        let error = stores::write(&mut *store, &change, &seen).await.unwrap_err();
        assert!(matches!(error, WriteError::Foreign(_)), "{error}");
        assert_eq!(place.at("AWSPENDING").await, Some(plain("app_a", 9)));
        let seen = look(&mut *store).await;
        let error = stores::write(&mut *store, &change, &seen).await.unwrap_err();
        assert_eq!(error, WriteError::NextIsTaken);
    }
}
