//! Postgres drops a user under its sessions, which can do nothing from then on: they are as good as lost.

use crate::moves::Carried;
use crate::support::{Postgres, Swivel, Version, eventually};

const OLD: &str = "v_orders_1";
const NEW: &str = "v_orders_2";

struct Stage {
    postgres: Postgres,
    _swivel: Swivel,
    session: Carried,
}

/// A table that no user owns, and a session of a user that another one has replaced.
async fn before(version: Version, policy: &str) -> Stage {
    let postgres = Postgres::start(version);
    postgres
        .execute(&format!(
            "CREATE ROLE orders_owner; CREATE TABLE stock (n int); INSERT INTO stock VALUES (7); \
             ALTER TABLE stock OWNER TO orders_owner; \
             CREATE ROLE {OLD} LOGIN PASSWORD '{OLD}' IN ROLE orders_owner; \
             CREATE ROLE {NEW} LOGIN PASSWORD '{NEW}' IN ROLE orders_owner"
        ))
        .await;
    let swivel = Swivel::in_front_of(&postgres)
        .trusting()
        .credential(OLD, OLD)
        .secret_line(&format!("sessions = \"{policy}\""))
        .secret_line("grace = \"10m\"")
        .start()
        .await;
    let mut session = Carried::through(&swivel, &postgres, "a zombie", &[]).await;
    session.query("SET work_mem = '5MB'").await;
    session.is_surveyed(&postgres).await;
    assert_eq!(session.query("SELECT n FROM stock").await, ["7"]);
    swivel.write_secret(NEW, NEW);
    eventually("the new user leads", async || {
        swivel.said("credential.leading") == 2
    })
    .await;
    Stage {
        postgres,
        _swivel: swivel,
        session,
    }
}

impl Stage {
    async fn revoke(&self) {
        let sql = format!("REVOKE orders_owner FROM {OLD}");
        self.postgres.execute(&sql).await;
    }

    async fn drop_user(&self) {
        self.revoke().await;
        self.postgres.execute(&format!("DROP ROLE {OLD}")).await;
    }

    /// The SQLSTATE of what a query fails with, if it does.
    async fn asks(&mut self, sql: &str) -> Option<String> {
        self.session.wire.query(sql).await;
        let messages = self.session.wire.until(b'Z').await;
        let error = messages.iter().find(|message| message.tag == b'E')?;
        Some(error.error().code)
    }

    async fn is_alive(&mut self) {
        self.session.moves(&self.postgres).await;
        assert_eq!(self.session.query("SELECT n FROM stock").await, ["7"]);
        assert_eq!(self.session.query("SELECT session_user").await, [NEW]);
        assert_eq!(self.session.query("SHOW work_mem").await, ["5MB"]);
    }
}

promise! {
    async fn a_session_of_a_dropped_user_fails_once_and_goes_on_as_the_next(version) {
        let mut stage = before(version, "auto").await;
        stage.drop_user().await;
        assert_eq!(stage.asks("SELECT n FROM stock").await.as_deref(), Some("42501"));
        stage.is_alive().await;
    }
}

promise! {
    async fn a_session_that_is_to_stay_leaves_a_user_that_is_gone_and_no_other(version) {
        let mut stage = before(version, "keep").await;
        stage.revoke().await;
        for _ in 0..2 {
            assert_eq!(stage.asks("SELECT n FROM stock").await.as_deref(), Some("42501"));
            stage.session.is_surveyed(&stage.postgres).await;
            assert!(stage.session.stayed(&stage.postgres).await);
        }
        stage.drop_user().await;
        assert_eq!(stage.asks("SELECT n FROM stock").await.as_deref(), Some("42501"));
        stage.is_alive().await;
    }
}

promise! {
    /// It has failed, and nobody but its client can end it.
    async fn a_transaction_of_a_dropped_user_ends_before_its_session_goes_on(version) {
        let mut stage = before(version, "auto").await;
        stage.postgres.execute(&format!("CREATE TABLE open (n int); GRANT ALL ON open TO {OLD}, {NEW}")).await;
        stage.revoke().await;
        // For which it would be surveyed in a moment.
        assert_eq!(stage.asks("SET work_mem = '6MB'").await, None);
        assert_eq!(stage.asks("BEGIN").await, None);
        assert_eq!(stage.asks("SELECT n FROM stock").await.as_deref(), Some("42501"));
        let now = std::time::Instant::now();
        while now.elapsed() < std::time::Duration::from_millis(500) {
            assert_eq!(stage.asks("INSERT INTO open VALUES (1)").await.as_deref(), Some("25P02"));
        }
        assert_eq!(stage.asks("ROLLBACK").await, None);
        stage.session.moves(&stage.postgres).await;
        assert_eq!(stage.session.query("SELECT count(*) FROM open").await, ["0"]);
    }
}
