//! Waits that grow, and the jitter that keeps many processes from waking at the same moment.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// A wait that doubles each time it is used, up to a cap, give or take a quarter.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    next: Duration,
}

const BACKOFF_JITTER: f64 = 0.25;

impl Backoff {
    pub const fn starting_at(first: Duration) -> Self {
        Self { first, next: first }
    }

    /// The cap is the caller's to choose each time: how long is too long depends on who waits.
    pub fn next(&mut self, cap: Duration) -> Duration {
        let wait = self.next.min(cap);
        self.next = wait.saturating_mul(2);
        jittered(wait, BACKOFF_JITTER)
    }

    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// The duration, give or take this share of it.
pub fn jittered(duration: Duration, share: f64) -> Duration {
    duration.mul_f64(1.0 + share * (2.0 * chance() - 1.0))
}

/// Uniform in 0..1. The standard library seeds each `RandomState` differently: no place for a cryptographer,
/// good enough to be out of step.
pub fn chance() -> f64 {
    let random = RandomState::new().hash_one(()) >> 11;
    random as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: Duration = Duration::from_secs(15);

    #[test]
    fn a_backoff_doubles_up_to_its_cap_and_starts_over() {
        let mut backoff = Backoff::starting_at(Duration::from_secs(1));
        for expected in [1, 2, 4, 8, 15, 15] {
            let wait = backoff.next(CAP).as_secs_f64() / f64::from(expected);
            assert!((0.75..=1.25).contains(&wait), "{wait} of {expected} s");
        }
        backoff.reset();
        assert!(backoff.next(CAP) < Duration::from_secs(2));
    }

    #[test]
    fn jitter_stays_within_its_share_and_is_not_always_the_same() {
        let waits: Vec<_> = (0..100)
            .map(|_| jittered(Duration::from_secs(100), 0.1))
            .collect();
        assert!(waits.iter().all(|wait| (90..=110).contains(&wait.as_secs())));
        assert!(waits.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
