//! The SDK's own chain of settings and credentials, which only a process with an environment of its own
//! can show: the test runs itself again.

use std::process::Stdio;

use pgswivel::config::{self, Source};
use pgswivel::stores;
use serde_json::json;

use crate::stores::contract::Login;
use crate::support::aws::{Aws, REGION, StandIn};
use crate::support::http::{Asked, FaultProxy, HttpServer, Reply};

const SECRET: &str = "PGSWIVEL_TEST_SECRET";
/// How often it is read.
const READS: &str = "PGSWIVEL_TEST_READS";

/// Reads the secret that the environment names and prints what came of it.
#[tokio::test]
#[ignore = "run by the promises below, with an environment of its own"]
async fn in_a_process_of_its_own() {
    let Ok(id) = std::env::var(SECRET) else {
        return;
    };
    let aws = config::Aws::default();
    let mut store = crate::stores::open(match id.starts_with('/') {
        true => Source::AwsSsm { id, aws },
        false => Source::AwsSecretsManager { id, aws },
    });
    let reads = std::env::var(READS).map_or(1, |reads| reads.parse().unwrap());
    for _ in 0..reads {
        match stores::read(&mut *store).await {
            Ok(reading) => println!("read {}", reading.credentials[0].user),
            Err(error) => println!("failed {} {error}", error.label()),
        }
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

/// Takes no keys but the new ones; whoever comes with others has others from then on.
async fn only_new_keys(aws: &Aws, renew: impl Fn() + Send + 'static) -> FaultProxy {
    let proxy = FaultProxy::before(aws.address.clone()).await;
    proxy.answer(move |asked: &Asked| {
        let signed = asked.headers["authorization"].to_str().unwrap();
        if signed.contains("AKIDNEW") {
            return None;
        }
        renew();
        let code = "ExpiredTokenException";
        let body =
            json!({ "__type": code, "message": "The security token included in the request is expired" });
        Some(Reply::json(400, &body).with_header("x-amzn-errortype", code))
    });
    proxy
}

#[tokio::test]
async fn keys_in_a_file_are_loaded_anew_when_those_at_hand_have_ended() {
    let aws = Aws::of(StandIn::Moto).await;
    a_secret(&aws, "chain/renewed").await;
    let parameter = json!({ "Name": "/chain/renewed", "Type": "SecureString", "Value": Login(2).json() });
    aws.call("AmazonSSM.PutParameter", parameter).await;
    for (id, user) in [("chain/renewed", "app_1"), ("/chain/renewed", "app_2")] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("keys");
        let write = |file: &std::path::Path, key: &str| {
            let keys = format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = SECRET\n");
            std::fs::write(file, keys).unwrap();
        };
        write(&file, "AKIDOLD");
        let proxy = only_new_keys(&aws, {
            let file = file.clone();
            move || write(&file, "AKIDNEW")
        })
        .await;
        let environment = [
            ("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap()),
            ("AWS_REGION", REGION),
            ("AWS_ENDPOINT_URL", &proxy.url()),
            (READS, "2"),
        ];
        let said = elsewhere(id, &environment).await;
        assert!(said.contains("failed expired"), "{said}");
        assert!(said.contains(&format!("read {user}")), "{said}");
    }
}

#[tokio::test]
async fn keys_of_a_container_are_asked_for_anew_when_those_at_hand_have_ended() {
    let aws = Aws::of(StandIn::Moto).await;
    a_secret(&aws, "chain/renewed-role").await;
    let key = std::sync::Arc::new(std::sync::Mutex::new("AKIDOLD"));
    let role = HttpServer::start({
        let key = std::sync::Arc::clone(&key);
        move |_| {
            let key = *key.lock().unwrap();
            async move {
                let keys = json!({
                    "AccessKeyId": key, "SecretAccessKey": "SECRET", "Token": "TOKEN",
                    "Expiration": "2099-01-01T00:00:00Z",
                });
                Reply::json(200, &keys)
            }
        }
    })
    .await;
    let proxy = only_new_keys(&aws, move || *key.lock().unwrap() = "AKIDNEW").await;
    let environment = [
        (
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            &*format!("{}/role", role.url()),
        ),
        ("AWS_REGION", REGION),
        ("AWS_ENDPOINT_URL", &proxy.url()),
        (READS, "2"),
    ];
    let said = elsewhere("chain/renewed-role", &environment).await;
    assert!(said.contains("failed expired"), "{said}");
    assert!(said.contains("read app_1"), "{said}");
}

/// An STS that knows nobody.
async fn sts_that_says(status: u16, code: &'static str, message: &'static str) -> HttpServer {
    HttpServer::start(move |_| async move {
        let body = format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
             <Code>{code}</Code><Message>{message}</Message></Error><RequestId>1</RequestId></ErrorResponse>"
        );
        Reply::Say {
            status,
            headers: vec![("content-type", "text/xml".to_owned())],
            body: body.into(),
        }
    })
    .await
}

#[tokio::test]
async fn an_identity_that_sts_refuses_is_told_from_a_network_that_fails() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "signed by the cluster").unwrap();
    let settings = directory.path().join("settings");
    let profile = format!(
        "[profile orders]\nregion = {REGION}\nrole_arn = arn:aws:iam::123456789012:role/orders\n\
         source_profile = base\n[profile base]\naws_access_key_id = AKID\naws_secret_access_key = SECRET\n"
    );
    std::fs::write(&settings, profile).unwrap();
    let refusals = [
        (
            403,
            "AccessDenied",
            "Not authorized to perform sts:AssumeRole",
            "denied",
            "nobody to the store",
        ),
        (
            400,
            "ExpiredTokenException",
            "Token expired",
            "expired",
            "does not take this process's keys",
        ),
        (
            400,
            "InvalidIdentityToken",
            "No OpenIDConnect provider found",
            "denied",
            "nobody to the store",
        ),
        (
            400,
            "IDPRejectedClaim",
            "wrong audience",
            "denied",
            "nobody to the store",
        ),
        (
            403,
            "InvalidClientTokenId",
            "The security token is invalid",
            "expired",
            "does not take",
        ),
    ];
    for (status, code, message, label, words) in refusals {
        let sts = sts_that_says(status, code, message).await;
        let url = sts.url();
        let endpoint = ("AWS_ENDPOINT_URL_STS", url.as_str());
        let account = [
            ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
            ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/orders"),
            ("AWS_REGION", REGION),
            endpoint,
        ];
        let role = [
            ("AWS_PROFILE", "orders"),
            ("AWS_CONFIG_FILE", settings.to_str().unwrap()),
            endpoint,
        ];
        // A profile's role never has a token of the cluster's to show.
        let ways: &[&[(&str, &str)]] = match code {
            "InvalidIdentityToken" | "IDPRejectedClaim" => &[&account],
            "InvalidClientTokenId" => &[&role],
            _ => &[&account, &role],
        };
        for environment in ways {
            let said = elsewhere("prod/orders", environment).await;
            assert!(said.contains(&format!("failed {label} ")), "{code}: {said}");
            assert!(said.contains(words), "{code}: {said}");
            assert!(said.contains(&format!("STS: {code}")), "{code}: {said}");
            assert!(said.contains(message), "{code}: {said}");
        }
    }
    // Nobody is there at all.
    let account = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/orders"),
        ("AWS_REGION", REGION),
        ("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1"),
    ];
    let said = elsewhere("prod/orders", &account).await;
    assert!(said.contains("failed unreachable"), "{said}");
}

#[tokio::test]
async fn a_container_s_role_that_gives_no_keys_is_told_from_a_network_that_fails() {
    for (status, label) in [(403, "denied"), (404, "denied"), (503, "unreachable")] {
        let role =
            HttpServer::start(move |_| async move { Reply::json(status, &json!({ "message": "no" })) }).await;
        let url = format!("{}/role", role.url());
        let environment = [
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()),
            ("AWS_REGION", REGION),
        ];
        let said = elsewhere("prod/orders", &environment).await;
        assert!(said.contains(&format!("failed {label} ")), "{status}: {said}");
    }
}
