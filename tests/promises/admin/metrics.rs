//! Every metric is there, and moves when its cause happens.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::admin::{Scrape, ask};
use crate::support::wire::PROTOCOL_3_0;
use crate::support::{Postgres, Stop, Swivel, Wire, cache, eventually, skipped};

const OLD: &str = "user=\"orders_v1\"";
const ORDERS: &str = "secret=\"orders\"";

/// Scrapes until the sum of these series is as it should be.
async fn becomes(swivel: &Swivel, metric: &str, labels: &[&str], is_right: impl Fn(f64) -> bool) {
    eventually(&format!("{metric} {labels:?} moves"), async || {
        is_right(Scrape::of(swivel).await.sum(metric, labels))
    })
    .await;
}

fn promtool() -> Option<PathBuf> {
    let installed = [
        "promtool".into(),
        cache().join("deployment/prometheus/usr/bin/promtool"),
    ];
    installed.into_iter().find(|program| {
        let mut ask = Command::new(program);
        let asked = ask.arg("--version").stdout(Stdio::null());
        asked.stderr(Stdio::null()).status().is_ok()
    })
}

/// A pgswivel whose sessions move when the user changes, and soon.
async fn swivel(postgres: &Postgres) -> Swivel {
    Swivel::in_front_of(postgres)
        .trusting()
        .secret_line("grace = \"1s\"")
        .secret_line("max_age = \"1h\"")
        .section("[login]\npatience = \"15s\"")
        .start()
        .await
}

#[tokio::test]
async fn what_is_told_passes_the_lint_of_prometheus() {
    let Some(promtool) = promtool() else {
        skipped("no promtool; tests/setup installs it where it can");
        return;
    };
    let postgres = Postgres::start(18);
    postgres.create_user("orders_v2", "second").await;
    let swivel = swivel(&postgres).await;
    let client = swivel.connect().await;
    client.batch_execute("CREATE TEMP TABLE t (n int)").await.unwrap();
    swivel.write_secret("orders_v2", "second");
    becomes(&swivel, "pgswivel_sessions_pinned", &[], |pinned| pinned == 1.0).await;
    let answer = ask(&swivel, "GET /metrics").await;
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"));
    let mut lint = Command::new(promtool);
    lint.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut lint = lint
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    lint.stdin
        .take()
        .unwrap()
        .write_all(answer.body.as_bytes())
        .unwrap();
    let lint = lint.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[lint.stdout, lint.stderr].concat()).into_owned();
    assert!(lint.status.success() && said.is_empty(), "{said}");
}

#[tokio::test]
async fn a_quiet_process_tells_of_every_metric_that_can_have_a_value() {
    let postgres = Postgres::start(18);
    let swivel = swivel(&postgres).await;
    becomes(&swivel, "pgswivel_credential_working", &[ORDERS], |works| {
        works == 1.0
    })
    .await;
    let _client = swivel.connect().await;
    let scrape = Scrape::of(&swivel).await;
    for metric in [
        "credential_info",
        "credential_generation",
        "credential_age_seconds",
        "credential_max_age_seconds",
        "credential_working",
        "user_unused",
        "user_links",
        "credential_read_timestamp_seconds",
        "logins_total",
        "store_refreshes_total",
        "store_last_success_timestamp_seconds",
        "store_poll_seconds",
        "logins_held",
        "login_hold_seconds_bucket",
        "sessions",
        "sessions_pinned_past_grace",
        "moves_total",
        "move_seconds_bucket",
        "rescues_total",
        "rotation_seconds_bucket",
        "governor_hits_total",
        "limit_hits_total",
        "clients",
        "links",
    ] {
        let metric = format!("pgswivel_{metric}");
        assert!(scrape.has(&metric), "{metric}");
    }
    assert!(scrape.has("process_resident_memory_bytes"));
}

