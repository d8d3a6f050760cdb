//! Whether an upstream user may go: asked by name, over all secrets, as of a read of the store.

use std::process::Output;

use serde_json::Value;

use crate::support::admin::{Scrape, ask, status};
use crate::support::{Postgres, Swivel, eventually, within};

const NEXT: &str = "orders_v2";

fn unused(swivel: &Swivel, user: &str, more: &[&str]) -> (Option<i32>, String) {
    let address = format!("127.0.0.1:{}", swivel.admin_port());
    let arguments = [&["status", "--admin", &address, "--unused", user], more].concat();
    let Output {
        status,
        stdout,
        stderr,
    } = Swivel::output(&arguments, &[]);
    let said = [stdout, stderr].concat();
    (status.code(), String::from_utf8(said).unwrap())
}

promise! {
    async fn a_user_is_unused_when_no_link_is_on_it_and_no_secret_wants_it(version) {
        let postgres = Postgres::start(version);
        postgres.create_user(NEXT, "second").await;
        let swivel = Swivel::in_front_of(&postgres).secret_line("grace = \"1s\"").start().await;
        let pinned = swivel.connect().await;
        pinned.batch_execute("CREATE TEMP TABLE t (n int)").await.unwrap();
        let (code, said) = unused(&swivel, Postgres::USER, &[]);
        assert!(code == Some(1) && said.contains("new logins of orders use it"), "{said}");
        let (code, said) = unused(&swivel, "never_heard_of", &[]);
        assert!(code == Some(0) && said.contains("unused here, as of"), "{said}");

        swivel.write_secret(NEXT, "second");
        eventually("the next one leads", async || {
            unused(&swivel, NEXT, &[]).1.contains("new logins of orders use it")
        })
        .await;
        let (code, said) = unused(&swivel, Postgres::USER, &["--fresh"]);
        assert!(code == Some(1) && said.contains("connections on it: "), "{said}");
        pinned.batch_execute("DROP TABLE t").await.unwrap();
        eventually("nobody is on it", async || unused(&swivel, Postgres::USER, &["--fresh"]).0 == Some(0)).await;
        let scrape = Scrape::of(&swivel).await;
        assert!(scrape.sum("pgswivel_user_links", &["user=\"orders_v2\""]) >= 1.0);
        assert_eq!(scrape.sum("pgswivel_user_links", &["user=\"orders_v1\""]), 0.0);
        assert!(scrape.sum("pgswivel_credential_read_timestamp_seconds", &[]) > 0.0);
    }
}

/// Who acts on a word that is not true cuts the application off.
#[tokio::test]
async fn a_user_whose_password_changed_is_in_use() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    eventually("it leads", async || {
        status(&swivel).await["secrets"][0]["stage"] == "steady"
    })
    .await;
    let mut pooled = Some(swivel.connect().await);
    postgres.change_password(Postgres::USER, "next").await;
    swivel.write_secret(Postgres::USER, "next");
    let is_replaced = |said: &Value| said["secrets"][0]["credentials"][1]["standing"] == "retired";
    for links in [1, 0] {
        let mut said = Value::Null;
        eventually("the new password leads", async || {
            said = status(&swivel).await;
            is_replaced(&said) && said["secrets"][0]["credentials"][1]["links"] == links
        })
        .await;
        let scrape = Scrape::of(&swivel).await;
        assert_eq!(scrape.sum("pgswivel_user_unused", &["user=\"orders_v1\""]), 0.0);
        let page = ask(&swivel, "GET /").await.body;
        for text in [said.to_string(), page] {
            assert!(!text.contains("nothing here uses orders_v1"), "{text}");
            assert!(!text.contains(">safe to revoke</span>"), "{text}");
        }
        assert_eq!(said["secrets"][0]["stage"], "steady", "{said}");
        assert_eq!(said["secrets"][0]["safe_to_revoke"], false, "{said}");
        let words = said["secrets"][0]["credentials"][1]["words"].as_str().unwrap();
        assert!(words.contains("password"), "{words}");
        assert_eq!(unused(&swivel, Postgres::USER, &["--fresh"]).0, Some(1));
        pooled.take();
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_read_is_no_fresh_answer() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    eventually("it was read", async || {
        unused(&swivel, "somebody", &[]).0 == Some(0)
    })
    .await;
    std::fs::write(swivel.directory().join("secret.json"), "half of").unwrap();
    let (code, said) = unused(&swivel, "somebody", &["--fresh"]);
    assert!(code == Some(1) && said.contains("can't be read now"), "{said}");
}

