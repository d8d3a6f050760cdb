//! One direction of a relay.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

use crate::postgres::wire::frame::{BadLength, Cut, Cutter, Fate, Piece};

/// What one read takes at most while little is moved: it lives on the stack and is never kept.
const READ_SMALL: usize = 16 * 1024;
/// What is read ahead at most.
const AHEAD_MAX: usize = 64 * 1024;
/// Bulk doubles that so often, and then has a buffer of its own.
const LEVEL_MAX: u8 = 4;

#[derive(Debug)]
pub struct Lane {
    cutter: Cutter,
    /// `ready` bytes that the other side has not taken yet, then the beginning of a small message.
    buffer: BytesMut,
    ready: usize,
    /// What the buffer has behind that was filled by somebody else and has not been looked at, or was held.
    unseen: bool,
    /// How often reads were full lately.
    level: u8,
    /// Written bytes may still lie in the stream's own buffer (TLS).
    unflushed: bool,
    ended: bool,
}

/// Who is shown what passes.
pub trait See {
    fn see(&mut self, piece: Piece<'_>) -> Fate;

    /// This is what goes on of what was shown, and nothing of it can be taken back any more.
    #[inline]
    fn passed(&mut self, _bytes: &[u8]) {}

    /// Whether nothing more may be read for now. Whoever says so polls the lane again when that has changed.
    #[inline]
    fn is_full(&self) -> bool {
        false
    }
}

impl<F: FnMut(Piece<'_>) -> Fate> See for F {
    #[inline]
    fn see(&mut self, piece: Piece<'_>) -> Fate {
        self(piece)
    }
}

/// Why a lane can't go on.
#[derive(Debug)]
pub enum Stop {
    End,
    ReadFailed(io::Error),
    WriteFailed,
    Malformed(BadLength),
}

impl Lane {
    /// `unseen`: what was read already, and not passed on.
    pub fn new(unseen: BytesMut) -> Self {
        Self {
            cutter: Cutter::default(),
            unseen: !unseen.is_empty(),
            buffer: unseen,
            ready: 0,
            level: 0,
            unflushed: false,
            ended: false,
        }
    }

    /// Whether the other side has everything, up to the last byte of a message.
    pub fn is_passed_on(&self) -> bool {
        self.buffer.is_empty() && self.is_at_boundary()
    }

    /// Whether the other side has whole messages only, and nothing for it waits here but the beginning of one.
    pub fn is_at_boundary(&self) -> bool {
        self.is_written() && !self.is_cut()
    }

    /// Whether the other side has everything that it is to get of what was shown.
    pub fn is_written(&self) -> bool {
        self.ready == 0 && !self.unflushed
    }

    /// Whether the other side has the beginning of a large message, and not its end.
    pub fn is_cut(&self) -> bool {
        self.cutter.is_passing()
    }

    /// Whether anything waits that has not been shown: it will be, whatever becomes of the rest.
    pub fn has_unseen(&self) -> bool {
        self.buffer.len() > self.ready
    }

    /// Bytes for the other side that did not come through this lane: whole messages, behind what it has or is
    /// about to get, and before what has not been shown.
    pub fn insert(&mut self, messages: &[u8]) {
        debug_assert!(!self.is_cut(), "inserted into a message");
        let unseen = self.buffer.split_off(self.ready);
        self.buffer.extend_from_slice(messages);
        self.ready = self.buffer.len();
        self.buffer.unsplit(unseen);
        self.unflushed |= !messages.is_empty();
    }

    /// The last bytes for the other side: nothing is read any more.
    pub fn end_with(&mut self, messages: &[u8]) {
        self.buffer.truncate(self.ready);
        self.insert(messages);
        self.ended = true;
    }

    /// What was shown and not written is not written any more: the other side is lost.
    pub fn forget_shown(&mut self) {
        self.buffer.advance(self.ready);
        self.ready = 0;
        self.unflushed = false;
    }

    /// The stream to read from is another one from here on: a message whose end has not come will not end.
    pub fn forget_unfinished(&mut self) {
        debug_assert!(!self.is_cut(), "the other side waits for the end of a message");
        self.buffer.truncate(self.ready);
        self.unseen = false;
        self.ended = false;
    }

