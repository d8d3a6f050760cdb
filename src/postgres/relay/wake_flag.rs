//! Tells a part of a task whether it was that part which was woken.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

/// One part's. It begins as if rung.
pub struct Bell {
    wire: Arc<Wire>,
    /// What rings it, made once.
    ringing: Waker,
    /// What it wakes, to see whether that has changed.
    task: Option<Waker>,
}

struct Wire {
    rung: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Bell {
    pub fn new() -> Self {
        let wire = Arc::new(Wire {
            rung: AtomicBool::new(true),
            task: Mutex::new(None),
        });
        Self {
            ringing: Waker::from(Arc::clone(&wire)),
            wire,
            task: None,
        }
    }

    /// Whether it was rung since the last answer. From now on it wakes the task of `cx`.
    #[inline]
    pub fn answer(&mut self, cx: &Context<'_>) -> bool {
        if !self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            self.follow(cx.waker());
        }
        // A ring before this is seen here; one after it wakes the task.
        let is_rung = self.wire.rung.load(Ordering::Acquire);
        if is_rung {
            self.wire.rung.store(false, Ordering::Release);
        }
        is_rung
    }

    #[cold]
    fn follow(&mut self, task: &Waker) {
        self.task = Some(task.clone());
        let wakes = &mut *self.wire.task.lock().unwrap_or_else(PoisonError::into_inner);
        *wakes = Some(task.clone());
    }

    /// The next answer is yes.
    pub fn ring(&self) {
        self.wire.rung.store(true, Ordering::Release);
    }

    /// What the part has to be polled with.
    pub fn context(&self) -> Context<'_> {
        Context::from_waker(&self.ringing)
    }
}

impl std::fmt::Debug for Bell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bell")
            .field("rung", &self.wire.rung)
            .finish_non_exhaustive()
    }
}

impl Wake for Wire {
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
    fn a_ring_is_answered_once_and_wakes_the_task_that_asked_last() {
        let mut bell = Bell::new();
        let tasks = [Arc::new(Task::default()), Arc::new(Task::default())];
        for (count, task) in tasks.iter().enumerate() {
            let waker = Waker::from(Arc::clone(task));
            let cx = Context::from_waker(&waker);
            // The first answer is to nothing, the second to a ring for the task before.
            assert!(bell.answer(&cx) && !bell.answer(&cx));
            bell.context().waker().wake_by_ref();
            let woken = tasks.each_ref().map(|task| task.0.load(Ordering::Relaxed));
            assert_eq!(woken, [[1, 0], [1, 1]][count]);
        }
    }

    #[test]
    fn a_ring_from_inside_wakes_nobody() {
        let mut bell = Bell::new();
        let task = Arc::new(Task::default());
        let waker = Waker::from(Arc::clone(&task));
        let cx = Context::from_waker(&waker);
        assert!(bell.answer(&cx));
        bell.ring();
        assert!(bell.answer(&cx) && !bell.answer(&cx));
        assert_eq!(task.0.load(Ordering::Relaxed), 0);
    }
}
