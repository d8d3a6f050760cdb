//! Many clients and no credential that works: they wait, and the database hears little of it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_postgres::{Config, NoTls};

use super::MOMENT;
use crate::crowd::rounds;
use crate::support::{PATIENCE, Postgres, Swivel, eventually};

/// Before doubtful logins wait.
const REFUSED_A_MINUTE: usize = 10;

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

promise! {
    /// Each password works when it is announced, and few of them when they are tried.
    async fn a_login_works_within_a_second_of_a_storm_of_rotations(version) {
        let postgres = Postgres::version(version).setting("max_connections", "200").start();
        postgres.create_user("orders_v2", "never used").await;
        let swivel = Swivel::in_front_of(&postgres).trusting().upstream_line("reuse = false").start().await;
        swivel.connect().await;
        let admin = postgres.admin().await;
        let users = [Postgres::USER, "orders_v2"];
        let mut clients = JoinSet::new();
        let (began, mut round) = (Instant::now(), 0);
        // In the end the endpoint has refused more than it is to be asked for in a minute.
        while round < rounds(200, 1000) || postgres.refusals() <= REFUSED_A_MINUTE {
            let (user, password) = (users[round as usize % 2], format!("password {round}"));
            admin.batch_execute(&format!("ALTER ROLE {user} PASSWORD '{password}'")).await.unwrap();
            swivel.write_secret(user, &password);
            if round % 4 == 0 {
                clients.spawn(visit(swivel.config()));
            }
            round += 1;
            assert!(began.elapsed() < PATIENCE * 4, "{} refused in {round} rotations", postgres.refusals());
        }
        println!("{round} rotations in {:?}, {} refused", began.elapsed(), postgres.refusals());
        let (took, served) = visit(swivel.config()).await;
        served.unwrap();
        assert!(took < Duration::from_secs(1), "{took:?}");
        let last = users[(round as usize - 1) % 2];
        eventually("the last one is used", async || visit(swivel.config()).await.1.unwrap() == last).await;
        for (_, served) in clients.join_all().await {
            served.unwrap();
        }
    }
}
