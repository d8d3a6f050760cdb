//! Moves bytes between a client and its link and looks at nothing but message headers.
//!
//! One task owns both sockets. What was read is written on at once from the same slice; only what the other
//! side does not take yet is kept, and then nothing more is read: the sockets' own buffers are the queue.
//! Progress lives in `self`, so the future may be dropped and taken up again between any two bytes.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::wire::frame::{BadLength, Scanner};
use super::wire::read::error_field;
use super::wire::tracker::Tracker;

/// What one read takes at most while little is moved: it lives on the stack and is never kept.
const READ_SMALL: usize = 16 * 1024;
/// Bulk doubles that so often, and then has a buffer of its own.
const LEVEL_MAX: u8 = 4;

/// Why a relay has nothing left to do.
#[derive(Debug)]
pub enum End {
    /// The client went, or can't be reached any more.
    ClientGone,
    /// The client broke the protocol; nothing after that can be framed.
    ClientMalformed(BadLength),
    /// The server said why (a FATAL was passed on), or answered a Terminate.
    LinkClosed,
    /// The server went without a word.
    LinkLost(Option<io::Error>),
    LinkMalformed(BadLength),
}

#[derive(Debug)]
pub struct Relay<C, L> {
    client: C,
    link: L,
    up: Lane,
    down: Lane,
    tracker: Tracker,
    /// A FATAL or PANIC passed: the server will say nothing more.
    farewell: bool,
    /// The client said Terminate, or closed its side.
    client_leaving: bool,
    link_shut: bool,
}

