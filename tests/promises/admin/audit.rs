//! The trail of audit lines.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::{Postgres, Swivel, eventually};

const EVENTS: [&str; 7] = [
    "seen",
    "proven",
    "leading",
    "refused",
    "retired",
    "safe_to_revoke",
    "proven",
];

#[tokio::test]
async fn a_rotation_leaves_its_trail_in_the_log_and_in_the_audit_file() {
    let postgres = Postgres::start(18);
    let unstarted = Swivel::in_front_of(&postgres);
    let path = unstarted.directory().join("audit.jsonl");
    let audit = format!("[log]\naudit = \"{}\"", path.display());
    let mut swivel = unstarted
        .section(&audit)
        .section("[login]\nrefused_retry = \"1s\"")
        .start()
        .await;
    eventually("it leads", async || swivel.said("credential.leading") == 1).await;
    swivel.write_secret("orders_v2", "second");
    eventually("it is refused", async || swivel.said("credential.refused") > 0).await;
    postgres.create_user("orders_v2", "second").await;
    eventually("the old one is free", async || {
        swivel.said("credential.safe_to_revoke") == 1
    })
    .await;
    assert!(swivel.terminate().success());
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut told: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    told.dedup();
    let expected: Vec<String> = [0, 1, 2, 0, 3, 6, 2, 4, 5]
        .map(|event: usize| format!("credential.{}", EVENTS[event]))
        .to_vec();
    assert_eq!(told, expected);
    for line in &lines {
        assert_eq!(line["secret"], "orders");
        assert!(
            line["time"].as_str().is_some_and(|time| time.ends_with('Z')),
            "{line}"
        );
        assert!(
            line["version"].is_string() && line["position"] == "current",
            "{line}"
        );
    }
    assert_eq!(swivel.said("\"target\":\"audit\""), lines.len());
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_full_disk_is_said_once_and_stops_nothing() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres)
        .section("[log]\naudit = \"/dev/full\"")
        .start()
        .await;
    eventually("it leads", async || swivel.said("credential.leading") == 1).await;
    let full = "the audit file can't be written";
    eventually("it is said", async || swivel.said(full) == 1).await;
    postgres.change_password(Postgres::USER, "next").await;
    swivel.write_secret(Postgres::USER, "next");
    eventually("it rotates", async || swivel.said("credential.leading") == 2).await;
    assert_eq!(
        swivel.connect().await.query("SELECT 1", &[]).await.unwrap().len(),
        1
    );
    assert_eq!(swivel.said(full), 1);
}

#[tokio::test]
async fn an_audit_file_that_can_not_be_written_is_a_bad_configuration() {
    let postgres = Postgres::start(18);
    let unstarted = Swivel::in_front_of(&postgres).section("[log]\naudit = \"/nowhere/at/all\"");
    let (status, said) = unstarted.run_to_its_end();
    assert_eq!(status.code(), Some(64), "{said}");
    assert!(said.contains("log.audit: can't be appended to"), "{said}");
}
