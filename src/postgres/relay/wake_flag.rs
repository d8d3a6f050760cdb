//! Tells a part of a task whether it was that part which was woken.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use crate::lock::lock;

/// One part's. It begins as if woken.
pub struct WakeFlag {
    shared: Arc<Shared>,
    /// What sets it, made once.
    waker: Waker,
    /// What it wakes, to see whether that has changed.
    task: Option<Waker>,
}

struct Shared {
    is_set: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl WakeFlag {
    pub fn new() -> Self {
        let shared = Arc::new(Shared {
            is_set: AtomicBool::new(true),
            task: Mutex::new(None),
        });
        Self {
            waker: Waker::from(Arc::clone(&shared)),
            shared,
            task: None,
        }
    }

    /// Whether it was set since it was last taken. From now on it wakes the task of `cx`.
    #[inline]
    pub fn take(&mut self, cx: &Context<'_>) -> bool {
        if !self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            self.follow(cx.waker());
        }
        // What is set before this is seen here; what comes after it wakes the task.
        let was_set = self.shared.is_set.load(Ordering::Acquire);
        if was_set {
            self.shared.is_set.store(false, Ordering::Release);
        }
        was_set
    }

    #[cold]
    fn follow(&mut self, task: &Waker) {
        self.task = Some(task.clone());
        let wakes = &mut *lock(&self.shared.task);
        *wakes = Some(task.clone());
    }

    /// The next [`take`](Self::take) says yes.
    pub fn set(&self) {
        self.shared.is_set.store(true, Ordering::Release);
    }

    /// What the part has to be polled with.
    pub fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }
}

impl std::fmt::Debug for WakeFlag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WakeFlag")
            .field("is_set", &self.shared.is_set)
            .finish_non_exhaustive()
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_set.store(true, Ordering::Release);
        let task = lock(&self.task);
        if let Some(task) = &*task {
            task.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_wake_is_seen_once_and_wakes_the_task_that_asked_last() {
        let mut flag = WakeFlag::new();
        let tasks = [Arc::new(Task::default()), Arc::new(Task::default())];
        for (count, task) in tasks.iter().enumerate() {
            let waker = Waker::from(Arc::clone(task));
            let cx = Context::from_waker(&waker);
            // The first is of nothing, the second of a wake for the task before.
            assert!(flag.take(&cx) && !flag.take(&cx));
            flag.context().waker().wake_by_ref();
            let woken = tasks.each_ref().map(|task| task.0.load(Ordering::Relaxed));
            assert_eq!(woken, [[1, 0], [1, 1]][count]);
        }
    }

    #[test]
    fn a_flag_set_from_inside_wakes_nobody() {
        let mut flag = WakeFlag::new();
        let task = Arc::new(Task::default());
        let waker = Waker::from(Arc::clone(&task));
        let cx = Context::from_waker(&waker);
        assert!(flag.take(&cx));
        flag.set();
        assert!(flag.take(&cx) && !flag.take(&cx));
        assert_eq!(task.0.load(Ordering::Relaxed), 0);
    }
}
