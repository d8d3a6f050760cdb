//! What is logged, at which level, and how often.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio_postgres::NoTls;

use crate::support::admin::Scrape;
use crate::support::{Postgres, Swivel, eventually};

fn lines(swivel: &Swivel) -> Vec<Value> {
    let log = swivel.log();
    let lines = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")));
    lines.collect()
}

#[tokio::test]
async fn the_level_changes_while_it_runs() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres)
        .section("[log]\nlevel = \"info\"\n")
        .start()
        .await;
    let is_debug = |line: &Value| line["level"] == "DEBUG";
    drop(swivel.connect().await);
    assert!(!lines(&swivel).iter().any(is_debug));
    swivel.rewrite("level = \"info\"", "level = \"debug\"").await;
    drop(swivel.connect().await);
    eventually("sessions are told of", async || {
        lines(&swivel).iter().any(is_debug)
    })
    .await;
    swivel.rewrite("level = \"debug\"", "level = \"warn\"").await;
    let said = lines(&swivel).len();
    swivel.refresh();
    drop(swivel.connect().await);
    swivel.write_config("nonsense");
    eventually("a warning is logged", async || swivel.said("ignored") == 1).await;
    let after = lines(&swivel).split_off(said);
    assert!(!after.iter().any(is_debug), "{after:?}");
}

#[tokio::test]
async fn a_rotation_is_a_story_in_few_lines_however_many_sessions_move() {
    let postgres = Postgres::start(18);
    postgres.create_user("orders_v2", "second").await;
    let swivel = Swivel::in_front_of(&postgres)
        .secret_line("grace = \"1s\"")
        .start()
        .await;
    let mut sessions = Vec::new();
    for _ in 0..20 {
        sessions.push(swivel.connect().await);
    }
    let before = lines(&swivel).len();
    swivel.write_secret("orders_v2", "second");
    let closed = "old connections closed";
    eventually("the last session has left", async || swivel.said(closed) > 0).await;
    let story = lines(&swivel).split_off(before);
    let told: Vec<&str> = (story.iter())
        .filter(|line| line["target"] != "audit")
        .filter_map(|line| line["message"].as_str())
        .collect();
    let chapters = [
        "credential rotation detected",
        "now using rotated credentials",
        "sessions are on a replaced credential",
        closed,
    ];
    assert_eq!(told, chapters);
    let mut lines = story.iter();
    let replaced = lines.find(|line| line["message"] == chapters[2]).unwrap();
    // The first may have left by then.
    let sessions_told = replaced["sessions"].as_u64().unwrap();
    assert!((1..=20).contains(&sessions_told), "{replaced}");
    for session in &sessions {
        session.query("SELECT 1", &[]).await.unwrap();
    }
}

#[tokio::test]
async fn every_line_of_a_session_has_its_number() {
    let postgres = Postgres::start(18);
    postgres.create_user("orders_v2", "second").await;
    let swivel = Swivel::in_front_of(&postgres)
        .secret_line("grace = \"1s\"")
        .section("[log]\nlevel = \"debug\"\n")
        .start()
        .await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(swivel.connect().await);
    }
    sessions[0]
        .batch_execute("CREATE TEMP TABLE t (n int)")
        .await
        .unwrap();
    swivel.write_secret("orders_v2", "second");
    eventually("one can't leave", async || {
        swivel.said("can't leave its link now") == 1
    })
    .await;
    sessions[0].batch_execute("DROP TABLE t").await.unwrap();
    eventually("all have left", async || swivel.said("session moved") == 3).await;
    sessions.clear();
    eventually("all are over", async || swivel.said("session over") == 3).await;
    let [kept, moved, over] = [
        "the session can't leave its link now",
        "session moved",
        "session over",
    ];
    let mut stories: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for line in lines(&swivel) {
        let message = line["message"].as_str().unwrap_or_default();
        if [kept, moved, over].contains(&message) {
            let number = line["session"]
                .as_u64()
                .unwrap_or_else(|| panic!("whose is {line}"));
            stories.entry(number).or_default().push(message.to_owned());
        }
    }
    let told: Vec<Vec<String>> = stories.into_values().collect();
    assert_eq!(
        told,
        [vec![kept, moved, over], vec![moved, over], vec![moved, over]]
    );
}

