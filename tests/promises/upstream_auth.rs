//! How pgswivel proves itself to Postgres, and what it does not believe of a server.

use std::time::{Duration, Instant};

use crate::support::wire::PROTOCOL_3_0;
use crate::support::{Authority, Forged, ForgedScram, PATIENCE, Postgres, Swivel, Wire, eventually, within};

const QUICK: &str = "[login]\npatience = \"1s\"";

promise! {
    async fn scram_and_md5_log_in(version) {
        for (method, encryption) in [("scram-sha-256", "scram-sha-256"), ("md5", "md5"), ("md5", "scram-sha-256")] {
            let postgres = Postgres::version(version)
                .hba(&format!("host all all all {method}"))
                .setting("password_encryption", encryption)
                .start();
            postgres.create_user("orders_v2", "second").await;
            let swivel = Swivel::in_front_of(&postgres).credential("orders_v2", "second").start().await;
            let row = swivel.connect().await.query_one("SELECT current_user::text", &[]).await.unwrap();
            assert_eq!(row.get::<_, &str>(0), "orders_v2", "{method} {encryption}");
        }
    }
}

promise! {
    async fn a_password_in_the_clear_is_sent_over_verified_tls_and_never_otherwise(version) {
        let postgres = Postgres::version(version).hba("host all all all password").start();
        let swivel = Swivel::in_front_of(&postgres).verifying(postgres.authority()).start().await;
        assert_eq!(swivel.connect().await.query("SELECT 1", &[]).await.unwrap().len(), 1);

        for mode in ["disable", "require"] {
            let tls = format!("{{ mode = \"{mode}\" }}");
            let unverified = Swivel::in_front_of(&postgres).upstream_tls(&tls).section(QUICK).start().await;
            let error = unverified.try_connect().await.err().unwrap();
            assert_eq!(error.as_db_error().unwrap().severity(), "FATAL", "{mode}");
        }
    }
}

promise! {
    async fn a_user_that_may_no_longer_log_in_gives_way_to_the_one_beside_it(version) {
        let postgres = Postgres::start(version);
        postgres.create_user("orders_v2", "second").await;
        postgres.execute("ALTER ROLE orders_v1 NOLOGIN").await;
        let unstarted = Swivel::in_front_of(&postgres);
        let secret = unstarted.directory().join("positions.json");
        let positions = serde_json::json!({
            "current": { "username": Postgres::USER, "password": Postgres::PASSWORD },
            "next": { "username": "orders_v2", "password": "second" },
        });
        std::fs::write(&secret, positions.to_string()).unwrap();
        let swivel = unstarted
            .environment("APP", "local")
            .section(&format!(
                "[role.second]\npassword = {{ env = \"APP\" }}\nupstream = \"orders\"\nsecret = \"positions\"\n\
                 [secret.positions]\nstore = \"file\"\nid = \"{}\"",
                secret.display()
            ))
            .start()
            .await;
        let mut config = swivel.config();
        config.user("second").password("local");
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let row = client.query_one("SELECT current_user::text", &[]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), "orders_v2");
    }
}

/// Everything that makes programs quote, escape, trim or normalize, more than 2 kB of it.
fn treacherous_password() -> String {
    let odd: String = (1..=127).map(char::from).collect();
    let text = format!(" {odd}'\"\\%40{{}}$(id)`äöü\u{00a0}\u{200b}\u{1f511}ﬁ\u{0301}\u{feff} ");
    let mut password = text.repeat(2100 / text.len() + 1);
    password.push('\n');
    password
}

promise! {
    async fn a_long_password_of_odd_characters_logs_in(version) {
        let odd = treacherous_password();
        assert!(odd.len() > 2048);
        // Without control characters SASLprep applies, and changes it.
        let prepared = "ﬁ\u{00a0}\u{00ad}Å ②".repeat(150);
        for (hba, tls, password) in [
            ("scram-sha-256", false, &odd),
            ("scram-sha-256", false, &prepared),
            ("md5", false, &odd),
            ("password", true, &odd),
        ] {
            let encryption = if hba == "md5" { "md5" } else { "scram-sha-256" };
            let postgres = Postgres::version(version)
                .hba(&format!("host all all all {hba}"))
                .setting("password_encryption", encryption)
                .start();
            postgres.create_user("orders_v2", password).await;
            let mut swivel = Swivel::in_front_of(&postgres).credential("orders_v2", password);
            if tls {
                swivel = swivel.verifying(postgres.authority());
            }
            let swivel = swivel.start().await;
            let client = swivel.connect().await;
            let row = client.query_one("SELECT current_user::text", &[]).await;
            assert_eq!(row.unwrap().get::<_, &str>(0), "orders_v2", "{hba}");
        }
    }
}

