//! Whatever changes a session is signalled: judged against what PostgreSQL itself says of the session.

use std::sync::Arc;

use pgswivel::postgres::wire::state_words::{
    Definition, LEARN_QUERY, Learned, Vocabulary, learn, tag_signals,
};
use tokio_postgres::Client;

use crate::support::{Postgres, Version, Wire};

/// Everything that a survey would see, and the custom settings and connections that it would not.
const STATE: &str = "
    SELECT concat_ws(' / ',
        (SELECT string_agg(concat(name, '=', setting), ' ' ORDER BY name) FROM pg_settings WHERE source = 'session'),
        (SELECT string_agg(concat(name, '=', current_setting(name, true)), ' ' ORDER BY name) FROM public.custom),
        current_user, session_user,
        (SELECT string_agg(name, ' ') FROM pg_prepared_statements),
        (SELECT string_agg(channel, ' ') FROM pg_listening_channels() channel),
        (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
        (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind <> 'i'),
        (SELECT string_agg(name, ' ') FROM pg_cursors),
        (SELECT count(*) FROM pg_replication_slots WHERE temporary AND active_pid = pg_backend_pid()),
        pg_replication_origin_session_is_setup(),
        public.dblink_get_connections()::text)";

/// Every custom setting that anything here sets, but pg_settings shows none.
const CUSTOM: &str = "
    CREATE VIEW custom AS
    SELECT name FROM unnest(ARRAY['app.direct', 'app.atomic', 'app.scoped', 'app.reset', 'app.in_trigger', 'app.view',
        'app.default', 'app.policy', 'app.step', 'app.operator', 'app.x', 'app.y',
        'app.argument', 'app.ddl', 'app.indexed']) name
    WHERE current_setting(name, true) IS NOT NULL";

/// Each changes the session that the statements before it, if any, were run in.
const CHANGES: &[&[&str]] = &[
    &["SET work_mem = '5MB'"],
    &["SET SESSION app.x = 1"],
    &["BEGIN; SET LOCAL app.x = 1; COMMIT"],
    &["BEGIN; SET LOCAL app.x = 1; ROLLBACK"],
    &["BEGIN; SET app.x = 1; ROLLBACK"],
    &["BEGIN; SAVEPOINT s; SET \"app\".\"y\" TO 'a'; ROLLBACK TO s; COMMIT"],
    &["SET app.x = 1", "RESET app.x"],
    &["SET work_mem = '5MB'", "DISCARD ALL"],
    &["SELECT set_config('app.x', '1', false)"],
    &["SELECT set_config('app.x', '1', true)"],
    &["SELECT pg_catalog . set_config /* so */ ( E'app.x'::text , '1', false)"],
    &["UPDATE pg_settings SET setting = '5MB' WHERE name = 'work_mem'"],
    &["SET ROLE other_role"],
    &["SET SESSION AUTHORIZATION other_role"],
    &["PREPARE p AS SELECT 1"],
    &["PREPARE p AS SELECT 1", "DEALLOCATE p"],
    &["PREPARE p AS SELECT set_config('app.x', '1', false)", "EXECUTE p"],
    &["PREPARE p AS SELECT set_config('app.x', '1', false)", "EXPLAIN ANALYZE EXECUTE p"],
    &["PREPARE p AS SELECT set_config('app.x', '1', false)", "CREATE TABLE by_execute AS EXECUTE p"],
    &["LISTEN orders"],
    &["LISTEN orders", "UNLISTEN *"],
    &["SELECT pg_advisory_lock(1)"],
    &["SELECT pg_try_advisory_lock_shared(1, 2)"],
    &["SELECT pg_advisory_lock(1)", "SELECT pg_advisory_unlock(1)"],
    &["CREATE TEMP TABLE t (a int)"],
    &["CREATE TEMPORARY SEQUENCE t"],
    &["CREATE OR REPLACE TEMP VIEW t AS SELECT 1"],
    &["CREATE -- now\nTEMP TABLE t AS SELECT 1 AS a"],
    &["SELECT 1 AS a INTO TEMP t"],
    &["EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1 AS a"],
    &["CREATE TABLE pg_temp.t AS SELECT 1 AS a"],
    &["SET search_path = pg_temp", "CREATE TABLE t (a int)"],
    &["CREATE TEMP TABLE t (a int)", "DROP TABLE t"],
    &["BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT"],
    &["BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT", "CLOSE c"],
    &["SELECT pg_create_physical_replication_slot('temporary', true, true)"],
    &["SELECT pg_replication_origin_session_setup('origin')"],
    &["SELECT dblink_connect('elsewhere', concat('user=postgres dbname=postgres port=', current_setting('port'),
        ' host=', current_setting('unix_socket_directories')))"],
    &["DO $$BEGIN PERFORM set_config('app.x', '1', false); END$$"],
    &["CALL resets()"],
    &["COPY (SELECT set_config('app.x', '1', false)) TO STDOUT"],
    &["SELECT query_to_xml('SELECT set_config(''app.x'', ''1'', false)', true, true, '')"],
    &["SELECT sets()"],
    &["SELECT atomic()"],
    &["SELECT \"Odd Schema\".\"Odd Name\"()"],
    &["SELECT CALLS_ODD()"],
    &["SELECT blind('app.x')"],
    &["SELECT scoped()"],
    &["SELECT locks()"],
    &["SELECT temps()"],
    &["SELECT listens()"],
    &["SELECT prepares()"],
    &["SELECT changes_role()"],
    &["SELECT runs('SET app.x = 1')"],
    &["INSERT INTO watched VALUES (5)"],
    &["WITH new AS (INSERT INTO watched VALUES (4) RETURNING a) SELECT * FROM new"],
    &["COPY watched FROM STDIN"],
    &["SELECT inserts_watched()"],
    &["SELECT inserts_somewhere(concat('wat', 'ched'))"],
    &["INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1)", "DELETE FROM parent"],
    &["INSERT INTO parted VALUES (1)"],
    &["TABLE seen"],
    &["SELECT x FROM seen_again"],
    &["SELECT * FROM direct_view"],
    &["INSERT INTO ruled VALUES (1)"],
    &["INSERT INTO defaulted (a) VALUES (1)"],
    &["INSERT INTO direct_default (a) VALUES (1)"],
    &["INSERT INTO checked VALUES (1)"],
    &["INSERT INTO with_domain VALUES (1)"],
    &["SELECT 1::bounded"],
    &["INSERT INTO with_index VALUES (1)"],
    &["INSERT INTO with_partial_index VALUES (1)"],
    &["INSERT INTO parted_by_it VALUES (1)"],
    &["SELECT with_default()"],
    &["SELECT with_another()"],
    &["CREATE TABLE made_of AS SELECT 1 AS a"],
    &["REFRESH MATERIALIZED VIEW made"],
    &["SET ROLE other_role", "SELECT * FROM guarded"],
    &["SELECT aggregated(a) FROM (VALUES (1)) v (a)"],
    &["SELECT x FROM by_operator"],
];

