//! Change after change under load.

use std::time::Duration;

use crate::rotation::Application;
use crate::support::{Postgres, Swivel, eventually};

const CHANGES: usize = 200;

/// The configuration of one moment; every third is not valid.
fn moment(base: &str, number: usize, files: [&str; 2]) -> String {
    let text = base
        .replace(
            "connections_max = 100",
            &format!("connections_max = {}", 90 + number % 30),
        )
        .replace("poll = \"5m\"", &format!("poll = \"{}s\"", 60 + number % 7))
        .replace("clients = 10000", &format!("clients = {}", 5000 + number))
        .replace(
            "patience = \"30s\"",
            &format!("patience = \"{}s\"", 30 + number % 3),
        )
        .replace(files[0], files[number / 2 % 2]);
    let level = ["info", "info,pgswivel::net=debug"][number % 2];
    let more = format!(
        "[log]\nlevel = \"{level}\"\n[role.r{number}]\nauth = \"trust\"\nupstream = \"orders\"\nsecret = \"orders\"\n"
    );
    if number % 3 == 2 {
        return text + &more + &format!("[role.broken{number}]\nupstream = \"nowhere\"\n");
    }
    text + &more
}

#[tokio::test]
async fn two_hundred_changes_under_load_every_third_invalid_and_no_client_sees_an_error() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres)
        .upstream_line("connections_max = 100")
        .secret_line("poll = \"5m\"")
        .section("[limits]\nclients = 10000\n[login]\npatience = \"30s\"\n")
        .start()
        .await;
    let base = swivel.written();
    let file = swivel.directory().join("secret.json");
    let other = swivel.directory().join("other.json");
    std::fs::copy(&file, &other).unwrap();
    let files = [file.to_str().unwrap(), other.to_str().unwrap()];
    let application = Application::of(&swivel).await;
    let heard = || swivel.said("configuration changed") + swivel.said("configuration ignored");
    for number in 0..CHANGES {
        let before = heard();
        swivel.write_config(&moment(&base, number, files));
        // Half of them are told, half are seen.
        if number % 4 < 2 {
            swivel.refresh();
        }
        eventually("it is heard", async || heard() > before).await;
    }
    let invalid = (0..CHANGES).filter(|number| number % 3 == 2).count();
    assert!(swivel.said("configuration ignored") >= invalid);
    application.is_served().await;
    let report = application.leave().await;
    report.is_untroubled(Duration::from_secs(5));
    assert!(report.connections > CHANGES, "{}", report.connections);
    assert_eq!(report.users.len(), 1);
}
