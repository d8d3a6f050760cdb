//! A mutex of the standard library, locked whatever became of who had it: nothing here panics while it holds one with work
//! half done.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