/// What its secret is called by now, and whether its role is still there, changes nothing for its backend.
#[tokio::test]
async fn a_link_counts_whatever_became_of_its_secret() {
    let postgres = Postgres::start(18);
    postgres.create_user(NEXT, "second").await;
    let swivel = Swivel::in_front_of(&postgres).start().await;
    let pinned = swivel.connect().await;
    pinned.batch_execute("CREATE TEMP TABLE t (n int)").await.unwrap();
    let renamed = swivel.written().replace("[secret.orders]", "[secret.renamed]");
    let renamed = renamed.replace("secret = \"orders\"", "secret = \"renamed\"");
    swivel.reconfigure(&renamed).await;
    swivel.write_secret(NEXT, "second");
    eventually("the next one leads", async || {
        unused(&swivel, NEXT, &[])
            .1
            .contains("new logins of renamed use it")
    })
    .await;
    let answer = ask(&swivel, &format!("GET /unused?user={}", Postgres::USER))
        .await
        .json();
    assert_eq!(answer["unused"], false, "{answer}");
    assert!(
        answer["links_by_secret"]["orders"].as_u64() >= Some(1),
        "{answer}"
    );
    drop(pinned);
    eventually("it has gone", async || {
        unused(&swivel, Postgres::USER, &[]).0 == Some(0)
    })
    .await;
}

/// Its role gets another secret, or is gone: its session goes on where it is.
#[tokio::test]
async fn a_link_counts_whatever_became_of_its_role() {
    let postgres = Postgres::start(18);
    postgres.create_user(NEXT, "second").await;
    let payload = serde_json::json!({ "username": NEXT, "password": "second" });
    let (other, role) = (
        "[secret.other]\nstore = \"file\"\nid = \"OTHER\"\n",
        "[role.other]\nauth = \"trust\"\nupstream = \"orders\"\nsecret = \"other\"\n",
    );
    for change in ["another secret", "no role"] {
        let swivel = Swivel::in_front_of(&postgres).start().await;
        let file = swivel.directory().join("other.json");
        std::fs::write(&file, payload.to_string()).unwrap();
        let pinned = swivel.connect().await;
        pinned.batch_execute("CREATE TEMP TABLE t (n int)").await.unwrap();
        let other = other.replace("OTHER", file.to_str().unwrap());
        let written = swivel.written();
        let changed = match change {
            "another secret" => written.replace("secret = \"orders\"", "secret = \"other\"") + &other,
            _ => {
                written
                    .replace("[role.app]", "[role.app2]")
                    .replace("secret = \"orders\"", "secret = \"other\"")
                    + &other
                    + role
            }
        };
        swivel.reconfigure(&changed).await;
        eventually("the other one leads", async || {
            unused(&swivel, NEXT, &[])
                .1
                .contains("new logins of other use it")
        })
        .await;
        let said = status(&swivel).await;
        let user = said["users"]
            .as_array()
            .unwrap()
            .iter()
            .find(|user| user["user"] == Postgres::USER);
        let user = user.unwrap_or(&Value::Null);
        assert_eq!(
            (&user["unused"], &user["pinned"]),
            (&false.into(), &0.into()),
            "{change}: {said}"
        );
        assert!(
            user["links_by_secret"]["orders"].as_u64() >= Some(1),
            "{change}: {said}"
        );
        // What was removed stays in the report, and on the page, until its last link has gone.
        let removed = &said["removed_secrets"][0];
        assert_eq!(removed["secret"], "orders", "{change}: {said}");
        assert_eq!(
            removed["credentials"][0]["user"],
            Postgres::USER,
            "{change}: {said}"
        );
        let page = ask(&swivel, "GET /").await.body;
        assert!(
            page.contains("removed from the configuration"),
            "{change}: {page}"
        );
        assert_eq!(swivel.said("credential.safe_to_revoke"), 0, "{change}");
        assert_eq!(pinned.query("SELECT * FROM t", &[]).await.unwrap().len(), 0);
        drop(pinned);
        eventually("it has gone", async || {
            unused(&swivel, Postgres::USER, &[]).0 == Some(0)
        })
        .await;
        eventually("the trail says so", async || {
            swivel.said("credential.safe_to_revoke") == 1
        })
        .await;
        assert_eq!(status(&swivel).await["removed_secrets"], serde_json::json!([]));
    }
}

