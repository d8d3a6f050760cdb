use std::time::{Duration, Instant};

/// A failure that goes on is said when it starts, then after a minute, two, four and at least once an hour.
const SAY_AGAIN_FIRST: Duration = Duration::from_secs(60);
const SAY_AGAIN_CAP: Duration = Duration::from_secs(3600);

/// Decides when a lasting failure is worth a log line.
#[derive(Debug, Default)]
pub(super) struct Complaint(Option<Lasting>);

#[derive(Clone, Copy, Debug)]
struct Lasting {
    since: Instant,
    failures: u64,
    say_after: Duration,
}

/// A failure that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Over {
    pub(super) failures: u64,
    pub(super) lasted: Duration,
}

impl Complaint {
    /// How many failures in a row, if it is time to say so.
    pub(super) fn failed(&mut self, now: Instant) -> Option<u64> {
        let Some(lasting) = &mut self.0 else {
            let first = Lasting {
                since: now,
                failures: 1,
                say_after: SAY_AGAIN_FIRST,
            };
            self.0 = Some(first);
            return Some(1);
        };
        lasting.failures += 1;
        if now.duration_since(lasting.since) < lasting.say_after {
            return None;
        }
        let interval = lasting.say_after.min(SAY_AGAIN_CAP);
        lasting.say_after = now.duration_since(lasting.since) + interval;
        Some(lasting.failures)
    }

    pub(super) fn ended(&mut self, now: Instant) -> Option<Over> {
        let lasting = self.0.take()?;
        Some(Over {
            failures: lasting.failures,
            lasted: now.duration_since(lasting.since),
        })
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
}
