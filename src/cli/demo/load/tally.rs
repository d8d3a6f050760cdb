//! What is counted of one side of the load. Every number that the demo shows comes from here or from
//! Postgres.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::request_error::RequestError;
use super::{KINDS, Work};

use crate::lock::lock;

#[derive(Debug)]
pub(in crate::cli::demo) struct Tally {
    kinds: [RequestKind; KINDS.len()],
    sessions_open: AtomicU64,
    sessions_lost: AtomicU64,
    acknowledged: AtomicU64,
    /// Numbers the writes.
    number: AtomicI64,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct RequestKind {
    requests: AtomicU64,
    failed: AtomicU64,
    stall_micros: AtomicU64,
}

#[derive(Debug, Default)]
struct Notes {
    /// Writes whose COMMIT got no answer, or none yet: they may be there or not.
    in_doubt: Vec<i64>,
    first_error: Option<FirstError>,
    /// Whom Postgres saw at the last login.
    user: Option<String>,
}

#[derive(Clone, Debug)]
pub(in crate::cli::demo) struct FirstError {
    pub(in crate::cli::demo) at: Instant,
    pub(in crate::cli::demo) said: String,
}

/// The numbers of one moment.
#[derive(Clone, Debug, Default)]
pub(in crate::cli::demo) struct Counts {
    /// In the order of [`KINDS`].
    pub(in crate::cli::demo) kinds: [KindCounts; KINDS.len()],
    pub(in crate::cli::demo) sessions_open: u64,
    pub(in crate::cli::demo) sessions_lost: u64,
    pub(in crate::cli::demo) acknowledged: u64,
    pub(in crate::cli::demo) first_error: Option<FirstError>,
    pub(in crate::cli::demo) user: Option<String>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(in crate::cli::demo) struct KindCounts {
    pub(in crate::cli::demo) requests: u64,
    /// Among the requests.
    pub(in crate::cli::demo) failed: u64,
    /// The longest that a request took, failed or not.
    pub(in crate::cli::demo) stall: Duration,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            kinds: Default::default(),
            sessions_open: AtomicU64::new(0),
            sessions_lost: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            number: AtomicI64::new(0),
            notes: Mutex::default(),
        }
    }

    pub(super) fn request(&self, kind: usize, took: Duration, result: &Result<(), RequestError>) {
        let counts = &self.kinds[kind];
        counts.requests.fetch_add(1, Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        counts.stall_micros.fetch_max(micros, Relaxed);
        if let Err(error) = result {
            counts.failed.fetch_add(1, Relaxed);
            let note = || FirstError {
                at: Instant::now(),
                said: error.to_string(),
            };
            self.notes().first_error.get_or_insert_with(note);
        }
    }

    pub(super) fn session_opened(&self) {
        self.sessions_open.fetch_add(1, Relaxed);
    }

    pub(super) fn session_ended(&self) {
        self.sessions_open.fetch_sub(1, Relaxed);
    }

    pub(super) fn session_lost(&self) {
        self.sessions_lost.fetch_add(1, Relaxed);
    }

    pub(super) fn next_write(&self) -> i64 {
        self.number.fetch_add(1, Relaxed)
    }

    /// Before its COMMIT is sent.
    pub(super) fn write_in_doubt(&self, number: i64) {
        self.notes().in_doubt.push(number);
    }

    pub(super) fn write_acknowledged(&self, number: i64) {
        self.notes().in_doubt.retain(|doubtful| *doubtful != number);
        self.acknowledged.fetch_add(1, Relaxed);
    }

    pub(super) fn logged_in_as(&self, user: &str) {
        let mut notes = self.notes();
        if notes.user.as_deref() != Some(user) {
            notes.user = Some(user.to_owned());
        }
    }

    pub(in crate::cli::demo) fn counts(&self) -> Counts {
        let notes = self.notes();
        Counts {
            kinds: self.kinds.each_ref().map(|kind| KindCounts {
                requests: kind.requests.load(Relaxed),
                failed: kind.failed.load(Relaxed),
                stall: Duration::from_micros(kind.stall_micros.load(Relaxed)),
            }),
            sessions_open: self.sessions_open.load(Relaxed),
            sessions_lost: self.sessions_lost.load(Relaxed),
            acknowledged: self.acknowledged.load(Relaxed),
            first_error: notes.first_error.clone(),
            user: notes.user.clone(),
        }
    }

    pub(in crate::cli::demo) fn in_doubt(&self) -> Vec<i64> {
        self.notes().in_doubt.clone()
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        lock(&self.notes)
    }
}

impl Counts {
    pub(in crate::cli::demo) fn requests(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.requests).sum()
    }

    pub(in crate::cli::demo) fn failed(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.failed).sum()
    }

    pub(in crate::cli::demo) fn stall(&self) -> Duration {
        self.stall_of_new_sessions().max(self.stall_of_open_sessions())
    }

    pub(in crate::cli::demo) fn stall_of_new_sessions(&self) -> Duration {
        self.stall_where(|kind| KINDS[kind].work == Work::Connect)
    }

    pub(in crate::cli::demo) fn stall_of_open_sessions(&self) -> Duration {
        self.stall_where(|kind| KINDS[kind].work != Work::Connect)
    }

    fn stall_where(&self, is_meant: impl Fn(usize) -> bool) -> Duration {
        let kinds = self.kinds.iter().enumerate().filter(|(kind, _)| is_meant(*kind));
        kinds.map(|(_, counts)| counts.stall).max().unwrap_or_default()
    }
}
