//! The bench: real PostgreSQL servers, the real pgswivel, and clients and servers that speak raw bytes.
//!
//! * [`Postgres`] a server of its own for each test, gone when it is dropped
//! * [`Swivel`] the pgswivel binary in front of it
//! * [`Wire`] one connection, byte by byte, from either end
//! * [`Forged`] a server that is no Postgres at all, for what a real one would never say
//! * [`Authority`] a certificate authority and what it signs

#![allow(
    dead_code,
    unused_imports,
    reason = "a bench has tools that no test uses at the moment"
)]

pub mod admin;
mod authority;
#[cfg(feature = "aws")]
#[macro_use]
pub mod aws;
pub mod browser;
mod forged;
pub mod http;
mod place;
mod postgres;
pub mod process;
#[cfg(feature = "vault")]
pub mod sts;
pub mod swivel;
mod tls;
#[cfg(feature = "vault")]
pub mod vault;
mod waited;
pub mod wire;

use std::future::Future;
use std::time::Duration;

pub use authority::{Authority, Certified};
pub use forged::{Forged, ForgedScram};
pub use place::{
    Port, Version, cache, hand_over, is_long, postgres_home, raise_open_files, temporary_directory,
};
pub use postgres::{Postgres, Stop, client_tool};
pub use process::{As, Process, command};
pub use swivel::Swivel;
pub use tls::TlsConnector;
pub use waited::{Waited, in_time};
pub use wire::{Message, ServerError, Wire};

/// Says that a check was not made, since this machine lacks something that it needs. In continuous integration that is a
/// failure: a check that did not run proves nothing.
#[track_caller]
pub fn skipped(why: &str) {
    let must_run = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    assert!(!must_run, "skipped, where nothing may be: {why}");
    eprintln!("SKIPPED: {why}");
}

/// How long a test waits for anything before it says that it never came, in time that counts.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Declares one promise that is kept on every PostgreSQL: 15 and 18 always, the others when
/// `make test PG_MATRIX=all` runs the ignored ones too.
macro_rules! promise {
    ($(#[doc = $doc:literal])* async fn $name:ident($version:ident) $body:block) => {
        $(#[doc = $doc])*
        mod $name {
            use super::*;

            async fn promise($version: $crate::support::Version) $body

            #[tokio::test]
            #[ignore = "PG_MATRIX=all"]
            async fn on_14() {
                promise(14).await;
            }

            #[tokio::test]
            async fn on_15() {
                promise(15).await;
            }

            #[tokio::test]
            #[ignore = "PG_MATRIX=all"]
            async fn on_16() {
                promise(16).await;
            }

            #[tokio::test]
            #[ignore = "PG_MATRIX=all"]
            async fn on_17() {
                promise(17).await;
            }

            #[tokio::test]
            async fn on_18() {
                promise(18).await;
            }
        }
    };
}

/// The value of `future`, or a failed test when it does not come.
pub async fn within<F: Future>(limit: Duration, what: &str, future: F) -> F::Output {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: did not happen within {limit:?}"),
    }
}

/// Asks again and again until the answer is yes.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let done = async || match holds().await {
        true => Ok(()),
        false => Err(what.to_owned()),
    };
    eventually_within(PATIENCE, done).await;
}

/// What it comes to, or else why it is not so yet.
pub async fn eventually_within<T>(patience: Duration, mut done: impl AsyncFnMut() -> Result<T, String>) -> T {
    let mut waited = Waited::for_whatever_comes();
    loop {
        let missing = match done().await {
            Ok(done) => return done,
            Err(missing) => missing,
        };
        assert!(
            waited.so_far() < patience,
            "{missing}: did not happen within {patience:?}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
