//! Why TLS could not be set up, or a handshake failed.

use std::io;
use std::path::PathBuf;

use super::verify::Distrust;

/// Something is wrong with the files or settings. No connection was involved.
#[derive(Debug, thiserror::Error)]
pub enum TlsFilesError {
    #[error("can't read {path}: {source}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is not a PEM file with certificates", path = path.display())]
    NoCertificate { path: PathBuf },
    #[error("{path} is not a PEM file with an unencrypted private key", path = path.display())]
    NoKey { path: PathBuf },
    #[error("the key {key} can't be used with the certificate {certificate}: {source}",
        key = key.display(), certificate = certificate.display())]
    Unusable {
        certificate: PathBuf,
        key: PathBuf,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{path} holds no certificate that can serve as a root", path = path.display())]
    NoRoots { path: PathBuf },
    #[error("this system has no root certificates: install them (ca-certificates), or name a file in tls.ca")]
    NoSystemRoots,
    #[error("TLS can't be set up: {0}")]
    Unsupported(Box<dyn std::error::Error + Send + Sync>),
}

/// A handshake that failed.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(transparent)]
    Distrust(Distrust),
    #[error("{name:?} is neither a DNS name nor an IP address; set tls.server_name")]
    ServerName { name: String },
    #[error("direct TLS needs ALPN, and the client did not offer \"postgresql\"")]
    NoAlpn,
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
}

impl TlsError {
    /// The connection broke, as opposed to a peer that answered wrongly.
    pub fn is_disconnect(&self) -> bool {
        match self {
            Self::Handshake(error) => error.kind() != io::ErrorKind::InvalidData,
            Self::Distrust(_) | Self::ServerName { .. } | Self::NoAlpn => false,
        }
    }
}