#[tokio::test]
async fn the_metrics_of_logins_move_with_them() {
    let postgres = Postgres::start(18);
    let swivel = swivel(&postgres).await;
    let first = swivel.connect().await;
    let second = swivel.connect().await;
    let scrape = Scrape::of(&swivel).await;
    assert_eq!(scrape.sum("pgswivel_clients", &[]), 2.0);
    assert_eq!(scrape.sum("pgswivel_sessions", &[ORDERS, "leading"]), 2.0);
    // Besides them there may be one that learns what functions do.
    becomes(&swivel, "pgswivel_links", &["upstream=\"orders\""], |links| {
        links == 2.0
    })
    .await;
    let accepted = ["result=\"accepted\"", "position=\"current\"", "sqlstate=\"\""];
    assert!(scrape.sum("pgswivel_logins_total", &accepted) >= 2.0);
    assert_eq!(
        scrape.sum("pgswivel_credential_max_age_seconds", &[ORDERS]),
        3600.0
    );
    assert_eq!(scrape.sum("pgswivel_store_poll_seconds", &[ORDERS]), 300.0);
    let age = scrape.sum("pgswivel_credential_age_seconds", &[ORDERS]);
    assert!((0.0..60.0).contains(&age), "{age}");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let read = scrape.sum("pgswivel_store_last_success_timestamp_seconds", &[ORDERS]);
    assert!((now.as_secs_f64() - read).abs() < 60.0, "{read}");
    drop((first, second));
    becomes(&swivel, "pgswivel_clients", &[], |clients| clients == 0.0).await;
    becomes(&swivel, "pgswivel_links", &[], |links| links == 0.0).await;

    // The database changes first: nothing works until the store does.
    postgres.change_password(Postgres::USER, "next").await;
    let config = swivel.config();
    let waiting = tokio::spawn(async move {
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.query("SELECT 1", &[]).await.unwrap().len()
    });
    becomes(&swivel, "pgswivel_logins_held", &[], |held| held == 1.0).await;
    becomes(&swivel, "pgswivel_credential_working", &[ORDERS], |works| {
        works == 0.0
    })
    .await;
    let refused = ["result=\"refused\"", "sqlstate=\"28P01\""];
    becomes(&swivel, "pgswivel_logins_total", &refused, |refused| {
        refused > 0.0
    })
    .await;
    swivel.write_secret(Postgres::USER, "next");
    assert_eq!(waiting.await.unwrap(), 1);
    becomes(&swivel, "pgswivel_logins_held", &[], |held| held == 0.0).await;
    let scrape = Scrape::of(&swivel).await;
    assert!(scrape.sum("pgswivel_login_hold_seconds_count", &[]) >= 1.0);
    assert!(scrape.sum("pgswivel_login_hold_seconds_sum", &[]) > 0.0);
    assert_eq!(scrape.sum("pgswivel_rotation_seconds_count", &[]), 1.0);
    assert!(scrape.sum("pgswivel_rotation_seconds_sum", &[]) < 30.0);
    assert_eq!(scrape.sum("pgswivel_credential_working", &[ORDERS]), 1.0);
    assert_eq!(scrape.sum("pgswivel_credential_info", &[ORDERS]), 1.0);

    let reads = |result: &'static str| ["store=\"file\"", result];
    let ok = scrape.sum("pgswivel_store_refreshes_total", &reads("ok"));
    assert!(ok >= 2.0, "{ok}");
    std::fs::write(swivel.directory().join("secret.json"), "half of").unwrap();
    becomes(
        &swivel,
        "pgswivel_store_refreshes_total",
        &reads("failed"),
        |failed| failed > 0.0,
    )
    .await;
}

#[tokio::test]
async fn the_metrics_of_sessions_move_with_them() {
    let postgres = Postgres::start(18);
    postgres.create_user("orders_v2", "second").await;
    let swivel = swivel(&postgres).await;
    let free = swivel.connect().await;
    let pinned = swivel.connect().await;
    pinned.batch_execute("CREATE TEMP TABLE t (n int)").await.unwrap();
    let before = Scrape::of(&swivel).await;
    assert_eq!(before.sum("pgswivel_user_unused", &[OLD]), 0.0);
    swivel.write_secret("orders_v2", "second");
    becomes(&swivel, "pgswivel_moves_total", &["result=\"moved\""], |moved| {
        moved == 1.0
    })
    .await;
    becomes(
        &swivel,
        "pgswivel_moves_total",
        &["result=\"pinned\""],
        |pinned| pinned == 1.0,
    )
    .await;
    becomes(
        &swivel,
        "pgswivel_sessions_pinned",
        &["temporary_objects"],
        |pinned| pinned == 1.0,
    )
    .await;
    let after = Scrape::of(&swivel).await;
    assert_eq!(after.sum("pgswivel_sessions", &[ORDERS, "leading"]), 1.0);
    assert_eq!(after.sum("pgswivel_sessions", &[ORDERS, "retired"]), 1.0);
    assert_eq!(after.sum("pgswivel_move_seconds_count", &[]), 1.0);
    assert_eq!(after.sum("pgswivel_user_unused", &[OLD]), 0.0);
    let generation = |scrape: &Scrape| scrape.sum("pgswivel_credential_generation", &[ORDERS]);
    assert!(generation(&after) > generation(&before));
    becomes(
        &swivel,
        "pgswivel_sessions_pinned_past_grace",
        &[ORDERS],
        |pinned| pinned == 1.0,
    )
    .await;
    drop(pinned);
    becomes(&swivel, "pgswivel_user_unused", &[OLD], |safe| safe == 1.0).await;
    becomes(
        &swivel,
        "pgswivel_sessions_pinned_past_grace",
        &[ORDERS],
        |pinned| pinned == 0.0,
    )
    .await;
    drop(free);
}

