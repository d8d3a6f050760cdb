//! Real client drivers, each running its own program directly and through pgswivel.
//!
//! `tests/drivers/run` compares what the programs print; `tests/drivers/setup` installs the drivers.

use std::path::Path;
use std::process::Command;

use crate::support::{Postgres, Swivel, skipped};

/// Runs the driver's program at both ends of a pgswivel that speaks TLS to its clients too.
async fn can_not_tell_the_difference(driver: &str, version: u16) {
    let postgres = Postgres::start(version);
    let swivel = Swivel::in_front_of(&postgres)
        .with_tls()
        .database(None)
        .start()
        .await;
    let (user, password) = (Postgres::USER, Postgres::PASSWORD);
    let (address, database) = (postgres.address(), Postgres::DATABASE);
    let direct = format!("postgres://{user}:{password}@{address}/{database}");

    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers/run");
    let output = Command::new(run)
        .args([&direct, &swivel.url(), "--only", driver])
        .env("CA_FILE_DIRECT", postgres.authority().file())
        .env("CA_FILE_THROUGH", swivel.authority().file())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complaints}");
    if said.contains("SKIPPED") {
        skipped(&said);
    } else {
        assert!(said.ends_with("1 passed, 0 failed\n"), "{said}{complaints}");
    }
}

promise! {
    async fn psycopg_can_not_tell_the_difference(version) {
        can_not_tell_the_difference("psycopg", version).await;
    }
}

promise! {
    async fn asyncpg_can_not_tell_the_difference(version) {
        can_not_tell_the_difference("asyncpg", version).await;
    }
}

// The others on 18 alone, for time's sake, and because tokio-postgres and postgres.js do not wait for their
// cancel requests to end: before 18 a server signals a backend twice, the second time perhaps too late.

#[tokio::test]
async fn psql_can_not_tell_the_difference() {
    can_not_tell_the_difference("psql", 18).await;
}

#[tokio::test]
async fn pgbench_can_not_tell_the_difference() {
    can_not_tell_the_difference("pgbench", 18).await;
}

#[tokio::test]
async fn node_postgres_can_not_tell_the_difference() {
    can_not_tell_the_difference("node-postgres", 18).await;
}

#[tokio::test]
async fn postgres_js_can_not_tell_the_difference() {
    can_not_tell_the_difference("postgres.js", 18).await;
}

#[tokio::test]
async fn tokio_postgres_can_not_tell_the_difference() {
    can_not_tell_the_difference("tokio-postgres", 18).await;
}

#[tokio::test]
async fn sqlx_can_not_tell_the_difference() {
    can_not_tell_the_difference("sqlx", 18).await;
}

#[tokio::test]
async fn pgx_can_not_tell_the_difference() {
    can_not_tell_the_difference("pgx", 18).await;
}

#[tokio::test]
async fn lib_pq_can_not_tell_the_difference() {
    can_not_tell_the_difference("pq", 18).await;
}

#[tokio::test]
async fn jdbc_can_not_tell_the_difference() {
    can_not_tell_the_difference("jdbc", 18).await;
}
