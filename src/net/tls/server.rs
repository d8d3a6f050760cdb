//! TLS on our listeners.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{Accepted, AcceptedAlert, Acceptor};
use tokio::io::AsyncWriteExt;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::StartHandshake;

use super::error::{TlsError, TlsFilesError};
use super::session::{TlsFacts, TlsProtocol, TlsSession};
use super::{ALPN, binding, files, provider};
use crate::config::CertifiedKeyFiles;
use crate::net::socket::Socket;
use crate::net::stream::Stream;

/// Our certificate, and what it takes to serve it.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    end_point: Option<Arc<[u8]>>,
}

/// How the client came to speak TLS.
#[derive(Clone, Copy, Debug)]
pub enum Opening<'p> {
    /// It asked with SSLRequest, and was told yes. Nothing behind the request has been read.
    Asked,
    /// It began with TLS. These bytes of its first message have been read already.
    Direct(&'p [u8]),
}

impl ServerTls {
    /// Reads files, so it blocks.
    pub fn load(paths: &CertifiedKeyFiles) -> Result<Self, TlsFilesError> {
        let certified = files::certified_key(paths)?;
        let end_point = certified
            .chain
            .first()
            .and_then(|leaf| binding::end_point_hash(leaf));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsFilesError::Unsupported(error.into()))?
            .with_no_client_auth()
            .with_single_cert(certified.chain, certified.key)
            .map_err(|error| TlsFilesError::Unusable {
                certificate: paths.certificate.clone(),
                key: paths.key.clone(),
                source: error.into(),
            })?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self {
            config: Arc::new(config),
            end_point,
        })
    }

    /// A client that offers protocols in ALPN has to offer ours. Direct TLS has to offer some.
    pub async fn accept(&self, socket: Socket, opening: Opening<'_>) -> Result<Stream, TlsError> {
        let start = match opening {
            Opening::Asked => LazyConfigAcceptor::new(Acceptor::default(), socket).await,
            Opening::Direct(read) => accept_after(read, socket).await,
        };
        let start = start.map_err(TlsError::Handshake)?;
        let handshake = start.into_stream(Arc::clone(&self.config));
        let mut stream = handshake.await.map_err(TlsError::Handshake)?;
        let connection = stream.get_ref().1;
        if matches!(opening, Opening::Direct(_)) && connection.alpn_protocol().is_none() {
            // The client is refused whether or not it gets to hear it.
            let _ = stream.shutdown().await;
            return Err(TlsError::NoAlpn);
        }
        let facts = TlsFacts {
            verified: false,
            end_point: self.end_point.clone(),
            resumed: connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
            protocol: TlsProtocol::of(connection),
            leaf: None,
        };
        Ok(TlsSession::new(stream, facts).into())
    }
}

/// Reads a ClientHello that begins with `read` and goes on in `socket`.
async fn accept_after(mut read: &[u8], mut socket: Socket) -> io::Result<StartHandshake<Socket>> {
    let mut acceptor = Acceptor::default();
    while !read.is_empty() {
        acceptor.read_tls(&mut read)?;
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => return start(accepted, read, socket),
            Err((error, alert)) => return Err(refuse(error, alert, &mut socket).await),
        }
    }
    LazyConfigAcceptor::new(acceptor, socket).await
}

/// A client cannot say anything behind its ClientHello before it has our answer.
fn start(accepted: Accepted, behind: &[u8], socket: Socket) -> io::Result<StartHandshake<Socket>> {
    if behind.is_empty() {
        Ok(StartHandshake::from_parts(accepted, socket))
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

async fn refuse(error: rustls::Error, mut alert: AcceptedAlert, socket: &mut Socket) -> io::Error {
    let mut bytes = Vec::new();
    if alert.write_all(&mut bytes).is_ok() {
        // The client is refused whether or not it gets to hear it.
        let _ = socket.write_all(&bytes).await;
    }
    io::Error::new(io::ErrorKind::InvalidData, error)
}