#[tokio::test]
async fn a_move_that_comes_to_nothing_is_counted_and_made_later() {
    let postgres = Postgres::start(18);
    let user = Postgres::USER;
    let roles = format!(
        "CREATE ROLE orders_owner; GRANT orders_owner TO {user}; \
         CREATE ROLE orders_v2 LOGIN PASSWORD 'second'"
    );
    postgres.execute(&roles).await;
    let swivel = swivel(&postgres).await;
    let session = swivel.connect().await;
    session.batch_execute("SET ROLE orders_owner").await.unwrap();
    swivel.write_secret("orders_v2", "second");
    becomes(
        &swivel,
        "pgswivel_moves_total",
        &["result=\"put_off\""],
        |put_off| put_off >= 1.0,
    )
    .await;
    postgres.execute("GRANT orders_owner TO orders_v2").await;
    becomes(&swivel, "pgswivel_moves_total", &["result=\"moved\""], |moved| {
        moved == 1.0
    })
    .await;
    let role: String = session
        .query_one("SELECT current_user", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(role, "orders_owner");
}

#[tokio::test]
async fn a_session_that_is_cut_is_counted() {
    let postgres = Postgres::start(18);
    postgres.create_user("orders_v2", "second").await;
    let swivel = Swivel::in_front_of(&postgres)
        .secret_line("sessions = \"cut\"")
        .secret_line("grace = \"1s\"")
        .start()
        .await;
    let pinned = swivel.connect().await;
    pinned.batch_execute("CREATE TEMP TABLE t (n int)").await.unwrap();
    swivel.write_secret("orders_v2", "second");
    becomes(&swivel, "pgswivel_moves_total", &["result=\"cut\""], |cut| {
        cut == 1.0
    })
    .await;
}

#[tokio::test]
async fn sessions_that_lose_their_connection_are_counted_by_what_became_of_them() {
    let mut postgres = Postgres::start(18);
    let admin = postgres.admin().await;
    let swivel = swivel(&postgres).await;
    let resting = swivel.connect().await;
    let holding = swivel.connect().await;
    holding
        .batch_execute("CREATE TEMP TABLE t (n int)")
        .await
        .unwrap();
    let mut working = swivel.wire().await;
    working.query("SELECT pg_sleep(600)").await;
    eventually("it works", async || {
        let sql = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        admin.query(sql, &[]).await.unwrap().len() == 1
    })
    .await;
    let unreachable = ["result=\"unreachable\""];
    let before = Scrape::of(&swivel)
        .await
        .sum("pgswivel_logins_total", &unreachable);
    postgres.stop(Stop::Fast);
    becomes(&swivel, "pgswivel_logins_total", &unreachable, |now| now > before).await;
    postgres.start_again();
    for result in ["unnoticed", "interrupted", "lost"] {
        let label = format!("result=\"{result}\"");
        becomes(&swivel, "pgswivel_rescues_total", &[ORDERS, &label], |rescues| {
            rescues == 1.0
        })
        .await;
    }
    assert_eq!(resting.query("SELECT 1", &[]).await.unwrap().len(), 1);
    assert!(holding.query("SELECT 1", &[]).await.is_err());
}

#[tokio::test]
async fn logins_that_the_governor_holds_back_are_counted() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres)
        .section("[login]\npatience = \"2s\"\nrefused_retry = \"1s\"")
        .section("[limits]\nrefused_logins_per_minute = 1")
        .start()
        .await;
    becomes(&swivel, "pgswivel_credential_working", &[ORDERS], |works| {
        works == 1.0
    })
    .await;
    let endpoint = format!("endpoint=\"127.0.0.1:{}\"", postgres.port());
    assert_eq!(
        Scrape::of(&swivel)
            .await
            .sum("pgswivel_governor_hits_total", &[&endpoint]),
        0.0
    );
    postgres.change_password(Postgres::USER, "elsewhere").await;
    for _ in 0..2 {
        assert!(swivel.try_connect().await.is_err());
    }
    becomes(&swivel, "pgswivel_governor_hits_total", &[&endpoint], |hits| {
        hits > 0.0
    })
    .await;
    limit_is_hit(&swivel, "refused_logins_per_minute").await;
}

