//! What a survey finds, and what it leaves behind: nothing.

use bytes::BytesMut;

use super::{EVERYTHING, Server, pins, tags, values};
use crate::postgres::state::ledger::{Origin, Pin};
use crate::postgres::talk::stream::MessageStream;
use crate::postgres::talk::survey::{Question, Survey};
use crate::postgres::wire::extended;

on_servers!(a_survey_finds_everything_a_session_holds);
async fn a_survey_finds_everything_a_session_holds(server: Server) {
    let mut side = server.login(&[("application_name", "started")]).await;
    let fresh = side.survey().await;
    assert!(
        values(fresh.settings()).is_empty(),
        "{:?}",
        values(fresh.settings())
    );
    assert_eq!(
        (
            fresh.statements().len(),
            fresh.channels().len(),
            pins(&fresh).len()
        ),
        (0, 0, 0)
    );
    assert_eq!(fresh.reported(b"application_name"), Some(&b"started"[..]));

    side.query(
        "SET work_mem = '5MB'; SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE; SET DateStyle = German",
    )
    .await;
    side.query("SET statement_timeout = '90s'; SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        .await;
    side.query(
        "BEGIN; SET LOCAL lock_timeout = 5; SET LOCAL app.empty = 'x'; COMMIT; SET app.tenant = 'it''s 7'",
    )
    .await;
    side.query("LISTEN a; LISTEN \"B \"\"c\"").await;
    side.query("PREPARE by_sql (int, text) AS SELECT $1, $2").await;
    side.parse("by_parse", "SELECT $1::int8", &[]).await;
    let ledger = side.survey().await;
    assert_eq!(
        values(ledger.settings()),
        [
            "DateStyle=German, DMY",
            "TimeZone=<-08>+08",
            "default_transaction_isolation=serializable",
            "statement_timeout=90s",
            "work_mem=5120",
        ]
    );
    assert_eq!(values(ledger.custom()), ["app.tenant=it's 7", "app.empty="]);
    let statements: Vec<_> = ledger
        .statements()
        .iter()
        .map(|s| (&*s.name, s.origin, &*s.parameters))
        .collect();
    let expected = [
        (&b"by_parse"[..], Origin::Parse, &[20_u32][..]),
        (b"by_sql", Origin::Sql, &[23, 25]),
    ];
    assert_eq!(statements, expected);
    assert_eq!(ledger.channels().collect::<Vec<_>>(), [&b"B \"c"[..], b"a"]);
    assert!(pins(&ledger).is_empty());
    assert!(!format!("{ledger:?}").contains("it's 7"));
}

on_servers!(a_survey_leaves_everything_as_it_was);
async fn a_survey_leaves_everything_as_it_was(server: Server) {
    server
        .admin("CREATE ROLE owner; CREATE ROLE app LOGIN IN ROLE owner")
        .await;
    let ordinary = [
        "SET work_mem = '5MB'",
        "LISTEN a",
        "PREPARE p AS SELECT 1",
        "SET ROLE owner",
    ];
    let superuser = [
        "SET SESSION AUTHORIZATION app",
        "SET ROLE owner",
        "SET statement_timeout = 60000",
    ];
    for (user, role, statements) in [
        ("app", "none", &ordinary[..]),
        ("app", "owner", &["SET ROLE NONE"][..]),
        ("postgres", "none", &superuser[..]),
        ("postgres", "app", &[][..]),
    ] {
        let mut side = server.login(&[("user", user), ("role", role)]).await;
        for sql in statements {
            side.query(sql).await;
        }
        let before = side.query(EVERYTHING).await;
        side.parse("", "SELECT 'still there'", &[]).await;
        side.survey().await;
        side.survey().await;
        assert!(side.aside.take().is_empty());
        let mut out = BytesMut::new();
        extended::bind(&mut out, b"", &[]);
        extended::execute(&mut out);
        extended::sync(&mut out);
        side.send(&out).await;
        let answer = side.until_ready().await;
        assert_eq!(tags(&answer), "2DCZ");
        assert_eq!(answer[3].body(), b"I");
        assert_eq!(before, side.query(EVERYTHING).await, "{user} {statements:?}");
    }
}

on_servers!(a_survey_works_in_every_kind_of_session);
async fn a_survey_works_in_every_kind_of_session(server: Server) {
    server
        .admin(
            "CREATE ROLE app LOGIN; CREATE SCHEMA evil; GRANT ALL ON SCHEMA evil TO PUBLIC; \
             CREATE FUNCTION evil.no(text, text) RETURNS bool LANGUAGE sql AS 'SELECT false'; \
             CREATE FUNCTION evil.no(oid, oid) RETURNS bool LANGUAGE sql AS 'SELECT false'; \
             CREATE OPERATOR evil.= (leftarg = text, rightarg = text, function = evil.no); \
             CREATE OPERATOR evil.= (leftarg = oid, rightarg = oid, function = evil.no); \
             CREATE FUNCTION evil.current_setting(text) RETURNS text LANGUAGE sql AS 'SELECT ''wrong'''; \
             CREATE FUNCTION evil.octet_length(text) RETURNS int LANGUAGE sql AS 'SELECT 1/0'; \
             CREATE DOMAIN evil.text AS pg_catalog.text CHECK (false); CREATE TABLE evil.pg_depend ()",
        )
        .await;
    // Holds up whoever waits for a safe snapshot.
    let mut writer = server.login(&[]).await;
    writer.query("CREATE TABLE written (n int)").await;
    writer
        .query("BEGIN ISOLATION LEVEL SERIALIZABLE; INSERT INTO written VALUES (1)")
        .await;
    let cases = [
        "SET search_path = evil, pg_catalog",
        "SET statement_timeout = 1",
        "SET lock_timeout = 1",
        "SET standard_conforming_strings = off; SET escape_string_warning = on",
        "SET client_encoding = LATIN1",
        "SET client_encoding = SJIS",
        "SET default_transaction_isolation = serializable; SET default_transaction_read_only = on; \
         SET default_transaction_deferrable = on",
        "SET row_security = off; SET bytea_output = escape",
        "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_indexscan = off",
        "SET jit = on; SET jit_above_cost = 0; SET cpu_tuple_cost = 10",
        "SET client_min_messages = debug5",
        "SET idle_in_transaction_session_timeout = 1",
    ];
    for sql in cases {
        for user in ["app", "postgres"] {
            let mut side = server.login(&[("user", user)]).await;
            let prepare = "PREPARE p AS SELECT 'Größe 日本 🐘'";
            side.query(prepare).await;
            side.query("LISTEN \"日本\"; SET app.tenant = 'ő🐘'").await;
            side.query(sql).await;
            let ledger = side.survey().await;
            assert!(pins(&ledger).is_empty(), "{sql}");
            let set: Vec<String> = values(ledger.settings());
            let written = sql.matches("SET ").count();
            // Who set what our limits replace in a second attempt is not known.
            let timed_out = sql.contains("statement_timeout");
            assert!(
                set.len() == written || timed_out && set.is_empty(),
                "{sql}: {set:?}"
            );
            if timed_out {
                assert_eq!(ledger.kept(b"statement_timeout"), Some(&b"1ms"[..]));
            }
            assert_eq!(&*ledger.statements()[0].text, prepare.as_bytes());
            assert_eq!(ledger.channels().collect::<Vec<_>>(), ["日本".as_bytes()]);
            assert_eq!(values(ledger.custom()), ["app.tenant=ő🐘"], "{sql}");
            assert!(side.aside.take().is_empty(), "{sql}");
            assert!(tags(&side.try_query("").await).ends_with("IZ"), "{sql}");
        }
    }
}

on_servers!(state_that_can_not_be_replayed_is_a_pin_as_long_as_it_is_there);
async fn state_that_can_not_be_replayed_is_a_pin_as_long_as_it_is_there(server: Server) {
    let mut side = server.login(&[]).await;
    let cases = [
        (
            "CREATE TEMP TABLE t (n int)",
            "DROP TABLE t",
            Pin::TemporaryObjects,
        ),
        (
            "CREATE TEMP VIEW v AS SELECT 1",
            "DROP VIEW v",
            Pin::TemporaryObjects,
        ),
        ("CREATE TEMP SEQUENCE s", "DISCARD TEMP", Pin::TemporaryObjects),
        (
            "CREATE TYPE pg_temp.e AS ENUM ('a')",
            "DROP TYPE pg_temp.e",
            Pin::TemporaryObjects,
        ),
        (
            "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "DROP FUNCTION pg_temp.f()",
            Pin::TemporaryObjects,
        ),
        (
            "DO $$ BEGIN CREATE TEMP TABLE t (n int); END $$",
            "DROP TABLE t",
            Pin::TemporaryObjects,
        ),
        (
            "SELECT pg_advisory_lock(7)",
            "SELECT pg_advisory_unlock(7)",
            Pin::AdvisoryLocks,
        ),
        (
            "SELECT pg_try_advisory_lock_shared(7, 8)",
            "SELECT pg_advisory_unlock_all()",
            Pin::AdvisoryLocks,
        ),
        (
            "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
            "CLOSE c",
            Pin::HeldCursors,
        ),
        (
            "SELECT 1; PREPARE a AS SELECT 1",
            "DEALLOCATE a",
            Pin::UnreplayableStatement,
        ),
    ];
    for (make, drop, pin) in cases {
        side.query(make).await;
        assert_eq!(pins(&side.survey().await), [pin], "{make}");
        side.query(drop).await;
        assert!(pins(&side.survey().await).is_empty(), "{drop}");
    }
    side.query(&format!("PREPARE a AS SELECT '{}'", "x".repeat(40_000)))
        .await;
    assert!(pins(&side.survey().await).is_empty());
    side.query(&format!("PREPARE b AS SELECT '{}'", "x".repeat(30_000)))
        .await;
    assert_eq!(pins(&side.survey().await), [Pin::TooLarge]);
    side.query("DEALLOCATE ALL; SELECT set_config('app.tenant', repeat('x', 5000000), false) IS NULL")
        .await;
    assert_eq!(pins(&side.survey().await), [Pin::TooLarge]);
}

on_servers!(a_survey_works_on_a_standby);
async fn a_survey_works_on_a_standby(server: Server) {
    let standby = Server::standby_of(&server);
    for sql in ["", "SET default_transaction_isolation = serializable"] {
        let mut side = standby.login(&[]).await;
        side.query("PREPARE p AS SELECT 1").await;
        side.query(sql).await;
        let ledger = side.survey().await;
        assert_eq!(ledger.statements().len(), 1);
        assert_eq!(ledger.reported(b"in_hot_standby"), Some(&b"on"[..]));
    }
}

on_servers!(a_survey_that_is_refused_leaves_the_link_usable);
async fn a_survey_that_is_refused_leaves_the_link_usable(server: Server) {
    server
        .admin("CREATE ROLE gone LOGIN; REVOKE EXECUTE ON FUNCTION pg_catalog.convert_to(text, name) FROM PUBLIC")
        .await;
    let mut side = server.login(&[("user", "gone")]).await;
    side.parse("mine", "SELECT 'mine'", &[]).await;
    let refused = side.survey_with(&[]).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the server refused a survey at Settings with 42501"
    );
    server
        .admin("GRANT EXECUTE ON FUNCTION pg_catalog.convert_to(text, name) TO PUBLIC")
        .await;
    assert_eq!(
        side.query("SELECT name FROM pg_prepared_statements").await,
        ["mine"]
    );
    assert_eq!(side.survey().await.statements().len(), 1);
    server.admin("DROP ROLE gone").await;
    assert_eq!(side.survey().await.statements().len(), 1);
    assert_eq!(tags(&side.try_query("SELECT 1").await), "TDCZ");
}

