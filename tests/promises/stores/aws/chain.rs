//! The SDK's own chain of settings and credentials, which only a process with an environment of its own
//! can show: the test runs itself again.

use std::process::Stdio;

use pgswivel::config::{self, Source};
use pgswivel::stores;
use serde_json::json;

use crate::stores::contract::Login;
use crate::support::aws::{Aws, REGION, StandIn};
use crate::support::http::{HttpServer, Reply};

const SECRET: &str = "PGSWIVEL_TEST_SECRET";

/// Reads the secret that the environment names and prints what came of it.
#[tokio::test]
#[ignore = "run by the promises below, with an environment of its own"]
async fn in_a_process_of_its_own() {
    let Ok(id) = std::env::var(SECRET) else {
        return;
    };
    let aws = config::Aws::default();
    let mut store = crate::stores::open(Source::AwsSecretsManager { id, aws });
    match stores::read(&mut *store).await {
        Ok(reading) => println!("read {}", reading.credentials[0].user),
        Err(error) => println!("failed {} {error}", error.label()),
    }
}

async fn elsewhere(id: &str, environment: &[(&str, &str)]) -> String {
    let output = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "stores::aws::chain::in_a_process_of_its_own",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env_clear()
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env(SECRET, id)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

async fn a_secret(aws: &Aws, name: &str) -> String {
    let body = json!({ "Name": name, "SecretString": Login(1).json() });
    let created = aws.call("secretsmanager.CreateSecret", body).await;
    created["ARN"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn keys_and_endpoint_come_from_the_environment_and_the_region_from_the_arn() {
    let aws = Aws::of(StandIn::Moto).await;
    let arn = a_secret(&aws, "chain/environment").await;
    let said = elsewhere(
        &arn,
        &[
            ("AWS_ACCESS_KEY_ID", "AKID"),
            ("AWS_SECRET_ACCESS_KEY", "SECRET"),
            ("AWS_REGION", "us-west-1"),
            ("AWS_ENDPOINT_URL", &format!("http://{}", aws.address)),
        ],
    )
    .await;
    assert!(said.contains("read app_1"), "{said}");
}

#[tokio::test]
async fn a_container_gets_its_keys_from_its_role() {
    let aws = Aws::of(StandIn::Moto).await;
    a_secret(&aws, "chain/container").await;
    let role = HttpServer::start(|asked| async move {
        let authorization = asked.headers.get("authorization").map(|value| value.as_bytes());
        if authorization != Some(b"task-token") {
            return Reply::json(403, &json!({ "message": "no" }));
        }
        Reply::json(
            200,
            &json!({
                "AccessKeyId": "AKID", "SecretAccessKey": "SECRET", "Token": "TOKEN",
                "Expiration": "2099-01-01T00:00:00Z",
            }),
        )
    })
    .await;
    let said = elsewhere(
        "chain/container",
        &[
            (
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                &format!("{}/role", role.url()),
            ),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "task-token"),
            ("AWS_REGION", REGION),
            (
                "AWS_ENDPOINT_URL_SECRETS_MANAGER",
                &format!("http://{}", aws.address),
            ),
        ],
    )
    .await;
    assert!(said.contains("read app_1"), "{said}");
}

#[tokio::test]
async fn a_profile_and_a_service_account_s_token_are_ways_in_too() {
    let aws = Aws::of(StandIn::Moto).await;
    a_secret(&aws, "chain/machine").await;
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let keys = file(
        "keys",
        "[orders]\naws_access_key_id = AKID\naws_secret_access_key = SECRET\n",
    );
    let settings = file("settings", &format!("[profile orders]\nregion = {REGION}\n"));
    let endpoint = ("AWS_ENDPOINT_URL", &*format!("http://{}", aws.address));
    let profile = [
        ("AWS_PROFILE", "orders"),
        ("AWS_CONFIG_FILE", &settings),
        ("AWS_SHARED_CREDENTIALS_FILE", &keys),
        endpoint,
    ];
    let said = elsewhere("chain/machine", &profile).await;
    assert!(said.contains("read app_1"), "{said}");

    let token = file("token", "signed by the cluster");
    let mut account = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/orders"),
        ("AWS_REGION", REGION),
        endpoint,
    ];
    let said = elsewhere("chain/machine", &account).await;
    assert!(said.contains("read app_1"), "{said}");
    account[0].1 = "/nonexistent/token";
    let said = elsewhere("chain/machine", &account).await;
    assert!(said.contains("failed denied"), "{said}");
}

#[tokio::test]
async fn without_keys_access_is_denied_and_without_a_region_nothing_is_asked() {
    let said = elsewhere("prod/orders", &[("AWS_REGION", REGION)]).await;
    assert!(said.contains("failed denied"), "{said}");
    assert!(said.contains("no AWS credentials were found"), "{said}");
    let said = elsewhere("prod/orders", &[]).await;
    assert!(said.contains("failed unsuitable"), "{said}");
    assert!(said.contains("AWS_REGION"), "{said}");
}
