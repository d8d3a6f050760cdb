//! How long a client that never pauses has to wait while its session moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_postgres::{Config, NoTls};

use super::rounds;
use crate::support::{Postgres, Swivel, eventually};

const GRACE: Duration = Duration::from_secs(4);
/// A request is not held for longer.
const HOLD_MAX: Duration = Duration::from_secs(2);

/// One query after the other, so soon.
struct Hurry {
    stop: Arc<AtomicBool>,
    asking: JoinHandle<Vec<Duration>>,
}

impl Hurry {
    async fn begin(mut config: Config, name: &str, pause: Option<Duration>) -> Self {
        let (client, connection) = config.application_name(name).connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        let stop = Arc::new(AtomicBool::new(false));
        let stops = Arc::clone(&stop);
        let asking = tokio::spawn(async move {
            let echo = client.prepare("SELECT $1::int8").await.unwrap();
            let mut waits = Vec::new();
            while !stops.load(Ordering::Relaxed) {
                let number = waits.len() as i64;
                let asked = Instant::now();
                let row = client.query_one(&echo, &[&number]).await.unwrap();
                waits.push(asked.elapsed());
                assert_eq!(row.get::<_, i64>(0), number);
                // What it is to find out: whether who pauses waits longer.
                if let Some(pause) = pause {
                    tokio::time::sleep(pause).await;
                }
            }
            waits
        });
        Self { stop, asking }
    }

    /// How long each answer took, the longest first.
    async fn end(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let mut waits = self.asking.await.unwrap();
        waits.sort_unstable();
        waits.reverse();
        waits
    }
}

/// The median of a few.
async fn direct_login(postgres: &Postgres) -> Duration {
    let mut times = Vec::new();
    for _ in 0..9 {
        let began = Instant::now();
        let (client, connection) = postgres.config().connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client.simple_query("SELECT 1").await.unwrap();
        times.push(began.elapsed());
    }
    times.sort_unstable();
    times[times.len() / 2]
}

async fn hurry(swivel: &Swivel) -> [Hurry; 2] {
    let pause = Some(Duration::from_millis(1));
    [
        Hurry::begin(swivel.config(), "hurry back to back", None).await,
        Hurry::begin(swivel.config(), "hurry every millisecond", pause).await,
    ]
}

promise! {
    async fn a_client_that_never_pauses_is_moved_within_grace_and_hardly_waits(version) {
        let postgres = Postgres::start(version);
        postgres.create_user("orders_v2", "never used").await;
        let swivel = Swivel::in_front_of(&postgres)
            .trusting()
            .secret_line(&format!("grace = \"{}s\"", GRACE.as_secs()))
            .start()
            .await;
        let admin = postgres.admin().await;
        let quiet = hurry(&swivel).await;
        let login = direct_login(&postgres).await;
        // So long is looked at what they wait without a move.
        tokio::time::sleep(Duration::from_secs(1)).await;
        for quiet in quiet {
            let waits = quiet.end().await;
            println!("without a move: {} answers, the longest took {:?}", waits.len(), waits[0]);
        }
        let hurries = hurry(&swivel).await;
        for round in 0..rounds(2, 20) {
            let users = [Postgres::USER, "orders_v2"];
            let (old, new) = (users[round as usize % 2], users[(round as usize + 1) % 2]);
            let password = format!("password {round}");
            postgres.change_password(new, &password).await;
            let leading = swivel.said("credential.leading");
            swivel.write_secret(new, &password);
            eventually("the new user leads", async || swivel.said("credential.leading") > leading).await;
            let began = Instant::now();
            let left = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND application_name LIKE 'hurry %'";
            eventually("they move", async || {
                admin.query_one(left, &[&old]).await.unwrap().get::<_, i64>(0) == 0
            })
            .await;
            let took = began.elapsed();
            println!("both have moved within {took:?} of {GRACE:?}");
            assert!(took < GRACE, "{took:?}");
        }
        for hurry in hurries {
            let waits = hurry.end().await;
            let (longest, count) = (&waits[..waits.len().min(4)], waits.len());
            println!("{count} answers, the longest took {longest:?}; a direct login takes {login:?}");
            assert!(waits[0] < HOLD_MAX, "{longest:?}");
        }
    }
}