/// None changes anything, and none may cost a survey.
const LEAVES: &[&str] = &[
    "SELECT plain(1), plain_atomic(), counts_other()",
    "SELECT locks_for_now()",
    "SELECT pg_advisory_xact_lock(1)",
    "INSERT INTO calm VALUES (1)",
    "INSERT INTO with_calm_index VALUES (1)",
    "INSERT INTO calm_parted VALUES (1)",
    "INSERT INTO refers VALUES (NULL)",
    "SELECT * FROM calm_view",
    "UPDATE other SET a = 2 WHERE a = 1",
    "BEGIN; DELETE FROM other; SAVEPOINT s; ROLLBACK TO s; RELEASE s; COMMIT",
    "BEGIN; SET CONSTRAINTS ALL DEFERRED; LOCK TABLE other; TRUNCATE other; ROLLBACK",
    "SELECT count(*) FROM pg_settings",
    "EXPLAIN ANALYZE SELECT * FROM other",
    "SHOW work_mem",
    "NOTIFY orders",
    "COPY other TO STDOUT",
];

async fn prepared(version: Version) -> Postgres {
    let postgres = Postgres::version(version).setting("wal_level", "logical").start();
    let user = Postgres::USER;
    postgres
        .execute(&format!(
            "CREATE ROLE other_role; GRANT ALL ON SCHEMA public TO {user}, other_role; ALTER ROLE {user} SUPERUSER;
            SELECT pg_replication_origin_create('origin')"
        ))
        .await;
    postgres
        .execute(include_str!("../fixtures/out_of_sight.sql"))
        .await;
    postgres.execute(CUSTOM).await;
    postgres
        .execute("GRANT EXECUTE ON FUNCTION pg_replication_origin_session_is_setup() TO PUBLIC")
        .await;
    postgres
        .execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO other_role")
        .await;
    postgres
}

async fn learned(client: &Client) -> Learned {
    let rows = client.query(LEARN_QUERY, &[]).await.unwrap();
    learn(rows.iter().map(|row| Definition {
        name: row.get(0),
        language: row.get(1),
        body: row.get(2),
    }))
}

