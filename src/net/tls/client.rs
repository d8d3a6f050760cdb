//! TLS towards an upstream.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::error::{TlsError, TlsFilesError};
use super::session::{TlsFacts, TlsProtocol, TlsSession};
use super::verify::{self, Fingerprint, Trust, Verifier};
use super::{ALPN, binding, files, provider};
use crate::config::{TlsMode, UpstreamTls};
use crate::net::socket::Socket;
use crate::net::stream::Stream;

/// How to speak TLS with one upstream.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    server_name: Option<String>,
    verified: bool,
    roots_skipped: usize,
}

impl ClientTls {
    /// Reads files, so it blocks. `tls.mode` says only what to verify here; whether TLS is used at all
    /// is for the caller to say.
    pub fn load(tls: &UpstreamTls) -> Result<Self, TlsFilesError> {
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms;
        let (trust, roots_skipped) = trust(tls)?;
        let verified = trust.is_verification();
        let verifier: Arc<dyn ServerCertVerifier> = Arc::new(Verifier::new(trust, algorithms));
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsFilesError::Unsupported(error.into()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &tls.client {
            None => builder.with_no_client_auth(),
            Some(paths) => {
                let certified = files::certified_key(paths)?;
                builder
                    .with_client_auth_cert(certified.chain, certified.key)
                    .map_err(|error| TlsFilesError::Unusable {
                        certificate: paths.certificate.clone(),
                        key: paths.key.clone(),
                        source: error.into(),
                    })?
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self {
            config: Arc::new(config),
            server_name: tls.server_name.clone(),
            verified,
            roots_skipped,
        })
    }

    /// Certificates among the roots that could not be read, and so do not count.
    pub fn roots_skipped(&self) -> usize {
        self.roots_skipped
    }

    /// The handshake alone: by now the server has agreed to it, or direct TLS is spoken. `host` is
    /// the endpoint's, a name or an IP address.
    pub async fn connect(&self, socket: Socket, host: &str) -> Result<Stream, TlsError> {
        let name = self.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name)
            .map_err(|_| TlsError::ServerName {
                name: name.to_owned(),
            })?
            .to_owned();
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream =
            connector
                .connect(name, socket)
                .await
                .map_err(|error| match verify::distrust(&error) {
                    Some(distrust) => TlsError::Distrust(distrust.clone()),
                    None => TlsError::Handshake(error),
                })?;
        let connection = stream.get_ref().1;
        let leaf = connection.peer_certificates().and_then(<[_]>::first);
        let facts = TlsFacts {
            verified: self.verified,
            end_point: leaf.and_then(|leaf| binding::end_point_hash(leaf)),
            resumed: connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
            protocol: TlsProtocol::of(connection),
            leaf: leaf.map(|leaf| Fingerprint::of(leaf)),
        };
        Ok(TlsSession::new(stream, facts).into())
    }
}

/// Whom this configuration believes, and how many roots could not be read.
fn trust(tls: &UpstreamTls) -> Result<(Trust, usize), TlsFilesError> {
    if let Some(pin) = tls.pin {
        return Ok((Trust::Pin(Fingerprint(pin)), 0));
    }
    let names_count = match (tls.mode, &tls.ca) {
        (TlsMode::Disable | TlsMode::Prefer | TlsMode::Require, None) => return Ok((Trust::Anyone, 0)),
        // As in libpq: whoever names a root wants it used.
        (TlsMode::Disable | TlsMode::Prefer | TlsMode::Require | TlsMode::VerifyCa, _) => false,
        (TlsMode::VerifyFull, _) => true,
    };
    let (roots, skipped) = match &tls.ca {
        Some(path) => files::roots(path)?,
        None => files::system_roots()?,
    };
    let trust = if names_count {
        Trust::ChainAndName(roots)
    } else {
        Trust::Chain(roots)
    };
    Ok((trust, skipped))
}
