//! How pgswivel reaches Postgres over TLS, and what it refuses to call secure.

use tokio_postgres::Client;

use crate::support::{Authority, Forged, Postgres, Swivel, eventually};

const TLS_ONLY: &str = "hostssl all all all scram-sha-256";
const QUICK: &str = "[login]\npatience = \"1s\"";

async fn protocol(client: &Client) -> Option<String> {
    let sql = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

async fn logs_in(postgres: &Postgres, tls: &str) {
    let swivel = Swivel::in_front_of(postgres).upstream_tls(tls).start().await;
    let client = swivel.connect().await;
    assert_eq!(protocol(&client).await.as_deref(), Some("TLSv1.3"), "{tls}");
}

/// The client gets an error, and Postgres never saw a login.
async fn refuses(postgres: &Postgres, tls: &str) {
    let swivel = Swivel::in_front_of(postgres)
        .upstream_tls(tls)
        .section(QUICK)
        .start()
        .await;
    let error = swivel
        .try_connect()
        .await
        .err()
        .unwrap_or_else(|| panic!("logged in with {tls}"));
    let error = error
        .as_db_error()
        .unwrap_or_else(|| panic!("no error from pgswivel: {error:?}"));
    assert_eq!(error.severity(), "FATAL", "{tls}: {error}");
    assert!(!error.message().contains(Postgres::USER), "{error}");
    assert!(
        !postgres.log().contains("connection authorized: user=orders_v1"),
        "{tls}"
    );
}

promise! {
    async fn verified_tls_reaches_a_server_that_takes_nothing_else(version) {
        let postgres = Postgres::version(version).hba(TLS_ONLY).start();
        let ca = postgres.authority().file();
        let ca = ca.display();
        for tls in [
            format!("{{ mode = \"verify-full\", ca = \"{ca}\" }}"),
            format!("{{ mode = \"verify-full\", ca = \"{ca}\", server_name = \"localhost\" }}"),
            format!("{{ mode = \"verify-ca\", ca = \"{ca}\", server_name = \"elsewhere\" }}"),
            format!("{{ mode = \"verify-full\", ca = \"{ca}\", channel_binding = \"require\" }}"),
            "{ mode = \"require\" }".to_owned(),
            "{ mode = \"prefer\" }".to_owned(),
        ] {
            logs_in(&postgres, &tls).await;
        }
    }
}

#[tokio::test]
async fn direct_tls_reaches_a_server_that_knows_it() {
    let postgres = Postgres::version(18).hba(TLS_ONLY).start();
    let ca = postgres.authority().file();
    let ca = ca.display();
    let tls = format!("{{ mode = \"verify-full\", ca = \"{ca}\", negotiation = \"direct\" }}");
    logs_in(&postgres, &tls).await;
}

#[tokio::test]
async fn a_certificate_for_another_name_or_from_another_authority_is_refused() {
    let postgres = Postgres::start(18);
    let ca = postgres.authority().file();
    let ca = ca.display();
    let stranger = Authority::new();
    let other = stranger.file();
    let other = other.display();
    for tls in [
        format!("{{ mode = \"verify-full\", ca = \"{ca}\", server_name = \"elsewhere\" }}"),
        format!("{{ mode = \"verify-full\", ca = \"{other}\" }}"),
        format!("{{ mode = \"verify-ca\", ca = \"{other}\" }}"),
        "{ mode = \"verify-full\" }".to_owned(),
    ] {
        refuses(&postgres, &tls).await;
    }
}

#[tokio::test]
async fn a_server_without_tls_serves_prefer_and_disable_and_nothing_stronger() {
    let postgres = Postgres::version(18).setting("ssl", "off").start();
    for mode in ["require", "verify-ca", "verify-full"] {
        refuses(&postgres, &format!("{{ mode = \"{mode}\" }}")).await;
    }
    for mode in ["prefer", "disable"] {
        let tls = format!("{{ mode = \"{mode}\" }}");
        let swivel = Swivel::in_front_of(&postgres).upstream_tls(&tls).start().await;
        assert_eq!(protocol(&swivel.connect().await).await, None);
    }
}

promise! {
    async fn a_client_certificate_logs_in_where_postgres_wants_one(version) {
        let postgres = Postgres::version(version).hba("hostssl all all all cert").start();
        let certified = postgres.authority().client(Postgres::USER);
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = certified.write(directory.path(), "client");
        let ca = postgres.authority().file();
        let tls = format!(
            "{{ mode = \"verify-full\", ca = \"{}\", certificate = \"{}\", key = \"{}\" }}",
            ca.display(),
            certificate.display(),
            key.display()
        );
        let swivel = Swivel::in_front_of(&postgres).upstream_tls(&tls).start().await;
        let client = swivel.connect().await;
        let sql = "SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let row = client.query_one(sql, &[]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), "/CN=orders_v1");
    }
}

/// A server over TLS that offers these mechanisms and remembers which one is taken.
async fn offering(authority: &Authority, mechanisms: &'static [u8]) -> Forged {
    let server = authority.certified_server(&["localhost", "127.0.0.1"]);
    Forged::start(move |mut wire| {
        let server = server.clone();
        async move {
            wire.packet().await;
            wire.send(b"S").await;
            let mut wire = wire.accept_tls(server).await.unwrap();
            wire.packet().await;
            wire.say(b'R', &[b"\0\0\0\x0a", mechanisms].concat()).await;
            wire.next().await;
            wire
        }
    })
    .await
}

#[tokio::test]
async fn channel_binding_is_used_whenever_the_server_offers_it() {
    let authority = Authority::new();
    let ca = authority.file();
    let ca = ca.display();
    let offers: [(&[u8], &str, &[u8]); 4] = [
        (
            b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0",
            "prefer",
            b"SCRAM-SHA-256-PLUS\0",
        ),
        (
            b"SCRAM-SHA-256\0SCRAM-SHA-256-PLUS\0\0",
            "require",
            b"p=tls-server-end-point,,",
        ),
        // It could have, and says so, which unmasks whoever took the other mechanism off the list.
        (b"SCRAM-SHA-256\0\0", "prefer", b"y,,"),
        (b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0", "disable", b"n,,"),
    ];
    for (mechanisms, binding, told) in offers {
        let forged = offering(&authority, mechanisms).await;
        let tls = format!("{{ mode = \"verify-full\", ca = \"{ca}\", channel_binding = \"{binding}\" }}");
        let swivel = Swivel::in_front_of_port(forged.port())
            .upstream_tls(&tls)
            .section(QUICK);
        let swivel = swivel.start().await;
        assert!(swivel.try_connect().await.is_err());
        eventually(&format!("{binding} takes {told:?}"), async || {
            forged.was_told(told)
        })
        .await;
    }
}

#[tokio::test]
async fn where_channel_binding_is_required_a_server_without_it_hears_nothing_of_the_user() {
    let authority = Authority::new();
    let ca = authority.file();
    let forged = offering(&authority, b"SCRAM-SHA-256\0\0").await;
    let tls = format!(
        "{{ mode = \"verify-full\", ca = \"{}\", channel_binding = \"require\" }}",
        ca.display()
    );
    let swivel = Swivel::in_front_of_port(forged.port())
        .upstream_tls(&tls)
        .section(QUICK);
    let swivel = swivel.start().await;
    assert!(swivel.try_connect().await.is_err());
    eventually("a login was tried", async || !forged.heard().is_empty()).await;
    assert!(!forged.was_told(b"SCRAM-SHA-256\0"));
}
