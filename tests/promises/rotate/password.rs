//! What a server is told of a new password.

use pgswivel::rotate::password::{Recipe, generate, verifier};

use crate::support::Postgres;

promise! {
    async fn a_server_is_told_a_verifier_and_its_log_never_has_the_password(version) {
        let postgres = Postgres::version(version).setting("log_statement", "all").start();
        let password = generate(Recipe::default());
        let text = std::str::from_utf8(password.expose()).unwrap();
        let sql = format!("ALTER ROLE {} PASSWORD '{}'", Postgres::USER, *verifier(&password));
        postgres.execute(&sql).await;
        let mut config = postgres.config();
        config.password(password.expose());
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.simple_query("SELECT 1").await.unwrap();
        let log = postgres.log();
        assert!(log.contains("ALTER ROLE") && !log.contains(text));
        let mut config = postgres.config();
        config.password(&*verifier(&password));
        assert!(config.connect(tokio_postgres::NoTls).await.is_err(), "the verifier is no password");
    }
}
