//! An upstream with its TLS files read and its dial options made.

use std::fmt;
use std::sync::Arc;

use super::scram_keys::ScramKeys;
use crate::config::Upstream;
use crate::net::dial::DialOptions;
use crate::net::tls::{ClientTls, TlsFilesError};

/// An upstream, with what was read from its files.
pub struct Target {
    pub upstream: Arc<Upstream>,
    pub tls: ClientTls,
    pub dial: DialOptions,
    pub scram_keys: ScramKeys,
}

impl Target {
    /// Reads the TLS files, so it blocks.
    pub fn load(upstream: Arc<Upstream>) -> Result<Self, TlsFilesError> {
        Ok(Self {
            tls: ClientTls::load(&upstream.tls)?,
            dial: DialOptions::from(&*upstream),
            scram_keys: ScramKeys::default(),
            upstream,
        })
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("upstream", &self.upstream)
            .finish_non_exhaustive()
    }
}