on_servers!(a_survey_does_without_what_it_may_not_ask);
async fn a_survey_does_without_what_it_may_not_ask(server: Server) {
    server
        .admin(
            "CREATE ROLE app LOGIN; REVOKE EXECUTE ON FUNCTION pg_catalog.set_config(text, text, boolean), \
             pg_catalog.pg_lock_status(), pg_catalog.pg_get_replication_slots() FROM PUBLIC",
        )
        .await;
    let mut side = server.login(&[("user", "app")]).await;
    side.query("SET work_mem = '5MB'; SET statement_timeout = '90s'")
        .await;
    side.query("PREPARE p AS SELECT 1").await;
    side.query("DECLARE c CURSOR WITH HOLD FOR SELECT 1").await;
    let before = side.query(EVERYTHING).await;
    let mut ledger = side.survey().await;
    assert_eq!(before, side.query(EVERYTHING).await);
    assert_eq!(
        values(ledger.settings()),
        ["statement_timeout=90s", "work_mem=5120"]
    );
    assert_eq!(pins(&ledger), [Pin::HeldCursors]);
    ledger.may_hold_more();
    let expected = [Pin::AdvisoryLocks, Pin::HeldCursors, Pin::ReplicationSlots];
    assert_eq!(pins(&ledger), expected);
}

