//! Time that counts: a clock that stands still while the machine starves.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Counts from look to look. Of what is between two of them no more than this counts: whoever looks later was kept from
/// it by a machine that has too much to do, and so was whoever is looked at.
pub struct Waited {
    between_looks_max: Duration,
    last: Instant,
    sum: Duration,
}

impl Waited {
    pub fn looking_every(interval: Duration) -> Self {
        Self {
            between_looks_max: interval * 2,
            last: Instant::now(),
            sum: Duration::ZERO,
        }
    }

    /// Where a look may take a while itself.
    pub fn for_whatever_comes() -> Self {
        Self::looking_every(Duration::from_millis(500))
    }

    /// To be asked in every look.
    pub fn so_far(&mut self) -> Duration {
        let now = Instant::now();
        let since = now - std::mem::replace(&mut self.last, now);
        self.sum += since.min(self.between_looks_max);
        self.sum
    }
}

/// None: it does not come within this, of time that counts.
pub async fn in_time<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let is_over = async {
        let mut waited = Waited::looking_every(LOOK_EVERY);
        while waited.so_far() < limit {
            sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        biased;
        value = future => Some(value),
        () = is_over => None,
    }
}
