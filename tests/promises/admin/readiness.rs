//! A rotation that open sessions survive costs no endpoint: a kubelet asks all the while, in each row of the README's
//! table.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;

use crate::support::admin::{ask, ask_at};
use crate::support::swivel::Unstarted;
use crate::support::{Postgres, Swivel, eventually};

const NEXT: &str = "orders_v2";
/// A kubelet gives a probe one second unless it is told otherwise.
const PROBE_TIME: Duration = Duration::from_secs(1);
/// It asks every five seconds; here it does so often that no gap stays unseen.
const PERIOD: Duration = Duration::from_millis(50);
/// So many failures in a row take the pod out of its Service.
const FAILURE_THRESHOLD: u32 = 3;
/// Shortened, as is all that a real rotation lets pass: the default is 30 s.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks `/readyz`, and remembers each answer that was not 200.
struct Kubelet {
    stop: Arc<watch::Sender<bool>>,
    asking: JoinHandle<Vec<String>>,
}

impl Kubelet {
    fn of(swivel: &Swivel) -> Self {
        let stop = Arc::new(watch::Sender::new(false));
        let (address, stopped) = (format!("127.0.0.1:{}", swivel.admin_port()), stop.subscribe());
        let asking = tokio::spawn(async move {
            let (mut unready, mut silent) = (Vec::new(), 0);
            while !*stopped.borrow() {
                match timeout(PROBE_TIME, ask_at(&address, "GET /readyz")).await {
                    Ok(answer) if answer.status == 200 => silent = 0,
                    Ok(answer) => unready.push(answer.body),
                    Err(_) => silent += 1,
                }
                assert!(silent < FAILURE_THRESHOLD, "no answer {silent} times");
                // As an orchestrator probes.
                sleep(PERIOD).await;
            }
            unready
        });
        Self { stop, asking }
    }

    async fn saw(self) -> Vec<String> {
        self.stop.send_replace(true);
        self.asking.await.unwrap()
    }
}

fn swivel(postgres: &Postgres) -> Unstarted {
    Swivel::in_front_of(postgres)
        .section(&format!(
            "[login]\nrefused_retry = \"1s\"\npatience = \"{}s\"",
            PATIENCE.as_secs()
        ))
        .secret_line("grace = \"1s\"")
}

async fn is_ready(swivel: &Swivel) -> bool {
    ask(swivel, "GET /readyz").await.status == 200
}

async fn user_of(client: &Client) -> String {
    let row = client.query_one("SELECT session_user::text", &[]).await.unwrap();
    row.get(0)
}

/// What a rotation does with the store and the database, while a session is open and works.
async fn costs_no_endpoint(swivel: Swivel, rotation: impl AsyncFnOnce(&Swivel, &Client)) {
    eventually("it is ready", async || is_ready(&swivel).await).await;
    let client = swivel.connect().await;
    let kubelet = Kubelet::of(&swivel);
    rotation(&swivel, &client).await;
    assert_eq!(client.query("SELECT 1", &[]).await.unwrap().len(), 1);
    assert_eq!(kubelet.saw().await, Vec::<String>::new());
}

/// A login shows that the proxy has found out; it may be held.
fn come(swivel: &Swivel) -> JoinHandle<bool> {
    let config = swivel.config();
    tokio::spawn(async move {
        let connected = config.connect(tokio_postgres::NoTls).await;
        connected.is_ok_and(|(_, connection)| {
            tokio::spawn(connection);
            true
        })
    })
}

async fn has_found_out(swivel: &Swivel) {
    eventually("it has found out that nothing works", async || {
        ask(swivel, "GET /status").await.json()["secrets"][0]["stage"] == "nothing_works"
    })
    .await;
}

