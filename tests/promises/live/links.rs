//! Links that no session is on: they go with the configuration that they were made for.

use tokio_postgres::Client;

use crate::support::{Postgres, Swivel, eventually};

async fn backend(client: &Client) -> i32 {
    let row = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap();
    row.get(0)
}

/// Backends of the application's user.
async fn backends(postgres: &Postgres) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1";
    let admin = postgres.admin().await;
    admin.query_one(sql, &[&Postgres::USER]).await.unwrap().get(0)
}

async fn are_backends(postgres: &Postgres, count: i64) {
    eventually(&format!("there are {count} backends"), async || {
        backends(postgres).await == count
    })
    .await;
}

#[tokio::test]
async fn links_that_were_made_ready_are_closed_and_made_anew_as_the_change_wants_them() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres)
        .upstream_line("warm = 2")
        .start()
        .await;
    let session = swivel.connect().await;
    are_backends(&postgres, 3).await;
    swivel.rewrite("warm = 2", "warm = 0").await;
    are_backends(&postgres, 1).await;
    swivel.rewrite("warm = 0", "warm = 3").await;
    let next = swivel.connect().await;
    are_backends(&postgres, 5).await;
    assert_ne!(backend(&session).await, backend(&next).await);
}

#[tokio::test]
async fn a_link_to_where_the_upstream_was_before_is_lent_to_nobody() {
    let (first, second) = (Postgres::start(18), Postgres::start(15));
    let swivel = Swivel::in_front_of(&first)
        .upstream_line("reuse = true")
        .start()
        .await;
    let session = swivel.connect().await;
    swivel.rewrite(&first.address(), &second.address()).await;
    let beside = swivel.connect().await;
    drop(session);
    are_backends(&first, 0).await;
    let next = swivel.connect().await;
    for client in [beside, next] {
        let version = client.query_one("SHOW server_version_num", &[]).await.unwrap();
        assert!(version.get::<_, &str>(0).starts_with("15"));
    }
}

#[tokio::test]
async fn links_of_a_role_that_is_removed_are_closed() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres)
        .upstream_line("warm = 1")
        .start()
        .await;
    let before = swivel.written();
    swivel
        .add("[role.report]\npassword = \"reports-only\"\nupstream = \"orders\"\nsecret = \"orders\"\n")
        .await;
    let mut config = swivel.config();
    config.user("report").password("reports-only");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    are_backends(&postgres, 2).await;
    drop(client);
    connection.await.unwrap().unwrap();
    are_backends(&postgres, 1).await;
    swivel.reconfigure(&before).await;
    are_backends(&postgres, 0).await;
}
