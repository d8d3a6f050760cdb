//! Literals mean what they meant when their statement was prepared.

use super::detail;
use crate::moves::{Carried, moving, rotate};
use crate::rescue::before;
use crate::support::Postgres;
use crate::support::wire::message;

/// What is set before, what is read, and what is set after.
const READ: [(&str, &str, &str); 5] = [
    (
        "SET DateStyle = 'ISO, DMY'",
        "SELECT extract(month FROM date '01/02/2020')::text",
        "SET DateStyle = 'ISO, MDY'",
    ),
    (
        "SET TimeZone = 'Asia/Tokyo'",
        "SELECT extract(epoch FROM timestamptz '2020-01-01 00:00')::int8::text",
        "SET TimeZone = 'UTC'",
    ),
    (
        "SET IntervalStyle = 'sql_standard'",
        "SELECT extract(epoch FROM interval '-1 2:03:04')::int8::text",
        "SET IntervalStyle = 'postgres'",
    ),
    (
        "SET standard_conforming_strings = off",
        "SELECT length('a\\tb')::text",
        "SET standard_conforming_strings = on",
    ),
    (
        "SELECT set_config('DateStyle', 'ISO, DMY', false)",
        "SELECT extract(month FROM date '03/04/2020')::text",
        "DO $$ BEGIN SET DateStyle = 'ISO, MDY'; END $$",
    ),
];

/// Prepares everything, under other settings than it is left with. What the statements give.
async fn prepare(session: &mut Carried, postgres: &Postgres, settles: bool) -> Vec<String> {
    let mut read = Vec::new();
    for (number, (before, sql, after)) in READ.iter().enumerate() {
        session.query(before).await;
        session.prepares(&format!("parsed{number}"), sql).await;
        session.query(&format!("PREPARE sql{number} AS {sql}")).await;
        if settles {
            session.is_surveyed(postgres).await;
        }
        session.query(after).await;
        session.query("SELECT 1").await;
        read.push(session.reads(&format!("parsed{number}")).await);
    }
    read
}

async fn gives(session: &mut Carried, read: &[String]) {
    for (number, expected) in read.iter().enumerate() {
        assert_eq!(
            &session.reads(&format!("parsed{number}")).await,
            expected,
            "{}",
            READ[number].1
        );
        let by_sql = session.query(&format!("EXECUTE sql{number}")).await;
        assert_eq!(&by_sql, &[expected.as_str()], "{}", READ[number].1);
    }
}

promise! {
    async fn literals_mean_after_a_loss_what_they_meant_when_they_were_read(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut session = Carried::through(&swivel, &postgres, "reading", &[]).await;
        let read = prepare(&mut session, &postgres, true).await;
        session.is_surveyed(&postgres).await;
        session.is_terminated(&postgres).await;
        session.moves(&postgres).await;
        gives(&mut session, &read).await;
        // What one link was made by makes the next.
        session.is_surveyed(&postgres).await;
        session.is_terminated(&postgres).await;
        session.moves(&postgres).await;
        gives(&mut session, &read).await;
    }
}

promise! {
    /// The session was asked once, and other settings were in force at the end.
    async fn literals_mean_after_a_move_what_they_meant_when_they_were_read(version) {
        let postgres = Postgres::start(version);
        let swivel = moving(&postgres, Postgres::USER).await;
        let mut session = Carried::through(&swivel, &postgres, "reading", &[]).await;
        session.query("SET DateStyle = 'ISO, DMY'").await;
        session.prepares("parsed", READ[0].1).await;
        session.query(&format!("PREPARE sql AS {}", READ[0].1)).await;
        session.query("SET DateStyle = 'ISO, MDY'").await;
        session.prepares("", READ[0].1).await;
        rotate(&postgres, &swivel, Postgres::USER, "next").await;
        session.moves(&postgres).await;
        assert_eq!(session.reads("").await, "1");
        assert_eq!(session.reads("parsed").await, "2");
        assert_eq!(session.query("EXECUTE sql").await, ["2"]);
        assert_eq!(session.query("SHOW DateStyle").await, ["ISO, MDY"]);
    }
}

promise! {
    async fn an_unnamed_statement_means_what_it_meant_when_it_was_read(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut session = Carried::through(&swivel, &postgres, "reading", &[]).await;
        session.query("SET DateStyle = 'ISO, DMY'").await;
        // Without a Query, which would drop it.
        session.prepares("set", "SET DateStyle = 'ISO, MDY'").await;
        session.prepares("", READ[0].1).await;
        session.executes("set").await;
        session.is_surveyed(&postgres).await;
        session.is_terminated(&postgres).await;
        session.moves(&postgres).await;
        assert_eq!(session.reads("").await, "2");
        assert_eq!(session.query("SHOW DateStyle").await, ["ISO, MDY"]);
    }
}

