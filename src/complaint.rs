//! A failure that goes on is one thing to say, not one for each time: it is said when it starts, at growing
//! intervals, and when it is over.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::lock::lock;

/// Said when it starts, then after a minute, two, four and at least once an hour.
const SAY_AGAIN_FIRST: Duration = Duration::from_secs(60);
const SAY_AGAIN_CAP: Duration = Duration::from_secs(3600);

/// Decides when a lasting failure is worth a log line.
#[derive(Debug, Default)]
pub struct Complaint(Option<Lasting>);

#[derive(Clone, Copy, Debug)]
struct Lasting {
    since: Instant,
    last: Instant,
    failures: u64,
    say_after: Duration,
}

/// A failure that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    pub failures: u64,
    pub lasted: Duration,
}

impl Complaint {
    /// How many failures in a row, if it is time to say so.
    pub fn failed(&mut self, now: Instant) -> Option<u64> {
        let Some(lasting) = &mut self.0 else {
            let first = Lasting {
                since: now,
                last: now,
                failures: 1,
                say_after: SAY_AGAIN_FIRST,
            };
            self.0 = Some(first);
            return Some(1);
        };
        lasting.failures += 1;
        lasting.last = now;
        if now.duration_since(lasting.since) < lasting.say_after {
            return None;
        }
        let interval = lasting.say_after.min(SAY_AGAIN_CAP);
        lasting.say_after = now.duration_since(lasting.since) + interval;
        Some(lasting.failures)
    }

    pub fn ended(&mut self, now: Instant) -> Option<Over> {
        self.ended_after(Duration::ZERO, now)
    }

    /// The same, unless it failed within this time: what fails now and then would have no end of ends.
    pub fn ended_after(&mut self, quiet: Duration, now: Instant) -> Option<Over> {
        let lasting = self
            .0
            .take_if(|lasting| now.duration_since(lasting.last) >= quiet)?;
        Some(Over {
            failures: lasting.failures,
            lasted: now.duration_since(lasting.since),
        })
    }
}

/// Complaints about many things, heard from many tasks.
#[derive(Debug)]
pub struct Complaints<K>(Mutex<BTreeMap<K, Complaint>>);

impl<K> Default for Complaints<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord> Complaints<K> {
    /// As [`Complaint::failed`].
    pub fn failed(&self, about: K, now: Instant) -> Option<u64> {
        self.lock().entry(about).or_default().failed(now)
    }

    /// As [`Complaint::ended_after`].
    pub fn ended_after(&self, about: &K, quiet: Duration, now: Instant) -> Option<Over> {
        let mut complaints = self.lock();
        let over = complaints.get_mut(about)?.ended_after(quiet, now)?;
        complaints.remove(about);
        Some(over)
    }

    /// Everything that did not fail for some time.
    pub fn take_quiet(&self, quiet: Duration, now: Instant) -> Vec<(K, Over)> {
        let quiet = self
            .lock()
            .extract_if(.., |_, complaint| complaint.is_quiet(quiet, now))
            .collect::<Vec<_>>();
        let over = |(about, mut complaint): (K, Complaint)| Some((about, complaint.ended(now)?));
        quiet.into_iter().filter_map(over).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<K, Complaint>> {
        lock(&self.0)
    }
}

impl Complaint {
    fn is_quiet(&self, quiet: Duration, now: Instant) -> bool {
        self.0
            .is_none_or(|lasting| now.duration_since(lasting.last) >= quiet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_failure_is_said_at_growing_intervals_and_once_when_it_is_over() {
        let start = Instant::now();
        let mut complaint = Complaint::default();
        let said: Vec<u64> = (0..3600)
            .filter(|second| complaint.failed(start + Duration::from_secs(*second)).is_some())
            .collect();
        assert_eq!(said, [0, 60, 120, 240, 480, 960, 1920]);
        let end = start + Duration::from_secs(3600);
        let over = Over {
            failures: 3600,
            lasted: Duration::from_secs(3600),
        };
        assert_eq!(complaint.ended(end), Some(over));
        assert_eq!(complaint.ended(end), None);
    }

    #[test]
    fn what_fails_now_and_then_is_one_complaint() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let quiet = Duration::from_secs(5);
        let complaints = Complaints::default();
        assert_eq!(complaints.failed("a", at(0)), Some(1));
        assert_eq!(complaints.ended_after(&"a", quiet, at(4)), None);
        assert_eq!(complaints.failed("a", at(4)), None);
        assert_eq!(complaints.failed("b", at(7)), Some(1));
        assert_eq!(complaints.take_quiet(quiet, at(8)), []);
        let over = Over {
            failures: 2,
            lasted: Duration::from_secs(9),
        };
        assert_eq!(complaints.take_quiet(quiet, at(9)), [("a", over)]);
        assert_eq!(complaints.ended_after(&"a", quiet, at(20)), None);
        assert_eq!(complaints.failed("a", at(20)), Some(1));
    }
}
