//! A session: how it begins, runs, leaves a link for another, and ends. Nothing is above it.

pub mod begin;
pub mod close;
pub mod crossing;
pub mod departure;
pub mod ending;
pub mod held;
pub mod leaving;
pub mod moving;
pub mod rebuilding;
pub mod relink;
pub mod rescue;
pub mod run;