/// Another secret has the user too: whoever revokes it for one takes it from both.
#[tokio::test]
async fn a_user_that_another_secret_has_is_in_use() {
    let postgres = Postgres::start(18);
    postgres.create_user(NEXT, "second").await;
    let unstarted = Swivel::in_front_of(&postgres);
    let shared = unstarted.directory().join("shared.json");
    let payload = serde_json::json!({ "username": Postgres::USER, "password": Postgres::PASSWORD });
    std::fs::write(&shared, payload.to_string()).unwrap();
    let more = format!(
        "[secret.shared]\nstore = \"file\"\nid = \"{}\"\n\
         [role.shared]\nauth = \"trust\"\nupstream = \"orders\"\nsecret = \"shared\"",
        shared.display()
    );
    let swivel = unstarted.section(&more).start().await;
    eventually("both lead", async || swivel.said("credential.leading") == 2).await;
    swivel.write_secret(NEXT, "second");
    eventually("the next one leads", async || {
        swivel.said("credential.leading") == 3
    })
    .await;
    let said = status(&swivel).await;
    let orders = &said["secrets"][0];
    assert_eq!(
        (&orders["stage"], &orders["safe_to_revoke"]),
        (&"leading".into(), &false.into()),
        "{said}"
    );
    let words = orders["words"].as_str().unwrap();
    assert!(
        words.contains("new sessions of shared use orders_v1: not safe to revoke"),
        "{words}"
    );
    eventually("the trail says so", async || {
        swivel.said("credential.unused") == 1
    })
    .await;
    std::fs::write(
        &shared,
        serde_json::json!({ "username": NEXT, "password": "second" }).to_string(),
    )
    .unwrap();
    eventually("it is", async || {
        status(&swivel).await["secrets"][0]["safe_to_revoke"] == true
    })
    .await;
    eventually("the trail says so", async || {
        swivel.said("credential.safe_to_revoke") > 0
    })
    .await;
}

/// One new process does not hold up a fleet.
#[tokio::test]
async fn a_process_that_starts_after_the_rotation_has_nothing_to_keep() {
    let postgres = Postgres::start(18);
    postgres.create_user(NEXT, "second").await;
    let payload = |previous: &str| {
        let login =
            |user: &str, password: &str| serde_json::json!({ "username": user, "password": password });
        serde_json::json!({ "current": login(NEXT, "second"), "previous": login(previous, Postgres::PASSWORD) })
    };
    let unstarted = Swivel::in_front_of(&postgres);
    let file = unstarted.directory().join("with-previous.json");
    std::fs::write(&file, payload(Postgres::USER).to_string()).unwrap();
    let swivel = unstarted.store("file", file.to_str().unwrap()).start().await;
    eventually("it leads", async || swivel.said("credential.leading") == 1).await;
    let pooled = swivel.connect().await;
    let said = status(&swivel).await;
    assert_eq!(said["secrets"][0]["stage"], "steady", "{said}");
    let words = said["secrets"][0]["words"].as_str().unwrap();
    assert!(words.ends_with("nothing here is on another user"), "{words}");
    assert_eq!(unused(&swivel, Postgres::USER, &["--fresh"]).0, Some(0));
    let scrape = Scrape::of(&swivel).await;
    assert_eq!(scrape.sum("pgswivel_user_unused", &["user=\"orders_v1\""]), 1.0);
    assert_eq!(scrape.sum("pgswivel_user_unused", &["user=\"orders_v2\""]), 0.0);
    drop(pooled);
}

