//! Links that nobody is on stand in nobody's way.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::{ask, backend, is_washed, leave};
use crate::support::admin::Scrape;
use crate::support::wire::PROTOCOL_3_0;
use crate::support::{Postgres, Swivel, Wire, eventually};

async fn login(swivel: &Swivel, database: &str, name: &str) -> Wire {
    let mut wire = Wire::connect(&swivel.address()).await;
    let parameters = [
        ("user", Swivel::USER),
        ("database", database),
        ("application_name", name),
    ];
    wire.startup(PROTOCOL_3_0, &parameters).await;
    wire.authenticate(Swivel::PASSWORD.as_bytes()).await.unwrap();
    wire.until(b'Z').await;
    wire
}

async fn started(postgres: &Postgres, section: &str) -> Swivel {
    Swivel::in_front_of(postgres)
        .trusting()
        .database(None)
        .credential(Postgres::USER, Postgres::PASSWORD)
        .upstream_line("reuse = true")
        .upstream_line("warm = 1")
        .section(section)
        .start()
        .await
}

/// Backends of the application's user in `database` that run nothing.
async fn idle(postgres: &Postgres, database: &str) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND datname = $2 AND state = 'idle'";
    let admin = postgres.admin().await;
    admin
        .query_one(sql, &[&Postgres::USER, &database])
        .await
        .unwrap()
        .get(0)
}

/// Comes and goes a few times: links of this kind are kept.
async fn is_expected(postgres: &Postgres, swivel: &Swivel, database: &str, name: &str) {
    for _ in 0..3 {
        let mut wire = login(swivel, database, name).await;
        let left = backend(&mut wire).await;
        leave(wire).await;
        is_washed(postgres, left).await;
    }
}

promise! {
    /// As Django makes and drops the databases of its tests.
    async fn a_database_that_its_last_client_has_left_can_be_dropped_copied_and_renamed_at_once(version) {
        let postgres = Postgres::start(version);
        postgres.execute(&format!("ALTER ROLE {} CREATEDB", Postgres::USER)).await;
        let swivel = started(&postgres, "").await;
        let mut desk = login(&swivel, "postgres", "desk").await;
        for (number, sql) in [
            "DROP DATABASE test_N",
            "CREATE DATABASE copy_N TEMPLATE test_N",
            "ALTER DATABASE test_N RENAME TO other_N",
        ]
        .into_iter()
        .enumerate()
        {
            let database = format!("test_{number}");
            ask(&mut desk, &format!("CREATE DATABASE {database}")).await;
            is_expected(&postgres, &swivel, &database, "tests").await;
            let mut last = login(&swivel, &database, "tests").await;
            ask(&mut last, "CREATE TABLE t (n int)").await;
            leave(last).await;
            ask(&mut desk, &sql.replace("_N", &format!("_{number}"))).await;
        }
    }
}

promise! {
    /// Each of them asks what sessions begin with, and whether anybody waits is asked all the same.
    async fn a_database_is_dropped_copied_and_renamed_while_clients_come_and_go(version) {
        let postgres = Postgres::start(version);
        let swivel = Arc::new(started(&postgres, "").await);
        let admin = postgres.admin().await;
        for (number, sql) in [
            "CREATE DATABASE copy_N TEMPLATE test_N",
            "ALTER DATABASE test_N RENAME TO other_N",
            "DROP DATABASE test_N",
        ]
        .into_iter()
        .enumerate()
        {
            let database = format!("test_{number}");
            admin.batch_execute(&format!("CREATE DATABASE {database} OWNER {}", Postgres::USER)).await.unwrap();
            let (through, name) = (Arc::clone(&swivel), database.clone());
            let clients = AbortOnDropHandle::new(tokio::spawn(async move {
                loop {
                    leave(login(&through, &name, "churn").await).await;
                    // As a script that runs again and again.
                    sleep(Duration::from_millis(30)).await;
                }
            }));
            eventually("links rest", async || idle(&postgres, &database).await > 0).await;
            let done = admin.batch_execute(&sql.replace("_N", &format!("_{number}"))).await;
            done.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
            drop(clients);
        }
    }
}

promise! {
    async fn clients_that_name_each_of_their_sessions_leave_no_links_behind(version) {
        let postgres = Postgres::start(version);
        let swivel = started(&postgres, "").await;
        for number in 0..40 {
            leave(login(&swivel, "orders", &format!("worker-{number}")).await).await;
        }
        eventually("all of them are given up", async || idle(&postgres, "orders").await == 0).await;
    }
}

promise! {
    async fn no_more_links_rest_than_the_limit_says(version) {
        let postgres = Postgres::start(version);
        let swivel = started(&postgres, "[limits]\nwarm = 2").await;
        let mut clients = Vec::new();
        for name in ["one", "two", "three", "one", "two", "three"] {
            clients.push(login(&swivel, "orders", name).await);
        }
        for wire in clients {
            leave(wire).await;
        }
        eventually("two are left", async || idle(&postgres, "orders").await == 2).await;
        let hits = Scrape::of(&swivel).await;
        assert!(hits.sum("pgswivel_limit_hits_total", &["limit=\"warm\""]) > 0.0);
    }
}

promise! {
    async fn links_that_rest_make_room_in_a_server_that_is_nearly_full(version) {
        let postgres = Postgres::version(version).setting("max_connections", "20").start();
        let swivel = started(&postgres, "").await;
        let mut clients = Vec::new();
        for _ in 0..12 {
            clients.push(login(&swivel, "orders", "pool").await);
        }
        for wire in clients {
            leave(wire).await;
        }
        let mut others = Vec::new();
        eventually("others get all connections", async || {
            if let Ok((client, connection)) = postgres.config().connect(tokio_postgres::NoTls).await {
                tokio::spawn(connection);
                others.push(client);
            }
            others.len() == 14
        })
        .await;
    }
}

promise! {
    /// One is ready for the kind that comes again and again, whoever else comes once.
    async fn a_link_is_ready_for_those_who_come_most(version) {
        let postgres = Postgres::start(version);
        let swivel = started(&postgres, "").await;
        is_expected(&postgres, &swivel, "orders", "often").await;
        let first = login(&swivel, "orders", "often").await;
        leave(login(&swivel, "orders", "once").await).await;
        let there = "SELECT application_name FROM pg_stat_activity WHERE usename = $1 AND datname = 'orders'";
        eventually("one is there, and one is ready", async || {
            let rows = postgres.admin().await.query(there, &[&Postgres::USER]).await.unwrap();
            let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
            names == ["often", "often"]
        })
        .await;
        leave(first).await;
    }
}