on_servers!(a_survey_goes_on_where_it_was_interrupted);
async fn a_survey_goes_on_where_it_was_interrupted(server: Server) {
    let mut side = server.login(&[]).await;
    side.query("SET work_mem = '5MB'; PREPARE p AS SELECT 1; LISTEN a; LISTEN b")
        .await;
    let expected = side.survey().await;
    let mut survey = Survey::new(Question::new(b"postgres", std::iter::empty(), 65_536));
    // So little passes at once that every message is cut.
    let (near, mut far) = tokio::io::duplex(3);
    let mut stream = side.talk.into_parts().0;
    tokio::spawn(async move { tokio::io::copy_bidirectional(&mut far, &mut stream).await });
    let mut talk = MessageStream::new(near);
    let mut interruptions = 0;
    let ledger = loop {
        tokio::select! {
            biased;
            ledger = survey.run(&mut talk, &mut side.aside) => break ledger.unwrap(),
            () = tokio::task::yield_now() => interruptions += 1,
        }
    };
    assert!(ledger == expected && interruptions > 100, "{interruptions}");
}

on_servers!(what_comes_meanwhile_is_kept_for_the_client_in_order);
async fn what_comes_meanwhile_is_kept_for_the_client_in_order(server: Server) {
    let mut side = server.login(&[]).await;
    side.query("LISTEN a").await;
    server.admin("NOTIFY a, '1'").await;
    server.admin("NOTIFY a, '2'").await;
    server.admin("ALTER SYSTEM SET TimeZone = 'Asia/Tokyo'").await;
    server.admin("SELECT pg_reload_conf()").await;
    let mut came = Vec::new();
    while came.last() != Some(&b"TimeZone\0Asia/Tokyo\0".to_vec()) {
        side.survey().await;
        for (tag, body) in side.came() {
            let skipped = if tag == b'A' { 4 } else { 0 };
            came.push(body[skipped..].to_vec());
        }
    }
    assert_eq!(came, [&b"a\x001\0"[..], b"a\x002\0", b"TimeZone\0Asia/Tokyo\0"]);
}