async fn login(postgres: &Postgres) -> Wire {
    let (user, password) = (Postgres::USER, Postgres::PASSWORD);
    Wire::login(&postgres.address(), user, password, Postgres::DATABASE).await
}

/// Runs a statement; the tags that came back.
async fn run(wire: &mut Wire, sql: &str) -> Vec<Vec<u8>> {
    wire.query(sql).await;
    let mut tags = Vec::new();
    loop {
        let message = wire.next().await.expect("an answer");
        match message.tag {
            b'C' => tags.push(message.body.to_vec()),
            b'G' => {
                wire.say(b'd', b"3\n").await;
                wire.say(b'c', b"").await;
            }
            b'E' => panic!("{sql}: {:?}", message.error()),
            b'Z' => return tags,
            _ => {}
        }
    }
}

async fn rows(wire: &mut Wire, sql: &str) -> Vec<String> {
    wire.query(sql).await;
    let messages = wire.until(b'Z').await;
    let failed = messages.iter().find(|message| message.tag == b'E');
    assert!(failed.is_none(), "{sql}: {failed:?}");
    let rows = messages.iter().filter(|message| message.tag == b'D');
    rows.map(|row| row.first_column().unwrap()).collect()
}

promise! {
    async fn whatever_changes_a_session_is_signalled_and_what_it_sets_has_a_name(version) {
        let postgres = prepared(version).await;
        let learned = Arc::new(learned(&postgres.connect().await).await);
        let vocabulary = Vocabulary::taught(Arc::clone(&learned));
        for script in CHANGES {
            let (last, before) = script.split_last().unwrap();
            let mut wire = login(&postgres).await;
            for statement in before {
                run(&mut wire, statement).await;
            }
            let old = rows(&mut wire, STATE).await;
            let tags = run(&mut wire, last).await;
            assert_ne!(rows(&mut wire, STATE).await, old, "{last} was to change something");
            let spotted = vocabulary.read(last.as_bytes());
            let signalled = spotted.signalled || tags.iter().any(|tag| tag_signals(tag));
            assert!(signalled, "{last} went unnoticed");

            let read = script.iter().map(|statement| vocabulary.read(statement.as_bytes()));
            let (blind, mut known) = (read.clone().any(|spotted| spotted.blind), learned.settings.clone());
            known.extend(read.flat_map(|spotted| spotted.settings));
            for name in rows(&mut wire, "SELECT name FROM public.custom").await {
                assert!(blind || known.contains(&name), "{script:?} sets {name}, and nobody knows");
            }
        }
    }
}

promise! {
    async fn what_leaves_a_session_as_it_was_costs_no_survey(version) {
        let postgres = prepared(version).await;
        let learned = Arc::new(learned(&postgres.connect().await).await);
        let vocabulary = Vocabulary::taught(Arc::clone(&learned));
        let mut wire = login(&postgres).await;
        for statement in LEAVES {
            let old = rows(&mut wire, STATE).await;
            let tags = run(&mut wire, statement).await;
            assert_eq!(rows(&mut wire, STATE).await, old, "{statement}");
            assert!(!vocabulary.read(statement.as_bytes()).signalled, "{statement}");
            assert!(!tags.iter().any(|tag| tag_signals(tag)), "{statement}");
        }
    }
}

promise! {
    async fn a_database_is_asked_from_any_session_of_any_role(version) {
        let postgres = prepared(version).await;
        let client = postgres.connect().await;
        let expected = learned(&client).await;
        client
            .batch_execute(
                "CREATE SCHEMA trap;
                CREATE FUNCTION trap.never(name, name) RETURNS bool LANGUAGE plpgsql AS $$BEGIN RAISE 'trapped'; END$$;
                CREATE OPERATOR trap.= (LEFTARG = name, RIGHTARG = name, FUNCTION = trap.never);
                CREATE FUNCTION trap.concat(VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE 'trapped'; END$$;
                GRANT USAGE ON SCHEMA trap TO other_role;
                SET search_path = trap, pg_catalog;
                SET standard_conforming_strings = off;
                SET default_transaction_read_only = on;
                SET default_transaction_isolation = serializable;
                SET ROLE other_role",
            )
            .await
            .unwrap();
        let mut learned = learned(&client).await;
        // What sets the trap is code like any other.
        learned.risky.remove("never");
        learned.risky.remove("concat");
        assert_eq!(learned, expected);
        assert!(learned.complete);
        let huge = learned.risky.get("huge").expect("too long to be read");
        assert!(huge.blind);
    }
}
