//! How many of something there may be at once: a number that can be changed while some of it is taken.

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Semaphore;

use crate::lock::lock;

#[derive(Debug)]
pub struct Limit {
    free: Semaphore,
    count: Mutex<Count>,
}

#[derive(Debug)]
struct Count {
    max: usize,
    /// Taken beyond a limit that was lowered meanwhile: so many do not become free when they are given back.
    owed: usize,
}

/// One of them; given back on drop.
#[derive(Debug)]
pub struct Permit(Arc<Limit>);

impl Limit {
    pub fn new(max: u32) -> Arc<Self> {
        let max = max as usize;
        Arc::new(Self {
            free: Semaphore::new(max),
            count: Mutex::new(Count { max, owed: 0 }),
        })
    }

    /// Who has one keeps it, and counts.
    pub fn set(&self, max: u32) {
        let max = max as usize;
        let mut count = self.count();
        if max >= count.max {
            let more = max - count.max;
            let settled = more.min(count.owed);
            count.owed -= settled;
            self.free.add_permits(more - settled);
        } else {
            let fewer = count.max - max;
            count.owed += fewer - self.free.forget_permits(fewer);
        }
        count.max = max;
    }

    /// In the order of asking. Cancel-safe.
    pub async fn take(self: &Arc<Self>) -> Permit {
        let permit = self.free.acquire().await;
        permit.expect("nobody closes it").forget();
        Permit(Arc::clone(self))
    }

    /// The same; `waits` is called if none is free.
    pub async fn take_or_wait(self: &Arc<Self>, waits: impl FnOnce()) -> Permit {
        match self.try_take() {
            Some(permit) => permit,
            None => {
                waits();
                self.take().await
            }
        }
    }

    pub fn try_take(self: &Arc<Self>) -> Option<Permit> {
        self.free.try_acquire().ok()?.forget();
        Some(Permit(Arc::clone(self)))
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        lock(&self.count)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut count = self.0.count();
        if count.owed > 0 {
            count.owed -= 1;
        } else {
            self.0.free.add_permits(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(limit: &Arc<Limit>) -> Vec<Permit> {
        std::iter::from_fn(|| limit.try_take()).collect()
    }

    #[test]
    fn a_limit_that_is_lowered_below_what_is_taken_counts_what_is_taken() {
        let limit = Limit::new(5);
        let mut taken = all(&limit);
        assert_eq!(taken.len(), 5);
        limit.set(2);
        for left in [4, 3, 2] {
            assert!(limit.try_take().is_none(), "{left} more than two were taken");
            taken.pop();
        }
        assert!(limit.try_take().is_none());
        taken.pop();
        assert_eq!(all(&limit).len(), 1);
    }

    #[test]
    fn what_is_owed_is_settled_first_when_it_is_raised_again() {
        let limit = Limit::new(4);
        let taken = all(&limit);
        limit.set(1);
        limit.set(3);
        assert!(limit.try_take().is_none());
        limit.set(6);
        assert_eq!(all(&limit).len(), 2);
        drop(taken);
        assert_eq!(all(&limit).len(), 6);
    }

    #[test]
    fn every_sequence_of_changes_ends_with_as_many_as_the_last_one_said() {
        for seed in 0..64_u32 {
            let limit = Limit::new(8);
            let mut taken = Vec::new();
            for step in 0..20 {
                let chance = seed.wrapping_mul(2_654_435_761).rotate_left(step) % 11;
                match chance {
                    0..4 => taken.extend(limit.try_take()),
                    4..7 => drop(taken.pop()),
                    max => limit.set(max),
                }
            }
            limit.set(7);
            drop(taken);
            assert_eq!(all(&limit).len(), 7);
        }
    }

    #[tokio::test]
    async fn who_waits_is_served_when_the_limit_is_raised() {
        let limit = Limit::new(1);
        let first = limit.take().await;
        let waiting = tokio::spawn({
            let limit = Arc::clone(&limit);
            async move { limit.take().await }
        });
        limit.set(2);
        let second = waiting.await.unwrap();
        assert!(limit.try_take().is_none());
        drop((first, second));
    }
}
