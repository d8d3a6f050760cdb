//! Backups, log streaming and subscriptions through pgswivel.

use tokio_postgres::Client;

use crate::moves::rotate;
use crate::support::wire::PROTOCOL_3_0;
use crate::support::{Postgres, Swivel, Wire, eventually};

async fn replicating(version: u16, wal_level: &str) -> Postgres {
    let postgres = Postgres::version(version).setting("wal_level", wal_level).start();
    postgres
        .execute(&format!("ALTER ROLE {} REPLICATION", Postgres::USER))
        .await;
    postgres
        .execute("CREATE TABLE orders (n int PRIMARY KEY); INSERT INTO orders VALUES (1)")
        .await;
    postgres
}

async fn text(client: &Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

fn succeeds(mut tool: std::process::Command) {
    let output = tool.output().unwrap();
    assert!(
        output.status.success(),
        "{tool:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

promise! {
    async fn a_base_backup_is_taken_with_its_log_streamed_beside_it(version) {
        let postgres = replicating(version, "replica").await;
        let swivel = Swivel::in_front_of(&postgres).start().await;
        let directory = tempfile::tempdir().unwrap();
        let backup = directory.path().join("backup");
        let mut tool = swivel.tool("pg_basebackup");
        tool.args(["--wal-method=stream", "--checkpoint=fast", "--no-sync", "--pgdata"]);
        tool.arg(&backup);
        succeeds(tool);
        let mut verify = swivel.tool("pg_verifybackup");
        verify.arg(&backup);
        succeeds(verify);
    }
}

promise! {
    async fn the_log_is_received_up_to_a_point(version) {
        let postgres = replicating(version, "replica").await;
        let swivel = Swivel::in_front_of(&postgres).start().await;
        let directory = tempfile::tempdir().unwrap();
        let admin = postgres.admin().await;
        let mut slot = swivel.tool("pg_receivewal");
        slot.args(["--slot=promise", "--create-slot"]);
        succeeds(slot);
        let end = text(&admin, "SELECT pg_current_wal_insert_lsn()::text").await;
        postgres.execute("INSERT INTO orders VALUES (2)").await;
        let mut receive = swivel.tool("pg_receivewal");
        receive.args(["--slot=promise", "--no-loop", "--no-sync", "--endpos", &end, "--directory"]);
        receive.arg(directory.path());
        succeeds(receive);
        let mut received = std::fs::read_dir(directory.path()).unwrap();
        let segment = received.next().expect("a segment of the log").unwrap().path();
        assert!(std::fs::read(segment).unwrap().iter().any(|byte| *byte != 0));
    }
}

promise! {
    async fn a_subscriber_follows_its_publisher(version) {
        let publisher = replicating(version, "logical").await;
        publisher.execute(&format!("ALTER TABLE orders OWNER TO {}", Postgres::USER)).await;
        publisher.execute("CREATE PUBLICATION promise FOR TABLE orders").await;
        let swivel = Swivel::in_front_of(&publisher).start().await;
        let subscriber = Postgres::start(version);
        let follower = subscriber.admin_of(Postgres::DATABASE).await;
        follower.batch_execute("CREATE TABLE orders (n int PRIMARY KEY)").await.unwrap();
        let subscribe = format!(
            "CREATE SUBSCRIPTION promise CONNECTION \
             'host=127.0.0.1 port={} user={} password={} dbname={} sslmode=disable' PUBLICATION promise",
            swivel.port(),
            Swivel::USER,
            Swivel::PASSWORD,
            Postgres::DATABASE
        );
        follower.batch_execute(&subscribe).await.unwrap();
        publisher.execute("INSERT INTO orders SELECT generate_series(2, 1000)").await;
        eventually("every row arrives", async || {
            text(&follower, "SELECT count(*)::text FROM orders").await == "1000"
        })
        .await;
        follower.batch_execute("DROP SUBSCRIPTION promise").await.unwrap();
    }
}

promise! {
    /// It never rests, and can't move.
    async fn replication_under_cut_ends_at_the_deadline_and_says_why(version) {
        let postgres = replicating(version, "replica").await;
        let swivel = Swivel::in_front_of(&postgres)
            .secret_line("sessions = \"cut\"")
            .secret_line("grace = \"1s\"")
            .start()
            .await;
        let mut wire = Wire::connect(&swivel.address()).await;
        let parameters = [("user", Swivel::USER), ("database", Postgres::DATABASE), ("replication", "true")];
        wire.startup(PROTOCOL_3_0, &parameters).await;
        wire.authenticate(Swivel::PASSWORD.as_bytes()).await.unwrap();
        wire.until(b'Z').await;
        let at = text(&postgres.admin().await, "SELECT pg_current_wal_insert_lsn()::text").await;
        wire.query(&format!("START_REPLICATION PHYSICAL {at}")).await;
        wire.expect(b'W').await;
        rotate(&postgres, &swivel, Postgres::USER, "next").await;
        let last = wire.rest().await.pop().expect("a last word").error();
        assert_eq!((last.severity.as_str(), last.code.as_str()), ("FATAL", "57P01"));
        assert!(last.message.contains("replication"), "{}", last.message);
        eventually("its backend ends", async || {
            text(&postgres.admin().await, "SELECT count(*)::text FROM pg_stat_replication").await == "0"
        })
        .await;
    }
}
