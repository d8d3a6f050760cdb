//! What there is to see at one moment, and what was seen before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_postgres::Client;

use super::SIDES;
use super::failure::Failure;
use super::load::{Counts, Tally};
use super::rotation::Progress;
use super::sidecar::{Leading, Sidecar};

pub(super) struct View {
    tallies: [Arc<Tally>; 2],
    progress: watch::Receiver<Progress>,
    pub(super) began: Instant,
    sampled: Instant,
    /// When the second began.
    before: Moment,
    pub(super) now: Moment,
    /// One a second.
    pub(super) seconds: Vec<Second>,
}

/// The numbers of one moment, of both sides in the order of [`SIDES`].
#[derive(Clone, Debug, Default)]
pub(super) struct Moment {
    pub(super) elapsed: Duration,
    pub(super) counts: [Counts; 2],
    /// Requests per second.
    pub(super) rates: [u64; 2],
    pub(super) progress: Progress,
    pub(super) leading: Option<Leading>,
    /// Whom Postgres knows their sessions as, and how many each.
    pub(super) users: [String; 2],
}

/// What happened in one second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Second {
    pub(super) failed: [u64; 2],
    pub(super) rotations: u64,
}

impl View {
    pub(super) fn new(tallies: [Arc<Tally>; 2], progress: watch::Receiver<Progress>) -> Self {
        Self {
            tallies,
            progress,
            began: Instant::now(),
            sampled: Instant::now(),
            before: Moment::default(),
            now: Moment::default(),
            seconds: Vec::new(),
        }
    }

    pub(super) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Reads the counters.
    pub(super) fn look(&mut self, sidecar: &Sidecar) {
        self.now.elapsed = self.began.elapsed();
        self.now.counts = self.tallies.each_ref().map(|tally| tally.counts());
        self.now.progress = *self.progress.borrow();
        self.now.leading = sidecar.leading();
    }

    /// Once a second, and at the end: what it brought.
    pub(super) fn turn_second(&mut self) {
        let passed = self.sampled.elapsed().as_secs_f64().max(0.001);
        self.sampled = Instant::now();
        let mut second = Second {
            rotations: self.now.progress.begun() - self.before.progress.begun(),
            ..Second::default()
        };
        for side in 0..SIDES.len() {
            let (counts, earlier) = (&self.now.counts[side], &self.before.counts[side]);
            second.failed[side] = counts.failed() - earlier.failed();
            let requests = counts.requests() - earlier.requests();
            self.now.rates[side] = per_second(requests, passed);
        }
        self.seconds.push(second);
        self.before = self.now.clone();
    }

    /// Asks Postgres as whom the sessions of both sides are logged in.
    pub(super) async fn ask(&mut self, admin: &Client) -> Result<(), Failure> {
        let sql = "SELECT application_name, string_agg(usename || ' ' || sessions, ', ' ORDER BY usename)
                   FROM (SELECT application_name, usename, count(*) AS sessions FROM pg_stat_activity
                         WHERE application_name = ANY($1) AND usename IS NOT NULL GROUP BY 1, 2) AS each
                   GROUP BY 1";
        let rows = admin.query(sql, &[&SIDES.as_slice()]).await?;
        self.now.users = SIDES.map(|side| {
            let row = rows.iter().find(|row| row.get::<_, &str>(0) == side);
            row.map_or_else(|| "none".to_owned(), |row| row.get(1))
        });
        Ok(())
    }
}

fn per_second(count: u64, seconds: f64) -> u64 {
    (count as f64 / seconds).round() as u64
}
