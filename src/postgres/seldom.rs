//! A future that is seldom ready, beside one that is polled all the time.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Polls the future inside when something has woken it, and not whenever its task runs.
pub struct Seldom<F> {
    inner: F,
    bell: Arc<Bell>,
    /// What wakes the bell, made once.
    waker: Waker,
    /// What the bell wakes, to see whether that has changed.
    task: Option<Waker>,
}

struct Bell {
    rung: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl<F> Seldom<F> {
    pub fn new(inner: F) -> Self {
        let bell = Arc::new(Bell {
            rung: AtomicBool::new(true),
            task: Mutex::new(None),
        });
        Self {
            inner,
            waker: Waker::from(Arc::clone(&bell)),
            bell,
            task: None,
        }
    }
}

impl<F: Future + Unpin> Future for Seldom<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let is_known = this.task.as_ref().is_some_and(|task| task.will_wake(cx.waker()));
        if !is_known {
            this.task = Some(cx.waker().clone());
            this.bell.wakes(cx.waker().clone());
        }
        // A wake before this is seen here; one after it wakes the task.
        if !this.bell.rung.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        this.bell.rung.store(false, Ordering::Release);
        let mut cx = Context::from_waker(&this.waker);
        Pin::new(&mut this.inner).poll(&mut cx)
    }
}

impl Bell {
    fn wakes(&self, task: Waker) {
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = &*task {
            task.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn it_is_polled_when_it_was_woken_and_not_with_its_task() {
        let polls = Arc::new(AtomicUsize::new(0));
        let wanted = Arc::new(Notify::new());
        let mut notified = Box::pin(Arc::clone(&wanted).notified_owned());
        let counted = Arc::clone(&polls);
        let mut seldom = Seldom::new(poll_fn(move |cx| {
            counted.fetch_add(1, Ordering::Relaxed);
            notified.as_mut().poll(cx)
        }));
        for _ in 0..10 {
            let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut seldom).poll(cx))).await;
            assert!(polled.is_pending());
        }
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        let task = tokio::spawn(seldom);
        tokio::task::yield_now().await;
        wanted.notify_one();
        task.await.unwrap();
        assert_eq!(polls.load(Ordering::Relaxed), 2);
    }
}