promise! {
    async fn the_password_in_the_database_first_and_the_store_long_after(version) {
        let postgres = Postgres::start(version);
        let swivel = swivel(&postgres).start().await;
        costs_no_endpoint(swivel, async |swivel, client| {
            postgres.change_password(Postgres::USER, "next").await;
            let came = come(swivel);
            has_found_out(swivel).await;
            let began = Instant::now();
            while began.elapsed() < PATIENCE * 2 {
                assert_eq!(user_of(client).await, Postgres::USER);
                sleep(PERIOD).await;
            }
            swivel.write_secret(Postgres::USER, "next");
            eventually("new ones come", async || come(swivel).await.unwrap()).await;
            came.abort();
        })
        .await;
    }
}

promise! {
    async fn the_store_first_and_the_database_after(version) {
        let postgres = Postgres::start(version);
        let swivel = swivel(&postgres).start().await;
        costs_no_endpoint(swivel, async |swivel, _| {
            swivel.write_secret(Postgres::USER, "next");
            eventually("it was tried", async || swivel.said("credential.refused") > 0).await;
            postgres.change_password(Postgres::USER, "next").await;
            eventually("it leads", async || swivel.said("credential.leading") == 2).await;
        })
        .await;
    }
}

/// As AWSPENDING does, and with it a service that manages the password or a rotation function for one user.
#[tokio::test]
async fn a_password_that_the_store_announces() {
    let postgres = Postgres::start(18);
    let swivel = swivel(&postgres).start().await;
    costs_no_endpoint(swivel, async |swivel, _| {
        let login = |password: &str| json!({ "username": Postgres::USER, "password": password });
        let write = |value: serde_json::Value| {
            std::fs::write(swivel.directory().join("secret.json"), value.to_string()).unwrap();
        };
        write(json!({ "current": login(Postgres::PASSWORD), "next": login("next") }));
        eventually("it was seen", async || swivel.said("credential.seen") == 2).await;
        postgres.change_password(Postgres::USER, "next").await;
        assert!(come(swivel).await.unwrap());
        // Longer than anybody is held: the next password works, and nobody may be turned away all the while.
        sleep(PATIENCE * 2).await;
        write(login("next"));
        assert!(come(swivel).await.unwrap());
    })
    .await;
}

promise! {
    async fn another_user_and_the_end_of_the_old_one_when_it_is_unused(version) {
        let postgres = Postgres::start(version);
        postgres.create_user(NEXT, "second").await;
        let swivel = swivel(&postgres).start().await;
        costs_no_endpoint(swivel, async |swivel, client| {
            swivel.write_secret(NEXT, "second");
            eventually("the session has moved", async || user_of(client).await == NEXT).await;
            eventually("the old one is unused", async || {
                let path = format!("POST /unused?user={}", Postgres::USER);
                ask(swivel, &path).await.json()["unused"] == true
            })
            .await;
            postgres.execute(&format!("ALTER ROLE {} NOLOGIN", Postgres::USER)).await;
            assert!(come(swivel).await.unwrap());
        })
        .await;
    }
}

promise! {
    /// In an emergency: who is on the old one is ended, and made again.
    async fn the_old_user_is_locked_and_ended_at_once(version) {
        let postgres = Postgres::start(version);
        postgres.create_user(NEXT, "second").await;
        let swivel = swivel(&postgres).start().await;
        costs_no_endpoint(swivel, async |swivel, client| {
            let user = Postgres::USER;
            let sql = format!(
                "ALTER ROLE {user} NOLOGIN; \
                 SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{user}'"
            );
            postgres.execute(&sql).await;
            swivel.write_secret(NEXT, "second");
            eventually("the session is made again", async || user_of(client).await == NEXT).await;
        })
        .await;
    }
}

