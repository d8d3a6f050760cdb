//! Tasks that nobody waits for: one that panics is begun again, and counted.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::error;

use crate::backoff::Backoff;
use crate::metrics::{Metrics, Task};

const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_CAP: Duration = Duration::from_secs(60);

/// Runs what `begin` begins until that ends by itself.
pub async fn supervise(task: Task, metrics: Arc<Metrics>, mut begin: impl AsyncFnMut()) {
    let mut pause = Backoff::starting_at(PAUSE_FIRST);
    loop {
        let begun = Instant::now();
        // What a panic leaves behind is what locks guard, and none of those counts a panic as harm.
        if ends_well(begin()).await {
            return;
        }
        metrics.restarted(task);
        if begun.elapsed() > PAUSE_CAP {
            pause.reset();
        }
        let wait = pause.next(PAUSE_CAP);
        error!(
            task = task.label(),
            ?wait,
            "a task of this process broke off: it is begun again"
        );
        sleep(wait).await;
    }
}

/// False: it panicked.
async fn ends_well(task: impl Future<Output = ()>) -> bool {
    let mut task = pin!(task);
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(context)));
        polled.map_or(Poll::Ready(false), |polled| polled.map(|()| true))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_begun_again_and_counted() {
        let metrics = Metrics::new();
        let mut runs = 0;
        supervise(Task::Learning, Arc::clone(&metrics), async || {
            runs += 1;
            sleep(Duration::from_secs(1)).await;
            assert!(runs > 2, "not yet");
        })
        .await;
        assert_eq!(runs, 3);
        assert_eq!(metrics.restarts(Task::Learning), 2);
        assert_eq!(metrics.restarts(Task::Prover), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_longer_a_task_can_not_run_the_longer_it_rests() {
        let began = Instant::now();
        let mut runs = 0;
        supervise(Task::Reader, Metrics::new(), async || {
            runs += 1;
            assert!(runs > 30, "not yet");
        })
        .await;
        assert!(began.elapsed() > 15 * PAUSE_CAP, "{:?}", began.elapsed());
    }
}
