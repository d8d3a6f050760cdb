//! Promises that pgswivel keeps in front of a real PostgreSQL, one module a theme.
//!
//! `tests/setup` installs what they need; `support` is the bench they are written on.
#![allow(
    unreachable_pub,
    reason = "a test binary exports nothing; `pub` here is between its modules"
)]
#![allow(
    clippy::unwrap_used,
    reason = "a promise that can't go on stops where it stands"
)]

#[macro_use]
mod support;

mod admin;
mod bench;
mod cancel;
mod check;
mod configuration;
mod crowd;
mod demo;
#[cfg(all(feature = "aws", feature = "vault"))]
mod deployment;
mod drivers;
mod fleet;
mod hostile;
mod lending;
mod live;
mod many;
mod moves;
mod readme;
mod relay;
mod remembered;
mod replication;
mod rescue;
mod rotate;
mod rotation;
mod serving;
mod signals;
mod startup;
mod stores;
mod upstream_auth;
mod upstream_tls;