/// Answers SSLRequest with no and reads the StartupMessage.
async fn receive(mut wire: Wire) -> Wire {
    if wire
        .packet()
        .await
        .is_some_and(|packet| packet.starts_with(&[0x04, 0xd2]))
    {
        wire.send(b"N").await;
        wire.packet().await;
    }
    wire
}

async fn forged_scram(scram: ForgedScram) -> Forged {
    Forged::start(move |wire| {
        let scram = scram.clone();
        async move {
            let mut wire = receive(wire).await;
            if scram.play(&mut wire).await {
                wire.say(b'Z', b"I").await;
                wire.rest().await;
            }
            wire
        }
    })
    .await
}

/// The client of a pgswivel in front of `forged` is told off by pgswivel itself, which goes on.
async fn is_refused_behind(forged: &Forged, tls: &str) {
    let swivel = Swivel::in_front_of_port(forged.port())
        .upstream_tls(tls)
        .section(QUICK);
    let mut swivel = swivel.start().await;
    let mut wire = Wire::connect(&swivel.address()).await;
    wire.startup(PROTOCOL_3_0, &[("user", Swivel::USER), ("database", "orders")])
        .await;
    let limit = Duration::from_secs(10);
    let error = match within(limit, "an answer", wire.authenticate(Swivel::PASSWORD.as_bytes())).await {
        Err(error) => error,
        // Authenticated first, then the upstream is found wanting.
        Ok(()) => within(limit, "the refusal", wire.refusal()).await,
    };
    assert_eq!(error.severity, "FATAL");
    assert!(
        !error.code.starts_with("08P"),
        "a peculiar server is no protocol error of the client: {error:?}"
    );
    assert!(
        !error.message.contains("forged"),
        "a stranger's words reached the client: {error:?}"
    );
    assert!(!error.message.contains(Postgres::USER), "{error:?}");
    assert!(swivel.is_running());
    assert!(!swivel.log().contains(Postgres::PASSWORD));
}

#[tokio::test]
async fn an_honest_double_is_believed() {
    let forged = forged_scram(ForgedScram::honest(Postgres::PASSWORD.as_bytes())).await;
    let swivel = Swivel::in_front_of_port(forged.port()).start().await;
    swivel.wire().await;
}

