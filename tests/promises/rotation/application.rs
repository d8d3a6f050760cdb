use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_postgres::{Config, Error, NoTls};

use crate::support::{PATIENCE, Swivel, eventually};

/// Between two arrivals.
const PACE: Duration = Duration::from_millis(35);
/// Nobody joins a longer queue: on a machine that is slower than they arrive it would have no end.
const QUEUE_MAX: usize = 50;

/// An application that keeps one session, uses it, and opens new ones all the time, each of which asks who
/// it is.
pub struct Application {
    visits: Arc<Mutex<Visits>>,
    closing: watch::Sender<bool>,
    arrivals: JoinHandle<()>,
    session: JoinHandle<Result<(), Error>>,
}

/// Those who arrive.
#[derive(Clone)]
struct Customers {
    config: Config,
    sql: &'static str,
    visits: Arc<Mutex<Visits>>,
}

#[derive(Default)]
struct Visits {
    over: Vec<Visit>,
    /// When those began that are not over.
    waiting: Vec<Instant>,
}

/// One connection, from its beginning to the answer.
struct Visit {
    began: Instant,
    took: Duration,
    user: Result<String, String>,
}

/// What an application went through.
pub struct Report {
    pub connections: usize,
    pub errors: Vec<String>,
    pub longest: Duration,
    /// Whom it was to Postgres.
    pub users: BTreeSet<String>,
}

impl Application {
    /// Arrives, and goes on once it has been served.
    pub async fn of(swivel: &Swivel) -> Self {
        Self::asking(swivel, "SELECT current_user::text").await
    }

    /// One that asks something else than who it is.
    pub async fn asking(swivel: &Swivel, sql: &'static str) -> Self {
        let application = Self::start(swivel, sql);
        application.is_served().await;
        application
    }

    /// Arrives, whether it is served or not.
    pub fn waiting_for(swivel: &Swivel) -> Self {
        Self::start(swivel, "SELECT current_user::text")
    }

    fn start(swivel: &Swivel, sql: &'static str) -> Self {
        let visits: Arc<Mutex<Visits>> = Arc::default();
        let (closing, is_closing) = watch::channel(false);
        let customers = Customers {
            config: swivel.config(),
            sql,
            visits: Arc::clone(&visits),
        };
        let arrivals = tokio::spawn(arrive(customers, is_closing.clone()));
        let session = tokio::spawn(stay(swivel.config(), is_closing));
        Self {
            visits,
            closing,
            arrivals,
            session,
        }
    }

    /// Waits until somebody who arrives from now on was served, and everybody who arrived before.
    pub async fn is_served(&self) {
        self.sees("a new connection is served", |_| true).await;
    }

    /// The same, and it was served as this user.
    pub async fn is_served_as(&self, user: &str) {
        let what = format!("a new connection is served as {user}");
        self.sees(&what, |served| served == user).await;
    }

    async fn sees(&self, what: &str, is_wanted: impl Fn(&str) -> bool) {
        let now = Instant::now();
        eventually(what, async || {
            let visits = self.visits.lock().unwrap();
            let is_served = (visits.over.iter().rev())
                .filter(|visit| visit.began >= now)
                .any(|visit| visit.user.as_deref().is_ok_and(&is_wanted));
            is_served && visits.waiting.iter().all(|began| *began >= now)
        })
        .await;
    }

    /// Nobody arrives any more; those who wait are waited for.
    pub async fn leave(self) -> Report {
        self.closing.send_replace(true);
        self.arrivals.await.unwrap();
        let session = self.session.await.unwrap();
        let visits = std::mem::take(&mut self.visits.lock().unwrap().over);
        let mut report = Report {
            connections: visits.len(),
            errors: Vec::new(),
            longest: Duration::ZERO,
            users: BTreeSet::new(),
        };
        if let Err(error) = session {
            report
                .errors
                .push(format!("in its first session: {}", words(&error)));
        }
        for visit in visits {
            report.longest = report.longest.max(visit.took);
            match visit.user {
                Ok(user) => drop(report.users.insert(user)),
                Err(error) => report.errors.push(error),
            }
        }
        report
    }
}

impl Report {
    /// No error, and nobody waited longer than this.
    pub fn is_untroubled(&self, limit: Duration) {
        println!(
            "{} connections, the longest took {:?} of {limit:?}",
            self.connections, self.longest
        );
        assert!(
            self.errors.is_empty(),
            "{} of {} connections failed: {:#?}",
            self.errors.len(),
            self.connections,
            self.errors
        );
        assert!(self.longest <= limit, "waited {:?} of {limit:?}", self.longest);
    }
}

async fn arrive(customers: Customers, mut is_closing: watch::Receiver<bool>) {
    let mut clients = JoinSet::new();
    let mut ticks = tokio::time::interval(PACE);
    // A machine that was busy elsewhere does not have to make up for it.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !*is_closing.borrow() {
        if customers.visits.lock().unwrap().waiting.len() < QUEUE_MAX {
            clients.spawn(customers.clone().come());
        }
        tokio::select! {
            _ = ticks.tick() => {}
            _ = is_closing.changed() => {}
        }
    }
    clients.join_all().await;
}

impl Customers {
    async fn come(self) {
        let began = Instant::now();
        self.visits.lock().unwrap().waiting.push(began);
        let user = tokio::time::timeout(PATIENCE * 2, self.visit()).await;
        let user = match user {
            Ok(user) => user.map_err(|error| words(&error)),
            Err(_) => Err("no answer".to_owned()),
        };
        let took = began.elapsed();
        let mut visits = self.visits.lock().unwrap();
        visits.waiting.retain(|waiting| *waiting != began);
        visits.over.push(Visit { began, took, user });
    }

    async fn visit(&self) -> Result<String, Error> {
        let (client, connection) = self.config.connect(NoTls).await?;
        let connection = tokio::spawn(connection);
        let answer = client.query_one(self.sql, &[]).await?.get(0);
        drop(client);
        // Until it is over on both sides.
        let _ = connection.await;
        Ok(answer)
    }
}

/// One session that works all the time.
async fn stay(config: Config, mut is_closing: watch::Receiver<bool>) -> Result<(), Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    let mut ticks = tokio::time::interval(PACE);
    while !*is_closing.borrow() {
        client.simple_query("SELECT 1").await?;
        tokio::select! {
            _ = ticks.tick() => {}
            _ = is_closing.changed() => {}
        }
    }
    Ok(())
}

/// tokio-postgres itself says no more than that there was an error.
fn words(error: &Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("{} {}: {}", said.severity(), said.code().code(), said.message()),
        None => format!("{error:?}"),
    }
}
