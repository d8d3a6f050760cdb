//! What sequences gave to a session, which no move carries.

use std::time::Duration;

use super::{Carried, rotate};
use crate::support::{Postgres, Swivel};

const INSERT: &str = "INSERT INTO orders (what) VALUES ('a')";
/// Enough for a session to be taken for one at rest.
const A_WHILE: Duration = Duration::from_millis(120);

async fn shop(postgres: &Postgres) {
    postgres
        .execute(&format!(
            "CREATE TABLE orders (id serial PRIMARY KEY, what text); GRANT ALL ON orders, orders_id_seq TO {}; \
             CREATE FUNCTION last_order() RETURNS bigint LANGUAGE plpgsql AS \
             $$ BEGIN RETURN currval('orders_id_seq'); END $$; \
             CREATE FUNCTION latest() RETURNS bigint LANGUAGE sql AS 'SELECT last_order()'",
            Postgres::USER
        ))
        .await;
}

async fn moving_within(postgres: &Postgres, grace: &str) -> Swivel {
    Swivel::in_front_of(postgres)
        .trusting()
        .credential(Postgres::USER, Postgres::PASSWORD)
        .secret_line("sessions = \"move\"")
        .secret_line(&format!("grace = \"{grace}\""))
        .start()
        .await
}

async fn has_moved(carried: &mut Carried) -> bool {
    carried.query("SELECT pg_backend_pid()").await != [carried.backend().to_string()]
}

/// Inserts, thinks for a while, and asks for the number, until it was moved.
async fn inserts_and_asks(mut carried: Carried, ask: &str) {
    while !has_moved(&mut carried).await {
        let before = carried.query(&format!("{INSERT} RETURNING id")).await;
        tokio::time::sleep(A_WHILE).await;
        assert_eq!(carried.query(ask).await, before);
        tokio::time::sleep(A_WHILE).await;
    }
}

promise! {
    async fn a_session_that_asks_for_what_it_was_given_moves_after_it_has_asked(version) {
        let postgres = Postgres::start(version);
        shop(&postgres).await;
        let swivel = moving_within(&postgres, "6s").await;
        let mut clients = tokio::task::JoinSet::new();
        for (number, ask) in [
            "SELECT currval('orders_id_seq')",
            "SELECT lastval()",
            "BEGIN; SELECT pg_catalog.\"lastval\"(); COMMIT",
            "SELECT last_order()",
            "SELECT latest()",
            "SELECT LastVal()",
        ]
        .into_iter()
        .cycle()
        .take(18)
        .enumerate()
        {
            let mut carried = Carried::through(&swivel, &postgres, &format!("client {number}"), &[]).await;
            carried.query(INSERT).await;
            carried.query(ask).await;
            clients.spawn(inserts_and_asks(carried, ask));
        }
        rotate(&postgres, &swivel, Postgres::USER, "next").await;
        clients.join_all().await;
    }
}

promise! {
    async fn a_session_is_known_to_ask_by_the_others_of_its_database(version) {
        let postgres = Postgres::start(version);
        shop(&postgres).await;
        let swivel = moving_within(&postgres, "6s").await;
        let mut asks = Carried::through(&swivel, &postgres, "asks", &[]).await;
        asks.query(INSERT).await;
        asks.query("SELECT lastval()").await;
        let mut clients = tokio::task::JoinSet::new();
        for number in 0..12 {
            let carried = Carried::through(&swivel, &postgres, &format!("client {number}"), &[]).await;
            clients.spawn(inserts_and_asks(carried, "SELECT lastval()"));
        }
        rotate(&postgres, &swivel, Postgres::USER, "next").await;
        clients.join_all().await;
    }
}

promise! {
    async fn a_session_that_was_given_something_and_rests_moves(version) {
        let postgres = Postgres::start(version);
        shop(&postgres).await;
        let swivel = moving_within(&postgres, "8s").await;
        let mut carried = Carried::through(&swivel, &postgres, "rests", &[]).await;
        carried.query(INSERT).await;
        carried.query("SELECT lastval()").await;
        carried.query(INSERT).await;
        rotate(&postgres, &swivel, Postgres::USER, "next").await;
        carried.moves(&postgres).await;
        assert_eq!(carried.query("SELECT count(*) FROM orders").await, ["2"]);
    }
}

promise! {
    /// Postgres itself says what is lost then.
    async fn who_never_asks_moves_when_grace_is_over(version) {
        let postgres = Postgres::start(version);
        shop(&postgres).await;
        let swivel = moving_within(&postgres, "2s").await;
        let mut carried = Carried::through(&swivel, &postgres, "draws", &[]).await;
        carried.query(INSERT).await;
        carried.query("SELECT lastval()").await;
        rotate(&postgres, &swivel, Postgres::USER, "next").await;
        while !has_moved(&mut carried).await {
            carried.query(INSERT).await;
            // It thinks, and never for long.
            tokio::time::sleep(A_WHILE).await;
        }
    }
}
