//! Addresses come and go.

use tokio::net::TcpStream;
use tokio_postgres::NoTls;

use crate::support::{Port, Postgres, Swivel, eventually};

#[tokio::test]
async fn an_added_address_is_listened_on_and_a_removed_one_is_not_while_its_sessions_stay() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    let (own, more) = (swivel.address(), Port::free());
    let before = swivel.connect().await;
    let only_more = format!("\"127.0.0.1:{}\"", more.number());
    let both = format!("\"{own}\", {only_more}");
    swivel.rewrite(&format!("\"{own}\""), &both).await;
    let connect = async |port: u16| {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(port).dbname(Postgres::DATABASE);
        config.user(Swivel::USER).password(Swivel::PASSWORD);
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok::<_, tokio_postgres::Error>(client)
    };
    connect(more.number()).await.unwrap();
    swivel.rewrite(&both, &only_more).await;
    eventually("the first is closed", async || {
        TcpStream::connect(&own).await.is_err()
    })
    .await;
    connect(more.number()).await.unwrap();
    before.query("SELECT 1", &[]).await.unwrap();
    swivel.rewrite(&only_more, &both).await;
    connect(swivel.port()).await.unwrap();
}

#[tokio::test]
async fn an_address_that_another_process_has_is_a_problem_like_any_other() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    let own = swivel.address();
    let taken = format!("\"{own}\", \"{}\"", postgres.address());
    swivel.write_config(&swivel.written().replace(&format!("\"{own}\""), &taken));
    eventually("it is said", async || {
        swivel.said("another process already does") == 1
    })
    .await;
    assert_eq!(swivel.said("ignored"), 1);
    swivel.connect().await;
}

#[tokio::test]
async fn a_configuration_that_waits_for_an_address_is_applied_when_the_address_is_free() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    let somebody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let more = somebody.local_addr().unwrap();
    let own = format!("\"{}\"", swivel.address());
    swivel.write_config(&swivel.written().replace(&own, &format!("{own}, \"{more}\"")));
    eventually("it is said", async || swivel.said("ignored") == 1).await;
    drop(somebody);
    eventually("it is applied", async || {
        swivel.said("configuration changed") == 1 && swivel.said("configuration valid again") == 1
    })
    .await;
    assert!(tokio::net::TcpStream::connect(more).await.is_ok());
    assert_eq!(swivel.said("ignored"), 1);
}

#[tokio::test]
async fn an_address_that_takes_in_another_needs_a_restart_and_the_rest_is_changed() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres)
        .listen_line("insecure = true")
        .start()
        .await;
    let own = format!("\"{}\"", swivel.address());
    let every = format!("\"0.0.0.0:{}\"", swivel.port());
    let text = swivel.written().replace(&own, &every) + "[limits]\nclients = 1\n";
    swivel.reconfigure(&text).await;
    assert_eq!(swivel.said("needs a restart"), 1);
    let _only = swivel.connect().await;
    assert!(swivel.try_connect().await.is_err(), "the limit is in force");
}
