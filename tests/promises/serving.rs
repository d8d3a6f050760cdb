//! Listeners, limits, signals: what there is around a session.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio_postgres::NoTls;

use crate::support::wire::PROTOCOL_3_0;
use crate::support::{Postgres, Swivel, Wire, client_tool, eventually, within};

const AT_ONCE: Duration = Duration::from_secs(15);

async fn one(client: &tokio_postgres::Client) -> i32 {
    client.query_one("SELECT 1", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn clients_are_served_over_several_addresses_and_a_unix_socket() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).also_on("[::1]:PORT");
    let directory = swivel.directory().to_owned();
    let swivel = swivel
        .also_on(&format!("unix:{}", directory.display()))
        .start()
        .await;
    for host in ["127.0.0.1", "::1", directory.to_str().unwrap()] {
        let mut config = tokio_postgres::Config::new();
        config.host(host).port(swivel.port()).dbname(Postgres::DATABASE);
        config.user(Swivel::USER).password(Swivel::PASSWORD);
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        assert_eq!(one(&client).await, 1, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_served_by_as_many_threads_as_are_wanted() {
    let postgres = Postgres::start(18);
    let threads = |swivel: &Swivel| {
        let tasks = fs::read_dir(format!("/proc/{}/task", swivel.pid())).unwrap();
        let names = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")));
        // One that has ended meanwhile is none of them.
        names
            .filter(|name| name.as_ref().is_ok_and(|name| name.trim() == "worker"))
            .count()
    };
    let one_thread = Swivel::in_front_of(&postgres).start().await;
    assert_eq!(threads(&one_thread), 0, "the main thread does everything");
    let mut swivel = Swivel::in_front_of(&postgres)
        .top_line("workers = 3")
        .secret_line("grace = \"1s\"")
        .start()
        .await;
    // Those that wait for files and the like have the same name.
    assert!(threads(&swivel) >= 3);
    let mut clients = Vec::new();
    for _ in 0..12 {
        clients.push(swivel.connect().await);
    }
    for client in &clients {
        assert_eq!(one(client).await, 1);
    }
    postgres.create_user("orders_v2", "second").await;
    swivel.write_secret("orders_v2", "second");
    eventually("sessions moved", async || {
        swivel.said("old connections closed") == 1
    })
    .await;
    for client in &clients {
        assert_eq!(one(client).await, 1);
    }
    drop(clients);
    assert_eq!(swivel.terminate().code(), Some(0));
}

#[tokio::test]
async fn one_client_too_many_is_told_which_limit_it_was() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres)
        .section("[limits]\nclients = 2")
        .start()
        .await;
    let (first, _second) = (swivel.connect().await, swivel.connect().await);
    let error = swivel.try_connect().await.err().unwrap();
    let error = error.as_db_error().unwrap();
    assert_eq!((error.severity(), error.code().code()), ("FATAL", "53300"));
    assert!(error.message().contains("limits.clients"), "{error}");
    assert_eq!(one(&first).await, 1);
    drop(first);
    eventually("a place is free again", async || {
        swivel.try_connect().await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn clients_queue_for_a_connection_and_are_told_when_none_comes_free() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres)
        .upstream_line("connections_max = 1")
        .section("[limits]\nqueue_wait = \"3s\"")
        .start()
        .await;
    let first = swivel.connect().await;
    let error = swivel.try_connect().await.err().unwrap();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "53300");
    assert!(error.message().contains("limits.queue_wait"), "{error}");
    let (second, ()) = tokio::join!(swivel.try_connect(), async { drop(first) });
    assert_eq!(one(&second.unwrap()).await, 1);
}

#[tokio::test]
async fn a_client_that_says_nothing_is_sent_away_after_its_time() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres)
        .section("[limits]\nstartup_time = \"3s\"")
        .start()
        .await;
    let mut silent = Wire::connect(&swivel.address()).await;
    let mut asked = Wire::connect(&swivel.address()).await;
    asked.startup(PROTOCOL_3_0, &[("user", Swivel::USER)]).await;
    asked.expect(b'R').await;
    assert!(within(AT_ONCE, "the end of the silent one", silent.ends()).await);
    let refusal = within(AT_ONCE, "the end of the slow one", asked.refusal()).await;
    assert!(refusal.message.contains("limits.startup_time"), "{refusal:?}");
}

#[tokio::test]
async fn on_sigterm_clients_are_served_to_their_end_and_new_ones_too() {
    let postgres = Postgres::start(18);
    let mut swivel = Swivel::in_front_of(&postgres).start().await;
    let staying = swivel.connect().await;
    swivel.signal(Signal::SIGTERM);
    eventually("it has heard", async || swivel.log().contains("stopping")).await;
    let late = swivel.connect().await;
    assert_eq!((one(&staying).await, one(&late).await), (1, 1));
    assert!(swivel.is_running());
    drop((staying, late));
    eventually("it has ended", async || !swivel.is_running()).await;
    assert_eq!(swivel.wait().code(), Some(0));
}

#[tokio::test]
async fn a_second_sigterm_ends_sessions_with_a_reason() {
    let postgres = Postgres::start(18);
    let mut swivel = Swivel::in_front_of(&postgres).start().await;
    let mut wire = swivel.wire().await;
    swivel.signal(Signal::SIGTERM);
    eventually("it has heard", async || swivel.log().contains("stopping")).await;
    swivel.signal(Signal::SIGTERM);
    let refusal = within(AT_ONCE, "the last word", wire.refusal()).await;
    assert_eq!(
        (refusal.severity.as_str(), refusal.code.as_str()),
        ("FATAL", "57P01")
    );
    assert_eq!(swivel.wait().code(), Some(0));
}

#[tokio::test]
async fn clients_that_outstay_the_drain_time_are_sent_away() {
    let postgres = Postgres::start(18);
    let mut swivel = Swivel::in_front_of(&postgres)
        .top_line("drain = \"1s\"")
        .start()
        .await;
    let mut wire = swivel.wire().await;
    swivel.signal(Signal::SIGTERM);
    let refusal = within(AT_ONCE, "the last word", wire.refusal()).await;
    assert_eq!(refusal.code, "57P01");
    assert_eq!(swivel.wait().code(), Some(0));
}

#[tokio::test]
async fn sighup_reads_the_secret_now_and_ends_nothing() {
    let postgres = Postgres::start(18);
    postgres.create_user("orders_v2", "second").await;
    let mut swivel = Swivel::in_front_of(&postgres)
        .secret_line("poll = \"1h\"")
        .start()
        .await;
    let before = swivel.connect().await;
    swivel.write_secret("orders_v2", "second");
    swivel.signal(Signal::SIGHUP);
    eventually("new sessions are the new user's", async || {
        let client = swivel.connect().await;
        let row = client.query_one("SELECT session_user::text", &[]).await.unwrap();
        row.get::<_, &str>(0) == "orders_v2"
    })
    .await;
    assert_eq!(one(&before).await, 1);
    assert!(swivel.is_running());
}

#[tokio::test]
async fn the_newest_client_speaks_the_newest_protocol_through_it() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    for (version, number) in [("3.0", "30000"), ("3.2", "30002")] {
        let url = format!(
            "{}?min_protocol_version={version}&max_protocol_version={version}&sslmode=disable",
            swivel.url()
        );
        let mut psql = client_tool(18, "psql");
        psql.args([&url, "-XAtc", "SELECT 'served'", "-c", r"\conninfo"]);
        let output = psql.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(said.contains("served"), "{number}: {said}");
        assert!(said.contains(&format!("Protocol Version|{version}")), "{said}");
    }
}
