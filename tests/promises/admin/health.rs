//! Health, readiness, and wishes that somebody has.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::admin::{ask, ask_at};
use crate::support::{Postgres, Swivel, eventually, raise_open_files, skipped};

#[tokio::test]
async fn it_is_ready_when_a_credential_is_known_to_work_and_not_before() {
    let mut postgres = Postgres::start(18);
    let unstarted = Swivel::in_front_of(&postgres);
    postgres.vanish();
    let swivel = unstarted.start().await;
    eventually("it has started", async || {
        ask(&swivel, "GET /startupz").await.status == 200
    })
    .await;
    assert_eq!(ask(&swivel, "GET /livez").await.status, 200);
    let answer = ask(&swivel, "GET /readyz").await;
    let body = answer.json();
    let reason = body["reasons"][0].as_str().unwrap_or_default();
    assert!(
        answer.status == 503 && reason.starts_with("secret.orders: "),
        "{body}"
    );
    postgres.start_again();
    eventually("it is ready", async || {
        ask(&swivel, "GET /readyz").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_secret_that_was_never_read_is_no_start() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres)
        .section("[secret.other]\nstore = \"file\"\nid = \"/nowhere/at/all\"\n[role.other]\nauth = \"trust\"\nupstream = \"orders\"\nsecret = \"other\"")
        .start()
        .await;
    for page in ["/startupz", "/readyz"] {
        let answer = ask(&swivel, &format!("GET {page}")).await;
        let body = answer.body;
        assert!(
            answer.status == 503 && body.contains("secret.other"),
            "{page}: {body}"
        );
    }
}

#[tokio::test]
async fn whoever_asks_for_a_refresh_need_not_wait_for_the_poll() {
    let postgres = Postgres::start(18);
    postgres.create_user("orders_v2", "second").await;
    let unstarted = Swivel::in_front_of(&postgres);
    let payload = unstarted.directory().join("payload.json");
    let write = |user: &str, password: &str| {
        let text = serde_json::json!({ "username": user, "password": password });
        std::fs::write(&payload, text.to_string()).unwrap();
    };
    write(Postgres::USER, Postgres::PASSWORD);
    // A command is not watched: only a poll or a wish reads it again.
    let other = format!(
        "[secret.told]\nstore = \"command\"\nid = \"/bin/cat {}\"\npoll = \"1h\"\n\
         [role.told]\nauth = \"trust\"\nupstream = \"orders\"\nsecret = \"told\"",
        payload.display()
    );
    let swivel = unstarted.section(&other).start().await;
    let session_user = async || {
        let mut config = swivel.config();
        let (client, connection) = config.user("told").connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let row = client.query_one("SELECT session_user::text", &[]).await.unwrap();
        row.get::<_, String>(0)
    };
    assert_eq!(session_user().await, Postgres::USER);
    write("orders_v2", "second");
    assert_eq!(ask(&swivel, "GET /refresh").await.status, 405);
    let answer = ask(&swivel, "POST /refresh").await;
    assert_eq!(answer.status, 202);
    assert!(answer.json()["refreshing"].to_string().contains("told"));
    eventually("the new user is used", async || {
        session_user().await == "orders_v2"
    })
    .await;
}

#[tokio::test]
async fn it_is_not_ready_from_the_moment_it_is_told_to_stop() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    let _staying = swivel.connect().await;
    assert_eq!(ask(&swivel, "GET /readyz").await.status, 200);
    swivel.signal(Signal::SIGTERM);
    eventually("it is not ready", async || {
        ask(&swivel, "GET /readyz").await.status == 503
    })
    .await;
    assert_eq!(ask(&swivel, "GET /livez").await.status, 200);
}

#[tokio::test]
async fn whoever_asks_it_to_quit_is_obeyed_as_a_signal_is() {
    let postgres = Postgres::start(18);
    let mut swivel = Swivel::in_front_of(&postgres).start().await;
    let staying = swivel.connect().await;
    assert_eq!(ask(&swivel, "GET /quit").await.status, 405);
    // A web page that somebody on this machine looks at may send it, but not without telling where it is from.
    let foreign = ask(&swivel, "POST /quit\norigin: http://example.com").await;
    assert_eq!(foreign.status, 403);
    assert_eq!(ask(&swivel, "GET /readyz").await.status, 200);
    assert_eq!(ask(&swivel, "POST /quit").await.status, 202);
    eventually("it is not ready", async || {
        ask(&swivel, "GET /readyz").await.status == 503
    })
    .await;
    assert_eq!(staying.query("SELECT 1", &[]).await.unwrap().len(), 1);
    drop(staying);
    eventually("it has ended", async || !swivel.is_running()).await;
    assert!(swivel.wait().success());
}

