//! What pgswivel says about a configuration that cannot be right.

use crate::support::{Postgres, Swivel};

/// How `pgswivel run` ends on this file, and what it says.
fn run(toml: &str, environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pgswivel.toml");
    std::fs::write(&path, toml).unwrap();
    let (status, said) = Swivel::command(&["run", "--config", path.to_str().unwrap()], environment);
    (status.code(), said)
}

const SOUND: &str = r#"
[listen]
address = "127.0.0.1:1"
[role.app]
password = { env = "APP" }
upstream = "orders"
secret = "orders"
[upstream.orders]
hosts = ["127.0.0.1:2"]
[secret.orders]
store = "env"
"#;

#[test]
fn three_mistakes_are_three_messages_with_their_paths() {
    let broken = SOUND
        .replace("secret = \"orders\"", "secret = \"ordes\"")
        .replace("hosts =", "host =")
        .replace("store = \"env\"", "store = \"env\"\npoll = \"often\"");
    let (code, said) = run(&broken, &[("APP", "local")]);
    assert_eq!(code, Some(64), "{said}");
    let told = |path: &str| said.lines().filter(|line| line.contains(path)).count();
    assert_eq!(told("role.app.secret"), 1, "{said}");
    assert!(said.contains("did you mean \"orders\""), "{said}");
    assert!(told("upstream.orders.host") >= 1, "{said}");
    assert_eq!(told("secret.orders.poll"), 1, "{said}");
}

#[test]
fn files_that_hold_something_else_are_all_named() {
    let directory = tempfile::tempdir().unwrap();
    let garbage = directory.path().join("garbage.pem");
    std::fs::write(&garbage, "no certificate").unwrap();
    let garbage = garbage.display();
    let broken = SOUND
        .replace(
            "hosts =",
            &format!("tls = {{ mode = \"verify-ca\", ca = \"{garbage}\" }}\nhosts ="),
        )
        .replace(
            "[role.app]",
            &format!("tls = {{ certificate = \"{garbage}\", key = \"{garbage}\" }}\n[role.app]"),
        );
    let environment = [
        ("APP", "local"),
        ("POSTGRES_USER", "a"),
        ("POSTGRES_PASSWORD", "b"),
    ];
    let (code, said) = run(&broken, &environment);
    assert_eq!(code, Some(64), "{said}");
    for path in ["listen.tls: ", "upstream.orders.tls: "] {
        assert!(
            said.lines().any(|line| line.starts_with(path)),
            "{path} in {said}"
        );
    }
}

#[test]
fn without_a_password_it_does_not_start() {
    let bare = SOUND.replace("password = { env = \"APP\" }\n", "");
    let (code, said) = run(&bare, &[]);
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("PGSWIVEL_PASSWORD"), "{said}");
}

#[test]
fn a_password_that_names_an_absent_variable_or_an_empty_one_does_not_start_either() {
    for environment in [&[][..], &[("APP", "")]] {
        let (code, said) = run(SOUND, environment);
        assert_eq!(code, Some(64), "{said}");
        assert!(said.contains("role.app.password"), "{said}");
    }
}

#[test]
fn trust_is_for_loopback_alone() {
    let trusting = SOUND
        .replace("password = { env = \"APP\" }", "auth = \"trust\"")
        .replace("127.0.0.1:1", "0.0.0.0:1");
    let (code, said) = run(&trusting, &[]);
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("trust"), "{said}");
}

#[test]
fn a_listener_that_others_can_reach_needs_tls() {
    let open = SOUND.replace("127.0.0.1:1", "0.0.0.0:1");
    let (code, said) = run(&open, &[("APP", "local")]);
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("insecure"), "{said}");
}

#[test]
fn a_file_that_is_no_toml_is_pointed_at() {
    let (code, said) = run("[listen\naddress = 1", &[]);
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("pgswivel.toml") && said.contains('1'), "{said}");
}

#[tokio::test]
async fn trust_lets_in_whoever_reaches_loopback() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).trusting().start().await;
    let mut config = swivel.config();
    config.password("anything");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(client.query("SELECT 1", &[]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn nothing_secret_is_ever_said() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres)
        .section("[log]\nlevel = \"trace\"")
        .start()
        .await;
    drop(swivel.connect().await);
    let mut wrong = swivel.config();
    wrong.password("a wrong guess");
    assert!(wrong.connect(tokio_postgres::NoTls).await.is_err());
    let log = swivel.log();
    assert!(!log.is_empty());
    for secret in [Postgres::PASSWORD, Swivel::PASSWORD, "a wrong guess"] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}
