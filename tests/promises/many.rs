//! Thousands of clients at once.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::support::swivel::Unstarted;
use crate::support::wire::PROTOCOL_3_0;
use crate::support::{Forged, Postgres, Swivel, Wire, eventually, raise_open_files, within};

const CLIENTS: usize = 5000;

/// How many log in at the same time: below any backlog of connections that nobody has accepted yet.
const ABREAST: usize = 100;

async fn login(address: &str, user: &str) -> Wire {
    let mut wire = Wire::connect(address).await;
    wire.startup(PROTOCOL_3_0, &[("user", user), ("database", Postgres::DATABASE)])
        .await;
    wire.authenticate(b"").await.unwrap();
    wire.until(b'Z').await;
    wire
}

/// Lets everyone in and has an empty answer to everything: five thousand backends of a real server are
/// eight gigabytes, and nothing that is promised here is theirs.
async fn light_server() -> Forged {
    Forged::start(|mut wire| async move {
        wire.packet().await;
        wire.say(b'R', &[0, 0, 0, 0]).await;
        wire.say(b'Z', b"I").await;
        while wire.next().await.is_some_and(|message| message.tag == b'Q') {
            wire.say(b'I', b"").await;
            wire.say(b'Z', b"I").await;
        }
        wire
    })
    .await
}

#[tokio::test]
async fn five_thousand_idle_clients_stay_connected_and_one_more_is_served_at_once() {
    let files = raise_open_files();
    assert!(files > 3 * CLIENTS as u64, "only {files} open files are allowed");
    let forged = light_server().await;
    let postgres = Postgres::start(18);
    // Trust for the crowd: what is counted is sessions, and SCRAM would be most of the work.
    let second = format!(
        "[role.real]\nauth = \"trust\"\nupstream = \"real\"\nsecret = \"orders\"\n\
         [upstream.real]\nhosts = [\"{}\"]\ntls = {{ mode = \"disable\" }}\n",
        postgres.address()
    );
    let swivel = Swivel::in_front_of_port(forged.port())
        .trusting()
        .upstream_line("connections_max = 5050")
        .section(&second)
        .start()
        .await;
    let before = swivel.rss();
    let mut idle = Vec::with_capacity(CLIENTS);
    while idle.len() < CLIENTS {
        let logins: Vec<_> = (0..ABREAST)
            .map(|_| {
                let address = swivel.address();
                tokio::spawn(async move { login(&address, Swivel::USER).await })
            })
            .collect();
        for login in logins {
            idle.push(login.await.unwrap());
        }
    }
    let each = (swivel.rss() - before) / CLIENTS as u64;
    assert!(each < 32 << 10, "{each} bytes for each idle session");

    let limit = Duration::from_secs(15);
    let mut one_more = within(limit, "one more login", login(&swivel.address(), "real")).await;
    one_more.query("SELECT 'served'").await;
    let answer = within(limit, "its query", one_more.until(b'Z')).await;
    assert_eq!(answer[1].first_column().as_deref(), Some("served"));
    for wire in &mut idle {
        wire.query("still here?").await;
        assert_eq!(wire.until(b'Z').await.len(), 2);
    }
}

fn with_few_files(unstarted: Unstarted, files: u32) -> Unstarted {
    let program = unstarted.directory().join("program");
    let binary = env!("CARGO_BIN_EXE_pgswivel");
    let script = format!("#!/bin/sh\nulimit -Sn 200 && ulimit -Hn {files} && exec {binary} \"$@\"\n");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    unstarted.program(&program)
}

/// The limit of the system may be below what is configured, and then it is said what to do.
#[tokio::test]
async fn too_few_open_files_are_raised_as_far_as_they_go_and_said() {
    let postgres = Postgres::start(18);
    let swivel = with_few_files(Swivel::in_front_of(&postgres), 600).start().await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", swivel.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let values: Vec<&str> = line.unwrap().split_whitespace().skip(3).collect();
    assert_eq!(values[..2], ["600", "600"]);
    assert_eq!(swivel.said("too few open files for the configured limits"), 1);
    assert_eq!(swivel.said("LimitNOFILE"), 1);
    swivel.connect().await;
}

/// Clients never take the last descriptor: what else there is to do is done.
#[tokio::test]
async fn with_too_few_open_files_for_all_clients_probes_moves_and_stores_have_theirs() {
    raise_open_files();
    let postgres = Postgres::start(18);
    postgres.create_user("orders_v2", "second").await;
    let unstarted = Swivel::in_front_of(&postgres)
        .trusting()
        .secret_line("grace = \"0s\"");
    let swivel = with_few_files(unstarted, 600).start().await;
    let staying = swivel.connect().await;
    // More than there are descriptors: some log in, some only come.
    let mut sessions = Vec::new();
    for _ in 0..60 {
        sessions.push(swivel.connect().await);
    }
    let mut crowd = Vec::new();
    for _ in 0..1000 {
        crowd.push(TcpStream::connect(swivel.address()).await.unwrap());
    }
    let limit = Duration::from_secs(15);
    for _ in 0..20 {
        for page in ["/livez", "/readyz", "/metrics"] {
            let status = within(limit, page, swivel.status_of(page)).await;
            assert_eq!(status, 200, "{page}");
        }
    }
    swivel.write_secret("orders_v2", "second");
    eventually("the sessions move", async || {
        let row = staying.query_one("SELECT session_user::text", &[]).await.unwrap();
        row.get::<_, String>(0) == "orders_v2"
    })
    .await;
    assert_eq!(swivel.said("can't accept on the admin address"), 0);
    drop(crowd);
    staying.query_one("SELECT 1", &[]).await.unwrap();
}
