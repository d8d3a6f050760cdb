//! Everything changes while clients are served, and nothing is noticed until it should be.

mod around;
mod changes;
mod keepers;
mod limits;
mod links;
mod listeners;
mod log;
mod stopping;
mod storm;
mod systemd;
