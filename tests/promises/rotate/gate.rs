//! Waiting until an old login is safe to take away.

use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Postgres, Swivel, eventually, temporary_directory};

const NEXT: &str = "orders_v2";
const WATCHER: &str = "watcher";
const SECOND: &str = "upstream-secret-2";
const WATCHING: &str = "upstream-secret-3";

/// A configuration of a machine that only rotates.
struct Orchestrator {
    directory: TempDir,
    postgres: u16,
    secret: String,
    sidecars: Vec<String>,
    users: String,
    upstream: String,
}

impl Orchestrator {
    async fn beside(postgres: &Postgres, swivel: &Swivel) -> Self {
        let sql = format!("CREATE ROLE {WATCHER} LOGIN PASSWORD '{WATCHING}' IN ROLE pg_read_all_stats");
        postgres.execute(&sql).await;
        Self {
            directory: temporary_directory(),
            postgres: postgres.port(),
            secret: swivel.directory().join("secret.json").display().to_string(),
            sidecars: vec![format!("http://127.0.0.1:{}", swivel.admin_port())],
            users: format!("users = [\"{}\", \"{NEXT}\"]", Postgres::USER),
            upstream: String::new(),
        }
    }

    fn config(&self) -> String {
        let path = |name: &str| self.directory.path().join(name);
        let watcher = json!({ "username": WATCHER, "password": WATCHING });
        std::fs::write(path("watcher.json"), watcher.to_string()).unwrap();
        let sidecars = match self.sidecars.as_slice() {
            [] => String::new(),
            sidecars => format!("sidecars = {sidecars:?}"),
        };
        let text = format!(
            "[upstream.orders]\nhosts = \"127.0.0.1:{}\"\n{}\n\
             [secret.orders]\nstore = \"file\"\nid = \"{}\"\n\
             [secret.watcher]\nstore = \"file\"\nid = \"{}\"\n\
             [rotation.orders]\nsecret = \"orders\"\nadmin = \"watcher\"\nupstreams = [\"orders\"]\n{}\n{sidecars}\n",
            self.postgres,
            self.upstream,
            self.secret,
            path("watcher.json").display(),
            self.users,
        );
        let file = path("rotate.toml");
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    }

    fn gate(&self, more: &[&str]) -> (Option<i32>, String) {
        let config = self.config();
        let arguments = [&["rotate", "gate", "orders", "--config", &config], more].concat();
        said(&Swivel::output(&arguments, &[]))
    }
}

