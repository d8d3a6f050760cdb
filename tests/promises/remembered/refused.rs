//! Servers that refuse a part of what is asked of them.

use std::time::Instant;

use crate::moves::{Carried, moving, rotate};
use crate::rescue::before;
use crate::support::admin::status;
use crate::support::{Postgres, Swivel, eventually};

promise! {
    /// What was prepared before it is there once.
    async fn an_unnamed_statement_that_can_not_be_made_again_takes_nothing_with_it(version) {
        let postgres = Postgres::start(version);
        postgres.execute("CREATE TABLE gone (n int); GRANT ALL ON gone TO PUBLIC").await;
        let swivel = before(&postgres).await;
        let mut session = Carried::through(&swivel, &postgres, "rescued", &[]).await;
        session.query("SET work_mem = '5MB'").await;
        session.prepares("kept", "SELECT 'kept'").await;
        session.is_surveyed(&postgres).await;
        session.prepares("made", "SELECT 'made'").await;
        session.extended(&[(b'P', b"\0SELECT * FROM gone\0\0\0")]).await;
        // In doubt from now on.
        let failed = session.extended(&[(b'B', b"\0none\0\0\0\0\0\0\0")]).await;
        assert_eq!(failed[0].tag, b'E');
        postgres.execute("DROP TABLE gone").await;
        session.is_terminated(&postgres).await;
        session.moves(&postgres).await;
        assert_eq!(session.reads("kept").await, "kept");
        assert_eq!(session.reads("made").await, "made");
        assert_eq!(session.query("SHOW work_mem").await, ["5MB"]);
    }
}

/// A pgswivel that moves every session when a credential changes, and says what it does.
async fn moving_aloud(postgres: &Postgres) -> Swivel {
    Swivel::in_front_of(postgres)
        .trusting()
        .credential(Postgres::USER, Postgres::PASSWORD)
        .secret_line("sessions = \"move\"")
        .secret_line("grace = \"1s\"")
        .section("[log]\nlevel = \"debug\"")
        .start()
        .await
}

promise! {
    async fn a_survey_that_is_refused_is_asked_less_and_less_often_and_named(version) {
        let postgres = Postgres::start(version);
        let swivel = moving_aloud(&postgres).await;
        postgres.execute("REVOKE EXECUTE ON FUNCTION pg_catalog.convert_to(text, name) FROM PUBLIC").await;
        let mut session = Carried::through(&swivel, &postgres, "refused", &[]).await;
        session.query("SET work_mem = '5MB'").await;
        let asked = || swivel.said("session not surveyed");
        eventually("it is asked", async || asked() > 0).await;
        let began = Instant::now();
        eventually("it is asked again", async || asked() > 3).await;
        assert!(began.elapsed().as_millis() > 1000, "{:?}", began.elapsed());
        rotate(&postgres, &swivel, Postgres::USER, "next").await;
        eventually("the reason is named", async || {
            status(&swivel).await.to_string().contains("survey_refused")
        })
        .await;
        postgres.execute("GRANT EXECUTE ON FUNCTION pg_catalog.convert_to(text, name) TO PUBLIC").await;
        session.moves(&postgres).await;
        assert_eq!(session.query("SHOW work_mem").await, ["5MB"]);
    }
}

const HARDENED: &str = "REVOKE EXECUTE ON FUNCTION pg_catalog.set_config(text, text, boolean), \
     pg_catalog.pg_lock_status(), pg_catalog.pg_cursor(), pg_catalog.pg_get_replication_slots() FROM PUBLIC";

async fn has_everything(session: &mut Carried) {
    assert_eq!(session.query("SHOW work_mem").await, ["5MB"]);
    assert_eq!(
        session.query("SHOW search_path").await,
        ["\"weird \"\" name\", public"]
    );
    assert_eq!(session.query("SHOW app.tenant").await, ["it's \\ me"]);
    assert_eq!(session.query("SHOW statement_timeout").await, ["91s"]);
    assert_eq!(session.query("SELECT current_user").await, ["owner"]);
    assert_eq!(session.query("SELECT pg_listening_channels()").await, ["a"]);
    assert_eq!(session.reads("kept").await, "kept");
}

