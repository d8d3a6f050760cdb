//! A future that is seldom ready, beside one that is polled all the time.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::wake_flag::WakeFlag;

/// Polls the future inside when something has woken it, and not whenever its task runs.
pub struct PollIfWoken<F> {
    inner: F,
    flag: WakeFlag,
}

impl<F> PollIfWoken<F> {
    pub fn new(inner: F) -> Self {
        Self {
            inner,
            flag: WakeFlag::new(),
        }
    }
}

impl<F: Future + Unpin> Future for PollIfWoken<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        if !this.flag.take(cx) {
            return Poll::Pending;
        }
        Pin::new(&mut this.inner).poll(&mut this.flag.context())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn it_is_polled_when_it_was_woken_and_not_with_its_task() {
        let polls = Arc::new(AtomicUsize::new(0));
        let wanted = Arc::new(Notify::new());
        let mut notified = Box::pin(Arc::clone(&wanted).notified_owned());
        let counted = Arc::clone(&polls);
        let mut woken = PollIfWoken::new(poll_fn(move |cx| {
            counted.fetch_add(1, Ordering::Relaxed);
            notified.as_mut().poll(cx)
        }));
        for _ in 0..10 {
            let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut woken).poll(cx))).await;
            assert!(polled.is_pending());
        }
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        let task = tokio::spawn(woken);
        tokio::task::yield_now().await;
        wanted.notify_one();
        task.await.unwrap();
        assert_eq!(polls.load(Ordering::Relaxed), 2);
    }
}
