//! A session that changed links is the session it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::BytesMut;

use super::{EVERYTHING, PATIENCE, Server, Side, split, tags};
use crate::postgres::state::known::Parsed;
use crate::postgres::state::ledger::{Difference, Ledger, Pin};
use crate::postgres::talk::exchange::{Aside, Marker, drain_until_marker};
use crate::postgres::talk::replay::{Replay, ReplayError, forget, listen_for, overlap};
use crate::postgres::wire::extended;
use crate::postgres::wire::read::{error_field, row};

/// The whole way: survey, login, replay, overlap, verification. The new side, and what the client has to be told
/// for having it.
async fn change(
    server: &Server,
    old: &mut Side,
    parameters: &[(&str, &str)],
    unnamed: Option<&[u8]>,
) -> Result<(Side, Vec<(u8, Vec<u8>)>), ReplayError> {
    let ledger = old.survey().await;
    assert_eq!(ledger.pins().count(), 0, "{ledger:?}");
    let mut new = server.login(parameters).await;
    new.aside = Aside::dropped();
    Replay::new(&ledger, &[])
        .run(&mut new.talk, &mut new.aside)
        .await?;
    let unnamed = unnamed.map(|body| Parsed {
        body: body.into(),
        under: Arc::default(),
    });
    Replay::last(&ledger, unnamed.as_ref(), std::iter::empty())
        .run(&mut new.talk, &mut new.aside)
        .await?;
    let mut told = BytesMut::new();
    if ledger.channels().len() > 0 {
        let marker = Marker::fresh();
        for side in [&mut *old, &mut new] {
            side.aside.watch_for(&marker);
        }
        listen_for(&marker).run(&mut old.talk, &mut old.aside).await?;
        overlap(&ledger, Some(&marker))
            .run(&mut new.talk, &mut new.aside)
            .await?;
        drain_until_marker(&mut new.talk, &mut new.aside).await.unwrap();
        forget(&marker).run(&mut new.talk, &mut new.aside).await?;
        drain_until_marker(&mut old.talk, &mut old.aside).await.unwrap();
        told.unsplit(old.aside.take_until_marker());
        // So that the two can be compared.
        forget(&marker).run(&mut old.talk, &mut old.aside).await?;
    }
    new.aside.keep();
    let names: Vec<String> = ledger.names_to_verify().map(text).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let verified = new.survey_with(&names).await.unwrap();
    assert_eq!(
        ledger.differences(&verified, 0),
        [],
        "{:?}",
        differences(&ledger, &verified)
    );
    told.unsplit(ledger.status_changes(&verified));
    Ok((new, split(&mut told)))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn differences(old: &Ledger, new: &Ledger) -> (Vec<String>, Vec<String>) {
    let all = |ledger: &Ledger| super::values(ledger.settings().iter().chain(ledger.custom()));
    (all(old), all(new))
}

/// What it begins with, and what it is told.
type Session = (&'static [(&'static str, &'static str)], &'static [&'static str]);

const SESSIONS: [Session; 24] = [
    (&[], &[]),
    (
        &[("user", "app")],
        &[
            "SET work_mem = '5MB'",
            "SET TIME ZONE 'Asia/Tokyo'",
            "SET DateStyle = 'German'",
        ],
    ),
    (
        &[
            ("user", "app"),
            ("options", "-c statement_timeout=1234 -c app.tenant=7"),
        ],
        &["SET app.tenant = 8"],
    ),
    (
        &[("user", "app")],
        &["SET statement_timeout = '61s'", "SET lock_timeout = 1"],
    ),
    (&[("user", "app")], &["SELECT set_tenant()", "SET app.empty = ''"]),
    (
        &[("user", "app")],
        &[
            "BEGIN; SET LOCAL app.tenant = 1; COMMIT",
            "BEGIN; SET work_mem = '9MB'; ROLLBACK",
        ],
    ),
    (
        &[("user", "app")],
        &["BEGIN; SAVEPOINT s; SET work_mem = '9MB'; ROLLBACK TO s; COMMIT"],
    ),
    (
        &[("user", "app")],
        &["SET search_path = \"weird \"\" name\", public, pg_catalog"],
    ),
    (
        &[("user", "app")],
        &[
            "PREPARE p (int) AS SELECT name FROM things WHERE id = $1",
            "PREPARE q AS SELECT 1;",
        ],
    ),
    (
        &[("user", "app")],
        &["  /* a /* nested */ one */ -- and\n PrePare\"P p\" AS SELECT 'a;b'"],
    ),
    (
        &[("user", "app")],
        &["LISTEN a", "LISTEN \"b \"\" c\"", "LISTEN \"日本\""],
    ),
    (&[("user", "app")], &["SET ROLE owner"]),
    (&[("user", "app"), ("role", "owner")], &["SET ROLE NONE"]),
    (&[("user", "app"), ("role", "owner")], &["SET work_mem = '5MB'"]),
    (
        &[("user", "manager")],
        &["SET ROLE admin", "SET log_statement = 'all'"],
    ),
    (
        &[],
        &[
            "SET log_min_messages = error",
            "SET session_replication_role = replica",
            "SET ROLE app",
        ],
    ),
    (
        &[],
        &[
            "SET log_min_messages = error",
            "SET SESSION AUTHORIZATION app",
            "SET ROLE owner",
        ],
    ),
    (
        &[],
        &[
            "SET SESSION AUTHORIZATION app",
            "SET ROLE owner",
            "SET SESSION AUTHORIZATION manager",
        ],
    ),
    (
        &[],
        &["LOAD 'auto_explain'", "SET auto_explain.log_min_duration = '5s'"],
    ),
    (
        &[],
        &["DO $$ BEGIN NULL; END $$", "SET plpgsql.extra_warnings = 'all'"],
    ),
    (
        &[("user", "app"), ("client_encoding", "LATIN1")],
        &["SET application_name = 'x'", "SET client_encoding = SJIS"],
    ),
    (
        &[("user", "app")],
        &[
            "SET app.\"größe\" = 'é'",
            "PREPARE p AS SELECT '日本 🐘'",
            "SET app.tenant = '🐘'",
            "SET client_encoding = LATIN1",
        ],
    ),
    (
        &[
            ("user", "app"),
            (
                "options",
                "-c default_transaction_isolation=serializable -c standard_conforming_strings=off",
            ),
        ],
        &[
            "SET default_transaction_read_only = on",
            "SET default_transaction_deferrable = on",
            "PREPARE p AS SELECT 'a\\tb'",
        ],
    ),
    (
        &[("user", "app")],
        &[
            "SET client_min_messages = debug1",
            "SET bytea_output = escape",
            "SET row_security = off",
        ],
    ),
];

/// Asked in this order, since some of it changes the answers to the rest.
const QUESTIONS: [&str; 8] = [
    EVERYTHING,
    "SELECT md5(current_setting('app.' || name, true)) FROM unnest('{tenant,empty,by_default,none}'::text[]) AS name",
    "RESET ROLE",
    "RESET ALL",
    EVERYTHING,
    "SELECT md5(current_setting('app.' || name, true)) FROM unnest('{tenant,empty,by_default,none}'::text[]) AS name",
    "RESET SESSION AUTHORIZATION",
    "SELECT session_user || current_user || current_setting('role')",
];

on_servers!(a_session_that_changed_links_can_not_tell);
async fn a_session_that_changed_links_can_not_tell(server: Server) {
    server
        .admin(
            "CREATE ROLE owner; CREATE ROLE app LOGIN IN ROLE owner; CREATE ROLE admin SUPERUSER; \
             CREATE ROLE manager LOGIN IN ROLE admin; CREATE TABLE things (id int, name text); \
             ALTER ROLE app SET app.by_default = 'd'",
        )
        .await;
    server.admin("CREATE FUNCTION set_tenant() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('app.tenant', 'in a function', false); END $$").await;
    for (parameters, statements) in SESSIONS {
        let mut old = server.login(parameters).await;
        for sql in statements {
            old.query(sql).await;
        }
        let (mut new, told) = change(&server, &mut old, parameters, None).await.unwrap();
        assert_eq!(told, [], "{statements:?}");
        assert!(new.aside.take().is_empty(), "{statements:?}");
        for sql in QUESTIONS {
            let (before, after) = (old.query(sql).await, new.query(sql).await);
            let only = |a: &[String], b: &[String]| -> Vec<String> {
                a.iter().filter(|line| !b.contains(line)).cloned().collect()
            };
            // Where a library is loaded on the one and not on the other, more or less is listed.
            let loads = |line: &String| line.starts_with("auto_explain.") || line.starts_with("plpgsql.");
            let missing: Vec<_> = only(&before, &after)
                .into_iter()
                .filter(|line| !loads(line))
                .collect();
            let added: Vec<_> = only(&after, &before)
                .into_iter()
                .filter(|line| !loads(line))
                .collect();
            assert_eq!((missing, added), (vec![], vec![]), "{statements:?} {sql}");
        }
    }
}

on_servers!(a_session_with_timeouts_too_short_for_a_survey_changes_links);
async fn a_session_with_timeouts_too_short_for_a_survey_changes_links(server: Server) {
    let options = "-c statement_timeout=1 -c lock_timeout=1 -c idle_in_transaction_session_timeout=5000";
    for parameters in [&[][..], &[("options", options)]] {
        let mut old = server.login(parameters).await;
        insist(&mut old, "PREPARE p AS SELECT 1").await;
        insist(&mut old, "SET statement_timeout = 1").await;
        let (mut new, told) = change(&server, &mut old, parameters, None).await.unwrap();
        assert_eq!(told, []);
        assert_eq!(
            insist(&mut new, "SHOW statement_timeout").await.as_deref(),
            Some("1ms")
        );
        for show in ["SHOW lock_timeout", "SHOW idle_in_transaction_session_timeout"] {
            assert_eq!(insist(&mut new, show).await, insist(&mut old, show).await);
        }
    }
}

/// Until it is through in the millisecond that it has. The first column of its first row.
async fn insist(side: &mut Side, sql: &str) -> Option<String> {
    let began = Instant::now();
    loop {
        let answer = side.try_query(sql).await;
        if let Some(error) = answer.iter().find(|message| message.tag == b'E') {
            assert_eq!(error_field(error.body(), b'C'), Some(&b"57014"[..]), "{sql}");
            assert!(began.elapsed() < PATIENCE, "{sql}");
            continue;
        }
        let first = answer.iter().find(|message| message.tag == b'D')?;
        let [column] = row::<1>(first.body()).unwrap();
        return column.map(text);
    }
}

on_servers!(statements_keep_their_names_types_and_texts);
async fn statements_keep_their_names_types_and_texts(server: Server) {
    server.admin("CREATE TABLE things (id int8, name text)").await;
    let mut old = server.login(&[]).await;
    old.parse("typed", "SELECT $1, $2 + 1", &[1043, 21]).await;
    old.parse("inferred", "INSERT INTO things VALUES ($1, $2)", &[])
        .await;
    old.parse("command", "VACUUM things", &[]).await;
    old.parse("nothing", "", &[]).await;
    old.query("PREPARE sql (numeric) AS SELECT $1").await;
    old.parse("", "SELECT 'unnamed'", &[]).await;
    let (mut new, _) = change(&server, &mut old, &[], Some(b"\0SELECT 'unnamed'\0\0\0"))
        .await
        .unwrap();
    assert_eq!(run_unnamed(&mut new).await, "unnamed");
    for name in ["typed", "inferred", "command", "nothing", "sql"] {
        let described = describe(&mut new, name).await;
        assert_eq!(described, describe(&mut old, name).await, "{name}");
        assert!(described[0].starts_with('t'), "{name}");
    }
    assert_eq!(new.query("EXECUTE sql (7.5)").await, ["7.5"]);
}

async fn run_unnamed(side: &mut Side) -> String {
    let mut out = BytesMut::new();
    extended::bind(&mut out, b"", &[]);
    extended::execute(&mut out);
    extended::sync(&mut out);
    side.send(&out).await;
    let answer = side.until_ready().await;
    assert_eq!(tags(&answer), "2DCZ");
    let [column] = row::<1>(answer[1].body()).unwrap();
    text(column.unwrap())
}

async fn describe(side: &mut Side, name: &str) -> Vec<String> {
    let mut out = BytesMut::from(&b"D"[..]);
    out.extend_from_slice(&(name.len() as u32 + 6).to_be_bytes());
    out.extend_from_slice(&[b"S", name.as_bytes(), b"\0"].concat());
    extended::sync(&mut out);
    side.send(&out).await;
    let answer = side.until_ready().await;
    answer
        .iter()
        .map(|message| format!("{}{:?}", char::from(message.tag), message.body()))
        .collect()
}

on_servers!(an_unnamed_statement_is_parsed_in_the_encoding_of_its_client);
async fn an_unnamed_statement_is_parsed_in_the_encoding_of_its_client(server: Server) {
    for (parameter, sql) in [("LATIN1", ""), ("UTF8", "SET client_encoding = LATIN1")] {
        let parameters = [("client_encoding", parameter)];
        let mut old = server.login(&parameters).await;
        old.query(sql).await;
        let body = b"\0SELECT length('Gr\xf6\xdfe')::text\0\0\0";
        let (mut new, _) = change(&server, &mut old, &parameters, Some(body)).await.unwrap();
        assert_eq!(run_unnamed(&mut new).await, "5");
        assert_eq!(new.query("SHOW client_encoding").await, ["LATIN1"]);
    }
}

on_servers!(a_change_of_user_is_told_to_the_client_and_changes_nothing_else);
async fn a_change_of_user_is_told_to_the_client_and_changes_nothing_else(server: Server) {
    server
        .admin(
            "CREATE ROLE owner; CREATE ROLE app_1 LOGIN IN ROLE owner; CREATE ROLE app_2 LOGIN IN ROLE owner, app_1; \
             ALTER ROLE app_2 SET role = app_1; ALTER ROLE app_2 SET TimeZone = 'Asia/Tokyo'",
        )
        .await;
    let mut old = server.login(&[("user", "app_1")]).await;
    old.query("SET work_mem = '5MB'").await;
    let (mut new, mut told) = change(&server, &mut old, &[("user", "app_2")], None)
        .await
        .unwrap();
    told.sort();
    assert_eq!(told, [(b'S', b"session_authorization\0app_2\0".to_vec())]);
    assert_ne!(new.query("SHOW TimeZone").await, ["Asia/Tokyo"]);
    assert_eq!(new.query("SELECT current_user").await, ["app_1"]);

    let (mut back, _) = change(&server, &mut new, &[("user", "app_1")], None)
        .await
        .unwrap();
    assert_eq!(
        back.query("SELECT current_user || current_setting('work_mem')")
            .await,
        ["app_15MB"]
    );
    old.query("SET ROLE owner").await;
    let (mut new, _) = change(&server, &mut old, &[("user", "app_2")], None)
        .await
        .unwrap();
    assert_eq!(
        new.query("SELECT session_user || current_user").await,
        ["app_2owner"]
    );
}

on_servers!(what_a_new_link_may_not_do_is_a_pin);
async fn what_a_new_link_may_not_do_is_a_pin(server: Server) {
    server
        .admin("CREATE ROLE app LOGIN; CREATE ROLE other LOGIN; CREATE ROLE admin SUPERUSER LOGIN; CREATE TABLE things (id int)")
        .await;
    let cases = [
        (
            "admin",
            "other",
            "SET log_statement = 'none'",
            Pin::UnreplayableSetting,
        ),
        (
            "admin",
            "other",
            "SET SESSION AUTHORIZATION app",
            Pin::UnreplayableRole,
        ),
        ("admin", "other", "SET ROLE app", Pin::UnreplayableRole),
        (
            "app",
            "app",
            "PREPARE a AS SELECT 1; PREPARE b AS SELECT 2",
            Pin::UnreplayableStatement,
        ),
        (
            "app",
            "app",
            "PREPARE a AS SELECT id FROM things",
            Pin::UnreplayableStatement,
        ),
    ];
    for (user, successor, sql, pin) in cases {
        let mut old = server.login(&[("user", user)]).await;
        old.query(sql).await;
        if sql.contains("things") {
            server.admin("DROP TABLE things").await;
        }
        let refused = change(&server, &mut old, &[("user", successor)], None)
            .await
            .err()
            .unwrap();
        assert_eq!(refused.pin(), Some(pin), "{sql}: {refused}");
    }
}

on_servers!(every_notification_arrives_once_while_links_change);
async fn every_notification_arrives_once_while_links_change(server: Server) {
    const CHANGES: u32 = 25;
    let mut side = server.login(&[]).await;
    side.query("LISTEN a; LISTEN b").await;
    let mut notifier = server.login(&[]).await;
    let enough = Arc::new(AtomicBool::new(false));
    let is_enough = Arc::clone(&enough);
    let sending = tokio::spawn(async move {
        let mut count = 0_u32;
        while !is_enough.load(Ordering::Relaxed) {
            let channel = ["a", "b", "unheard"][count as usize % 3];
            notifier.query(&format!("NOTIFY {channel}, '{count}'")).await;
            count += 1;
        }
        count
    });
    let mut came = Vec::new();
    for _ in 0..CHANGES {
        let (new, told) = change(&server, &mut side, &[], None).await.unwrap();
        came.extend(told);
        let mut old = std::mem::replace(&mut side, new);
        old.query("UNLISTEN *").await;
        tokio::task::yield_now().await;
    }
    enough.store(true, Ordering::Relaxed);
    let count = sending.await.unwrap();
    side.survey().await;
    came.extend(side.came());
    let numbers: Vec<u32> = came
        .iter()
        .map(|(tag, body)| {
            assert_eq!(*tag, b'A');
            let payload = text(&body[4..]);
            payload.split('\0').nth(1).unwrap().parse().unwrap()
        })
        .collect();
    let expected: Vec<u32> = (0..count).filter(|number| number % 3 != 2).collect();
    assert!(numbers == expected, "{} of {}", numbers.len(), expected.len());
    assert!(count > CHANGES, "{count}");
}

on_servers!(a_change_that_is_given_up_loses_no_notification);
async fn a_change_that_is_given_up_loses_no_notification(server: Server) {
    let mut old = server.login(&[]).await;
    old.query("LISTEN a").await;
    let ledger = old.survey().await;
    let marker = Marker::fresh();
    old.aside.watch_for(&marker);
    listen_for(&marker)
        .run(&mut old.talk, &mut old.aside)
        .await
        .unwrap();
    let mut new = server.login(&[]).await;
    server.admin("NOTIFY a, 'before'").await;
    overlap(&ledger, Some(&marker))
        .run(&mut new.talk, &mut new.aside)
        .await
        .unwrap();
    server.admin("NOTIFY a, 'after'").await;
    drain_until_marker(&mut old.talk, &mut old.aside).await.unwrap();
    forget(&marker).run(&mut old.talk, &mut old.aside).await.unwrap();
    assert_eq!(old.query("SELECT pg_listening_channels()").await, ["a"]);
    old.survey().await;
    let came: Vec<String> = old.came().iter().map(|(_, body)| text(&body[4..])).collect();
    assert_eq!(came, ["a\0before\0", "a\0after\0"]);
}

on_servers!(a_replay_that_differs_is_noticed);
async fn a_replay_that_differs_is_noticed(server: Server) {
    let cases = [
        ("SET work_mem = '5MB'", Difference::Settings),
        ("SET app.tenant = '7'", Difference::CustomSettings),
        ("PREPARE p AS SELECT 1", Difference::Statements),
        ("LISTEN a", Difference::Channels),
        ("SET ROLE pg_monitor", Difference::Role),
        ("SET SESSION AUTHORIZATION app", Difference::SessionAuthorization),
    ];
    server.admin("CREATE ROLE app").await;
    let fresh = server.login(&[]).await.survey().await;
    for (sql, difference) in cases {
        let mut side = server.login(&[]).await;
        side.query(sql).await;
        let ledger = side.survey().await;
        assert_eq!(ledger.differences(&ledger.clone(), 0), []);
        assert_eq!(ledger.differences(&fresh, 0), [difference], "{sql}");
        if difference != Difference::CustomSettings {
            assert_eq!(fresh.differences(&ledger, 0), [difference], "{sql}");
        }
    }
}

on_servers!(a_link_that_ends_meanwhile_is_lost);
async fn a_link_that_ends_meanwhile_is_lost(server: Server) {
    let mut side = server.login(&[]).await;
    let [pid] = &side.query("SELECT pg_backend_pid()").await[..] else {
        panic!("one row");
    };
    server
        .admin(&format!("SELECT pg_terminate_backend({pid}, 10000)"))
        .await;
    let error = side.survey_with(&[]).await.unwrap_err();
    assert!(!error.leaves_the_link(), "{error}");
    let mut side = server.login(&[]).await;
    let mut out = BytesMut::new();
    extended::parse(
        &mut out,
        b"",
        b"SELECT pg_terminate_backend(pg_backend_pid())",
        &[],
    );
    extended::bind(&mut out, b"", &[]);
    extended::execute(&mut out);
    side.send(&out).await;
    let error = forget(&Marker::fresh())
        .run(&mut side.talk, &mut side.aside)
        .await
        .unwrap_err();
    // By its last words, or because nothing can be said to it any more.
    assert!(matches!(error, ReplayError::Lost(_)), "{error}");
}