async fn set_everything(session: &mut Carried) {
    for sql in [
        "SET work_mem = '5MB'",
        "SET search_path = \"weird \"\" name\", public",
        "SET app.tenant = E'it''s \\\\ me'",
        "SET statement_timeout = '91s'",
        "SET ROLE owner",
        "LISTEN a",
    ] {
        session.query(sql).await;
    }
    session.prepares("kept", "SELECT 'kept'").await;
}

promise! {
    async fn a_session_of_a_hardened_server_moves_and_survives(version) {
        let postgres = Postgres::start(version);
        postgres.execute(HARDENED).await;
        postgres.execute(&format!("CREATE ROLE owner; GRANT owner TO {}", Postgres::USER)).await;
        let swivel = before(&postgres).await;
        let mut session = Carried::through(&swivel, &postgres, "rescued", &[]).await;
        set_everything(&mut session).await;
        session.is_surveyed(&postgres).await;
        session.is_terminated(&postgres).await;
        session.moves(&postgres).await;
        has_everything(&mut session).await;
        let swivel = moving(&postgres, Postgres::USER).await;
        let mut session = Carried::through(&swivel, &postgres, "moved", &[]).await;
        set_everything(&mut session).await;
        rotate(&postgres, &swivel, Postgres::USER, "next").await;
        session.moves(&postgres).await;
        has_everything(&mut session).await;
    }
}

promise! {
    /// A lock that can't be looked for may be there.
    async fn what_a_hardened_server_does_not_tell_pins_who_may_have_it(version) {
        let postgres = Postgres::start(version);
        postgres.execute(HARDENED).await;
        let swivel = moving_aloud(&postgres).await;
        // Until then any statement may have done anything.
        drop(swivel.connect().await);
        eventually("functions are learned", async || swivel.said("learned what functions do") > 0).await;
        let mut locked = Carried::through(&swivel, &postgres, "locked", &[]).await;
        locked.query("SELECT pg_advisory_lock(1)").await;
        let mut free = Carried::through(&swivel, &postgres, "free", &[]).await;
        free.query("SET work_mem = '5MB'").await;
        rotate(&postgres, &swivel, Postgres::USER, "next").await;
        free.moves(&postgres).await;
        eventually("the reason is named", async || {
            status(&swivel).await.to_string().contains("advisory_locks")
        })
        .await;
        assert!(locked.stayed(&postgres).await);
    }
}

promise! {
    async fn a_check_says_what_a_survey_lacks(version) {
        let postgres = Postgres::start(version);
        postgres.execute(HARDENED).await;
        let output = Swivel::in_front_of(&postgres)
            .trusting()
            .credential(Postgres::USER, Postgres::PASSWORD)
            .check(&[]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("set_config") && text.contains("pg_lock_status"), "{text}");
    }
}

promise! {
    /// Nobody had a reason to ask it anything.
    async fn a_session_that_was_never_asked_leaves_a_user_that_is_gone(version) {
        let postgres = Postgres::start(version);
        postgres
            .execute(
                "CREATE ROLE holder; CREATE TABLE stock AS SELECT 7 AS n; ALTER TABLE stock OWNER TO holder; \
                 CREATE ROLE one LOGIN PASSWORD 'one' IN ROLE holder; CREATE ROLE two LOGIN PASSWORD 'two' IN ROLE holder",
            )
            .await;
        for (number, sql) in [(0, ""), (1, "SET work_mem = '5MB'")] {
            if number > 0 {
                postgres.execute("CREATE ROLE one LOGIN PASSWORD 'one' IN ROLE holder").await;
            }
            let swivel = Swivel::in_front_of(&postgres)
                .trusting()
                .credential("one", "one")
                .secret_line("grace = \"10m\"")
                .start()
                .await;
            let mut session = Carried::through(&swivel, &postgres, "zombie", &[]).await;
            session.prepares("stock", "SELECT n::text FROM stock").await;
            swivel.write_secret("two", "two");
            eventually("the new user leads", async || swivel.said("credential.leading") == 2).await;
            postgres.execute("REVOKE holder FROM one; DROP ROLE one").await;
            session.query(sql).await;
            session.wire.query("SELECT n FROM stock").await;
            let messages = session.wire.until(b'Z').await;
            assert_eq!(messages[0].error().code, "42501");
            session.moves(&postgres).await;
            assert_eq!(session.query("SELECT n FROM stock").await, ["7"]);
            assert_eq!(session.reads("stock").await, "7");
            if number > 0 {
                assert_eq!(session.query("SHOW work_mem").await, ["5MB"]);
            }
        }
    }
}

