//! How often a store is read because somebody said so.

use std::time::{Duration, Instant};

/// However many ask.
pub const READ_EVERY: Duration = Duration::from_secs(1);

/// Of one secret: the first who asks is heard at once, and all who ask soon after with one read more.
#[derive(Debug, Default)]
pub struct Pace {
    read_at: Option<Instant>,
    is_owed: bool,
}

/// What becomes of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Granted,
    /// With the read that is due at [`Pace::due`].
    PutOff,
}

impl Pace {
    pub fn asked(&mut self, now: Instant) -> Wish {
        if self.read_at.is_some_and(|at| now < at + READ_EVERY) {
            self.is_owed = true;
            return Wish::PutOff;
        }
        self.granted(now);
        Wish::Granted
    }

    /// When the read that is owed may be made. None: none is.
    pub fn due(&self) -> Option<Instant> {
        self.read_at.filter(|_| self.is_owed).map(|at| at + READ_EVERY)
    }

    /// Whether the read that is owed is to be made now.
    pub fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.due().is_some_and(|due| due <= now);
        if is_due {
            self.granted(now);
        }
        is_due
    }

    fn granted(&mut self, now: Instant) {
        self.read_at = Some(now);
        self.is_owed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_costs_one_read_a_second_and_the_last_word_is_heard() {
        let start = Instant::now();
        let mut pace = Pace::default();
        let mut reads = 0;
        for millisecond in 0..10_000 {
            let now = start + Duration::from_millis(millisecond);
            reads += u32::from(pace.take_due(now)) + u32::from(pace.asked(now) == Wish::Granted);
        }
        assert_eq!(reads, 10);
        let due = pace.due().unwrap();
        assert!(!pace.take_due(due - Duration::from_millis(1)));
        assert!(pace.take_due(due));
        assert_eq!(pace.due(), None);
    }
}