/// An address of this machine that is not loopback, if it has one.
fn outer_address() -> Option<String> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    // Nothing is sent: the kernel only says from where it would.
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then(|| ip.to_string())
}

#[tokio::test]
async fn strangers_need_the_token() {
    let Some(outside) = outer_address() else {
        skipped("this machine has no address but loopback");
        return;
    };
    let postgres = Postgres::start(18);
    let open = |swivel: crate::support::swivel::Unstarted| swivel.environment("PGSWIVEL_ADMIN", "0.0.0.0:0");
    let with = Swivel::in_front_of(&postgres).environment("ADMIN_TOKEN", "hunter2-hunter2");
    let with = open(with.admin_line("token = { env = \"ADMIN_TOKEN\" }"))
        .start()
        .await;
    let without = open(Swivel::in_front_of(&postgres)).start().await;
    let at = async |swivel: &Swivel| format!("{outside}:{}", swivel.admin_port_in_its_log().await);
    let (guarded, closed) = (at(&with).await, at(&without).await);
    let token = |said: &str| format!("POST /refresh\nauthorization: {said}");
    for wrong in ["", "Bearer hunter2", "Bearer ", "Basic hunter2-hunter2"] {
        assert_eq!(ask_at(&guarded, &token(wrong)).await.status, 403, "{wrong}");
    }
    let accepted = ask_at(&guarded, &token("bearer hunter2-hunter2")).await;
    assert_eq!(accepted.status, 202);
    let refused = ask_at(&closed, &token("Bearer hunter2-hunter2")).await;
    assert_eq!(refused.status, 403);
    eventually("health is anybody's business", async || {
        ask_at(&closed, "GET /readyz").await.status == 200
    })
    .await;
}

/// How long small queries take through each of them, in turn, so that what else the machine does counts for both.
async fn paces(clients: [&tokio_postgres::Client; 2]) -> [Duration; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..400 {
        for (client, times) in clients.iter().zip(&mut times) {
            let began = Instant::now();
            client.simple_query("SELECT 1").await.unwrap();
            times.push(began.elapsed());
        }
    }
    times.map(|mut times| {
        times.sort();
        times[times.len() / 2]
    })
}

#[tokio::test]
async fn a_thousand_slow_and_hostile_clients_of_it_slow_no_query() {
    raise_open_files();
    let postgres = Postgres::start(18);
    let beset = Swivel::in_front_of(&postgres).start().await;
    let left_alone = Swivel::in_front_of(&postgres).start().await;
    let (client, other) = (beset.connect().await, left_alone.connect().await);
    let mut crowd = Vec::new();
    for n in 0..1000 {
        let mut stream = TcpStream::connect(("127.0.0.1", beset.admin_port()))
            .await
            .unwrap();
        let junk = match n % 4 {
            0 => "GET /readyz HTTP/1.1\r\nx",
            1 => "\u{16}\u{3}\u{1}",
            2 => "POST /refresh HTTP/1.1\r\ncontent-length: 1000000\r\n\r\n",
            _ => "",
        };
        stream.write_all(junk.as_bytes()).await.unwrap();
        crowd.push(stream);
    }
    let [among_them, alone] = paces([&client, &other]).await;
    let ratio = among_them.as_secs_f64() / alone.as_secs_f64();
    println!("{among_them:?} with a crowd, {alone:?} without: {ratio:.2}");
    assert!(ratio < 2.0, "{among_them:?} with a crowd, {alone:?} without");
    let another = beset.connect().await;
    assert_eq!(another.query("SELECT 1", &[]).await.unwrap().len(), 1);
    drop(crowd);
    eventually("whoever asks it properly is answered", async || {
        ask(&beset, "GET /livez").await.status == 200
    })
    .await;
}
