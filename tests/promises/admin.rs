//! Health, readiness, and asking for fresh secrets.

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Postgres, Swivel, eventually, within};

/// The status and the body of one answer.
async fn ask(swivel: &Swivel, request: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(("127.0.0.1", swivel.admin_port()))
        .await
        .unwrap();
    let request = format!("{request} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn it_is_ready_when_a_credential_is_known_to_work_and_not_before() {
    let mut postgres = Postgres::start(18);
    let unstarted = Swivel::in_front_of(&postgres);
    postgres.vanish();
    let swivel = unstarted.start().await;
    eventually("it has started", async || {
        ask(&swivel, "GET /startupz").await.0 == 200
    })
    .await;
    assert_eq!(ask(&swivel, "GET /livez").await.0, 200);
    let (status, body) = ask(&swivel, "GET /readyz").await;
    let reason = body["reasons"][0].as_str().unwrap_or_default();
    assert!(
        status == 503 && reason.starts_with("secret.orders: "),
        "{status} {body}"
    );
    postgres.start_again();
    eventually("it is ready", async || ask(&swivel, "GET /readyz").await.0 == 200).await;
}

#[tokio::test]
async fn a_secret_that_was_never_read_is_no_start() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres)
        .section("[secret.other]\nstore = \"file\"\nid = \"/nowhere/at/all\"\n[role.other]\nauth = \"trust\"\nupstream = \"orders\"\nsecret = \"other\"")
        .start()
        .await;
    for page in ["/startupz", "/readyz"] {
        let (status, body) = ask(&swivel, &format!("GET {page}")).await;
        assert!(
            status == 503 && body.to_string().contains("secret.other"),
            "{page}: {status} {body}"
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
    assert_eq!(ask(&swivel, "GET /refresh").await.0, 405);
    let (status, body) = ask(&swivel, "POST /refresh").await;
    assert_eq!(
        (status, body["refreshing"].to_string().contains("told")),
        (202, true)
    );
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
    assert_eq!(ask(&swivel, "GET /readyz").await.0, 200);
    swivel.signal(Signal::SIGTERM);
    eventually("it is not ready", async || {
        ask(&swivel, "GET /readyz").await.0 == 503
    })
    .await;
    assert_eq!(ask(&swivel, "GET /livez").await.0, 200);
}

#[tokio::test]
async fn slow_and_hostile_clients_of_it_slow_no_session() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    let mut crowd = Vec::new();
    for n in 0..500 {
        let mut stream = TcpStream::connect(("127.0.0.1", swivel.admin_port()))
            .await
            .unwrap();
        let junk = if n % 2 == 0 {
            "GET /readyz HTTP/1.1\r\nx"
        } else {
            "\u{16}\u{3}\u{1}"
        };
        stream.write_all(junk.as_bytes()).await.unwrap();
        crowd.push(stream);
    }
    let client = within(std::time::Duration::from_secs(2), "a session", swivel.connect()).await;
    assert_eq!(client.query("SELECT 1", &[]).await.unwrap().len(), 1);
    eventually("the crowd is sent away", async || {
        ask(&swivel, "GET /livez").await.0 == 200
    })
    .await;
}
