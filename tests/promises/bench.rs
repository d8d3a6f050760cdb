//! The bench itself, against PostgreSQL directly: what the promises rest on.

use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use crate::support::{Forged, ForgedScram, Postgres, Stop, Wire};

promise! {
    async fn a_server_of_the_version_asked_for_takes_logins_with_scram_and_with_tls(version) {
        let postgres = Postgres::start(version);
        let client = postgres.connect().await;
        let row = client.query_one("SHOW server_version_num", &[]).await.unwrap();
        assert!(row.get::<_, &str>(0).starts_with(&version.to_string()));

        let (client, connection) = postgres.config().connect(postgres.tls()).await.unwrap();
        tokio::spawn(connection);
        let sql = "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let row = client.query_one(sql, &[]).await.unwrap();
        assert!(row.get::<_, bool>(0));
        assert_eq!(row.get::<_, &str>(1), "TLSv1.3");
    }
}

promise! {
    async fn a_server_keeps_its_data_and_its_port_over_a_restart_and_a_crash(version) {
        let mut postgres = Postgres::start(version);
        postgres.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)").await;
        let session = postgres.connect().await;
        postgres.restart(Stop::Fast);
        let error = session.query("SELECT 1", &[]).await.unwrap_err();
        assert!(error.is_closed() || error.code() == Some(&SqlState::ADMIN_SHUTDOWN), "{error:?}");

        let session = postgres.admin_of("orders").await;
        let row = session.query_one("SELECT n FROM kept", &[]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), 1);
        postgres.crash().await;
        crate::support::eventually("the session is thrown out", async || {
            session.simple_query("SELECT 1").await.is_err()
        })
        .await;

        postgres.vanish();
        postgres.start_again();
        assert_eq!(postgres.connect().await.query("SELECT 1", &[]).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn pg_hba_is_replaced_while_the_server_runs() {
    let postgres = Postgres::version(18).hba("host all all all trust").start();
    let mut config = postgres.config();
    config.password("wrong");
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    drop(client);
    postgres.set_hba("host all all all reject").await;
    let error = config.connect(NoTls).await.err().unwrap();
    assert_eq!(error.code(), Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION));
    assert!(postgres.log().contains("pg_hba.conf rejects"));
}

#[tokio::test]
async fn the_raw_client_logs_in_and_takes_errors_apart() {
    let postgres = Postgres::start(18);
    let address = postgres.address();
    let mut wire = Wire::login(&address, Postgres::USER, Postgres::PASSWORD, Postgres::DATABASE).await;
    wire.query("SELECT 'seen'").await;
    let answer = wire.until(b'Z').await;
    assert_eq!(answer[1].first_column().as_deref(), Some("seen"));
    wire.query("SELECT 1/0").await;
    let error = wire.until(b'Z').await[0].error();
    assert_eq!((error.severity.as_str(), error.code.as_str()), ("ERROR", "22012"));
}

#[tokio::test]
async fn the_forged_server_passes_for_real_until_it_lies() {
    let honest = ForgedScram::honest(b"secret");
    let liar = ForgedScram {
        verdict: Some("v=AAAA".to_owned()),
        ..honest.clone()
    };
    for (scram, believed) in [(honest, true), (liar, false)] {
        let forged = Forged::start(move |mut wire| {
            let scram = scram.clone();
            async move {
                wire.packet().await;
                if scram.play(&mut wire).await {
                    wire.say(b'Z', b"I").await;
                }
                wire
            }
        })
        .await;
        let mut config = tokio_postgres::Config::new();
        config
            .host("127.0.0.1")
            .port(forged.port())
            .user("app")
            .password("secret");
        assert_eq!(config.connect(NoTls).await.is_ok(), believed);
        crate::support::eventually("the forged server remembers", async || {
            forged.was_told(b"SCRAM-SHA-256\0")
        })
        .await;
    }
}