impl<C, L> Relay<C, L>
where
    C: AsyncRead + AsyncWrite + Unpin,
    L: AsyncRead + AsyncWrite + Unpin,
{
    /// Takes over right after the first ReadyForQuery, with what was read of either side behind it.
    pub fn new(client: C, link: L, from_client: BytesMut, from_link: BytesMut) -> Self {
        let server_prefix = |tag| match tag {
            b'Z' => 1,
            b'E' => usize::MAX,
            _ => 0,
        };
        Self {
            client,
            link,
            up: Lane::new(Scanner::new(|_| 0), from_client),
            down: Lane::new(Scanner::new(server_prefix), from_link),
            tracker: Tracker::new(),
            farewell: false,
            client_leaving: false,
            link_shut: false,
        }
    }

    /// Until either side ends. May be dropped and called again.
    pub async fn run(&mut self) -> End {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Whether a message of pgswivel's own may be written to the client now.
    pub fn client_at_boundary(&self) -> bool {
        self.down.scanner.at_boundary() && self.down.unsent.is_empty()
    }

    pub fn into_streams(self) -> (C, L) {
        (self.client, self.link)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if let Poll::Ready(end) = self.poll_up(cx) {
            return Poll::Ready(end);
        }
        let end = ready!(self.poll_down(cx));
        Poll::Ready(end)
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let Self {
            client,
            link,
            up,
            tracker,
            client_leaving,
            link_shut,
            ..
        } = self;
        if *link_shut {
            return Poll::Pending;
        }
        let stop = ready!(up.pump(cx, client, link, |scanner, bytes| {
            look_up(scanner, tracker, client_leaving, bytes)
        }));
        match stop {
            Stop::End => {
                *client_leaving = true;
                // The server finishes what it was asked before it notices: half-close, and keep listening.
                let _ = ready!(Pin::new(link).poll_shutdown(cx));
                *link_shut = true;
                Poll::Pending
            }
            Stop::ReadFailed(_) => Poll::Ready(End::ClientGone),
            Stop::Malformed(bad) => Poll::Ready(End::ClientMalformed(bad)),
            Stop::WriteFailed(_) => {
                // The server may have said why before it closed: what it sent can still be read.
                *link_shut = true;
                Poll::Pending
            }
        }
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let Self {
            client,
            link,
            down,
            tracker,
            farewell,
            client_leaving,
            ..
        } = self;
        let Poll::Ready(stop) = down.pump(cx, link, client, |scanner, bytes| {
            look_down(scanner, tracker, farewell, bytes)
        }) else {
            if tracker.is_quiet() {
                self.up.rest();
                self.down.rest();
            }
            return Poll::Pending;
        };
        Poll::Ready(match stop {
            Stop::End | Stop::ReadFailed(_) if *farewell || *client_leaving => End::LinkClosed,
            Stop::End => End::LinkLost(None),
            Stop::ReadFailed(error) => End::LinkLost(Some(error)),
            Stop::WriteFailed(_) => End::ClientGone,
            Stop::Malformed(bad) => End::LinkMalformed(bad),
        })
    }
}

fn look_up(
    scanner: &mut Scanner,
    tracker: &mut Tracker,
    client_leaving: &mut bool,
    bytes: &[u8],
) -> Result<(), BadLength> {
    let mut scan = scanner.scan(bytes);
    while let Some(frame) = scan.next_frame()? {
        tracker.from_client(frame.tag);
        *client_leaving |= frame.tag == b'X';
    }
    Ok(())
}

fn look_down(
    scanner: &mut Scanner,
    tracker: &mut Tracker,
    farewell: &mut bool,
    bytes: &[u8],
) -> Result<(), BadLength> {
    let mut scan = scanner.scan(bytes);
    while let Some(frame) = scan.next_frame()? {
        tracker.from_server(frame.tag, frame.prefix.first().copied());
        if frame.tag == b'E' {
            let severity = error_field(frame.prefix, b'V').or_else(|| error_field(frame.prefix, b'S'));
            *farewell |= matches!(severity, Some(b"FATAL" | b"PANIC"));
        }
    }
    Ok(())
}

/// One direction.
#[derive(Debug)]
struct Lane {
    scanner: Scanner,
    /// Read, looked at, and not taken by the other side yet.
    unsent: BytesMut,
    /// What `unsent` began with has not been looked at.
    unseen: bool,
    /// How often reads were full lately.
    level: u8,
    /// Written bytes may still lie in the stream's own buffer (TLS).
    unflushed: bool,
    ended: bool,
}

enum Stop {
    End,
    ReadFailed(io::Error),
    WriteFailed(io::Error),
    Malformed(BadLength),
}

impl Lane {
    fn new(scanner: Scanner, unseen: BytesMut) -> Self {
        Self {
            scanner,
            unseen: !unseen.is_empty(),
            unsent: unseen,
            level: 0,
            unflushed: false,
            ended: false,
        }
    }

    fn pump<F, T>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
        to: &mut T,
        mut look: impl FnMut(&mut Scanner, &[u8]) -> Result<(), BadLength>,
    ) -> Poll<Stop>
    where
        F: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        if std::mem::take(&mut self.unseen)
            && let Err(bad) = look(&mut self.scanner, &self.unsent)
        {
            return Poll::Ready(Stop::Malformed(bad));
        }
        loop {
            if let Err(error) = ready!(self.poll_send(cx, to)) {
                return Poll::Ready(Stop::WriteFailed(error));
            }
            if self.ended {
                return Poll::Ready(Stop::End);
            }
            let read = if self.level == 0 {
                self.read_small(cx, from, to, &mut look)
            } else {
                self.read_bulk(cx, from, &mut look)
            };
            match ready!(read) {
                Ok(0) => self.ended = true,
                Ok(count) => self.adapt(count),
                Err(stop) => return Poll::Ready(stop),
            }
        }
    }

    /// Reads onto the stack and writes from there; keeps only what is not taken.
    fn read_small<F, T>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
        to: &mut T,
        look: &mut impl FnMut(&mut Scanner, &[u8]) -> Result<(), BadLength>,
    ) -> Poll<Result<usize, Stop>>
    where
        F: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        let mut space = [MaybeUninit::uninit(); READ_SMALL];
        let mut space = ReadBuf::uninit(&mut space);
        if let Err(error) = ready!(Pin::new(from).poll_read(cx, &mut space)) {
            return Poll::Ready(Err(Stop::ReadFailed(error)));
        }
        let bytes = space.filled();
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if let Err(bad) = look(&mut self.scanner, bytes) {
            return Poll::Ready(Err(Stop::Malformed(bad)));
        }
        match Pin::new(to).poll_write(cx, bytes) {
            Poll::Ready(Ok(0)) => {
                return Poll::Ready(Err(Stop::WriteFailed(io::ErrorKind::WriteZero.into())));
            }
            Poll::Ready(Ok(count)) => self.unsent.extend_from_slice(&bytes[count..]),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(Stop::WriteFailed(error))),
            Poll::Pending => self.unsent.extend_from_slice(bytes),
        }
        self.unflushed = true;
        Poll::Ready(Ok(bytes.len()))
    }

    fn read_bulk<F: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
        look: &mut impl FnMut(&mut Scanner, &[u8]) -> Result<(), BadLength>,
    ) -> Poll<Result<usize, Stop>> {
        self.unsent.reserve(READ_SMALL << self.level);
        let count = match ready!(poll_read_buf(Pin::new(from), cx, &mut self.unsent)) {
            Ok(count) => count,
            Err(error) => return Poll::Ready(Err(Stop::ReadFailed(error))),
        };
        self.unflushed = true;
        match look(&mut self.scanner, &self.unsent) {
            Ok(()) => Poll::Ready(Ok(count)),
            Err(bad) => Poll::Ready(Err(Stop::Malformed(bad))),
        }
    }

    fn poll_send<T: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut T) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let count = ready!(Pin::new(&mut *to).poll_write(cx, &self.unsent))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(count);
        }
        if self.unflushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn adapt(&mut self, count: usize) {
        let size = READ_SMALL << self.level;
        if count >= size {
            self.level = (self.level + 1).min(LEVEL_MAX);
        } else if count < size / 4 {
            self.level = self.level.saturating_sub(1);
        }
        if self.level == 0 && self.unsent.is_empty() {
            self.rest();
        }
    }

    /// Gives the buffer back.
    fn rest(&mut self) {
        if self.unsent.is_empty() && self.unsent.capacity() > 0 {
            self.unsent = BytesMut::new();
        }
        self.level = 0;
    }
}
