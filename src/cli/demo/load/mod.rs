//! An application's load: several kinds of work, through real sessions.

mod request_error;
mod session;
mod tally;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_postgres::{Client, Config};

pub(super) use self::tally::{Counts, FirstError, Tally};
use self::worker::{Worker, WorkerState};
use super::failure::Failure;

/// One kind of work that applications do.
pub(super) struct RequestKind {
    pub(super) name: &'static str,
    work: Work,
    /// Each with sessions of its own.
    workers: usize,
    /// Between two requests, so that the machine has time for both sides.
    pause: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Simple,
    Prepared,
    Transaction,
    Notify,
    Connect,
    Idle,
}

pub(super) const KINDS: [RequestKind; 6] = [
    kind("simple queries", Work::Simple, 2, 10),
    kind("prepared statements", Work::Prepared, 2, 10),
    kind("transactions that write", Work::Transaction, 2, 15),
    kind("LISTEN and NOTIFY", Work::Notify, 1, 25),
    kind("connect for each request", Work::Connect, 2, 50),
    // One question when they begin and one when they end; in between a look at whether they are there.
    kind("idle sessions", Work::Idle, 2, 100),
];

const fn kind(name: &'static str, work: Work, workers: usize, pause_ms: u64) -> RequestKind {
    RequestKind {
        name,
        work,
        workers,
        pause: Duration::from_millis(pause_ms),
    }
}

/// The load of one side, its sessions open and nothing counted yet.
pub(super) struct Ready {
    side: &'static str,
    tally: Arc<Tally>,
    workers: Vec<(Worker, WorkerState)>,
}

/// The load of one side, under way.
pub(super) struct Load {
    side: &'static str,
    tally: Arc<Tally>,
    workers: JoinSet<()>,
}

/// What Postgres says about the writes of one side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    /// Acknowledged, and not there.
    pub(super) missing: u64,
    /// There more than once.
    pub(super) doubled: u64,
}

impl Ready {
    /// The configuration holds the credential that the application has from its start to its end.
    pub(super) async fn new(side: &'static str, mut config: Config) -> Result<Self, Failure> {
        config.application_name(side);
        let config = Arc::new(config);
        let tally = Arc::new(Tally::new());
        let mut workers = Vec::new();
        for (index, kind) in KINDS.iter().enumerate() {
            for _ in 0..kind.workers {
                let worker = Worker {
                    kind: index,
                    config: Arc::clone(&config),
                    side,
                    tally: Arc::clone(&tally),
                };
                // One after the other: a rush at the start would be the longest stall of all.
                let kept = worker.begin().await?;
                workers.push((worker, kept));
            }
        }
        Ok(Self { side, tally, workers })
    }

    pub(super) fn start(self, stop: &watch::Receiver<bool>) -> Load {
        let workers = self.workers.into_iter();
        Load {
            side: self.side,
            tally: self.tally,
            workers: workers
                .map(|(worker, kept)| worker.run(kept, stop.clone()))
                .collect(),
        }
    }
}

impl Load {
    pub(super) fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.tally)
    }

    /// Waits until the workers have finished their last requests, then looks at what they wrote.
    pub(super) async fn finish(self, admin: &Client) -> Result<Written, Failure> {
        self.workers.join_all().await;
        let sql = "SELECT count(*), count(DISTINCT number),
                          count(DISTINCT number) FILTER (WHERE number = ANY($2))
                   FROM payment WHERE side = $1";
        let row = admin
            .query_one(sql, &[&self.side, &self.tally.in_doubt()])
            .await?;
        let [rows, numbers, in_doubt] = [0, 1, 2].map(|column| row.get::<_, i64>(column).cast_unsigned());
        let acknowledged = self.tally.counts().acknowledged;
        Ok(Written {
            missing: (acknowledged + in_doubt).saturating_sub(numbers),
            doubled: rows - numbers,
        })
    }
}
