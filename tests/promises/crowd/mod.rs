//! A crowd of sessions of many kinds, each at work all the time, while credentials, users and backends are replaced
//! underneath. Each write that a session was told of is there once, and each answer is the right one.

mod cuts;
mod desk;
mod emergencies;
mod gathering;
mod kinds;
mod programs;
mod receipts;
mod rotations;
mod severing;
mod stage;
mod stalls;
mod zombies;

pub use gathering::{Crowd, Mood};
pub use stage::Stage;

/// How often something is repeated: with `PGSWIVEL_LONG` in the environment, as often as it takes to be sure.
pub fn rounds(ordinary: u32, long: u32) -> u32 {
    if crate::support::is_long() { long } else { ordinary }
}
