//! Two stand-ins for AWS, whose mistakes differ: what holds in front of both is likely to hold.

use std::path::Path;
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use serde_json::Value;
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
