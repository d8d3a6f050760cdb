//! Everything changes while clients are served, and nothing is noticed until it should be.

mod changes;
mod keepers;
mod limits;
mod listeners;
mod log;
mod stopping;
mod storm;
mod systemd;