fn said(output: &Output) -> (Option<i32>, String) {
    let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

/// A session of somebody who has never heard of pgswivel.
async fn stranger(postgres: &Postgres) -> tokio_postgres::Client {
    let mut config = postgres.config();
    config.application_name("nightly report");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

promise! {
    async fn the_gate_opens_when_sidecars_and_servers_have_left_the_old_user(version) {
        let postgres = Postgres::start(version);
        postgres.create_user(NEXT, SECOND).await;
        let swivel = Swivel::in_front_of(&postgres).secret_line("grace = \"1s\"").start().await;
        let orchestrator = Orchestrator::beside(&postgres, &swivel).await;
        let pinned = swivel.connect().await;
        pinned.batch_execute("CREATE TEMP TABLE t (n int)").await.unwrap();
        let outside = stranger(&postgres).await;

        let (code, words) = orchestrator.gate(&["--user", Postgres::USER, "--within", "0s"]);
        assert_eq!(code, Some(1), "{words}");
        assert!(words.contains("it holds this user as current"), "{words}");

        swivel.write_secret(NEXT, SECOND);
        let (code, words) = orchestrator.gate(&["--within", "0s"]);
        assert_eq!(code, Some(1), "{words}");
        assert!(words.contains("not safe: orders_v1 can't go"), "{words}");
        assert!(words.contains("application \"nightly report\", from 127.0.0.1, since 2"), "{words}");
        eventually("the sidecar has only what is pinned", async || {
            let (_, words) = orchestrator.gate(&["--within", "0s"]);
            words.contains("with sessions: 1, 1 of them pinned")
        })
        .await;

        // It waits, says who is left, and ends by itself when they have gone.
        let mut waiting = Swivel::binary();
        waiting.args(["rotate", "gate", "orders", "--within", "60s", "--json", "--config", &orchestrator.config()]);
        let log = orchestrator.directory.path().join("waiting");
        waiting.stdout(Stdio::piped()).stderr(std::fs::File::create(&log).unwrap());
        let waiting = waiting.spawn().unwrap();
        let told = || std::fs::read_to_string(&log).unwrap();
        eventually("it says who is left", async || told().contains("waiting: orders_v1: server")).await;
        pinned.batch_execute("DROP TABLE t").await.unwrap();
        eventually("only the stranger is left", async || {
            let (_, words) = orchestrator.gate(&["--within", "0s"]);
            !words.contains("sidecar") && words.contains("nightly report")
        })
        .await;
        drop(outside);
        let output = tokio::task::spawn_blocking(|| waiting.wait_with_output().unwrap()).await.unwrap();
        let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{outcome}");
        assert_eq!((&outcome["safe"], &outcome["users"], &outcome["left"]), (&json!(true), &json!(["orders_v1"]), &json!([])));
        let words = format!("{outcome} {}", told());
        for secret in [SECOND, WATCHING, Postgres::PASSWORD] {
            assert!(!words.contains(secret), "{words}");
        }
        assert_eq!(pinned.query_one("SELECT current_user::text", &[]).await.unwrap().get::<_, &str>(0), NEXT);
    }
}

#[tokio::test]
async fn who_can_not_be_asked_is_no_reason_to_go() {
    let mut postgres = Postgres::start(18);
    postgres.create_user(NEXT, SECOND).await;
    let mut swivel = Swivel::in_front_of(&postgres).start().await;
    let mut orchestrator = Orchestrator::beside(&postgres, &swivel).await;
    swivel.write_secret(NEXT, SECOND);
    eventually("nobody is on it", async || {
        orchestrator.gate(&["--within", "0s"]).0 == Some(0)
    })
    .await;
    let (code, words) = orchestrator.gate(&["--within", "0s", "--user", "orders_vl"]);
    assert_eq!(code, Some(64), "{words}");
    assert!(
        words.contains("no server knows a role named \"orders_vl\""),
        "{words}"
    );

    let there = std::mem::replace(
        &mut orchestrator.sidecars,
        vec!["dns+http://no-such-host.invalid:9632".to_owned()],
    );
    let (code, words) = orchestrator.gate(&["--within", "0s"]);
    assert_eq!(code, Some(69), "{words}");
    assert!(words.contains("can't be found"), "{words}");
    orchestrator.sidecars = there;
    swivel.kill();
    let (code, words) = orchestrator.gate(&["--within", "0s"]);
    assert_eq!(code, Some(69), "{words}");
    assert!(words.contains("can't be asked"), "{words}");
    orchestrator.sidecars.clear();
    assert_eq!(orchestrator.gate(&["--within", "0s"]).0, Some(0));
    postgres.stop(crate::support::Stop::Fast);
    let (code, words) = orchestrator.gate(&["--within", "0s"]);
    assert_eq!(code, Some(69), "{words}");
}

#[tokio::test]
async fn a_gate_without_a_user_to_wait_for_says_what_to_write() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    let mut orchestrator = Orchestrator::beside(&postgres, &swivel).await;
    orchestrator.users.clear();
    let (code, words) = orchestrator.gate(&["--within", "0s"]);
    assert_eq!(code, Some(64), "{words}");
    assert!(words.contains("--user"), "{words}");
    let config = orchestrator.config();
    let output = Swivel::output(&["rotate", "gate", "order", "--config", &config], &[]);
    let (code, words) = said(&output);
    assert_eq!(code, Some(64), "{words}");
    assert!(
        words.contains("no rotation named \"order\"; there are orders"),
        "{words}"
    );
    assert!(Path::new(&config).exists());
}

promise! {
    async fn the_watchers_password_goes_in_the_clear_over_verified_tls_and_never_otherwise(version) {
        let postgres = Postgres::version(version).hba("host all all all password").start();
        postgres.create_user(NEXT, SECOND).await;
        let swivel = Swivel::in_front_of(&postgres).verifying(postgres.authority()).start().await;
        let mut orchestrator = Orchestrator::beside(&postgres, &swivel).await;
        orchestrator.sidecars.clear();
        swivel.write_secret(NEXT, SECOND);
        for mode in ["disable", "prefer", "require"] {
            orchestrator.upstream = format!("tls = {{ mode = \"{mode}\" }}");
            let (code, words) = orchestrator.gate(&["--within", "0s"]);
            assert_eq!(code, Some(69), "{mode}: {words}");
            assert!(words.contains("asks for the password in the clear"), "{mode}: {words}");
        }
        let ca = orchestrator.directory.path().join("ca.pem");
        std::fs::write(&ca, postgres.authority().pem()).unwrap();
        orchestrator.upstream = format!("tls = {{ mode = \"verify-ca\", ca = \"{}\" }}", ca.display());
        eventually("nobody is on it", async || orchestrator.gate(&["--within", "0s"]).0 == Some(0)).await;
    }
}

promise! {
    async fn the_watcher_binds_its_login_to_the_servers_certificate(version) {
        let postgres = Postgres::start(version);
        postgres.create_user(NEXT, SECOND).await;
        let swivel = Swivel::in_front_of(&postgres).start().await;
        let mut orchestrator = Orchestrator::beside(&postgres, &swivel).await;
        swivel.write_secret(NEXT, SECOND);
        orchestrator.upstream = "tls = { mode = \"require\", channel_binding = \"require\" }".to_owned();
        eventually("nobody is on it", async || orchestrator.gate(&["--within", "0s"]).0 == Some(0)).await;
    }
}
