//! pgswivel: a Postgres sidecar proxy. Credentials rotate upstream; the application's sessions stay.
//!
//! # Layout
//!
//! Imports point down only; `tests/floor_plan.rs` enforces it.
//!
//! * roof: [`cli`], one file a command
//! * floor 3: [`server`]
//! * floor 2: [`keeper`], [`postgres`]
//! * floor 1: [`stores`], [`net`], [`backoff`]
//! * ground, pure: [`config`], [`credentials`], [`names`], `postgres::wire`

pub mod backoff;
pub mod cli;
pub mod config;
pub mod credentials;
pub mod keeper;
pub mod names;
pub mod net;
pub mod postgres;
pub mod server;
pub mod stores;
