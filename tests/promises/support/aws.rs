//! Two stand-ins for AWS, whose mistakes differ: what holds in front of both is likely to hold.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::eventually;
use super::http::{Asked, Reply, carry};
use super::place::{Port, cache, temporary_directory};
use super::process::{As, Process, command};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandIn {
    Moto,
    Ministack,
}

pub const REGION: &str = "eu-west-1";

/// Declares one promise that is kept in front of both.
macro_rules! aws_promise {
    ($(#[doc = $doc:literal])* async fn $name:ident($aws:ident) $body:block) => {
        $(#[doc = $doc])*
        mod $name {
            use super::*;

            async fn promise($aws: &$crate::support::aws::Aws) $body

            #[tokio::test]
            async fn on_moto() {
                let aws = $crate::support::aws::Aws::of($crate::support::aws::StandIn::Moto).await;
                promise(&aws).await;
            }

            #[tokio::test]
            async fn on_ministack() {
                let aws = $crate::support::aws::Aws::of($crate::support::aws::StandIn::Ministack).await;
                promise(&aws).await;
            }
        }
    };
}

/// A stand-in that runs as long as the tests do, shared by all of them: names must be unique.
pub struct Aws {
    pub stand_in: StandIn,
    /// `host:port`
    pub address: String,
}

impl Aws {
    pub async fn of(stand_in: StandIn) -> Self {
        static MOTO: OnceLock<u16> = OnceLock::new();
        static MINISTACK: OnceLock<u16> = OnceLock::new();
        let port = match stand_in {
            StandIn::Moto => MOTO.get_or_init(|| start(stand_in)),
            StandIn::Ministack => MINISTACK.get_or_init(|| start(stand_in)),
        };
        let address = format!("127.0.0.1:{port}");
        eventually("the stand-in for AWS listens", async || {
            TcpStream::connect(&address).await.is_ok()
        })
        .await;
        Self { stand_in, address }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// One call of the JSON protocol, such as `secretsmanager.CreateSecret`. Stops the test when it fails.
    pub async fn call(&self, target: &str, body: Value) -> Value {
        let service = match target.starts_with("AmazonSSM") {
            true => "ssm",
            false => "secretsmanager",
        };
        let mut headers = hyper::HeaderMap::new();
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKID/20260101/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=0"
        );
        for (name, value) in [
            ("host", self.address.as_str()),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", target),
            ("authorization", &authorization),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let asked = Asked {
            method: "POST".to_owned(),
            target: "/".to_owned(),
            headers,
            body: body.to_string().into(),
        };
        let Reply::Say { status, body, .. } = carry(&self.address, &asked).await else {
            panic!("{target}: no answer");
        };
        assert_eq!(status, 200, "{target}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }
}

/// One secret of Secrets Manager, under a name of its own.
pub struct Secret<'a> {
    aws: &'a Aws,
    pub name: String,
}

impl Aws {
    pub fn name_a_secret(&self) -> Secret<'_> {
        Secret {
            aws: self,
            name: format!("prod/orders-{}", random_word()),
        }
    }
}

impl Secret<'_> {
    pub async fn create(&self, text: &str) {
        let body = json!({ "Name": self.name, "SecretString": text });
        self.aws.call("secretsmanager.CreateSecret", body).await;
    }

    /// A new version that is current at once.
    pub async fn put(&self, text: &str) {
        self.call("PutSecretValue", json!({ "SecretString": text })).await;
    }

    /// createSecret of a rotation: a value that waits at AWSPENDING. Returns its version.
    pub async fn put_pending(&self, text: &str) -> String {
        let token = format!("11111111-1111-4111-8111-{}", &random_word()[..12]);
        let body = json!({
            "SecretString": text,
            "VersionStages": ["AWSPENDING"],
            "ClientRequestToken": token,
        });
        self.call("PutSecretValue", body).await;
        token
    }

    /// finishSecret of a rotation.
    pub async fn promote(&self, version: &str) {
        let current = self.current_version().await;
        self.move_stage("AWSCURRENT", Some(&current), Some(version)).await;
        self.move_stage("AWSPENDING", Some(version), None).await;
    }

    pub async fn current_version(&self) -> String {
        let value = self
            .call("GetSecretValue", json!({ "VersionStage": "AWSCURRENT" }))
            .await;
        value["VersionId"].as_str().unwrap().to_owned()
    }

    pub async fn move_stage(&self, stage: &str, from: Option<&str>, to: Option<&str>) {
        let body = json!({ "VersionStage": stage, "RemoveFromVersionId": from, "MoveToVersionId": to });
        let Value::Object(mut body) = body else {
            unreachable!()
        };
        body.retain(|_, value| !value.is_null());
        self.call("UpdateSecretVersionStage", body.into()).await;
    }

    pub async fn call(&self, operation: &str, mut body: Value) -> Value {
        body["SecretId"] = self.name.as_str().into();
        self.aws.call(&format!("secretsmanager.{operation}"), body).await
    }
}

/// Sixteen hexadecimal digits.
fn random_word() -> String {
    format!("{:016x}", RandomState::new().hash_one(()))
}

/// Held by a thread that never ends, because the process is killed with the thread that started it.
fn start(stand_in: StandIn) -> u16 {
    let (started, port) = mpsc::channel();
    std::thread::spawn(move || {
        let port = Port::free();
        let directory = temporary_directory();
        let log = directory.path().join("log");
        let _process = Process::start(program(stand_in, &port, directory.path()), &log);
        started.send(port.number()).unwrap();
        loop {
            std::thread::park();
        }
    });
    port.recv_timeout(Duration::from_secs(20)).unwrap()
}

fn program(stand_in: StandIn, port: &Port, directory: &Path) -> std::process::Command {
    let name = match stand_in {
        StandIn::Moto => "moto_server",
        StandIn::Ministack => "ministack",
    };
    let path = cache().join("python/bin").join(name);
    assert!(
        path.exists(),
        "{} is missing: run `tests/setup moto`",
        path.display()
    );
    let mut command = command(&path, As::Ourselves);
    command.current_dir(directory);
    let number = port.number().to_string();
    match stand_in {
        StandIn::Moto => command.args(["-H", "127.0.0.1", "-p", &number]),
        StandIn::Ministack => command.env("BIND_HOST", "127.0.0.1").env("GATEWAY_PORT", &number),
    };
    command
}
