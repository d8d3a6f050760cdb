//! What functions do may change at any time, and not through pgswivel: a session goes by what they do now.

use super::{Carried, rotate};
use crate::support::swivel::Unstarted;
use crate::support::{Postgres, Swivel, Version, eventually};

const HARMLESS: &str = "CREATE SCHEMA other; CREATE TABLE watched (n int); CREATE TABLE kept (n int); \
     CREATE VIEW seen AS SELECT 1 AS n; CREATE DOMAIN small AS int; CREATE TABLE sized (n small); \
     CREATE FUNCTION sets() RETURNS int LANGUAGE sql AS 'SELECT 1'; \
     CREATE FUNCTION calls() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN sets(); END'; \
     CREATE FUNCTION pulled() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'; \
     CREATE TRIGGER pulled BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION pulled(); \
     CREATE PROCEDURE does() LANGUAGE sql AS 'SELECT 1'; \
     GRANT USAGE ON SCHEMA other TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC";

/// What is done to the database behind the session's back, and what the session says then.
const REPLACED: [(&str, &str); 9] = [
    (
        "CREATE OR REPLACE FUNCTION sets() RETURNS int LANGUAGE sql AS \
         $$ SELECT set_config('app.hidden', 'told', false); SELECT 1 $$",
        "SELECT sets()",
    ),
    (
        "CREATE OR REPLACE FUNCTION sets() RETURNS int LANGUAGE sql AS \
         $$ SELECT set_config('app.hidden', 'told', false); SELECT 1 $$",
        "SELECT calls()",
    ),
    (
        "CREATE OR REPLACE FUNCTION pulled() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN SET app.hidden = 'told'; RETURN new; END $$",
        "INSERT INTO watched VALUES (1)",
    ),
    (
        "ALTER TABLE kept ADD COLUMN d text DEFAULT set_config('app.hidden', 'told', false)",
        "INSERT INTO kept VALUES (1)",
    ),
    (
        "CREATE OR REPLACE VIEW seen AS SELECT 1 AS n, set_config('app.hidden', 'told', false) AS t",
        "SELECT * FROM seen",
    ),
    (
        "CREATE FUNCTION keyed(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM set_config('app.hidden', 'told', false); RETURN n; END $$; CREATE INDEX ON kept (keyed(n)); \
         SELECT set_config('app.hidden', '', false)",
        "INSERT INTO kept VALUES (1)",
    ),
    (
        "ALTER DOMAIN small ADD CHECK (set_config('app.hidden', 'told', false) = 'told')",
        "INSERT INTO sized VALUES (1)",
    ),
    (
        "CREATE OR REPLACE PROCEDURE does() LANGUAGE sql AS $$ SELECT set_config('app.hidden', 'told', false) $$",
        "CALL does()",
    ),
    (
        "CREATE FUNCTION hides() RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.hidden', 'told', false) $$; \
         ALTER FUNCTION sets() RENAME TO sets_no_more; ALTER FUNCTION hides() RENAME TO sets",
        "SELECT sets()",
    ),
];

async fn before(version: Version) -> (Postgres, Swivel) {
    let postgres = Postgres::start(version);
    postgres.execute(HARMLESS).await;
    let swivel = moving(Swivel::in_front_of(&postgres)).await;
    drop(swivel.connect().await);
    are_learned(&swivel, 1).await;
    (postgres, swivel)
}

async fn moving(swivel: Unstarted) -> Swivel {
    swivel
        .trusting()
        .credential(Postgres::USER, Postgres::PASSWORD)
        .secret_line("sessions = \"move\"")
        .secret_line("grace = \"1s\"")
        .section("[log]\nlevel = \"debug\"")
        .start()
        .await
}

async fn are_learned(swivel: &Swivel, databases: usize) {
    eventually("functions are learned", async || {
        swivel.said("learned what functions do") >= databases
    })
    .await;
}

async fn is_terminated(session: &Carried, postgres: &Postgres) {
    let sql = "SELECT pg_terminate_backend($1)";
    let admin = postgres.admin().await;
    admin.query(sql, &[&session.backend()]).await.unwrap();
}

