//! What can't be carried keeps its session where it is, also when a function made it.

use super::{Carried, moving, rotate};
use crate::support::Postgres;

/// Makes state that no other link can have, and asks for it.
const PINS: [(&str, &str); 14] = [
    ("CREATE TEMP TABLE t AS SELECT 'here' AS n", "SELECT n FROM t"),
    (
        "DO $$ BEGIN CREATE TEMP TABLE t AS SELECT 'here' AS n; END $$",
        "SELECT n FROM t",
    ),
    ("SELECT make_temp()", "SELECT n FROM t"),
    (
        "CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql AS 'SELECT ''here'''",
        "SELECT pg_temp.f()",
    ),
    (
        "SELECT pg_advisory_lock(77)",
        "SELECT 'here' FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    ),
    (
        "SELECT take_lock()",
        "SELECT 'here' FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    ),
    ("DECLARE c CURSOR WITH HOLD FOR SELECT 'here'", "FETCH c"),
    ("SELECT hold_cursor()", "FETCH held"),
    ("PREPARE p AS SELECT 'here'; PREPARE q AS SELECT 1", "EXECUTE p"),
    (
        "SELECT dblink_connect('there', here())",
        "SELECT 'here' FROM dblink('there', 'SELECT 1') t (n int)",
    ),
    (
        "SELECT connect()",
        "SELECT 'here' FROM dblink('there', 'SELECT 1') t (n int)",
    ),
    (
        "SELECT pg_create_physical_replication_slot('brief', true, true)",
        "SELECT 'here' FROM pg_replication_slots WHERE active_pid = pg_backend_pid()",
    ),
    ("SELECT setseed(0.5)", "SELECT 'here'"),
    (
        "SELECT set_config('app.' || 'made_up', 'here', false)",
        "SHOW app.made_up",
    ),
];

promise! {
    async fn what_can_not_be_carried_keeps_its_session_where_it_is(version) {
        let postgres = Postgres::start(version);
        postgres
            .execute(
                "CREATE FUNCTION make_temp() RETURNS void LANGUAGE plpgsql AS \
                 $$ BEGIN CREATE TEMP TABLE t AS SELECT 'here' AS n; END $$; \
                 CREATE FUNCTION take_lock() RETURNS void LANGUAGE plpgsql AS \
                 $$ BEGIN PERFORM pg_advisory_lock(78); END $$; \
                 CREATE FUNCTION hold_cursor() RETURNS void LANGUAGE plpgsql AS \
                 $$ BEGIN EXECUTE 'DECLARE held CURSOR WITH HOLD FOR SELECT ''here'''; END $$; \
                 CREATE EXTENSION dblink; CREATE FUNCTION here() RETURNS text LANGUAGE sql AS \
                 $$ SELECT concat('user=postgres dbname=postgres port=', current_setting('port'), \
                 ' host=', current_setting('unix_socket_directories')) $$; \
                 CREATE FUNCTION connect() RETURNS void LANGUAGE plpgsql AS \
                 $$ BEGIN PERFORM dblink_connect('there', here()); END $$",
            )
            .await;
        postgres.execute(&format!("ALTER ROLE {} SUPERUSER", Postgres::USER)).await;
        let swivel = moving(&postgres, Postgres::USER).await;
        let mut pinned = Vec::new();
        for (number, (make, _)) in PINS.iter().enumerate() {
            let mut carried = Carried::through(&swivel, &postgres, &format!("pinned {number}"), &[]).await;
            carried.query(make).await;
            pinned.push(carried);
        }
        let mut free = Carried::through(&swivel, &postgres, "free", &[]).await;
        rotate(&postgres, &swivel, Postgres::USER, "next").await;
        free.moves(&postgres).await;
        for round in ["second", "third"] {
            for (carried, (make, ask)) in pinned.iter_mut().zip(PINS) {
                if round == "second" {
                    assert_eq!(carried.query(ask).await, ["here"], "{make}");
                }
                assert!(carried.stayed(&postgres).await, "{make}");
            }
            rotate(&postgres, &swivel, Postgres::USER, round).await;
            free.moves(&postgres).await;
        }
    }
}

promise! {
    async fn a_session_moves_once_its_pin_is_gone(version) {
        let postgres = Postgres::start(version);
        let swivel = moving(&postgres, Postgres::USER).await;
        let mut pinned = Carried::through(&swivel, &postgres, "pinned for a while", &[]).await;
        let mut free = Carried::through(&swivel, &postgres, "free", &[]).await;
        pinned.query("CREATE TEMP TABLE t (n int)").await;
        rotate(&postgres, &swivel, Postgres::USER, "next").await;
        free.moves(&postgres).await;
        assert!(pinned.stayed(&postgres).await);
        pinned.query("DROP TABLE t").await;
        pinned.moves(&postgres).await;
    }
}
