use std::cell::Cell;
use std::time::Duration;

use pgswivel::config;
use pgswivel::credentials::Position;
use pgswivel::stores::{self, Operation, Reading, SecretsManagerStore, Store, Warning};
use serde_json::json;

use super::{harm, keys, refusal, settings, trouble};
use crate::stores::contract::{self, CANARY, Fault, Habitable, Login, World, leading, read};
use crate::support::aws::{Aws, REGION, Secret as Stored};
use crate::support::http::{FaultProxy, Reply};
use crate::support::swivel::Unstarted;

/// One secret behind a proxy.
pub struct Secret<'a> {
    stored: Stored<'a>,
    pub proxy: FaultProxy,
    exists: Cell<bool>,
    login: Cell<Login>,
}

impl<'a> Secret<'a> {
    pub async fn new(aws: &'a Aws) -> Self {
        Self {
            stored: aws.name_a_secret(),
            proxy: FaultProxy::before(aws.address.clone()).await,
            exists: Cell::new(false),
            login: Cell::new(Login(0)),
        }
    }

    fn store(&self) -> SecretsManagerStore {
        let aws = config::Aws {
            region: None,
            endpoint: Some(self.proxy.url()),
        };
        SecretsManagerStore::new(self.stored.name.clone(), aws, None).with_settings(settings(keys()))
    }

    async fn put_text(&self, text: &str) {
        match self.exists.replace(true) {
            true => self.stored.put(text).await,
            false => self.stored.create(text).await,
        }
    }
}

impl World for Secret<'_> {
    fn open(&self) -> Box<dyn Store> {
        Box::new(self.store())
    }

    async fn put(&self, login: Login) {
        self.login.set(login);
        self.put_text(&login.json()).await;
    }

    async fn harm(&self, fault: Fault) {
        match (fault, fault.payload()) {
            (Fault::Missing, _) => {
                self.stored
                    .call("DeleteSecret", json!({ "ForceDeleteWithoutRecovery": true }))
                    .await;
                self.exists.set(false);
            }
            // More than the service would take, but not more than somebody in between could say.
            (Fault::Large, Some(payload)) => {
                self.put_text("a new version").await;
                let text = String::from_utf8(payload).unwrap();
                self.proxy.answer(move |asked| {
                    let value = json!({ "Name": "x", "VersionId": "large", "SecretString": text });
                    asked.is_for("GetSecretValue").then(|| Reply::json(200, &value))
                });
            }
            (_, Some(payload)) => self.put_text(std::str::from_utf8(&payload).unwrap()).await,
            (fault, None) => harm(&self.proxy, fault),
        }
    }

    async fn heal(&self) {
        self.proxy.carry_all();
        self.put(self.login.get()).await;
    }
}

impl Habitable for Secret<'_> {
    fn settle(&self, swivel: Unstarted) -> Unstarted {
        let endpoint = format!("endpoint = \"{}\"", self.proxy.url());
        swivel
            .store("aws-secretsmanager", &self.stored.name)
            .secret_line(&endpoint)
            .environment("AWS_REGION", REGION)
            .environment("AWS_ACCESS_KEY_ID", "AKID")
            .environment("AWS_SECRET_ACCESS_KEY", "SECRET")
    }
}

fn found(reading: &Reading) -> Vec<(Position, &str)> {
    let found = reading.credentials.iter();
    found
        .map(|credential| (credential.position, &*credential.user))
        .collect()
}

aws_promise! {
    async fn a_secret_keeps_the_contract(aws) {
        let secret = Secret::new(aws).await;
        contract::gives_what_is_there_and_names_it_stably(&secret).await;
        let faults = [
            Fault::Missing, Fault::Denied, Fault::Empty, Fault::Garbage, Fault::Partial, Fault::Large,
            Fault::Slow, Fault::Unreachable, Fault::Throttled,
        ];
        contract::says_what_is_wrong_and_recovers(&secret, &faults).await;
    }
}

aws_promise! {
    async fn a_secret_is_never_mixed_from_two_values(aws) {
        contract::never_mixes_two_values(&Secret::new(aws).await, 40).await;
    }
}

aws_promise! {
    async fn a_secret_has_its_age(aws) {
        contract::tells_when_it_was_made(&Secret::new(aws).await).await;
    }
}

aws_promise! {
    async fn a_secret_is_in_no_log_line(aws) {
        contract::logs_no_secret(&Secret::new(aws).await).await;
    }
}