promise! {
    /// Each in a database of its own, and all of them move at once.
    async fn what_a_function_does_since_it_was_replaced_is_carried_by_a_move(version) {
        let postgres = Postgres::start(version);
        let swivel = moving(Swivel::in_front_of(&postgres).database(None)).await;
        let databases: Vec<String> = (0..REPLACED.len()).map(|number| format!("replaced_{number}")).collect();
        for database in &databases {
            postgres.admin().await.batch_execute(&format!("CREATE DATABASE {database}")).await.unwrap();
            postgres.admin_of(database).await.batch_execute(HARMLESS).await.unwrap();
            drop(Carried::through(&swivel, &postgres, "learns", &[("database", database)]).await);
        }
        are_learned(&swivel, databases.len()).await;
        let hidden = "SELECT current_setting('app.hidden', true)";
        let mut sessions = Vec::new();
        for (database, (replaced, says)) in databases.iter().zip(REPLACED) {
            let mut session = Carried::through(&swivel, &postgres, database, &[("database", database)]).await;
            session.query(says).await;
            postgres.admin_of(database).await.batch_execute(replaced).await.unwrap();
            session.query(says).await;
            assert_eq!(session.query(hidden).await, ["told"], "{replaced}");
            sessions.push(session);
        }
        rotate(&postgres, &swivel, Postgres::USER, "another").await;
        for (mut session, (replaced, _)) in sessions.into_iter().zip(REPLACED) {
            session.moves(&postgres).await;
            assert_eq!(session.query(hidden).await, ["told"], "{replaced}");
        }
    }
}

promise! {
    /// The one that it was on can't be asked any more.
    async fn a_session_that_may_have_run_what_was_replaced_ends_with_its_backend_and_says_why(version) {
        for (replaced, says) in [
            REPLACED[0],
            REPLACED[2],
            (
                "CREATE OR REPLACE FUNCTION sets() RETURNS int LANGUAGE plpgsql AS \
                 $$ BEGIN SET search_path = other; RETURN 1; END $$",
                "SELECT sets()",
            ),
        ] {
            let (postgres, swivel) = before(version).await;
            let mut session = Carried::through(&swivel, &postgres, "behind its back", &[]).await;
            session.query(says).await;
            postgres.execute(replaced).await;
            session.query(says).await;
            is_terminated(&session, &postgres).await;
            let words = session.wire.until(b'E').await.pop().unwrap().error();
            assert_eq!(words.severity, "FATAL");
            let why = "what it has set since it was last at rest is not known";
            assert!(words.fields.iter().any(|(_, said)| said.contains(why)), "{words:?}");
        }
    }
}

promise! {
    async fn a_session_that_has_run_nothing_since_it_was_asked_survives_what_is_replaced(version) {
        let (postgres, swivel) = before(version).await;
        let mut session = Carried::through(&swivel, &postgres, "at rest", &[]).await;
        session.query("SET work_mem = '5MB'").await;
        session.is_surveyed(&postgres).await;
        let replaced = "CREATE OR REPLACE FUNCTION sets() RETURNS int LANGUAGE plpgsql AS \
             $$ BEGIN SET search_path = other; RETURN 1; END $$";
        postgres.execute(replaced).await;
        is_terminated(&session, &postgres).await;
        session.moves(&postgres).await;
        assert_eq!(session.query("SHOW work_mem").await, ["5MB"]);
        // And from now on it is known.
        session.query("SELECT sets()").await;
        session.is_surveyed(&postgres).await;
        is_terminated(&session, &postgres).await;
        session.moves(&postgres).await;
        assert_eq!(session.query("SHOW search_path").await, ["other"]);
    }
}

promise! {
    async fn what_did_not_change_is_not_learned_again_at_each_rescue(version) {
        let (postgres, swivel) = before(version).await;
        let mut session = Carried::through(&swivel, &postgres, "at rest", &[]).await;
        for _ in 0..3 {
            session.query("SELECT sets()").await;
            is_terminated(&session, &postgres).await;
            session.moves(&postgres).await;
        }
        // Of another session only, or nothing that anybody runs.
        let aside = "CREATE TEMP TABLE t (n int); INSERT INTO t VALUES (1); CREATE INDEX i ON kept (n); ANALYZE kept";
        postgres.execute(aside).await;
        is_terminated(&session, &postgres).await;
        session.moves(&postgres).await;
        assert_eq!(session.query("SELECT sets()").await, ["1"]);
        assert_eq!(swivel.said("learned anew what functions do"), 0);
        assert_eq!(swivel.said("learned what functions do"), 1);
    }
}
