//! The demonstration of docker-compose.yml without Docker: its own application, rotation and configuration.

use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;

use super::{repository, run};
use crate::support::aws::{Aws, REGION, StandIn};
use crate::support::{Port, Postgres, Process, Swivel, eventually, temporary_directory};

fn python() -> PathBuf {
    // Makes the environment if it is not there yet.
    run(&["task-definition"]);
    crate::support::cache().join("deployment/python/bin/python")
}

fn demo(program: &str) -> Command {
    let mut command = Command::new(python());
    command
        .arg("-u")
        .arg(repository().join("deploy/compose/demo").join(program));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// `deploy/compose/pgswivel.toml` with the addresses that the parts have here.
fn configuration(postgres: &Postgres, aws: &Aws, secret: &str, listen: &Port, admin: &Port) -> String {
    let path = repository().join("deploy/compose/pgswivel.toml");
    let mut text = std::fs::read_to_string(path).unwrap();
    for (theirs, ours) in [
        ("127.0.0.1:6432", format!("127.0.0.1:{}", listen.number())),
        ("0.0.0.0:9632", format!("127.0.0.1:{}", admin.number())),
        ("postgres:5432", postgres.address()),
        ("http://moto:5000", aws.url()),
        ("demo/orders", secret.to_owned()),
    ] {
        assert!(text.contains(theirs), "{theirs} is not in the configuration");
        text = text.replace(theirs, &ours);
    }
    text
}

#[tokio::test]
async fn the_demonstration_rotates_and_its_application_sees_nothing() {
    let postgres = Postgres::start(18);
    let tables = repository().join("deploy/compose/postgres/orders.sql");
    postgres.execute(&std::fs::read_to_string(tables).unwrap()).await;
    let aws = Aws::of(StandIn::Moto).await;
    let (listen, admin) = (Port::free(), Port::free());
    let directory = temporary_directory();
    let secret = format!("demo/orders-{}", listen.number());
    let config = directory.path().join("pgswivel.toml");
    std::fs::write(&config, configuration(&postgres, &aws, &secret, &listen, &admin)).unwrap();

    let keys = [
        ("AWS_ACCESS_KEY_ID", "demo"),
        ("AWS_SECRET_ACCESS_KEY", "demo"),
        ("AWS_REGION", REGION),
        ("AWS_DEFAULT_REGION", REGION),
        ("PGSWIVEL_PASSWORD", "local-and-never-changed"),
    ];
    let mut swivel = Swivel::binary();
    swivel.arg("run").arg("--config").arg(&config).envs(keys);
    let log = |name: &str| directory.path().join(name);
    let swivel = Process::start(swivel, &log("pgswivel.log"));
    let mut rotation = demo("rotate.py");
    let (sockets, port) = (postgres.socket_directory().display(), postgres.port());
    rotation
        .envs(keys)
        .env("SECRET_ID", &secret)
        .env("SECRETS_ENDPOINT", aws.url())
        .env(
            "ADMIN_URL",
            format!("postgres://postgres@/orders?host={sockets}&port={port}"),
        )
        .env(
            "PGSWIVEL_METRICS",
            format!("http://127.0.0.1:{}/metrics", admin.number()),
        )
        .env("ROTATE_EVERY_S", "1")
        .env("REVOKE_PATIENCE_S", "1");
    let mut rotation = Process::start(rotation, &log("rotate.log"));
    eventually("pgswivel listens", async || {
        tokio::net::TcpStream::connect(("127.0.0.1", listen.number()))
            .await
            .is_ok()
    })
    .await;
    let mut application = demo("application.py");
    application.env(
        "DATABASE_URL",
        format!(
            "postgres://app:local-and-never-changed@127.0.0.1:{}/orders",
            listen.number()
        ),
    );
    let mut application = Process::start(application, &log("application.log"));

    eventually("it rotates three times", async || {
        assert!(rotation.exited().is_none(), "{}", rotation.log());
        assert!(
            application.exited().is_none(),
            "{}{}",
            application.log(),
            swivel.log()
        );
        rotation.log().matches("AWSCURRENT is").count() >= 3
    })
    .await;
    application.signal(Signal::SIGTERM);
    let status = application.wait();
    let said = application.log();
    assert!(status.success(), "{said}\n{}\n{}", rotation.log(), swivel.log());
    assert!(said.contains(", 0 errors"), "{said}");
    let placed = postgres
        .admin_of("orders")
        .await
        .query_one("SELECT count(*) FROM orders", &[])
        .await
        .unwrap();
    assert!(placed.get::<_, i64>(0) > 0);
}
