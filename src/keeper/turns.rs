//! Spreads the reads of all secrets whose stores are elsewhere. What is read, and for whom, is not known here.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::lock::lock;

/// Reads of stores that are elsewhere start no closer than this, of all secrets together: fifty that are read at the
/// start, or because somebody asked, are fifty identities fetched and a hundred calls.
const TURN_EVERY: Duration = Duration::from_millis(100);

/// When a keeper may read its store, of all that want to at the same time. For what nobody waits for.
#[derive(Debug, Default)]
pub struct Turns {
    /// When the next one is free.
    next: Mutex<Option<Instant>>,
}

impl Turns {
    /// The next turn that nobody else has.
    pub(super) fn take(&self, now: Instant) -> Instant {
        let mut next = lock(&self.next);
        let turn = next.map_or(now, |next| next.max(now));
        *next = Some(turn + TURN_EVERY);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_at_once_come_one_after_the_other_and_one_alone_at_once() {
        let (turns, start) = (Turns::default(), Instant::now());
        let waits: Vec<u128> = (0..50).map(|_| (turns.take(start) - start).as_millis()).collect();
        assert_eq!(waits, (0..50).map(|n| n * 100).collect::<Vec<_>>());
        let later = start + Duration::from_secs(60);
        assert_eq!(turns.take(later), later);
    }
}
