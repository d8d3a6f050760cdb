//! Many clients and no credential that works: they wait, and the database hears little of it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_postgres::{Config, NoTls};

use super::MOMENT;
use crate::support::{Postgres, Swivel, eventually};

/// One client that asks who it is; how long that took.
async fn visit(config: Config) -> (Duration, Result<String, tokio_postgres::Error>) {
    let began = Instant::now();
    let served = async {
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client.query_one("SELECT current_user::text", &[]).await?.get(0))
    };
    let served = served.await;
    (began.elapsed(), served)
}

/// Replaces the file in one step.
fn write(swivel: &Swivel, value: &Value) {
    let beside = swivel.directory().join("secret.new");
    std::fs::write(&beside, value.to_string()).unwrap();
    std::fs::rename(beside, swivel.directory().join("secret.json")).unwrap();
}

fn three(current: &str, next: &str, previous: &str) -> Value {
    let login = |password: &str| json!({ "username": Postgres::USER, "password": password });
    json!({ "current": login(current), "next": login(next), "previous": login(previous) })
}

promise! {
    async fn everything_is_wrong_for_ten_seconds_while_fifty_clients_arrive(version) {
        let window = Duration::from_secs(10);
        let postgres = Postgres::start(version);
        let swivel = Swivel::in_front_of(&postgres).trusting().start().await;
        write(&swivel, &three(Postgres::PASSWORD, "never", "long ago"));
        swivel.connect().await;

        postgres.change_password(Postgres::USER, "upstream-secret-2").await;
        let mut clients = JoinSet::new();
        let mut arrivals = tokio::time::interval(window / 50);
        for _ in 0..50 {
            arrivals.tick().await;
            clients.spawn(visit(swivel.config()));
        }
        assert_eq!(clients.try_join_next().map(|_| ()), None, "all are held");
        write(&swivel, &three("upstream-secret-2", "never", Postgres::PASSWORD));
        let caught_up = Instant::now();
        for (took, served) in clients.join_all().await {
            assert_eq!(served.unwrap(), Postgres::USER);
            assert!(took < window + MOMENT, "{took:?}");
        }
        let (late, refused) = (caught_up.elapsed(), postgres.refusals());
        println!("{refused} refused in {window:?}, and all were served {late:?} later");
        assert!(late < MOMENT, "{late:?}");
        assert!(refused < 20, "{refused} refused");
    }
}

promise! {
    /// Two of three users have other passwords by now, and nobody has noticed yet.
    async fn a_hundred_clients_with_stale_passwords_cause_one_refused_login_for_each(version) {
        let postgres = Postgres::version(version).setting("max_connections", "200").start();
        let users = ["first", "second", "third"];
        for user in users {
            postgres.create_user(user, user).await;
        }
        let swivel = Swivel::in_front_of(&postgres).trusting().upstream_line("connections_max = 150");
        let swivel = swivel.start().await;
        swivel.connect().await;
        let list: Vec<Value> = users.iter().map(|user| json!({ "user": user, "password": user })).collect();
        eventually("what it started with leads", async || swivel.said("credential.leading") == 1).await;
        write(&swivel, &list.into());
        eventually("the first user leads", async || swivel.said("credential.leading") == 2).await;
        for user in &users[..2] {
            postgres.change_password(user, "another").await;
        }
        let mut clients = JoinSet::new();
        for _ in 0..100 {
            clients.spawn(visit(swivel.config()));
        }
        for (took, served) in clients.join_all().await {
            assert_eq!(served.unwrap(), "third");
            assert!(took < MOMENT * 2, "{took:?}");
        }
        for user in &users[..2] {
            let words = format!("FATAL:  password authentication failed for user \"{user}\"");
            assert_eq!(postgres.log().matches(&words).count(), 1, "{user}");
        }
        assert_eq!(postgres.refusals(), 2);
    }
}
