//! One connected TCP or Unix socket.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::RecvFlags;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::config::Keepalive;

/// Where the other end of a socket is, exactly enough to reach the same place again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    Tcp(SocketAddr),
    /// The file that the connection was made through.
    Unix(Arc<PathBuf>),
}

impl Peer {
    /// Whether what is sent to it stays on this machine.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[derive(Debug)]
enum SocketKind {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connected socket without TLS.
#[derive(Debug)]
pub struct Socket {
    kind: SocketKind,
    peer: Peer,
}

impl Socket {
    pub(super) fn tcp(stream: TcpStream, peer: SocketAddr) -> Self {
        Self {
            kind: SocketKind::Tcp(stream),
            peer: Peer::Tcp(peer),
        }
    }

    pub(super) fn unix(stream: UnixStream, path: Arc<PathBuf>) -> Self {
        Self {
            kind: SocketKind::Unix(stream),
            peer: Peer::Unix(path),
        }
    }

    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Nothing waits to be read, and the other end has not closed. Asks the kernel; never blocks.
    pub fn is_quiet(&self) -> bool {
        let would_block = rustix::io::Errno::AGAIN;
        let peeked = rustix::net::recv(self, &mut [0_u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        peeked.is_err_and(|error| error == would_block)
    }

    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.kind {
            SocketKind::Tcp(stream) => stream.poll_read_ready(cx),
            SocketKind::Unix(stream) => stream.poll_read_ready(cx),
        }
    }
}

/// Small messages are not held back, and a dead peer is noticed. What a listener accepts takes after it.
pub(super) fn tune(
    socket: &impl AsFd,
    keepalive: Keepalive,
    user_timeout: Option<Duration>,
) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(keepalive.idle)
            .with_interval(keepalive.interval)
            .with_retries(keepalive.count),
    )?;
    socket.set_tcp_user_timeout(user_timeout)
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            SocketKind::Tcp(stream) => stream.as_fd(),
            SocketKind::Unix(stream) => stream.as_fd(),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.kind {
            SocketKind::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            SocketKind::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.kind {
            SocketKind::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            SocketKind::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.kind {
            SocketKind::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            SocketKind::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            SocketKind::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            SocketKind::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            SocketKind::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            SocketKind::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