#[tokio::test]
async fn a_server_that_cannot_prove_that_it_knows_the_password_is_refused() {
    let honest = ForgedScram::honest(Postgres::PASSWORD.as_bytes());
    let lies = [
        ForgedScram {
            nonce: Some("forged".to_owned()),
            ..honest.clone()
        },
        ForgedScram {
            verdict: Some(String::new()),
            ..honest.clone()
        },
        ForgedScram {
            verdict: Some("v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned()),
            ..honest.clone()
        },
        ForgedScram {
            verdict: Some("v=".to_owned()),
            ..honest.clone()
        },
        ForgedScram {
            password: b"a guess".to_vec(),
            ..honest
        },
    ];
    for lie in lies {
        let forged = forged_scram(lie).await;
        is_refused_behind(&forged, "{ mode = \"disable\" }").await;
    }
}

#[tokio::test]
async fn a_server_cannot_make_it_compute_for_ever() {
    for iterations in ["0", "4294967295", "100000000", "-1", "nonsense", ""] {
        let forged = Forged::start(move |wire| async move {
            let mut wire = receive(wire).await;
            wire.say(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0").await;
            if let Some(first) = wire.next().await {
                let text = String::from_utf8_lossy(&first.body).into_owned();
                let nonce = text.split("r=").nth(1).unwrap_or_default();
                let challenge = format!("\0\0\0\x0br={nonce}x,s=c2FsdA==,i={iterations}");
                wire.say(b'R', challenge.as_bytes()).await;
                wire.rest().await;
            }
            wire
        })
        .await;
        let start = Instant::now();
        is_refused_behind(&forged, "{ mode = \"disable\" }").await;
        assert!(
            start.elapsed() < PATIENCE,
            "{iterations} took {:?}",
            start.elapsed()
        );
    }
}

#[tokio::test]
async fn a_server_that_asks_for_the_password_in_the_clear_does_not_get_it() {
    let forged = Forged::start(|wire| async move {
        let mut wire = receive(wire).await;
        wire.say(b'R', &[0, 0, 0, 3]).await;
        wire.rest().await;
        wire
    })
    .await;
    is_refused_behind(&forged, "{ mode = \"disable\" }").await;
    is_refused_behind(&forged, "{ mode = \"prefer\" }").await;
    eventually("it is remembered", async || !forged.heard().is_empty()).await;
    assert!(!forged.was_told(Postgres::PASSWORD.as_bytes()));
}

#[tokio::test]
async fn a_server_that_lets_everyone_in_without_proof_is_no_reason_to_send_a_password() {
    // A real server with `trust` does this too, so it is served; but nothing secret is said to it.
    let forged = Forged::start(|wire| async move {
        let mut wire = receive(wire).await;
        wire.say(b'R', &[0, 0, 0, 0]).await;
        wire.say(b'Z', b"I").await;
        wire.rest().await;
        wire
    })
    .await;
    let swivel = Swivel::in_front_of_port(forged.port()).start().await;
    drop(swivel.wire().await);
    drop(swivel);
    eventually("it is remembered", async || !forged.heard().is_empty()).await;
    assert!(!forged.was_told(Postgres::PASSWORD.as_bytes()));
}

#[tokio::test]
async fn an_error_in_answer_to_the_request_for_tls_is_not_read() {
    let forged = Forged::start(|mut wire| async move {
        wire.packet().await;
        wire.say(b'E', b"SFATAL\0VFATAL\0C28P01\0Mforged words\0\0").await;
        wire.rest().await;
        wire
    })
    .await;
    is_refused_behind(&forged, "{ mode = \"require\" }").await;
}

#[tokio::test]
async fn bytes_that_a_server_sends_before_tls_are_refused() {
    let forged = Forged::start(|mut wire| async move {
        wire.packet().await;
        wire.send(b"S").await;
        wire.say(b'R', &[0, 0, 0, 0]).await;
        wire.say(b'Z', b"I").await;
        wire.rest().await;
        wire
    })
    .await;
    is_refused_behind(&forged, "{ mode = \"require\" }").await;
}

#[tokio::test]
async fn bytes_behind_the_yes_are_not_taken_for_the_first_of_the_session() {
    // The forger stands in the middle of a real handshake: plain bytes first, honest TLS after.
    let authority = Authority::new();
    let server = authority.certified_server(&["localhost", "127.0.0.1"]);
    let forged = Forged::start(move |mut wire| {
        let server = server.clone();
        async move {
            wire.packet().await;
            wire.send(b"SE\0\0\0\x0bMforged\0\0").await;
            let mut wire = match wire.accept_tls(server).await {
                Ok(wire) => wire,
                Err(_) => return Wire::over(tokio::io::empty()),
            };
            wire.packet().await;
            wire.say(b'R', &[0, 0, 0, 0]).await;
            wire.say(b'Z', b"I").await;
            wire.rest().await;
            wire
        }
    })
    .await;
    let ca = authority.file();
    is_refused_behind(
        &forged,
        &format!("{{ mode = \"verify-full\", ca = \"{}\" }}", ca.display()),
    )
    .await;
}

#[tokio::test]
async fn a_server_that_says_nonsense_during_the_login_is_refused() {
    let nonsense: [&[u8]; 9] = [
        b"",
        b"R\0\0\0\x04",
        b"R\0\0\0\x03",
        b"R\x7f\xff\xff\xff",
        b"R\xff\xff\xff\xff",
        b"R\0\0\0\x08\0\0\0\x07",
        b"R\0\0\0\x08\0\0\0\x0c",
        b"Z\0\0\0\x04",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ];
    for bytes in nonsense {
        let forged = Forged::start(move |wire| async move {
            let mut wire = receive(wire).await;
            wire.send(bytes).await;
            wire
        })
        .await;
        is_refused_behind(&forged, "{ mode = \"disable\" }").await;
    }
}

promise! {
    async fn an_error_of_a_login_names_the_role_and_not_the_upstream_user(version) {
        let postgres = Postgres::version(version).start();
        postgres.create_user("orders_v2", "second").await;
        postgres.execute("ALTER ROLE orders_v2 CONNECTION LIMIT 1").await;
        let swivel = Swivel::in_front_of(&postgres).credential("orders_v2", "second").section(QUICK).start().await;
        let _only_one = swivel.connect().await;
        let error = swivel.try_connect().await.err().unwrap();
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code().code(), "53300");
        assert!(error.message().contains("\"app\"") && !error.message().contains("orders_v2"), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_that_says_notices_for_ever_is_hung_up_on_before_its_time_is_over() {
    let (told, mut said) = tokio::sync::mpsc::unbounded_channel();
    let forged = Forged::start(move |wire| {
        let told = told.clone();
        async move {
            let mut wire = receive(wire).await;
            let notice = b"SNOTICE\0VNOTICE\0C00000\0Mwait\0\0";
            let mut count = 0_usize;
            while wire
                .try_send(&crate::support::wire::message(b'N', notice))
                .await
                .is_ok()
            {
                count += notice.len();
            }
            let _ = told.send(count);
            wire
        }
    })
    .await;
    let swivel = Swivel::in_front_of_port(forged.port())
        .upstream_line("connect_timeout = \"1h\"")
        .start()
        .await;
    // What sockets hold may be said and not heard.
    let count = within(PATIENCE, "it hangs up", said.recv()).await.unwrap();
    assert!(count < 64 << 20, "{count} bytes");
    drop(swivel);
}