promise! {
    /// The store's change is known when the store was read, and what is said says as of when.
    async fn before_a_polled_store_is_read_it_says_nothing_wrong_of_the_user_that_is_in_use(version) {
        let postgres = Postgres::start(version);
        postgres.create_user(NEXT, "second").await;
        let unstarted = Swivel::in_front_of(&postgres);
        let payload = unstarted.directory().join("payload.json");
        let write = |user: &str, password: &str| {
            let text = serde_json::json!({ "username": user, "password": password });
            std::fs::write(&payload, text.to_string()).unwrap();
        };
        write(Postgres::USER, Postgres::PASSWORD);
        let swivel = unstarted
            .store("command", &format!("/bin/cat {}", payload.display()))
            .secret_line("poll = \"1h\"")
            .secret_line("grace = \"1s\"")
            .start()
            .await;
        eventually("it leads", async || swivel.said("credential.leading") == 1).await;
        for (old, new, password) in
            [(Postgres::USER, NEXT, "second"), (NEXT, Postgres::USER, Postgres::PASSWORD)]
        {
            let changed = std::time::SystemTime::now();
            write(new, password);
            let scrape = Scrape::of(&swivel).await;
            let labels = [&*format!("user=\"{old}\"")];
            assert_eq!(scrape.sum("pgswivel_user_unused", &labels), 0.0, "{old} is in use");
            let changed = changed.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
            assert!(scrape.sum("pgswivel_credential_read_timestamp_seconds", &[]) < changed);
            assert_eq!(unused(&swivel, old, &[]).0, Some(1), "{old} is in use");
            eventually("the store was read", async || unused(&swivel, old, &["--fresh"]).0 == Some(0)).await;
            let scrape = Scrape::of(&swivel).await;
            assert_eq!(scrape.sum("pgswivel_user_unused", &labels), 1.0);
            assert!(scrape.sum("pgswivel_credential_read_timestamp_seconds", &[]) >= changed);
        }
    }
}

/// What was refused is not in use, and what is retired may be tried again.
#[tokio::test]
async fn while_nothing_works_nothing_is_said_to_be_in_use_or_safe_to_revoke() {
    let postgres = Postgres::start(18);
    postgres.create_user(NEXT, "second").await;
    let swivel = Swivel::in_front_of(&postgres).start().await;
    eventually("it leads", async || swivel.said("credential.leading") == 1).await;
    swivel.write_secret(NEXT, "second");
    eventually("the next one leads, and the old one is unused", async || {
        status(&swivel).await["secrets"][0]["stage"] == "safe_to_revoke"
    })
    .await;
    postgres
        .execute(&format!(
            "ALTER ROLE {NEXT} NOLOGIN; ALTER ROLE {} NOLOGIN",
            Postgres::USER
        ))
        .await;
    let config = swivel.config();
    let came = tokio::spawn(async move { config.connect(tokio_postgres::NoTls).await.is_ok() });
    // A login that is being tried is a connection for itself: what counts is what is said between two of them.
    eventually("nothing works, and nobody tries at the moment", async || {
        let said = status(&swivel).await;
        let users = said["users"].as_array().unwrap();
        let is_so = said["secrets"][0]["stage"] == "nothing_works";
        if is_so {
            is_said_of_nothing(&said);
        }
        is_so && users.iter().all(|user| user["links"] == 0)
    })
    .await;
    came.abort();
}

fn is_said_of_nothing(said: &Value) {
    let text = said["secrets"][0].to_string();
    for wrong in ["new sessions use it", "safe to revoke:"] {
        assert!(!text.contains(wrong), "{wrong}: {text}");
    }
    for known in said["secrets"][0]["credentials"].as_array().unwrap() {
        assert_eq!(known["safe_to_revoke"], false, "{text}");
    }
    for user in said["users"].as_array().unwrap() {
        assert_eq!(user["unused"], false, "{said}");
    }
}

/// How many backends Postgres itself sees of a user.
async fn backends(postgres: &Postgres, user: &str) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND usename = $1";
    postgres
        .admin()
        .await
        .query_one(sql, &[&user])
        .await
        .unwrap()
        .get(0)
}

promise! {
    /// The client has left in the middle of a large result, and its backend goes on for seconds between two rows.
    async fn a_backend_that_still_sends_counts_until_it_has_ended(version) {
        let postgres = Postgres::start(version);
        postgres.create_user(NEXT, "second").await;
        let swivel = Swivel::in_front_of(&postgres).secret_line("grace = \"1s\"").start().await;
        let mut wire = swivel.wire().await;
        wire.query("SELECT repeat('x', 200000), pg_sleep(3) FROM generate_series(1, 20)").await;
        wire.expect(b'T').await;
        swivel.write_secret(NEXT, "second");
        eventually("the next one leads", async || swivel.said("credential.leading") == 2).await;
        wire.next().await;
        drop(wire);
        let limit = std::time::Duration::from_secs(5);
        within(limit, "it is told to stop, and ends", async {
            while unused(&swivel, Postgres::USER, &[]).0 != Some(0) {}
        })
        .await;
        assert_eq!(backends(&postgres, Postgres::USER).await, 0);
    }
}
