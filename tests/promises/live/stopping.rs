//! SIGTERM, SIGINT, SIGHUP: how it ends, and how it does not.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::rotation::Application;
use crate::support::{Postgres, Swivel, eventually, within};

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
