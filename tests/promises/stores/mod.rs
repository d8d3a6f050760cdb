//! Every store keeps one contract, and each has treacheries of its own to survive.

#[cfg(feature = "aws")]
pub mod aws;
mod command;
pub mod contract;
mod env;
pub mod file;
#[cfg(feature = "vault")]
pub mod vault;
mod writing;

use std::time::Duration;

use pgswivel::config::{Fields, Secret, SessionsPolicy, Source};
use pgswivel::stores::{self, DigestKey, Store, Surroundings};

/// A secret that is only what its source makes it.
fn secret(source: Source, fields: Option<Fields>) -> Secret {
    Secret {
        name: "orders".into(),
        source,
        fields,
        poll: Duration::from_secs(300),
        sessions: SessionsPolicy::Auto,
        grace: Duration::from_secs(30),
        max_age: None,
    }
}

fn open(source: Source) -> Box<dyn Store> {
    let around = Surroundings {
        endpoints: &[],
        digests: &DigestKey::random(),
    };
    stores::open(&secret(source, None), around).unwrap()
}
