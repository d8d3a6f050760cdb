//! Whether an upstream user may go: asked by name, over all secrets, as of a read of the store.

use std::process::Output;

use serde_json::Value;

use crate::support::admin::{Scrape, ask, status};
use crate::support::{Postgres, Swivel, eventually};

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

#[tokio::test]
async fn a_user_whose_password_changed_is_in_use() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    eventually("it leads", async || {
        status(&swivel).await["secrets"][0]["stage"] == "steady"
    })
    .await;
    postgres.change_password(Postgres::USER, "next").await;
    swivel.write_secret(Postgres::USER, "next");
    let mut words = Value::Null;
    eventually("the new password leads", async || {
        let said = status(&swivel).await;
        words = said["secrets"][0]["words"].clone();
        said["secrets"][0]["stage"] == "safe_to_revoke"
    })
    .await;
    assert_eq!(unused(&swivel, Postgres::USER, &["--fresh"]).0, Some(1));
    let words = words.as_str().unwrap();
    assert!(!words.contains("nothing here uses orders_v1 any more"), "{words}");
    assert!(words.contains("password"), "{words}");
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
