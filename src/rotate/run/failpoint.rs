//! Where a test can hold a run: before each look, and after each step. In builds for tests only.

pub(super) struct Failpoint {
    #[cfg(debug_assertions)]
    left: Option<u32>,
}

/// How many are passed before this process stops itself.
#[cfg(debug_assertions)]
const VARIABLE: &str = "PGSWIVEL_ROTATE_STOP_AT";

impl Failpoint {
    pub(super) fn from_environment() -> Self {
        Self {
            #[cfg(debug_assertions)]
            left: std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok()),
        }
    }

    #[cfg(debug_assertions)]
    pub(super) fn pass(&mut self) {
        use rustix::process::{Signal, getpid, kill_process};
        match &mut self.left {
            Some(0) => {
                self.left = None;
                let _ = kill_process(getpid(), Signal::STOP);
            }
            Some(left) => *left -= 1,
            None => {}
        }
    }

    #[cfg(not(debug_assertions))]
    #[allow(clippy::unused_self, reason = "in builds for tests it has something to do")]
    pub(super) fn pass(&mut self) {}
}
