//! An established TLS session.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use super::verify::Fingerprint;
use crate::net::socket::Socket;

/// What a handshake established.
#[derive(Clone, Debug)]
pub struct TlsFacts {
    /// The server's certificate was verified, by its chain or by its pin. Never so on our listeners:
    /// there the client is known by its password.
    pub verified: bool,
    /// The hash of the server's certificate (theirs upstream, ours on a listener) that SCRAM can bind to.
    /// None: the certificate's signature has no hash, so neither end can bind.
    pub end_point: Option<Arc<[u8]>>,
    /// The session continues an earlier one.
    pub resumed: bool,
    pub protocol: TlsProtocol,
    /// The server's certificate, as `tls.pin` can name it. None on our listeners: it is our own.
    pub leaf: Option<Fingerprint>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsProtocol {
    Tls12,
    Tls13,
}

impl TlsProtocol {
    pub(super) fn of(connection: &rustls::CommonState) -> Self {
        match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => Self::Tls12,
            // No other is left, and none is older.
            _ => Self::Tls13,
        }
    }
}

/// As Postgres and OpenSSL write it.
impl fmt::Display for TlsProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        })
    }
}

#[derive(Debug)]
pub struct TlsSession {
    stream: tokio_rustls::TlsStream<Socket>,
    facts: TlsFacts,
}

impl TlsSession {
    pub(super) fn new(stream: impl Into<tokio_rustls::TlsStream<Socket>>, facts: TlsFacts) -> Self {
        Self {
            stream: stream.into(),
            facts,
        }
    }

    pub(in crate::net) fn facts(&self) -> &TlsFacts {
        &self.facts
    }

    pub(in crate::net) fn socket(&self) -> &Socket {
        self.stream.get_ref().0
    }

    /// Plaintext has arrived that nobody has read, or the session is broken.
    pub(in crate::net) fn has_unread(&mut self) -> bool {
        let state = match &mut self.stream {
            tokio_rustls::TlsStream::Client(stream) => stream.get_mut().1.process_new_packets(),
            tokio_rustls::TlsStream::Server(stream) => stream.get_mut().1.process_new_packets(),
        };
        state.map_or(true, |state| {
            state.plaintext_bytes_to_read() > 0 || state.peer_has_closed()
        })
    }

    pub(in crate::net) fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let filled = ready!(Pin::new(&mut self.stream).poll_fill_buf(cx));
        Poll::Ready(end_is_an_end(filled.map(drop)))
    }
}

/// A peer that closes without `close_notify` has closed, no more.
fn end_is_an_end(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        result => result,
    }
}

impl AsyncRead for TlsSession {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        Poll::Ready(end_is_an_end(read))
    }
}

impl AsyncWrite for TlsSession {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
