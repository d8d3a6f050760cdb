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
            Stop::WriteFailed => {
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
            Stop::WriteFailed => End::ClientGone,
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
    WriteFailed,
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
            if ready!(self.poll_send(cx, to)).is_err() {
                return Poll::Ready(Stop::WriteFailed);
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
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Stop::WriteFailed)),
            Poll::Ready(Ok(count)) => self.unsent.extend_from_slice(&bytes[count..]),
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::task::JoinHandle;

    use super::*;

    /// A relay between two far ends, over pipes that hold a few bytes: every message is split somewhere.
    fn between(pipe: usize) -> (DuplexStream, DuplexStream, JoinHandle<End>) {
        let (client, near_client) = duplex(pipe);
        let (server, near_server) = duplex(pipe);
        let mut relay = Relay::new(near_client, near_server, BytesMut::new(), BytesMut::new());
        let running = tokio::spawn(async move { relay.run().await });
        (client, server, running)
    }

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    const FATAL: &[u8] = b"SFATAL\0VFATAL\0C57P01\0Mgoing\0\0";

    #[tokio::test]
    async fn bytes_pass_unchanged_both_ways_whatever_the_splits() {
        for pipe in [1, 3, 8, 64, 1 << 20] {
            let (mut client, mut server, running) = between(pipe);
            let up: Vec<u8> = (0..400_u32)
                .flat_map(|n| message(b"QPBESd"[n as usize % 6], &vec![n as u8; n as usize]))
                .collect();
            let down: Vec<u8> = (0..400_u32)
                .flat_map(|n| message(b"DCZTNA"[n as usize % 6], &vec![n as u8; 1 + 2 * n as usize]))
                .collect();
            let (mut client_reads, mut client_writes) = tokio::io::split(&mut client);
            let (mut server_reads, mut server_writes) = tokio::io::split(&mut server);
            let (mut got_up, mut got_down) = (vec![0; up.len()], vec![0; down.len()]);
            let all = tokio::try_join!(
                client_writes.write_all(&up),
                server_writes.write_all(&down),
                server_reads.read_exact(&mut got_up),
                client_reads.read_exact(&mut got_down),
            );
            all.unwrap();
            assert!(got_up == up && got_down == down, "pipe of {pipe}");
            running.abort();
        }
    }

    #[tokio::test]
    async fn a_client_that_closes_its_side_still_gets_its_answer() {
        let (mut client, mut server, running) = between(8);
        client.write_all(&message(b'Q', b"select 1\0")).await.unwrap();
        client.shutdown().await.unwrap();
        let mut asked = Vec::new();
        server.read_to_end(&mut asked).await.unwrap();
        assert_eq!(asked, message(b'Q', b"select 1\0"));
        let answer = message(b'Z', b"I");
        server.write_all(&answer).await.unwrap();
        drop(server);
        let mut got = Vec::new();
        let end = running.await.unwrap();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, answer);
        assert!(matches!(end, End::LinkClosed), "{end:?}");
    }

    #[tokio::test]
    async fn a_fatal_is_passed_on_and_then_nothing_is_added() {
        let (mut client, mut server, running) = between(8);
        let fatal = message(b'E', FATAL);
        let said = async {
            server.write_all(&fatal).await.unwrap();
            drop(server);
        };
        let mut got = vec![0; fatal.len()];
        tokio::join!(said, async { client.read_exact(&mut got).await.unwrap() });
        assert_eq!(got, fatal);
        assert!(matches!(running.await.unwrap(), End::LinkClosed));
    }

    #[tokio::test]
    async fn a_server_that_vanishes_is_a_lost_link() {
        let (_client, server, running) = between(8);
        drop(server);
        assert!(matches!(running.await.unwrap(), End::LinkLost(None)));
    }

    #[tokio::test]
    async fn a_length_that_no_message_can_have_ends_the_session() {
        let (mut client, _server, running) = between(8);
        client.write_all(b"Q\0\0\0\x03").await.unwrap();
        assert!(matches!(running.await.unwrap(), End::ClientMalformed(_)));
    }

    #[tokio::test]
    async fn a_reader_that_stops_stops_the_writer() {
        let (mut client, mut server, running) = between(1024);
        let row = message(b'D', &[7; 100_000]);
        let (mut written, mut stuck) = (0, false);
        while !stuck {
            let write = server.write(&row[..512]);
            match tokio::time::timeout(std::time::Duration::from_millis(50), write).await {
                Ok(count) => written += count.unwrap(),
                Err(_) => stuck = true,
            }
            assert!(written < 300_000, "the relay takes what nobody reads");
        }
        let mut got = vec![0; written];
        client.read_exact(&mut got).await.unwrap();
        running.abort();
    }

    #[tokio::test]
    async fn buffers_grow_for_bulk_and_are_given_back_at_rest() {
        let (client, near_client) = duplex(1 << 20);
        let (mut server, near_server) = duplex(1 << 20);
        let mut relay = Relay::new(near_client, near_server, BytesMut::new(), BytesMut::new());
        let (mut reads, mut writes) = tokio::io::split(client);
        writes.write_all(&message(b'Q', b"\0")).await.unwrap();
        let total = 8 << 20;
        let bulk = message(b'D', &vec![1; total]);
        let feed = tokio::spawn(async move {
            server.write_all(&bulk).await.unwrap();
            server
        });
        let drain = tokio::spawn(async move {
            let mut got = vec![0; total + 5];
            reads.read_exact(&mut got).await.unwrap();
            reads
        });
        let (mut level, mut done) = (0, false);
        while !done {
            tokio::select! {
                biased;
                _ = relay.run() => panic!("nobody ended it"),
                () = tokio::task::yield_now() => {}
            }
            level = level.max(relay.down.level);
            done = drain.is_finished() && feed.is_finished();
        }
        assert_eq!(level, LEVEL_MAX);
        let (mut server, _reads) = (feed.await.unwrap(), drain.await.unwrap());
        server.write_all(&message(b'Z', b"I")).await.unwrap();
        tokio::select! {
            biased;
            _ = relay.run() => panic!("nobody ended it"),
            () = tokio::task::yield_now() => {}
        }
        assert_eq!((relay.down.level, relay.down.unsent.capacity()), (0, 0));
    }
}