promise! {
    async fn the_old_user_is_dropped_under_its_sessions(version) {
        let postgres = Postgres::start(version);
        postgres.create_user(NEXT, "second").await;
        postgres.create_user("orders_v0", "first").await;
        let stock = format!(
            "CREATE TABLE stock (n int); GRANT SELECT ON stock TO orders_v0, {NEXT}; INSERT INTO stock VALUES (7)"
        );
        postgres.admin_of(Postgres::DATABASE).await.batch_execute(&stock).await.unwrap();
        let swivel = swivel(&postgres).credential("orders_v0", "first").secret_line("sessions = \"keep\"");
        let swivel = swivel.start().await;
        costs_no_endpoint(swivel, async |swivel, client| {
            // What it holds is asked while there is somebody whom Postgres knows.
            client.simple_query("SET work_mem = '5MB'").await.unwrap();
            eventually("it was surveyed", async || {
                let sql = "SELECT 1 FROM pg_stat_activity \
                           WHERE usename = 'orders_v0' AND state = 'idle' AND query LIKE '/* pgswivel */%'";
                !postgres.admin().await.query(sql, &[]).await.unwrap().is_empty()
            })
            .await;
            swivel.write_secret(NEXT, "second");
            eventually("the new one leads", async || swivel.said("credential.leading") == 2).await;
            let drop = "DROP OWNED BY orders_v0; DROP ROLE orders_v0";
            postgres.admin_of(Postgres::DATABASE).await.batch_execute(drop).await.unwrap();
            // The first refusal is Postgres's own, and shows that the user is gone.
            eventually("its session has moved", async || {
                client.simple_query("SELECT n FROM stock").await.is_ok()
            })
            .await;
            assert_eq!(user_of(client).await, NEXT);
        })
        .await;
    }
}

/// As Vault changes a static role's: nobody announces it, and a poll finds it.
#[tokio::test]
async fn a_password_that_a_polled_store_changes() {
    let postgres = Postgres::start(18);
    let unstarted = swivel(&postgres);
    let payload = unstarted.directory().join("payload.json");
    let write = |password: &str| {
        let text = json!({ "username": Postgres::USER, "password": password });
        std::fs::write(&payload, text.to_string()).unwrap();
    };
    write(Postgres::PASSWORD);
    let swivel = unstarted
        .store("command", &format!("/bin/cat {}", payload.display()))
        .secret_line("poll = \"1h\"")
        .start()
        .await;
    costs_no_endpoint(swivel, async |swivel, _| {
        postgres.change_password(Postgres::USER, "next").await;
        write("next");
        eventually("new ones come", async || come(swivel).await.unwrap()).await;
    })
    .await;
}

#[cfg(feature = "vault")]
promise! {
    async fn a_lease_that_ends(version) {
        let postgres = Postgres::start(version);
        let mut vault = crate::support::vault::VaultDouble::start().await;
        vault.make_users_in(&postgres).await;
        vault.state().lease_ttl = Duration::from_secs(4);
        vault.state().lease_renewed_ttl = Duration::from_secs(1);
        let swivel = swivel(&postgres)
            .store("vault-db", "database/orders")
            .environment("VAULT_ADDR", &vault.url())
            .environment("VAULT_TOKEN", crate::support::vault::ROOT)
            .start()
            .await;
        costs_no_endpoint(swivel, async |_, client| {
            let first = user_of(client).await;
            eventually("the first user is dropped", async || !postgres.has_user(&first).await).await;
            assert_ne!(user_of(client).await, first);
        })
        .await;
    }
}

#[cfg(feature = "aws")]
promise! {
    /// RDS takes whatever its service has signed for as long as there is the right to it: the server here takes all tokens
    /// and then none.
    async fn tokens_that_end_one_after_the_other_and_then_the_right_to_them(version) {
        use crate::support::http::{HttpServer, Reply};

        const ACCEPTED: &str = "hostssl all orders_v1 all trust";
        let postgres = Postgres::version(version).hba(ACCEPTED).start();
        // Keys of a task: what they sign is trusted no longer than they last.
        let role = HttpServer::start(|_| async {
            let end = std::time::SystemTime::now() + Duration::from_secs(20);
            Reply::json(
                200,
                &json!({
                    "AccessKeyId": "AKID", "SecretAccessKey": "SECRET", "Token": "TOKEN",
                    "Expiration": pgswivel::journal::rfc3339(end),
                }),
            )
        })
        .await;
        let swivel = swivel(&postgres)
            .verifying(postgres.authority())
            .store("aws-rds-iam", Postgres::USER)
            .environment("AWS_REGION", "eu-west-1")
            .environment("AWS_EC2_METADATA_DISABLED", "true")
            .environment("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}/role", role.url()))
            .start()
            .await;
        costs_no_endpoint(swivel, async |swivel, client| {
            let generation = async || ask(swivel, "GET /status").await.json()["secrets"][0]["generation"].as_u64();
            let first = generation().await;
            for _ in 0..3 {
                let before = generation().await;
                swivel.refresh();
                eventually("another token is used", async || generation().await > before).await;
                assert!(come(swivel).await.unwrap());
            }
            assert!(generation().await >= first.map(|first| first + 3));
            postgres.set_hba("hostssl all orders_v1 all scram-sha-256").await;
            assert!(!come(swivel).await.unwrap(), "the right is gone, and patience has run out");
            assert_eq!(user_of(client).await, Postgres::USER);
            postgres.set_hba(ACCEPTED).await;
            swivel.refresh();
            eventually("new ones come", async || come(swivel).await.unwrap()).await;
        })
        .await;
    }
}

