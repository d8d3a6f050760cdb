//! What sessions and links read and write: a socket, with or without TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::socket::{Peer, Socket};
use super::tls::{TlsFacts, TlsSession};

/// A connection in either direction.
///
/// Flush after writing: over TLS a write may leave records behind that only a flush, or the next write,
/// sends. An end of TLS without `close_notify` reads as an ordinary end, because Postgres's own messages
/// say where they end.
#[derive(Debug)]
pub struct Stream(Transport);

#[derive(Debug)]
enum Transport {
    Plain(Socket),
    /// Boxed: the session is many times the size of a socket, and most streams are plain.
    Tls(Box<TlsSession>),
}

impl From<Socket> for Stream {
    fn from(socket: Socket) -> Self {
        Self(Transport::Plain(socket))
    }
}

impl From<TlsSession> for Stream {
    fn from(session: TlsSession) -> Self {
        Self(Transport::Tls(Box::new(session)))
    }
}

impl Stream {
    pub fn peer(&self) -> &Peer {
        self.socket().peer()
    }

    /// None: no TLS.
    pub fn tls(&self) -> Option<&TlsFacts> {
        match &self.0 {
            Transport::Plain(_) => None,
            Transport::Tls(session) => Some(session.facts()),
        }
    }

    /// Whether this stream may be taken back into use after it lay idle: the other end has neither
    /// closed nor said anything.
    pub fn is_quiet(&mut self) -> bool {
        match &mut self.0 {
            Transport::Plain(socket) => socket.is_quiet(),
            Transport::Tls(session) => !session.has_unread() && session.socket().is_quiet(),
        }
    }

    /// Waits until a read would yield something, without a buffer to read into. It may be wrong, so a
    /// read after it may still have to wait.
    pub fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Transport::Plain(socket) => socket.poll_read_ready(cx),
            Transport::Tls(session) => session.poll_read_ready(cx),
        }
    }

    fn socket(&self) -> &Socket {
        match &self.0 {
            Transport::Plain(socket) => socket,
            Transport::Tls(session) => session.socket(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Transport::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
            Transport::Tls(session) => Pin::new(&mut **session).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Transport::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Transport::Tls(session) => Pin::new(&mut **session).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Transport::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Transport::Tls(session) => Pin::new(&mut **session).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            Transport::Plain(socket) => socket.is_write_vectored(),
            Transport::Tls(session) => session.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Transport::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Transport::Tls(session) => Pin::new(&mut **session).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Transport::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Transport::Tls(session) => Pin::new(&mut **session).poll_shutdown(cx),
        }
    }
}
