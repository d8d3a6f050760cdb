//! A service of systemd: readiness, reloads, watchdog, and sockets that systemd passes.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustix::time::{ClockId, clock_gettime};
use tokio::net::UnixDatagram;
use tokio_postgres::NoTls;

use crate::support::{PATIENCE, Postgres, Swivel, eventually, within};

/// The end that systemd holds.
struct Notified {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Notified {
    fn at(address: &SocketAddr) -> Self {
        let socket = std::os::unix::net::UnixDatagram::bind_addr(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self {
            socket: UnixDatagram::from_std(socket).unwrap(),
            heard: Vec::new(),
        }
    }

    async fn next(&mut self) -> String {
        let mut bytes = [0; 4096];
        let count = within(PATIENCE, "a message", self.socket.recv(&mut bytes))
            .await
            .unwrap();
        let message = String::from_utf8(bytes[..count].to_vec()).unwrap();
        self.heard.push(message.clone());
        message
    }

    /// Listens until a message begins so.
    async fn until(&mut self, beginning: &str) -> String {
        loop {
            let message = self.next().await;
            if message.starts_with(beginning) {
                return message;
            }
        }
    }
}

fn micros() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

fn monotonic(reloading: &str) -> i64 {
    let (_, number) = reloading.split_once("\nMONOTONIC_USEC=").unwrap();
    number.trim().parse().unwrap()
}

#[tokio::test]
async fn systemd_hears_when_it_is_ready_reloads_and_stops() {
    let postgres = Postgres::start(18);
    let unstarted = Swivel::in_front_of(&postgres);
    let path = unstarted.directory().join("notify");
    let mut systemd = Notified::at(&SocketAddr::from_pathname(&path).unwrap());
    let mut swivel = unstarted
        .environment("NOTIFY_SOCKET", path.to_str().unwrap())
        .start()
        .await;
    systemd.until("READY=1").await;
    systemd.until("STATUS=serving").await;
    assert!(!systemd.heard.iter().any(|said| said.starts_with("WATCHDOG")));

    let asked = micros();
    swivel.signal(Signal::SIGHUP);
    let reloading = systemd.until("RELOADING=1").await;
    assert!(
        monotonic(&reloading) >= asked,
        "systemd would take it for an earlier one"
    );
    systemd.until("READY=1").await;

    let sound = swivel.written();
    swivel.write_config("nonsense");
    systemd.until("RELOADING=1").await;
    systemd.until("READY=1").await;
    let status = systemd.until("STATUS=").await;
    assert!(status.contains("not valid"), "{status}");
    swivel.write_config(&sound);
    let status = systemd.until("STATUS=").await;
    assert!(!status.contains("not valid"), "{status}");

    let staying = swivel.connect().await;
    swivel.signal(Signal::SIGTERM);
    systemd.until("STOPPING=1").await;
    systemd.until("STATUS=stopping: 1 ").await;
    drop(staying);
    eventually("it has ended", async || !swivel.is_running()).await;
    assert_eq!(swivel.wait().code(), Some(0));
}

#[tokio::test]
async fn it_is_ready_for_systemd_while_it_waits_for_its_database() {
    let mut postgres = Postgres::start(18);
    let name = format!("pgswivel-test-{}", std::process::id());
    let mut systemd = Notified::at(&SocketAddr::from_abstract_name(&name).unwrap());
    let unstarted = Swivel::in_front_of(&postgres).environment("NOTIFY_SOCKET", &format!("@{name}"));
    postgres.vanish();
    let swivel = unstarted.start().await;
    systemd.until("READY=1").await;
    systemd
        .until("STATUS=no credential is known to work for orders")
        .await;
    assert_eq!(swivel.status_of("/readyz").await, 503);
    postgres.start_again();
    systemd.until("STATUS=serving").await;
}

#[tokio::test]
async fn the_watchdog_is_fed_twice_as_often_as_it_asks_and_not_for_another_process() {
    let postgres = Postgres::start(18);
    let unstarted = Swivel::in_front_of(&postgres);
    let path = unstarted.directory().join("notify");
    let mut systemd = Notified::at(&SocketAddr::from_pathname(&path).unwrap());
    let _swivel = unstarted
        .environment("NOTIFY_SOCKET", path.to_str().unwrap())
        .environment("WATCHDOG_USEC", "4000000")
        .start()
        .await;
    systemd.until("WATCHDOG=1").await;
    let start = Instant::now();
    for _ in 0..3 {
        let last = Instant::now();
        systemd.until("WATCHDOG=1").await;
        assert!(
            last.elapsed() < Duration::from_secs(4),
            "systemd would have killed it"
        );
    }
    assert!(start.elapsed() > Duration::from_secs(4), "{:?}", start.elapsed());

    let elsewhere = Swivel::in_front_of(&postgres);
    let path = elsewhere.directory().join("notify");
    let mut systemd = Notified::at(&SocketAddr::from_pathname(&path).unwrap());
    let swivel = elsewhere
        .environment("NOTIFY_SOCKET", path.to_str().unwrap())
        .environment("WATCHDOG_USEC", "2000")
        .environment("WATCHDOG_PID", "1")
        .start()
        .await;
    systemd.until("STATUS=serving").await;
    swivel.signal(Signal::SIGTERM);
    systemd.until("STOPPING=1").await;
    assert!(!systemd.heard.iter().any(|said| said.starts_with("WATCHDOG")));
}

#[tokio::test]
async fn the_first_client_starts_it_on_a_socket_that_systemd_has_bound() {
    let postgres = Postgres::start(18);
    let mut swivel = Swivel::in_front_of(&postgres)
        .activated_on("127.0.0.1:PORT")
        .start()
        .await;
    let session = swivel.connect().await;
    // The configuration may turn away from the socket and come back.
    let own = "\"systemd:clients\"";
    let path = swivel.directory().display().to_string();
    swivel.rewrite(own, &format!("\"unix:{path}\"")).await;
    let mut direct = tokio_postgres::Config::new();
    direct.host(&path).port(6432).dbname(Postgres::DATABASE);
    direct.user(Swivel::USER).password(Swivel::PASSWORD);
    drop(direct.connect(NoTls).await.unwrap());
    swivel.rewrite(&format!("\"unix:{path}\""), own).await;
    swivel.connect().await.query("SELECT 1", &[]).await.unwrap();
    session.query("SELECT 1", &[]).await.unwrap();
    // Another name is no socket.
    swivel.write_config(&swivel.written().replace("systemd:clients", "systemd:others"));
    eventually("it is said", async || swivel.said("no socket named") == 1).await;
    swivel.connect().await;
    assert!(swivel.is_running());
}

#[tokio::test]
async fn a_socket_that_others_can_reach_needs_tls_whoever_bound_it() {
    let postgres = Postgres::start(18);
    let mut swivel = Swivel::in_front_of(&postgres)
        .activated_on("0.0.0.0:PORT")
        .start()
        .await;
    eventually("it has ended", async || !swivel.is_running()).await;
    assert_eq!(swivel.wait().code(), Some(64));
    assert!(
        swivel.errors().contains("others can reach 0.0.0.0"),
        "{}",
        swivel.log()
    );
}

#[test]
fn without_a_passed_socket_it_says_what_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret.json");
    std::fs::write(&secret, r#"{"username":"a","password":"b"}"#).unwrap();
    let arguments = [
        "run",
        "--listen",
        "systemd",
        "--admin",
        "127.0.0.1:0",
        "--upstream",
        "postgres://127.0.0.1:1/x",
        "--secret",
        &format!("file:{}", secret.display()),
    ];
    let (status, said) = Swivel::command(&arguments, &[("PGSWIVEL_PASSWORD", "local")]);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("systemd has passed no socket"), "{said}");
}