aws_promise! {
    /// createSecret, then finishSecret: the value was seen while it was pending, so its promotion costs
    /// nothing but the description that tells of it.
    async fn a_rotation_is_followed_from_pending_to_current_to_previous(aws) {
        let secret = Secret::new(aws).await;
        secret.put(Login(1)).await;
        let mut store = secret.open();
        assert_eq!(found(&read(&mut *store).await), [(Position::Current, "app_1")]);
        let old = secret.stored.current_version().await;

        let new = secret.stored.put_pending(&Login(2).json()).await;
        let during = read(&mut *store).await;
        assert_eq!(found(&during), [(Position::Current, "app_1"), (Position::Next, "app_2")]);
        assert_eq!(during.read_by, Some(Duration::from_secs(2)));
        assert_eq!(&*during.credentials[1].version, new);

        secret.stored.move_stage("AWSCURRENT", Some(&old), Some(&new)).await;
        let after = read(&mut *store).await;
        assert_eq!(found(&after), [(Position::Current, "app_2"), (Position::Previous, "app_1")]);
        assert_eq!(&*after.credentials[0].version, new);
        assert_eq!(&*after.credentials[1].version, old);
        assert_eq!(store.calls().of(Operation::DescribeSecret), 3);
        assert_eq!(store.calls().of(Operation::GetSecretValue), 2);
    }
}

aws_promise! {
    async fn a_poll_costs_one_description_and_a_change_one_value_a_stage(aws) {
        let secret = Secret::new(aws).await;
        secret.put(Login(1)).await;
        let mut store = secret.open();
        let polls_an_hour = 12;
        for _ in 0..polls_an_hour {
            assert_eq!(leading(&read(&mut *store).await), 1);
        }
        let calls = store.calls();
        let hour: Vec<_> = calls.made().map(|(operation, count)| (operation.label(), count)).collect();
        println!("{:?}: calls in an hour of polls every 5 minutes: {hour:?}", aws.stand_in);
        assert_eq!(hour, [("describe_secret", polls_an_hour), ("get_secret_value", 1)]);

        secret.stored.put_pending(&Login(2).json()).await;
        for _ in 0..10 {
            assert_eq!(read(&mut *store).await.credentials.len(), 2);
        }
        assert_eq!(calls.of(Operation::DescribeSecret), polls_an_hour + 10);
        assert_eq!(calls.of(Operation::GetSecretValue), 2);
    }
}

aws_promise! {
    /// A rotation labels the version first and fills it later; a failed one may never do so.
    async fn a_pending_version_without_a_value_is_no_error(aws) {
        let secret = Secret::new(aws).await;
        secret.put(Login(1)).await;
        secret.stored.put_pending(&Login(2).json()).await;
        secret.proxy.answer(|asked| {
            let is_pending = asked.is_for("GetSecretValue")
                && String::from_utf8_lossy(&asked.body).contains("AWSPENDING");
            let words = "Secrets Manager can't find the specified secret value for staging label: AWSPENDING";
            is_pending.then(|| refusal(400, "ResourceNotFoundException", words))
        });
        let mut store = secret.open();
        for _ in 0..5 {
            let reading = read(&mut *store).await;
            assert_eq!(found(&reading), [(Position::Current, "app_1")]);
            assert_eq!(reading.skipped, []);
            assert_eq!(reading.read_by, Some(Duration::from_secs(2)));
        }
        assert_eq!(store.calls().of(Operation::GetSecretValue), 2);

        // Somebody's login was refused: the value may be there by now.
        secret.proxy.carry_all();
        store.refused("any");
        let reading = read(&mut *store).await;
        assert_eq!(found(&reading), [(Position::Current, "app_1"), (Position::Next, "app_2")]);
    }
}

aws_promise! {
    async fn a_pending_version_that_is_current_is_the_current_one(aws) {
        let secret = Secret::new(aws).await;
        secret.put(Login(1)).await;
        let current = secret.stored.current_version().await;
        secret.stored.move_stage("AWSPENDING", None, Some(&current)).await;
        let mut store = secret.open();
        let reading = read(&mut *store).await;
        assert_eq!(found(&reading), [(Position::Current, "app_1")]);
        assert_eq!(reading.read_by, None);
        assert_eq!(store.calls().of(Operation::GetSecretValue), 1);
    }
}

aws_promise! {
    async fn a_pending_version_that_is_garbage_is_reported_and_skipped(aws) {
        let secret = Secret::new(aws).await;
        secret.put(Login(1)).await;
        secret.stored.put_pending(&format!("{CANARY} is not JSON")).await;
        let mut store = secret.open();
        for _ in 0..3 {
            let reading = read(&mut *store).await;
            assert_eq!(found(&reading), [(Position::Current, "app_1")]);
            assert_eq!(reading.skipped.len(), 1);
            assert_eq!(reading.skipped[0].position, Position::Next);
            assert_eq!(reading.skipped[0].why.label(), "unparsable");
        }
        assert_eq!(store.calls().of(Operation::GetSecretValue), 2);
    }
}

