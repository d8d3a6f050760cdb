//! What the admin server tells programs and people, and what it does for them.

mod adversary;
mod audit;
mod beset;
mod commands;
mod health;
mod metrics;
mod page;
mod readiness;
mod status;
mod unused;
