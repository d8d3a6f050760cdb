//! Sessions whose backend went away, and that go on.

use crate::moves::Carried;
use crate::support::{Postgres, Swivel};

async fn before(postgres: &Postgres) -> Swivel {
    Swivel::in_front_of(postgres)
        .trusting()
        .credential(Postgres::USER, Postgres::PASSWORD)
        .start()
        .await
}

impl Carried {
    /// Ends its backend as an administrator would.
    async fn is_terminated(&self, postgres: &Postgres) {
        let sql = "SELECT pg_terminate_backend($1)";
        postgres
            .admin()
            .await
            .query(sql, &[&self.backend()])
            .await
            .unwrap();
    }

    /// The SQLSTATE and the status that a query ends with.
    async fn fails(&mut self, sql: &str) -> (String, u8) {
        self.wire.query(sql).await;
        self.ends().await
    }

    async fn ends(&mut self) -> (String, u8) {
        let messages = self.wire.until(b'Z').await;
        let error = messages
            .iter()
            .find(|message| message.tag == b'E')
            .expect("an error");
        (error.error().code, messages.last().unwrap().body[0])
    }
}

promise! {
    async fn a_session_at_rest_does_not_notice_that_its_backend_was_terminated(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut carried = Carried::through(&swivel, &postgres, "at rest", &[]).await;
        carried.is_terminated(&postgres).await;
        carried.moves(&postgres).await;
        assert_eq!(carried.query("SELECT 'here'").await, ["here"]);
    }
}

promise! {
    async fn what_a_session_set_survives_its_backend(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut carried = Carried::through(&swivel, &postgres, "with settings", &[]).await;
        carried.query("SET work_mem = '5MB'").await;
        carried.query("SET app.tenant = 'me'").await;
        carried.query("LISTEN a").await;
        carried.extended(&[(b'P', b"kept\0SELECT $1::int + 1\0\0\0")]).await;
        carried.is_surveyed(&postgres).await;
        carried.is_terminated(&postgres).await;
        carried.moves(&postgres).await;
        assert_eq!(carried.query("SHOW work_mem").await, ["5MB"]);
        assert_eq!(carried.query("SHOW app.tenant").await, ["me"]);
        assert_eq!(carried.query("SELECT pg_listening_channels()").await, ["a"]);
        let answer = carried.extended(&[(b'B', b"\0kept\0\0\0\0\x01\0\0\0\x011\0\0"), (b'E', b"\0\0\0\0\0")]).await;
        assert_eq!(answer[1].first_column().as_deref(), Some("2"));
    }
}

promise! {
    async fn work_in_flight_fails_and_the_session_goes_on(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut carried = Carried::through(&swivel, &postgres, "working", &[]).await;
        carried.wire.query("SELECT pg_sleep(60)").await;
        carried.is_busy(&postgres).await;
        carried.is_terminated(&postgres).await;
        assert_eq!(carried.ends().await, ("08007".to_owned(), b'I'));
        assert_eq!(carried.query("SELECT 'here'").await, ["here"]);
    }
}

promise! {
    async fn a_transaction_is_rolled_back_and_the_client_told_with_its_next_request(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut carried = Carried::through(&swivel, &postgres, "in a transaction", &[]).await;
        carried.query("CREATE TABLE t (n int)").await;
        carried.is_surveyed(&postgres).await;
        carried.query("BEGIN").await;
        carried.query("INSERT INTO t VALUES (1)").await;
        carried.is_terminated(&postgres).await;
        carried.moves(&postgres).await;
        assert_eq!(carried.fails("INSERT INTO t VALUES (2)").await, ("57P01".to_owned(), b'E'));
        assert_eq!(carried.fails("INSERT INTO t VALUES (3)").await, ("25P02".to_owned(), b'E'));
        carried.query("ROLLBACK").await;
        assert_eq!(carried.query("SELECT count(*) FROM t").await, ["0"]);
    }
}

promise! {
    async fn a_transaction_lost_at_rest_is_not_committed_quietly(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut carried = Carried::through(&swivel, &postgres, "to be committed", &[]).await;
        carried.query("CREATE TABLE t (n int)").await;
        carried.is_surveyed(&postgres).await;
        carried.query("BEGIN").await;
        carried.query("INSERT INTO t VALUES (1)").await;
        carried.is_terminated(&postgres).await;
        carried.moves(&postgres).await;
        assert_eq!(carried.fails("COMMIT").await.0, "57P01");
        carried.query("ROLLBACK").await;
        assert_eq!(carried.query("SELECT count(*) FROM t").await, ["0"]);
    }
}

promise! {
    /// As drivers do that close a portal and never look at the answer.
    async fn a_lost_transaction_is_told_to_a_request_that_its_client_waits_for(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut carried = Carried::through(&swivel, &postgres, "closing", &[]).await;
        carried.query("CREATE TABLE t (n int)").await;
        carried.is_surveyed(&postgres).await;
        carried.query("BEGIN").await;
        carried.query("INSERT INTO t VALUES (1)").await;
        carried.is_terminated(&postgres).await;
        carried.moves(&postgres).await;
        for _ in 0..2 {
            let closed = carried.extended(&[(b'C', b"Pportal\0"), (b'C', b"Sstatement\0")]).await;
            assert_eq!(closed.iter().map(|message| message.tag).collect::<Vec<_>>(), b"33Z");
        }
        assert_eq!(carried.fails("COMMIT").await, ("57P01".to_owned(), b'E'));
        carried.query("ROLLBACK").await;
        assert_eq!(carried.query("SELECT count(*) FROM t").await, ["0"]);
    }
}

promise! {
    async fn what_can_not_be_made_again_ends_its_session_and_is_named(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut carried = Carried::through(&swivel, &postgres, "with a table", &[]).await;
        carried.query("CREATE TEMP TABLE t (n int)").await;
        carried.is_surveyed(&postgres).await;
        carried.is_terminated(&postgres).await;
        let error = carried.wire.next().await.expect("a word about it").error();
        assert_eq!((error.severity.as_str(), error.code.as_str()), ("FATAL", "57P01"));
        assert_eq!(error.message, "terminating connection due to administrator command");
        let detail = error.fields.iter().find(|(code, _)| *code == 'D');
        assert!(detail.is_some_and(|(_, said)| said.contains("temporary_objects")), "{error:?}");
    }
}