async fn limit_is_hit(swivel: &Swivel, limit: &str) {
    let label = format!("limit=\"{limit}\"");
    becomes(swivel, "pgswivel_limit_hits_total", &[&label], |hits| hits > 0.0).await;
}

#[tokio::test]
async fn limits_that_turn_clients_away_are_counted() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres)
        .upstream_line("connections_max = 1")
        .section("[limits]\nclients = 2\nstartups = 1\nstartup_time = \"2s\"\nqueue_wait = \"200ms\"")
        .start()
        .await;
    let _first = swivel.connect().await;
    // It gets a seat, and no connection.
    assert!(swivel.try_connect().await.is_err());
    limit_is_hit(&swivel, "connections_max").await;
    limit_is_hit(&swivel, "queue_wait").await;
    let mut crowd = JoinSet::new();
    for _ in 0..6 {
        let config = swivel.config();
        crowd.spawn(async move { config.connect(tokio_postgres::NoTls).await.map(|_| ()) });
    }
    while crowd.join_next().await.is_some() {}
    limit_is_hit(&swivel, "clients").await;
    let silent = TcpStream::connect(swivel.address()).await;
    limit_is_hit(&swivel, "startup_time").await;
    drop(silent);
    // Whoever is turned away and stays keeps the next one from logging in for a while.
    let mut crowd = Vec::new();
    eventually("somebody had to wait for too long", async || {
        let mut wire = Wire::connect(&swivel.address()).await;
        // Version 1.0 of the protocol.
        wire.send(&[0, 0, 0, 8, 0, 1, 0, 0]).await;
        crowd.push(wire);
        let hits = Scrape::of(&swivel).await;
        hits.sum("pgswivel_limit_hits_total", &["limit=\"startups\""]) > 0.0
    })
    .await;
    drop(crowd);
    let mut wire = Wire::connect(&swivel.address()).await;
    wire.send(&[0x7f, 0, 0, 0]).await;
    limit_is_hit(&swivel, "startup_packet").await;
}

#[tokio::test]
async fn limits_that_make_others_wait_are_counted() {
    let postgres = Postgres::start(18);
    postgres.create_user("orders_v2", "second").await;
    let swivel = Swivel::in_front_of(&postgres)
        .secret_line("grace = \"0s\"")
        .section(
            "[limits]\nlogins_per_endpoint = 1\nmoves = 1\nadmin_connections = 1\nstatement_bytes = 4000",
        )
        .start()
        .await;
    let mut crowd = JoinSet::new();
    for _ in 0..12 {
        let config = swivel.config();
        crowd.spawn(async move {
            let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client
        });
    }
    let clients = crowd.join_all().await;
    limit_is_hit(&swivel, "logins_per_endpoint").await;
    let long = format!("SELECT '{}'::text", "x".repeat(5000));
    let statement = clients[0].prepare(&long).await.unwrap();
    swivel.write_secret("orders_v2", "second");
    limit_is_hit(&swivel, "moves").await;
    limit_is_hit(&swivel, "statement_bytes").await;
    drop(statement);
    eventually("somebody has to go for somebody else", async || {
        let mut idle = Vec::new();
        for _ in 0..250 {
            idle.push(TcpStream::connect(("127.0.0.1", swivel.admin_port())).await);
        }
        let hits = Scrape::of(&swivel).await;
        hits.sum("pgswivel_limit_hits_total", &["limit=\"admin_connections\""]) > 0.0
    })
    .await;
}

#[tokio::test]
async fn cancel_requests_beyond_the_limit_are_counted() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres)
        .section("[limits]\ncancels = 1")
        .start()
        .await;
    let mut wire = Wire::connect(&swivel.address()).await;
    wire.startup(
        PROTOCOL_3_0,
        &[("user", Swivel::USER), ("database", Postgres::DATABASE)],
    )
    .await;
    wire.authenticate(Swivel::PASSWORD.as_bytes()).await.unwrap();
    let (pid, key) = loop {
        let message = wire.next().await.unwrap();
        if message.tag == b'K' {
            break message.key();
        }
    };
    // A server that does not answer keeps the one place there is.
    postgres.pause();
    let request = crate::support::wire::cancel_request(pid, &key);
    let mut requests = Vec::new();
    for _ in 0..2 {
        let mut cancel = Wire::connect(&swivel.address()).await;
        cancel.send(&request).await;
        requests.push(cancel);
    }
    limit_is_hit(&swivel, "cancels").await;
    postgres.resume();
}