promise! {
    async fn nothing_works_for_longer_than_patience(version) {
        let postgres = Postgres::start(version);
        let swivel = swivel(&postgres).start().await;
        costs_no_endpoint(swivel, async |swivel, client| {
            postgres.change_password(Postgres::USER, "nobody knows").await;
            assert!(!come(swivel).await.unwrap(), "patience has run out");
            let ready = ask(swivel, "GET /readyz").await.json();
            assert_eq!(ready["warnings"][0], "secret.orders: no credential is known to work");
            assert_eq!(user_of(client).await, Postgres::USER);
        })
        .await;
    }
}

/// A secret that a changed configuration adds may be wrong; those who are there have nothing to do with it.
#[tokio::test]
async fn a_secret_that_is_added_and_does_not_work_costs_no_endpoint() {
    let postgres = Postgres::start(18);
    let swivel = swivel(&postgres).start().await;
    costs_no_endpoint(swivel, async |swivel, _| {
        swivel
            .add(
                "[secret.other]\nstore = \"file\"\nid = \"/nowhere/at/all\"\n\
                 [role.other]\nauth = \"trust\"\nupstream = \"orders\"\nsecret = \"other\"\n",
            )
            .await;
        eventually("it is known", async || {
            let status = ask(swivel, "GET /status").await.json();
            status["secrets"]
                .as_array()
                .is_some_and(|secrets| secrets.len() == 2)
        })
        .await;
        assert_eq!(
            ask(swivel, "GET /startupz").await.status,
            200,
            "it began long ago"
        );
    })
    .await;
}

/// Nobody is there whom it would cost anything, and whoever waits still has time: then it is over.
#[tokio::test]
async fn without_sessions_it_is_ready_until_patience_has_run_out() {
    let postgres = Postgres::start(18);
    let swivel = swivel(&postgres).start().await;
    eventually("it is ready", async || is_ready(&swivel).await).await;
    let began = Instant::now();
    postgres.change_password(Postgres::USER, "next").await;
    let came = come(&swivel);
    has_found_out(&swivel).await;
    if began.elapsed() < PATIENCE {
        assert!(is_ready(&swivel).await || began.elapsed() >= PATIENCE);
    }
    eventually("patience has run out", async || !is_ready(&swivel).await).await;
    assert!(began.elapsed() >= PATIENCE);
    assert!(!came.await.unwrap());
    swivel.write_secret(Postgres::USER, "next");
    eventually("it is ready again", async || is_ready(&swivel).await).await;
}

/// It started in the middle of a rotation: it has nobody to lose, and serves nobody.
#[tokio::test]
async fn what_never_worked_is_not_ready() {
    let postgres = Postgres::start(18);
    postgres.change_password(Postgres::USER, "next").await;
    let swivel = swivel(&postgres).start().await;
    has_found_out(&swivel).await;
    assert!(!is_ready(&swivel).await);
    assert_eq!(ask(&swivel, "GET /startupz").await.status, 200);
    assert_eq!(ask(&swivel, "GET /livez").await.status, 200);
}
