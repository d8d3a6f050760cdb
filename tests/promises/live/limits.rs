//! Limits are raised and lowered under the clients who count towards them.

use tokio_postgres::Client;

use crate::support::{Postgres, Swivel, eventually};

/// Connects as often as it is let, and no more often than this.
async fn fill(swivel: &Swivel, most: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    while clients.len() < most {
        match swivel.try_connect().await {
            Ok(client) => clients.push(client),
            Err(error) => {
                assert_eq!(error.code().map(|code| code.code()), Some("53300"), "{error:?}");
                break;
            }
        }
    }
    clients
}

async fn is_served(client: &Client) -> bool {
    client.query("SELECT 1", &[]).await.is_ok()
}

async fn follows(swivel: &Swivel, line: impl Fn(u32) -> String) {
    let mut clients = fill(swivel, 5).await;
    assert_eq!(clients.len(), 3);
    swivel.rewrite(&line(3), &line(4)).await;
    clients.extend(fill(swivel, 5).await);
    assert_eq!(clients.len(), 4, "one more was let in");
    swivel.rewrite(&line(4), &line(2)).await;
    for client in &clients {
        assert!(is_served(client).await, "nobody is sent away");
    }
    clients.truncate(2);
    assert!(fill(swivel, 1).await.is_empty(), "two are two");
    clients.truncate(1);
    eventually("there is room for one", async || {
        let more = fill(swivel, 5).await;
        assert!(more.len() <= 1);
        more.len() == 1
    })
    .await;
}

#[tokio::test]
async fn the_limit_of_clients_changes_under_them() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres)
        .section("[limits]\nclients = 3\n")
        .start()
        .await;
    follows(&swivel, |limit| format!("clients = {limit}")).await;
}

#[tokio::test]
async fn the_connections_of_an_upstream_change_under_those_who_have_them() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres)
        .upstream_line("connections_max = 3")
        .section("[limits]\nqueue_wait = \"300ms\"\n")
        .start()
        .await;
    follows(&swivel, |limit| format!("connections_max = {limit}")).await;
}

#[tokio::test]
async fn who_is_on_an_upstream_counts_when_it_comes_back() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres)
        .upstream_line("connections_max = 1")
        .section("[limits]\nqueue_wait = \"300ms\"\n")
        .start()
        .await;
    let client = swivel.connect().await;
    let before = swivel.written();
    swivel
        .reconfigure(
            &before
                .replace("upstream.orders", "upstream.other")
                .replace("upstream = \"orders\"", "upstream = \"other\""),
        )
        .await;
    assert_eq!(fill(&swivel, 5).await.len(), 1);
    swivel.reconfigure(&before).await;
    assert!(fill(&swivel, 5).await.is_empty());
    assert!(is_served(&client).await);
}
