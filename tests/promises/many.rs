//! Thousands of clients at once.

use std::time::{Duration, Instant};

use crate::support::wire::PROTOCOL_3_0;
use crate::support::{Postgres, Swivel, Wire, raise_open_files, within};

const CLIENTS: usize = 5000;

/// How many log in at the same time: below any backlog of connections that nobody has accepted yet.
const ABREAST: usize = 100;

async fn login(address: &str) -> Wire {
    let mut wire = Wire::connect(address).await;
    wire.startup(
        PROTOCOL_3_0,
        &[("user", Swivel::USER), ("database", Postgres::DATABASE)],
    )
    .await;
    wire.authenticate(b"").await.unwrap();
    wire.until(b'Z').await;
    wire
}

#[tokio::test]
async fn five_thousand_idle_clients_stay_connected_and_one_more_is_served_at_once() {
    let files = raise_open_files();
    assert!(files > 2 * CLIENTS as u64, "only {files} open files are allowed");
    // Trust on both sides: what is counted is sessions, and SCRAM would be most of the work.
    let postgres = Postgres::version(18)
        .hba("host all all all trust")
        .setting("max_connections", "5100")
        .setting("shared_buffers", "16MB")
        .setting("log_connections", "off")
        .start();
    let swivel = Swivel::in_front_of(&postgres)
        .trusting()
        .upstream_line("connections_max = 5050")
        .start()
        .await;
    let mut idle = Vec::with_capacity(CLIENTS);
    while idle.len() < CLIENTS {
        let logins: Vec<_> = (0..ABREAST)
            .map(|_| {
                let address = swivel.address();
                tokio::spawn(async move { login(&address).await })
            })
            .collect();
        for login in logins {
            idle.push(login.await.unwrap());
        }
    }
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1";
    let row = postgres
        .admin()
        .await
        .query_one(sql, &[&Postgres::USER])
        .await
        .unwrap();
    assert!(row.get::<_, i64>(0) >= CLIENTS as i64);

    let start = Instant::now();
    let mut one_more = within(Duration::from_secs(2), "one more login", login(&swivel.address())).await;
    one_more.query("SELECT 'served'").await;
    let answer = within(Duration::from_secs(2), "its query", one_more.until(b'Z')).await;
    assert_eq!(answer[1].first_column().as_deref(), Some("served"));
    eprintln!(
        "one more after {:?}; {} MB resident",
        start.elapsed(),
        swivel.rss() >> 20
    );

    for wire in idle.iter_mut().step_by(500) {
        wire.query("SELECT 'still here'").await;
        let answer = wire.until(b'Z').await;
        assert_eq!(answer[1].first_column().as_deref(), Some("still here"));
    }
    let each = swivel.rss() / CLIENTS as u64;
    assert!(each < 64 << 10, "{each} bytes for each idle session");
}
