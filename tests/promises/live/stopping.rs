//! SIGTERM, SIGINT, SIGHUP: how it ends, and how it does not.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::task::JoinHandle;

use crate::rotation::Application;
use crate::support::admin::Scrape;
use crate::support::{Postgres, ServerError, Swivel, Wire, eventually, within};

const STAYS: Duration = Duration::from_secs(20);
/// Less than it would wait for clients, on a busy machine too.
const AT_ONCE: Duration = Duration::from_secs(15);

#[tokio::test]
async fn whoever_stays_twenty_seconds_after_sigterm_is_served_to_the_end() {
    let postgres = Postgres::start(18);
    let mut swivel = Swivel::in_front_of(&postgres).start().await;
    let application = Application::of(&swivel).await;
    let staying = swivel.connect().await;
    let told = Instant::now();
    swivel.signal(Signal::SIGTERM);
    eventually("it has heard", async || swivel.said("stopping: waiting") == 1).await;
    assert_eq!(swivel.status_of("/readyz").await, 503, "from the moment it knows");
    while told.elapsed() < STAYS {
        staying.query("SELECT pg_sleep(0.1)", &[]).await.unwrap();
        let late = swivel.connect().await;
        late.query("SELECT 1", &[]).await.unwrap();
    }
    let report = application.leave().await;
    report.is_untroubled(Duration::from_secs(5));
    assert!(swivel.is_running());
    staying.query("SELECT 1", &[]).await.unwrap();
    drop(staying);
    eventually("it has ended", async || !swivel.is_running()).await;
    assert_eq!(swivel.wait().code(), Some(0));
    assert_eq!(swivel.errors(), "");
    assert_eq!(
        swivel.said("\"WARN\"") + swivel.said("\"ERROR\""),
        0,
        "{}",
        swivel.log()
    );
}

#[tokio::test]
async fn without_clients_it_ends_at_once_by_either_signal() {
    let postgres = Postgres::start(18);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut swivel = Swivel::in_front_of(&postgres).start().await;
        drop(swivel.connect().await);
        swivel.signal(signal);
        within(AT_ONCE, "its end", async {
            while swivel.is_running() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(swivel.wait().code(), Some(0), "{signal}");
        assert_eq!(swivel.errors(), "");
    }
}

#[tokio::test]
async fn a_second_signal_of_either_kind_ends_it_now() {
    let postgres = Postgres::start(18);
    let kinds = [
        (Signal::SIGTERM, Signal::SIGINT),
        (Signal::SIGINT, Signal::SIGTERM),
        (Signal::SIGINT, Signal::SIGINT),
    ];
    for (first, second) in kinds {
        let mut swivel = Swivel::in_front_of(&postgres).start().await;
        let mut staying = swivel.wire().await;
        swivel.signal(first);
        eventually("it has heard", async || swivel.said("stopping: waiting") == 1).await;
        assert!(swivel.is_running());
        swivel.signal(second);
        let refusal = within(AT_ONCE, "the last word", staying.refusal()).await;
        assert_eq!(refusal.code, "57P01");
        assert_eq!(swivel.wait().code(), Some(0), "{first} {second}");
        assert_eq!(swivel.errors(), "");
    }
}

#[tokio::test]
async fn a_storm_of_sighup_ends_nothing_and_the_last_one_counts() {
    let postgres = Postgres::start(18);
    postgres.create_user("orders_v2", "second").await;
    let mut swivel = Swivel::in_front_of(&postgres).start().await;
    let application = Application::of(&swivel).await;
    for round in 0..500 {
        swivel.signal(Signal::SIGHUP);
        if round % 50 == 0 {
            application.is_served().await;
        }
    }
    swivel.write_secret("orders_v2", "second");
    swivel.signal(Signal::SIGHUP);
    application.is_served_as("orders_v2").await;
    application.leave().await.is_untroubled(Duration::from_secs(5));
    assert!(swivel.is_running());
    // While it stops it still follows.
    let staying = swivel.connect().await;
    swivel.signal(Signal::SIGTERM);
    eventually("it has heard", async || swivel.said("stopping: waiting") == 1).await;
    let before = swivel.said("configuration read again");
    swivel.signal(Signal::SIGHUP);
    eventually("it reads", async || {
        swivel.said("configuration read again") > before
    })
    .await;
    drop(staying);
    eventually("it has ended", async || !swivel.is_running()).await;
    assert_eq!(swivel.wait().code(), Some(0));
}

const PARAMETERS: [(&str, &str); 2] = [("user", Swivel::USER), ("database", Postgres::DATABASE)];

async fn begin(swivel: &Swivel) -> Wire {
    let mut wire = Wire::connect(&swivel.address()).await;
    wire.startup(0x0003_0000, &PARAMETERS).await;
    wire
}

/// Proves who it is, and waits for what comes of it.
fn held(mut wire: Wire) -> JoinHandle<ServerError> {
    tokio::spawn(async move { wire.authenticate(Swivel::PASSWORD.as_bytes()).await.unwrap_err() })
}

async fn is_counted(swivel: &Swivel, metric: &str, labels: &[&str]) {
    eventually("it is held", async || {
        Scrape::of(swivel).await.sum(metric, labels) > 0.0
    })
    .await;
}

/// Whatever a client waits for when `drain` is over, it hears why it waits no longer.
#[tokio::test]
async fn a_client_that_is_held_when_it_ends_is_told_so() {
    let mut postgres = Postgres::start(18);
    let mut swivel = Swivel::in_front_of(&postgres)
        .upstream_line("connections_max = 1")
        .top_line("drain = \"1s\"")
        .section("[limits]\nqueue_wait = \"300s\"\n")
        .start()
        .await;
    // One has the only connection, one waits for it, and one thinks about its password.
    let first = swivel.wire().await;
    let queued = held(begin(&swivel).await);
    is_counted(
        &swivel,
        "pgswivel_limit_hits_total",
        &["limit=\"connections_max\""],
    )
    .await;
    let mut asked = begin(&swivel).await;
    asked.expect(b'R').await;
    swivel.signal(Signal::SIGTERM);
    let told = within(AT_ONCE, "the last word", queued).await.unwrap();
    assert_eq!(told.code, "57P01", "{told:?}");
    let told = within(AT_ONCE, "the last word", asked.refusal()).await;
    assert_eq!(told.code, "57P01", "{told:?}");
    drop(first);
    assert_eq!(swivel.wait().code(), Some(0));

    let unstarted = Swivel::in_front_of(&postgres)
        .top_line("drain = \"1s\"")
        .section("[login]\npatience = \"300s\"\n");
    postgres.vanish();
    let mut swivel = unstarted.start().await;
    let without_database = held(begin(&swivel).await);
    is_counted(&swivel, "pgswivel_logins_held", &[]).await;
    swivel.signal(Signal::SIGTERM);
    let told = within(AT_ONCE, "the last word", without_database).await.unwrap();
    assert_eq!(told.code, "57P01", "{told:?}");
    assert_eq!(swivel.wait().code(), Some(0));
}
