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

use std::time::Duration;

pub use application::Application;

/// How much longer than the window a client may wait: for a read of the store, which are a second apart,
/// and for a login on a busy machine.
/// Less than any time limit of a store's, so that waiting for one shows.
const MOMENT: Duration = Duration::from_secs(9);

/// How long one side knows of a new credential before the other does.
const WINDOW: Duration = Duration::from_millis(1500);

/// With this, nobody else is under way when a password changes, and refused logins can be counted.
const ONE_AT_A_TIME: &str = "[limits]\nlogins_per_endpoint = 1";

/// Lets the window pass, which is what some orders of events are made of.
async fn window() {
    tokio::time::sleep(WINDOW).await;
}