aws_promise! {
    async fn trouble_with_the_pending_version_leaves_the_current_one(aws) {
        let secret = Secret::new(aws).await;
        secret.put(Login(1)).await;
        secret.stored.put_pending(&Login(2).json()).await;
        secret.proxy.answer(|asked| {
            let is_pending = asked.is_for("GetSecretValue")
                && String::from_utf8_lossy(&asked.body).contains("AWSPENDING");
            is_pending.then(|| trouble(Fault::Throttled))
        });
        let mut store = secret.open();
        let reading = read(&mut *store).await;
        assert_eq!(found(&reading), [(Position::Current, "app_1")]);
        assert_eq!(reading.skipped[0].why.label(), "throttled");
        secret.proxy.carry_all();
        let reading = read(&mut *store).await;
        assert_eq!(found(&reading), [(Position::Current, "app_1"), (Position::Next, "app_2")]);
    }
}

aws_promise! {
    async fn who_may_only_get_values_still_gets_them(aws) {
        let secret = Secret::new(aws).await;
        secret.put(Login(1)).await;
        secret.stored.put_pending(&Login(2).json()).await;
        secret.proxy.answer(|asked| {
            asked.is_for("DescribeSecret").then(|| trouble(Fault::Denied))
        });
        let mut store = secret.open();
        let reading = read(&mut *store).await;
        assert_eq!(found(&reading), [(Position::Current, "app_1"), (Position::Next, "app_2")]);
        assert_eq!(store.warning(), Some(Warning::CannotDescribe));
        secret.put(Login(3)).await;
        assert_eq!(leading(&read(&mut *store).await), 3);

        secret.proxy.carry_all();
        assert_eq!(leading(&read(&mut *store).await), 3);
        assert_eq!(store.warning(), None);
    }
}

aws_promise! {
    async fn a_secret_that_waits_for_its_deletion_is_missing_until_it_is_restored(aws) {
        let secret = Secret::new(aws).await;
        secret.put(Login(1)).await;
        let mut store = secret.open();
        assert_eq!(leading(&read(&mut *store).await), 1);
        secret.stored.call("DeleteSecret", json!({ "RecoveryWindowInDays": 7 })).await;
        let error = stores::read(&mut *store).await.unwrap_err();
        assert_eq!(error.label(), "missing");
        assert!(error.to_string().contains(&format!("looked for in {REGION}")), "{error}");
        secret.stored.call("RestoreSecret", json!({})).await;
        assert_eq!(leading(&read(&mut *store).await), 1);
    }
}

aws_promise! {
    /// The description is ahead of the value: the label has just moved, or not arrived everywhere.
    async fn a_version_that_is_described_and_not_there_yet_is_unsettled(aws) {
        let secret = Secret::new(aws).await;
        secret.put(Login(1)).await;
        secret.proxy.answer(|asked| {
            let words = "Secrets Manager can't find the specified secret value";
            asked.is_for("GetSecretValue").then(|| refusal(400, "ResourceNotFoundException", words))
        });
        let mut store = secret.open();
        assert_eq!(stores::read(&mut *store).await.unwrap_err().label(), "unsettled");
    }
}

aws_promise! {
    async fn a_host_in_the_secret_is_told_and_nothing_more(aws) {
        let secret = Secret::new(aws).await;
        let text = json!({
            "engine": "postgres", "host": "db.internal", "port": "5433", "dbname": "orders",
            "username": "app_1", "password": Login(1).password(),
        });
        secret.put_text(&text.to_string()).await;
        let host = read(&mut secret.store()).await.host.unwrap();
        assert_eq!((host.host.as_str(), host.port), ("db.internal", Some(5433)));
    }
}

aws_promise! {
    async fn keys_that_ended_and_clocks_that_differ_cost_one_call_and_hide_nothing_of_what_they_are(aws) {
        let secret = Secret::new(aws).await;
        secret.put(Login(1)).await;
        let mut store = secret.open();
        for (code, message, label) in [
            ("ExpiredTokenException", "The security token included in the request is expired", "expired"),
            ("UnrecognizedClientException", "The security token included in the request is invalid.", "expired"),
            ("InvalidSignatureException", "Signature expired: 20260101T000000Z is now earlier than", "clock"),
        ] {
            secret.proxy.answer(move |_| Some(refusal(400, code, message)));
            let before = secret.proxy.count_all();
            let error = stores::read(&mut *store).await.unwrap_err();
            assert_eq!(error.label(), label, "{error}");
            assert_eq!(secret.proxy.count_all(), before + 1, "{code}");
            assert_eq!(store.warning(), None, "{code}");
        }
        secret.proxy.carry_all();
        assert_eq!(leading(&read(&mut *store).await), 1);
    }
}
