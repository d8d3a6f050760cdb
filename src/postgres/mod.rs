//! The Postgres wing.

pub mod wire;