#[tokio::test]
async fn what_keeps_sessions_on_a_replaced_credential_is_said_once_for_all_of_them() {
    let postgres = Postgres::start(18);
    postgres.create_user("orders_v2", "second").await;
    let swivel = Swivel::in_front_of(&postgres)
        .secret_line("grace = \"1s\"")
        .start()
        .await;
    let mut sessions = Vec::new();
    for _ in 0..5 {
        let session = swivel.connect().await;
        session
            .batch_execute("CREATE TEMP TABLE t (n int)")
            .await
            .unwrap();
        sessions.push(session);
    }
    swivel.write_secret("orders_v2", "second");
    let told = "sessions can't leave a replaced credential now";
    eventually("it is said", async || swivel.said(told) > 0).await;
    let story = lines(&swivel);
    let line = story.iter().find(|line| line["message"] == told).unwrap();
    assert_eq!(
        (&line["sessions"], line["reasons"].is_string()),
        (&Value::from(5), true),
        "{line}"
    );
    assert_eq!(swivel.said("old connections closed"), 0);
    sessions.clear();
    eventually("they are gone", async || {
        swivel.said("old connections closed") == 1
    })
    .await;
    assert_eq!(swivel.said(told), 1);
}

#[tokio::test]
async fn a_hundred_clients_up_against_a_limit_are_one_line() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres)
        .section("[limits]\nclients = 1\n")
        .start()
        .await;
    let _only = swivel.connect().await;
    for _ in 0..100 {
        assert!(swivel.try_connect().await.is_err());
    }
    assert_eq!(swivel.said("a limit turns clients away"), 1);
    assert_eq!(swivel.said("\"limit\":\"limits.clients\""), 1);
}

/// Whoever runs it hears of them, and anybody can make more of them.
#[tokio::test]
async fn clients_with_a_wrong_password_are_one_line_that_repeats_no_password() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    for (user, password) in [
        (Swivel::USER, "a wrong guess"),
        (Postgres::USER, Postgres::PASSWORD),
    ] {
        for _ in 0..10 {
            let mut config = swivel.config();
            let refused = config.user(user).password(password).connect(NoTls).await;
            let error = refused.map(|_| ()).unwrap_err();
            let hint = error.as_db_error().unwrap().hint().unwrap().to_owned();
            assert!(hint.contains("own roles"), "{hint}");
        }
    }
    assert_eq!(swivel.said("clients come with a wrong password"), 1);
    let story = lines(&swivel);
    let said = |line: &&Value| {
        line["message"]
            .as_str()
            .is_some_and(|said| said.contains("wrong password"))
    };
    let line = story.iter().find(said).unwrap();
    assert_eq!(
        (&line["role"], &line["failures"]),
        (&Value::from("\"app\""), &Value::from(1))
    );
    assert!(!swivel.log().contains("a wrong guess"));
}

#[tokio::test]
async fn an_upstream_that_is_gone_is_said_when_it_goes_and_when_it_is_back() {
    let mut postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres)
        .section("[login]\npatience = \"300ms\"\n")
        .start()
        .await;
    swivel.connect().await;
    postgres.vanish();
    for _ in 0..20 {
        assert!(swivel.try_connect().await.is_err());
    }
    assert_eq!(swivel.said("logins to an endpoint fail"), 1, "{}", swivel.log());
    postgres.start_again();
    eventually("it is back", async || {
        swivel.try_connect().await.is_ok() && swivel.said("logins to an endpoint succeed again") == 1
    })
    .await;
    assert_eq!(swivel.said("logins to an endpoint fail"), 1);
}

#[tokio::test]
async fn a_log_that_nobody_reads_stops_no_session_no_login_and_no_end() {
    let postgres = Postgres::start(18);
    let unstarted = Swivel::in_front_of(&postgres).section("[log]\nlevel = \"debug\"\n");
    let log = unstarted.directory().join("log");
    nix::unistd::mkfifo(&log, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let stalled = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&log)
        .unwrap();
    nix::fcntl::fcntl(&stalled, nix::fcntl::FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let mut swivel = unstarted.start().await;
    let served = async {
        let staying = swivel.connect().await;
        for _ in 0..50 {
            drop(swivel.connect().await);
        }
        assert_eq!(staying.query("SELECT 1", &[]).await.unwrap().len(), 1);
    };
    let served = tokio::time::timeout(Duration::from_secs(60), served).await;
    assert!(
        served.is_ok(),
        "sessions and logins wait for whoever reads the log"
    );
    let (scrape, dropped) = (Scrape::of(&swivel).await, "pgswivel_log_lines_dropped_total");
    assert!(scrape.has(dropped), "what is dropped is counted");
    swivel.signal(nix::sys::signal::Signal::SIGTERM);
    let ended = tokio::time::timeout(Duration::from_secs(30), async {
        eventually("it has ended", async || !swivel.is_running()).await;
    });
    assert!(ended.await.is_ok());
    assert!(swivel.wait().success());
}