/// What Postgres tells nobody, what is read under it, and what it is afterwards.
const UNREPORTED: [(&str, &str, &str); 4] = [
    (
        "transform_null_equals = on",
        "SELECT (NULL = NULL)::text",
        "transform_null_equals",
    ),
    ("array_nulls = off", "SELECT ('{NULL}'::text[])[1]", "array_nulls"),
    ("xmloption = document", "SELECT '<a/>'::xml::text", "xmloption"),
    (
        "timezone_abbreviations = 'Australia'",
        "SELECT timestamptz '2020-01-01 00:00 EST'",
        "timezone_abbreviations",
    ),
];

promise! {
    /// When such a setting was changed, before a statement or after it, is not known.
    async fn a_statement_that_was_read_under_nobody_knows_what_ends_its_session_with_its_backend(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        for (set, sql, name) in UNREPORTED {
            let mut session = Carried::through(&swivel, &postgres, name, &[]).await;
            // At one go: nobody has the time to ask in between.
            let mut all = message(b'Q', format!("SET {set}\0").as_bytes());
            all.extend(message(b'P', format!("read\0{sql}\0\0\0").as_bytes()));
            all.extend(message(b'S', b""));
            all.extend(message(b'Q', format!("SET {name} = DEFAULT\0").as_bytes()));
            session.wire.send(&all).await;
            session.wire.until(b'Z').await;
            let parsed = session.wire.until(b'Z').await;
            session.wire.until(b'Z').await;
            if parsed[0].tag == b'E' {
                // A server without XML.
                continue;
            }
            session.is_surveyed(&postgres).await;
            let error = session.does_not_survive(&postgres).await;
            assert!(detail(&error).contains("unreplayable_statement"), "{name}: {error:?}");
        }
    }
}

promise! {
    async fn what_is_read_under_a_setting_that_stays_is_carried(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut session = Carried::through(&swivel, &postgres, "reading", &[]).await;
        session.query("SET array_nulls = off").await;
        session.is_surveyed(&postgres).await;
        session.prepares("read", "SELECT ('{NULL}'::text[])[1]").await;
        session.query("SET work_mem = '5MB'").await;
        session.is_surveyed(&postgres).await;
        assert_eq!(session.query("SHOW array_nulls").await, ["off"]);
        session.query("SET array_nulls = on").await;
        session.query("SELECT 1").await;
        session.is_surveyed(&postgres).await;
        session.is_terminated(&postgres).await;
        session.moves(&postgres).await;
        assert_eq!(session.reads("read").await, "NULL");
    }
}

promise! {
    /// What a transaction set goes with it; what was prepared in it stays as it was read.
    async fn what_was_prepared_in_a_transaction_that_is_undone_means_what_it_meant(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut session = Carried::through(&swivel, &postgres, "reading", &[]).await;
        session.query("BEGIN").await;
        session.query("SET DateStyle = 'ISO, DMY'").await;
        session.prepares("parsed", READ[0].1).await;
        session.query(&format!("PREPARE sql AS {}", READ[0].1)).await;
        session.query("ROLLBACK").await;
        assert_eq!(session.query("SHOW DateStyle").await, ["ISO, MDY"]);
        session.is_surveyed(&postgres).await;
        session.is_terminated(&postgres).await;
        session.moves(&postgres).await;
        assert_eq!(session.reads("parsed").await, "2");
        assert_eq!(session.query("EXECUTE sql").await, ["2"]);
    }
}

promise! {
    /// The end of a transaction takes back what it set, and the server tells of that only later.
    async fn what_is_prepared_right_behind_a_transaction_is_read_as_it_was_or_not_at_all(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        for end in ["ROLLBACK", "COMMIT"] {
            let mut session = Carried::through(&swivel, &postgres, end, &[]).await;
            session.query("BEGIN").await;
            session.query("SET LOCAL DateStyle = 'ISO, DMY'").await;
            let end_of_it = format!("\0{end}\0\0\0");
            let parse = format!("read\0{}\0\0\0", READ[0].1);
            let answer = session
                .extended(&[
                    (b'P', end_of_it.as_bytes()),
                    (b'B', b"\0\0\0\0\0\0\0\0"),
                    (b'E', b"\0\0\0\0\0"),
                    (b'P', parse.as_bytes()),
                ])
                .await;
            assert!(answer.iter().all(|message| message.tag != b'E'), "{answer:?}");
            assert_eq!(session.reads("read").await, "1");
            let error = session.does_not_survive(&postgres).await;
            assert!(detail(&error).contains("unreplayable_statement"), "{end}: {error:?}");
        }
    }
}

promise! {
    async fn what_was_prepared_before_a_server_read_its_files_anew_means_what_it_meant(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut session = Carried::through(&swivel, &postgres, "reading", &[]).await;
        session.prepares("read", READ[0].1).await;
        postgres.execute("ALTER SYSTEM SET DateStyle = 'ISO, DMY'").await;
        postgres.execute("SELECT pg_reload_conf()").await;
        crate::support::eventually("the session has it", async || {
            session.query("SHOW DateStyle").await == ["ISO, DMY"]
        })
        .await;
        assert_eq!(session.reads("read").await, "1");
        session.is_terminated(&postgres).await;
        session.moves(&postgres).await;
        assert_eq!(session.reads("read").await, "1");
        assert_eq!(session.query("SHOW DateStyle").await, ["ISO, DMY"]);
    }
}
