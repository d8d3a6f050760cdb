//! Bind, accept, limits, signals, drain.

use crate::config::Config;

/// Why the server could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum Failure {}

pub async fn run(_config: Config) -> Result<(), Failure> {
    Ok(())
}