    /// Whole messages that were shown before and are shown again, before anything else that has not been shown.
    pub fn show_again(&mut self, messages: &[u8]) {
        debug_assert!(!self.is_cut(), "shown again in the middle of a message");
        let unseen = self.buffer.split_off(self.ready);
        self.buffer.extend_from_slice(messages);
        self.buffer.unsplit(unseen);
        self.unseen = true;
    }

    /// Bytes that somebody else read from this lane's stream. They come after what was inserted.
    pub fn append_unseen(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.unseen = self.buffer.len() > self.ready;
    }

    /// Reads, shows every piece to `see`, and writes, until one of the two streams or `see` makes it wait.
    pub fn pump<F, T>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
        to: &mut T,
        mut see: impl See,
    ) -> Poll<Stop>
    where
        F: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        if std::mem::take(&mut self.unseen)
            && let Err(bad) = self.look(&mut see)
        {
            return Poll::Ready(Stop::Malformed(bad));
        }
        loop {
            if (self.ready > 0 || self.unflushed) && ready!(self.poll_send(cx, to)).is_err() {
                return Poll::Ready(Stop::WriteFailed);
            }
            if self.ended {
                return Poll::Ready(Stop::End);
            }
            if see.is_full() {
                return Poll::Pending;
            }
            let read = if self.level == 0 && self.buffer.is_empty() {
                self.read_small(cx, from, to, &mut see)
            } else {
                self.read_bulk(cx, from, &mut see)
            };
            match ready!(read) {
                Ok(0) => self.ended = true,
                Ok(count) => self.adapt(count),
                Err(stop) => return Poll::Ready(stop),
            }
        }
    }

    /// Whether the first message that was not shown is a client's Terminate.
    fn begins_with_terminate(&self) -> bool {
        let left = self.buffer[self.ready..].get(self.cutter.left()..);
        left.is_some_and(|unseen| unseen.starts_with(b"X\0\0\0\x04"))
    }

    /// Reads ahead while there is nobody to write to, until the stream ends, or says that it does. At the bound nothing
    /// more is read, and an end is not noticed.
    pub fn poll_hear<F: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, from: &mut F) -> Poll<()> {
        while !self.ended && !self.begins_with_terminate() {
            if self.buffer.len() - self.ready >= AHEAD_MAX {
                return Poll::Pending;
            }
            self.buffer.reserve(1024);
            match ready!(poll_read_buf(Pin::new(&mut *from), cx, &mut self.buffer)) {
                Ok(0) | Err(_) => self.ended = true,
                Ok(_) => self.unseen = true,
            }
        }
        Poll::Ready(())
    }

    /// Gives the buffer back.
    pub fn rest(&mut self) {
        if self.buffer.is_empty() && self.buffer.capacity() > 0 {
            self.buffer = BytesMut::new();
        }
        self.level = 0;
    }

    /// Memory held.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// Reads onto the stack and writes from there; keeps only what can't go on.
    fn read_small<F, T>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
        to: &mut T,
        see: &mut impl See,
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
        let bytes = space.filled_mut();
        let Cut { taken, kept, held } = match self.cutter.cut(bytes, |piece| see.see(piece)) {
            Ok(cut) => cut,
            Err(bad) => return Poll::Ready(Err(Stop::Malformed(bad))),
        };
        see.passed(&bytes[..kept]);
        let written = match kept {
            0 => Ok(0),
            _ => match Pin::new(to).poll_write(cx, &bytes[..kept]) {
                Poll::Ready(Ok(0) | Err(_)) => Err(Stop::WriteFailed),
                Poll::Ready(Ok(count)) => Ok(count),
                Poll::Pending => Ok(0),
            },
        };
        self.unflushed |= kept > 0;
        self.unseen |= held;
        let count = bytes.len();
        if matches!(written, Ok(written) if written == kept && taken == count) {
            return Poll::Ready(Ok(count));
        }
        let unwritten = &bytes[*written.as_ref().unwrap_or(&kept)..kept];
        self.ready = unwritten.len();
        self.buffer.extend_from_slice(unwritten);
        // Kept whatever became of the rest: it may be for another side.
        self.buffer.extend_from_slice(&bytes[taken..]);
        Poll::Ready(written.map(|_| count))
    }

    /// Reads behind what is kept.
    fn read_bulk<F: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
        see: &mut impl See,
    ) -> Poll<Result<usize, Stop>> {
        self.buffer.reserve(READ_SMALL << self.level);
        let count = match ready!(poll_read_buf(Pin::new(from), cx, &mut self.buffer)) {
            Ok(count) => count,
            Err(error) => return Poll::Ready(Err(Stop::ReadFailed(error))),
        };
        match self.look(see) {
            Ok(()) => Poll::Ready(Ok(count)),
            Err(bad) => Poll::Ready(Err(Stop::Malformed(bad))),
        }
    }

    fn look(&mut self, see: &mut impl See) -> Result<(), BadLength> {
        let bytes = &mut self.buffer[self.ready..];
        let Cut { taken, kept, held } = self.cutter.cut(bytes, |piece| see.see(piece))?;
        see.passed(&bytes[..kept]);
        if kept < taken {
            let end = self.buffer.len();
            self.buffer
                .copy_within(self.ready + taken..end, self.ready + kept);
            self.buffer.truncate(end - (taken - kept));
        }
        self.ready += kept;
        self.unflushed |= self.ready > 0;
        self.unseen |= held;
        Ok(())
    }

    fn poll_send<T: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut T) -> Poll<io::Result<()>> {
        while self.ready > 0 {
            let count = ready!(Pin::new(&mut *to).poll_write(cx, &self.buffer[..self.ready]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.buffer.advance(count);
            self.ready -= count;
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
        if self.level == 0 {
            self.rest();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn what_was_not_shown_to_a_side_that_is_lost_is_for_the_next() {
        let (mut far, mut from) = duplex(64);
        let mut lane = Lane::new(BytesMut::new());
        let pass = |_: Piece<'_>| Fate::PassedOn;
        far.write_all(b"Q\0\0\0\x06a\0Q\0\0\0").await.unwrap();
        let (mut lost, _) = duplex(64);
        let stop = poll_fn(|cx| lane.pump(cx, &mut from, &mut lost, pass)).await;
        assert!(matches!(stop, Stop::WriteFailed), "{stop:?}");
        lane.forget_shown();
        far.write_all(b"\x06b\0").await.unwrap();
        drop(far);
        let (mut next, mut heard) = duplex(64);
        let stop = poll_fn(|cx| lane.pump(cx, &mut from, &mut next, pass)).await;
        assert!(matches!(stop, Stop::End), "{stop:?}");
        drop(next);
        let mut got = Vec::new();
        heard.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"Q\0\0\0\x06b\0");
    }

    #[tokio::test]
    async fn what_is_inserted_comes_before_what_was_not_shown() {
        let (far, mut from) = duplex(64);
        drop(far);
        let mut lane = Lane::new(BytesMut::from(&b"Q\0\0\0\x06b\0"[..]));
        lane.insert(b"Q\0\0\0\x06a\0");
        assert!(!lane.is_at_boundary());
        let (mut to, mut heard) = duplex(64);
        let mut shown = 0;
        let mut see = |_: Piece<'_>| {
            shown += 1;
            Fate::PassedOn
        };
        let stop = poll_fn(|cx| lane.pump(cx, &mut from, &mut to, &mut see)).await;
        assert!(matches!(stop, Stop::End), "{stop:?}");
        drop(to);
        let mut got = Vec::new();
        heard.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"Q\0\0\0\x06a\0Q\0\0\0\x06b\0");
        assert_eq!(shown, 1);
    }

    #[tokio::test]
    async fn what_is_read_ahead_has_a_bound() {
        let (mut far, mut from) = duplex(1 << 20);
        let mut lane = Lane::new(BytesMut::new());
        far.write_all(&[0; 200_000]).await.unwrap();
        drop(far);
        tokio::select! {
            biased;
            () = poll_fn(|cx| lane.poll_hear(cx, &mut from)) => panic!("it reads everything"),
            () = tokio::task::yield_now() => {}
        }
        assert!(lane.has_unseen() && lane.buffer.len() < 2 * AHEAD_MAX);
    }
}