promise! {
    /// An administrator takes rights away while sessions are open.
    async fn a_session_of_a_server_that_is_hardened_meanwhile_moves_and_survives(version) {
        let postgres = Postgres::start(version);
        postgres.execute(&format!("CREATE ROLE owner; GRANT owner TO {}", Postgres::USER)).await;
        let swivel = moving_aloud(&postgres).await;
        let mut session = Carried::through(&swivel, &postgres, "hardened", &[]).await;
        eventually("functions are learned", async || swivel.said("learned what functions do") > 0).await;
        set_everything(&mut session).await;
        session.is_surveyed(&postgres).await;
        postgres.execute(HARDENED).await;
        session.is_terminated(&postgres).await;
        session.moves(&postgres).await;
        has_everything(&mut session).await;
        session.query("SET work_mem = '5MB'").await;
        rotate(&postgres, &swivel, Postgres::USER, "next").await;
        session.moves(&postgres).await;
        has_everything(&mut session).await;
    }
}

promise! {
    /// What was said a moment before, where it can be said with statements only.
    async fn what_was_said_to_a_hardened_server_is_said_again(version) {
        let postgres = Postgres::start(version);
        postgres.execute(HARDENED).await;
        postgres.execute(&format!("CREATE ROLE owner; GRANT owner TO {}", Postgres::USER)).await;
        let swivel = before(&postgres).await;
        let mut session = Carried::through(&swivel, &postgres, "rescued", &[]).await;
        for sql in ["SET work_mem = '5MB'", "SET statement_timeout = '91s'", "SET ROLE owner", "LISTEN a"] {
            session.query(sql).await;
        }
        session.is_terminated(&postgres).await;
        session.moves(&postgres).await;
        assert_eq!(session.query("SHOW work_mem").await, ["5MB"]);
        assert_eq!(session.query("SHOW statement_timeout").await, ["91s"]);
        assert_eq!(session.query("SELECT current_user").await, ["owner"]);
        assert_eq!(session.query("SELECT pg_listening_channels()").await, ["a"]);
    }
}

promise! {
    /// It can't be made again, and nobody counts on it any more once it is replaced.
    async fn an_unnamed_statement_that_is_refused_keeps_its_session_until_it_is_replaced(version) {
        let postgres = Postgres::start(version);
        postgres.execute("CREATE TABLE gone (n int); GRANT ALL ON gone TO PUBLIC").await;
        let swivel = moving(&postgres, Postgres::USER).await;
        let mut session = Carried::through(&swivel, &postgres, "refused", &[]).await;
        session.prepares("kept", "SELECT 'kept'").await;
        session.prepares("", "SELECT * FROM gone").await;
        postgres.execute("DROP TABLE gone").await;
        rotate(&postgres, &swivel, Postgres::USER, "next").await;
        eventually("its pin is named", async || {
            status(&swivel).await.to_string().contains("unreplayable_statement")
        })
        .await;
        assert!(session.stayed(&postgres).await);
        session.prepares("", "SELECT 'another'").await;
        session.moves(&postgres).await;
        assert_eq!(session.reads("").await, "another");
        assert_eq!(session.reads("kept").await, "kept");
    }
}
