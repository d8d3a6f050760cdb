//! The kinds of sessions there are.

mod copying;
mod listening;
mod resting;
mod statements;
mod transactions;

use std::future::Future;

pub use copying::Copying;
pub use listening::Listening;
pub use resting::{Resting, Restless};
pub use statements::{Extended, Pipelined, Prepared, Simple};
pub use transactions::{Cursors, Long};

use super::desk::{Desk, Trouble};

/// What sessions of one kind do again and again.
pub trait Kind: Send + Sized + 'static {
    const NAME: &'static str;
    /// Between two steps, at most.
    const PAUSE_MS: u64 = 60;

    fn begin(desk: &mut Desk) -> impl Future<Output = Result<Self, Trouble>> + Send;

    fn step(&mut self, desk: &mut Desk) -> impl Future<Output = Result<(), Trouble>> + Send;
}
