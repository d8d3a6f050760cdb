//! Everything that a client can ask about its session is the same before and after.

use super::carried::EVERYTHING;
use super::{Carried, moving, rotate};
use crate::support::{Postgres, eventually};

const SUPERUSER: &str = "boss";

/// What a session begins with, and what it is told.
type Case = (&'static [(&'static str, &'static str)], &'static [&'static str]);

const ORDINARY: [Case; 25] = [
    (&[], &[]),
    (
        &[],
        &[
            "SET work_mem = '5MB'",
            "SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE",
            "SET DateStyle = 'German'",
        ],
    ),
    (
        &[("options", "-c work_mem=7MB -c app.tenant=7")],
        &["SET app.tenant = 8", "SET work_mem = '8MB'"],
    ),
    (
        &[("TimeZone", "Asia/Tokyo"), ("IntervalStyle", "iso_8601")],
        &["SET TIME ZONE 3"],
    ),
    (
        &[],
        &[
            "SET app.tenant = 'set'",
            "SELECT set_config('app.empty', '', false)",
        ],
    ),
    (&[], &["SELECT set_tenant()"]),
    (&[], &["BEGIN; SET LOCAL app.tenant = 'local'; COMMIT"]),
    (
        &[],
        &[
            "BEGIN; SET app.tenant = 'never'; ROLLBACK",
            "BEGIN; SET app.empty = 'x'; COMMIT",
        ],
    ),
    (
        &[],
        &["BEGIN; SAVEPOINT s; SET app.tenant = 'never'; ROLLBACK TO s; SET app.empty = 'kept'; COMMIT"],
    ),
    (
        &[],
        &["DO $$ BEGIN PERFORM set_config('app.tenant', 'in a DO', false); END $$"],
    ),
    (
        &[],
        &[
            "SET search_path = \"odd \"\" name\", public, pg_catalog",
            "SET standard_conforming_strings = off",
        ],
    ),
    (
        &[],
        &["PREPARE p (int) AS SELECT $1", "PREPARE \"q q\" AS SELECT 'a;b'"],
    ),
    (&[], &["LISTEN a", "LISTEN \"b \"\" c\"", "UNLISTEN a"]),
    (&[], &["SET ROLE reader"]),
    (&[("role", "reader")], &["SET ROLE NONE"]),
    (
        &[("client_encoding", "LATIN1")],
        &[
            "SET client_encoding = SJIS",
            "SET default_transaction_isolation = serializable",
        ],
    ),
    (&[], &["SET ROLE \"odd \"\" role\""]),
    (
        &[],
        &[
            "BEGIN; SET app.tenant = 'a'; SAVEPOINT s; SET app.tenant = 'b'; SAVEPOINT t; SET app.tenant = 'c'; \
             ROLLBACK TO t; RELEASE s; COMMIT",
        ],
    ),
    (
        &[],
        &[
            "SET app.tenant = 'before'",
            "BEGIN; RESET app.tenant; RESET work_mem; ROLLBACK",
            "SELECT set_config('app.empty', 'for now', true)",
        ],
    ),
    // Only the statement outlives a rollback.
    (
        &[],
        &[
            "BEGIN; LISTEN a; SET ROLE reader; ROLLBACK",
            "BEGIN",
            "PREPARE p AS SELECT 1",
            "ROLLBACK",
        ],
    ),
    (
        &[("options", "-c app.tenant=first -c work_mem=7MB")],
        &[
            "SET app.tenant = 'second'",
            "PREPARE p AS SELECT 1",
            "LISTEN a",
            "SET ROLE reader",
            "DISCARD ALL",
            "SET app.empty = 'after'",
        ],
    ),
    (
        &[],
        &[
            "PREPARE _pgswivel_0123456789abcdef AS SELECT 1",
            "LISTEN _pgswivel_0123456789abcdef0123456789abcdef",
        ],
    ),
    (
        &[],
        &[
            "SET row_security = off",
            "SET idle_in_transaction_session_timeout = '1h'",
            "SET idle_session_timeout = '1h'",
        ],
    ),
    (
        &[("search_path", "pg_catalog")],
        &["SET search_path = ''", "SET SESSION AUTHORIZATION DEFAULT"],
    ),
    (
        &[],
        &[
            "CREATE PROCEDURE pg_temp.sets() LANGUAGE plpgsql AS \
             $$ BEGIN SET app.tenant = 'in a procedure'; COMMIT; END $$",
            "CALL pg_temp.sets()",
            "DROP PROCEDURE pg_temp.sets()",
        ],
    ),
];

const OF_A_SUPERUSER: [Case; 4] = [
    (
        &[],
        &[
            "SET log_min_messages = error",
            "SET session_replication_role = replica",
            "SET ROLE reader",
        ],
    ),
    (
        &[],
        &[
            "SET log_min_messages = error",
            "SET SESSION AUTHORIZATION orders_v1",
            "SET ROLE reader",
        ],
    ),
    (
        &[],
        &[
            "SET SESSION AUTHORIZATION reader",
            "SET SESSION AUTHORIZATION orders_v1",
        ],
    ),
    (&[], &["SET SESSION AUTHORIZATION \"odd \"\" role\""]),
];

/// Asked in this order, since some of it changes the answers to the rest.
const QUESTIONS: [&str; 9] = [
    EVERYTHING,
    "SELECT current_setting('app.tenant', true)",
    "SELECT current_setting('app.empty', true)",
    "RESET ROLE",
    "RESET ALL",
    EVERYTHING,
    "SELECT current_setting('app.tenant', true)",
    "RESET SESSION AUTHORIZATION",
    "SELECT session_user || current_user || current_setting('role')",
];

async fn prepared(postgres: &Postgres) {
    postgres
        .execute(&format!(
            "CREATE ROLE reader; CREATE ROLE \"odd \"\" role\"; GRANT reader, \"odd \"\" role\" TO {user}; \
             CREATE ROLE {SUPERUSER} SUPERUSER LOGIN PASSWORD '{password}'; \
             CREATE FUNCTION set_tenant() RETURNS void LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM set_config('app.tenant', 'in a function', false); END $$",
            user = Postgres::USER,
            password = Postgres::PASSWORD,
        ))
        .await;
}

/// Not its name, which tells the two apart, and not what a library shows once something has needed it.
fn is_of_the_session(line: &str) -> bool {
    let of_a_library = line.starts_with("plpgsql.") && line.ends_with(" from default");
    !(line.starts_with("application_name=") || of_a_library)
}

async fn are_carried(postgres: &Postgres, user: &str, cases: &[Case]) {
    let swivel = moving(postgres, user).await;
    let mut sessions = Vec::new();
    for (number, (parameters, statements)) in cases.iter().enumerate() {
        let name = format!("case {number}");
        let mut direct = Carried::direct(postgres, user, &format!("{name} directly"), parameters).await;
        let mut carried = Carried::through(&swivel, postgres, &name, parameters).await;
        for sql in *statements {
            assert_eq!(carried.query(sql).await, direct.query(sql).await);
        }
        sessions.push((carried, direct));
    }
    rotate(postgres, &swivel, user, "next").await;
    for ((mut carried, mut direct), case) in sessions.into_iter().zip(cases) {
        carried.moves(postgres).await;
        for question in QUESTIONS {
            let (after, expected) = (carried.query(question).await, direct.query(question).await);
            let differ = |some: &[String], others: &[String]| -> Vec<String> {
                let only = some
                    .iter()
                    .filter(|line| !others.contains(line) && is_of_the_session(line));
                only.cloned().collect()
            };
            assert_eq!(differ(&after, &expected), [""; 0], "{case:?} {question}");
            assert_eq!(differ(&expected, &after), [""; 0], "{case:?} {question}");
        }
    }
}

promise! {
    async fn all_that_a_client_set_is_carried(version) {
        let postgres = Postgres::start(version);
        prepared(&postgres).await;
        are_carried(&postgres, Postgres::USER, &ORDINARY).await;
    }
}

promise! {
    async fn all_that_a_superuser_set_is_carried_whoever_it_acts_as(version) {
        let postgres = Postgres::start(version);
        prepared(&postgres).await;
        are_carried(&postgres, SUPERUSER, &OF_A_SUPERUSER).await;
    }
}

promise! {
    async fn statements_live_on_under_their_names_and_without_one(version) {
        let postgres = Postgres::start(version);
        let swivel = moving(&postgres, Postgres::USER).await;
        let mut carried = Carried::through(&swivel, &postgres, "prepared", &[]).await;
        carried.extended(&[(b'P', b"typed\0SELECT $1, $2 + 1\0\0\x02\0\0\x04\x13\0\0\0\x15")]).await;
        carried.extended(&[(b'P', b"inferred\0SELECT $1::uuid\0\0\0")]).await;
        carried.extended(&[(b'P', b"\0SELECT 'unnamed'\0\0\0")]).await;
        let described = [(b'D', &b"Styped\0"[..]), (b'D', b"Sinferred\0")];
        let before = carried.extended(&described).await;
        rotate(&postgres, &swivel, Postgres::USER, "next").await;
        carried.moves(&postgres).await;
        let answer = carried.extended(&[(b'B', b"\0\0\0\0\0\0\0\0"), (b'E', b"\0\0\0\0\0")]).await;
        assert_eq!(answer[1].first_column().as_deref(), Some("unnamed"));
        assert_eq!(carried.extended(&described).await, before);
    }
}

promise! {
    /// What the other user has by default is for sessions that begin with it.
    async fn a_client_is_told_what_another_user_changes(version) {
        let postgres = Postgres::start(version);
        postgres.create_user("orders_v2", "next").await;
        postgres.execute("ALTER ROLE orders_v2 SET TimeZone = 'Asia/Tokyo'").await;
        let swivel = moving(&postgres, Postgres::USER).await;
        let mut carried = Carried::through(&swivel, &postgres, "told", &[]).await;
        carried.query("SET DateStyle = 'German'").await;
        swivel.write_secret("orders_v2", "next");
        carried.moves(&postgres).await;
        carried.wire.query("SELECT session_user || current_setting('DateStyle')").await;
        let messages = carried.wire.until(b'Z').await;
        let told = messages.iter().take_while(|message| message.tag == b'S');
        let mut told: Vec<&[u8]> = told.map(|message| &message.body[..]).collect();
        told.sort_unstable();
        assert_eq!(told, [&b"session_authorization\0orders_v2\0"[..]]);
        assert_ne!(carried.query("SHOW TimeZone").await, ["Asia/Tokyo"]);
        let row = messages.iter().find(|message| message.tag == b'D').unwrap();
        assert_eq!(row.first_column().as_deref(), Some("orders_v2German, DMY"));
    }
}

promise! {
    /// Where a survey can't do its work in the client's own time.
    async fn a_session_in_a_hurry_is_carried(version) {
        let postgres = Postgres::start(version);
        let swivel = moving(&postgres, Postgres::USER).await;
        let mut carried = Carried::through(&swivel, &postgres, "in a hurry", &[]).await;
        carried.query("SET default_transaction_read_only = on; SET default_transaction_deferrable = on").await;
        carried.query("SET default_transaction_isolation = serializable; SET lock_timeout = 1").await;
        carried.query("SET statement_timeout = 1").await;
        rotate(&postgres, &swivel, Postgres::USER, "next").await;
        carried.moves(&postgres).await;
        for (show, value) in [("statement_timeout", "1ms"), ("lock_timeout", "1ms"), ("transaction_isolation", "serializable")] {
            eventually("a statement that is through in a millisecond", async || {
                carried.wire.query(&format!("SHOW {show}")).await;
                let answer = carried.wire.until(b'Z').await;
                let row = answer.iter().find(|message| message.tag == b'D');
                row.is_some_and(|row| row.first_column().as_deref() == Some(value))
            })
            .await;
        }
    }
}
