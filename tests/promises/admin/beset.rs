//! Whoever else is on the admin address: who asks for health is answered, in time.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::admin::{Scrape, ask_as};
use crate::support::{Postgres, Swivel, eventually, in_time, is_long, raise_open_files};

/// A kubelet's by default, where nothing else runs: idle connections used to hold their places for five seconds.
fn probe_time() -> Duration {
    Duration::from_secs(if is_long() { 1 } else { 3 })
}

async fn is_answered_in_time(swivel: &Swivel, request: &str) -> bool {
    let asked = async {
        let mut stream = TcpStream::connect(("127.0.0.1", swivel.admin_port())).await?;
        let request = format!("{request} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = in_time(probe_time(), asked).await;
    answer.is_some_and(|answer| answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")))
}

/// Probes one after the other, and how many of them failed.
async fn probe(swivel: &Swivel, count: u32) -> u32 {
    let every = if is_long() {
        Duration::from_secs(1)
    } else {
        Duration::from_millis(100)
    };
    let mut failed = 0;
    for n in 0..count {
        let page = ["GET /livez", "GET /readyz"][n as usize % 2];
        failed += u32::from(!is_answered_in_time(swivel, page).await);
        // As an orchestrator probes.
        tokio::time::sleep(every).await;
    }
    failed
}

async fn connect(swivel: &Swivel) -> TcpStream {
    TcpStream::connect(("127.0.0.1", swivel.admin_port()))
        .await
        .unwrap()
}

/// Says this, and then takes its time; comes again when it is dropped.
async fn dawdle(port: u16, said: &'static str) {
    loop {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await {
            for byte in said.bytes() {
                if stream.write_all(&[byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            // Nothing is read of the answer before the other end gives up.
            let _ = timeout(Duration::from_secs(5), stream.readable()).await;
        }
        // Not as often as the machine can.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// So many connections, for as long as probes are answered: whoever is dropped comes again.
async fn probe_among_idle(swivel: &Swivel, idle: usize, count: u32) -> u32 {
    eventually("it is ready", async || {
        is_answered_in_time(swivel, "GET /readyz").await
    })
    .await;
    let mut crowd = Vec::new();
    for _ in 0..idle {
        crowd.push(connect(swivel).await);
    }
    let again = async {
        loop {
            for idle in &mut crowd {
                // No bytes, or an error that is not that there are none yet: it was dropped.
                let is_there =
                    matches!(idle.try_read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
                if !is_there {
                    *idle = connect(swivel).await;
                }
            }
            // Not as often as the machine can.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        failed = probe(swivel, count) => failed,
        () = again => unreachable!("it has no end"),
    }
}

#[tokio::test]
async fn eighty_idle_connections_fail_none_of_sixty_probes() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    assert_eq!(probe_among_idle(&swivel, 80, 60).await, 0, "of 60");
}

#[tokio::test]
async fn more_idle_connections_than_there_is_room_for_fail_no_probe_and_are_said() {
    raise_open_files();
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    assert_eq!(probe_among_idle(&swivel, 220, 20).await, 0, "of 20");
    let scrape = Scrape::of(&swivel).await;
    let hits = scrape.sum("pgswivel_limit_hits_total", &["limit=\"admin_connections\""]);
    assert!(hits > 0.0);
    assert_eq!(swivel.said("too many connections to the admin address"), 1);
}

#[tokio::test]
async fn a_hundred_and_fifty_slow_clients_starve_no_probe_and_no_scrape() {
    raise_open_files();
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    eventually("it is ready", async || {
        is_answered_in_time(&swivel, "GET /readyz").await
    })
    .await;
    let mut crowd = JoinSet::new();
    for n in 0..150 {
        let said = [
            "GET /livez HTTP/1.1\r\nhost: localhost\r\nx-one: a\r\nx-two: b\r\n",
            "GET /status HTTP/1.1\r\nhost: localhost\r\n\r\n",
            "POST /refresh HTTP/1.1\r\ncontent-length: 1000000\r\n\r\nand then nothing",
            "",
            "GET / HTTP/1.1\r\nhost: localhost\r\n\r\nGET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        ][n % 5];
        crowd.spawn(dawdle(swivel.admin_port(), said));
    }
    assert_eq!(probe(&swivel, 60).await, 0, "of 60");
    // A scraper is one of many here that ask for pages.
    eventually("a scrape", async || {
        is_answered_in_time(&swivel, "GET /metrics").await
    })
    .await;
}

#[tokio::test]
async fn who_asks_for_pages_without_end_starves_no_probe() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    eventually("it is ready", async || {
        is_answered_in_time(&swivel, "GET /readyz").await
    })
    .await;
    let _sessions = swivel.connect().await;
    let mut crowd = JoinSet::new();
    for n in 0..30 {
        let port = swivel.admin_port();
        let page = ["/", "/status", "/metrics"][n % 3];
        crowd.spawn(async move {
            loop {
                if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await {
                    let request = format!("GET {page} HTTP/1.1\r\nhost: localhost\r\n\r\n");
                    let _ = stream.write_all(request.as_bytes()).await;
                    let mut answer = Vec::new();
                    let _ = timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
                }
                // Not as often as the machine can.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    }
    assert_eq!(probe(&swivel, 30).await, 0, "of 30");
}

#[tokio::test]
async fn a_web_page_that_has_its_name_lead_here_learns_of_no_user_and_no_host() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres)
        .admin_line("hosts = \"pgswivel\"")
        .start()
        .await;
    let address = format!("127.0.0.1:{}", swivel.admin_port());
    let evil = format!("evil.example:{}", swivel.admin_port());
    for page in [
        "GET /",
        "GET /status",
        "GET /metrics",
        "GET /unused?user=orders",
        "POST /unused?user=orders",
        "POST /refresh",
        "POST /quit",
    ] {
        let answer = ask_as(&evil, &address, page).await;
        assert_eq!(answer.status, 421, "{page}");
        assert!(answer.body.contains("admin.hosts"), "{}", answer.body);
        assert!(!answer.body.contains("orders"), "{}", answer.body);
    }
    // A prober has whatever name for it that it likes.
    for page in ["GET /livez", "GET /startupz"] {
        assert_eq!(ask_as(&evil, &address, page).await.status, 200, "{page}");
    }
    assert_ne!(ask_as(&evil, &address, "GET /readyz").await.status, 421);
    for host in ["localhost", "127.0.0.1", "[::1]:9632", "pgswivel:9632"] {
        assert_eq!(ask_as(host, &address, "GET /status").await.status, 200, "{host}");
    }
    // A change is for the next request.
    swivel
        .rewrite("hosts = \"pgswivel\"", "hosts = [\"other.example\"]")
        .await;
    assert_eq!(ask_as("pgswivel", &address, "GET /status").await.status, 421);
    assert_eq!(ask_as(&evil, &address, "GET /status").await.status, 421);
    assert_eq!(
        ask_as("other.example", &address, "GET /metrics").await.status,
        200
    );
}
