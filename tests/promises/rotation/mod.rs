//! Rotations as an application sees them that opens new connections all the time: not at all.

mod application;
#[cfg(feature = "aws")]
mod aws;
mod broken_stores;
mod files;
mod orders;
mod silence;
mod storms;
#[cfg(feature = "vault")]
mod vault;

use std::time::{Duration, Instant};

pub use application::Application;

/// How much longer than the window a client may wait: for a read of the store, which are a second apart,
/// and for a login on a busy machine.
const MOMENT: Duration = Duration::from_secs(4);

/// With this, nobody else is under way when a password changes, and refused logins can be counted.
const ONE_AT_A_TIME: &str = "[limits]\nlogins_per_endpoint = 1";

/// The time in which one side knows of a new credential and the other does not yet.
struct Window(Instant);

impl Window {
    /// Begins now.
    fn open() -> Self {
        Self(Instant::now())
    }

    /// Lets time pass, which is what some orders of events are made of.
    async fn pass(&self) {
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }

    /// Both sides know now. How long that took: on a busy machine they are slow to learn.
    fn close(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A store that does not tell that it has changed is asked ever more rarely, so that it may be found out as
/// long after the window as the window was.
fn found_out(window: Duration) -> Duration {
    window * 2
}
