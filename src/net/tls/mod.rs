//! TLS for both sides. The only room that names the TLS library's types; none leaves it.
//!
//! A [`ServerTls`] or [`ClientTls`] is one snapshot of files and settings. A connection holds the snapshot
//! it was made with, so a reload is a new snapshot for the connections to come.

mod binding;
mod client;
mod error;
mod files;
mod server;
mod session;
#[cfg(test)]
mod tests;
mod verify;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use client::ClientTls;
pub use error::{TlsError, TlsFilesError};
pub use server::{Opening, ServerTls};
pub use session::{TlsFacts, TlsProtocol, TlsSession};
pub use verify::{Distrust, Fingerprint, Reason};

/// The protocol name that Postgres gives to itself. Direct TLS requires it.
const ALPN: &[u8] = b"postgresql";

/// Chosen here and not installed for the process, so that no other crate's choice can matter.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
