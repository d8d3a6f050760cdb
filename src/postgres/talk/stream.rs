//! Whole messages, read and written one at a time, each bounded: with a client before its session, with a server at login
//! and at safe points.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::io::poll_read_buf;

use crate::postgres::wire::frame::{BadLength, HEADER, read_header};

/// What a client may send before it has been answered.
const AHEAD_MAX: usize = 64 * 1024;

#[derive(Debug)]
pub struct MessageStream<S> {
    pub stream: S,
    input: BytesMut,
}

/// One message, header included in `raw`.
#[derive(Debug)]
pub struct Message {
    pub tag: u8,
    raw: BytesMut,
}

#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("connection closed")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    BadLength(#[from] BadLength),
    #[error("message {tag:?} of {length} bytes is longer than the {max} allowed here")]
    TooLong { tag: char, length: usize, max: usize },
}

impl Message {
    pub fn body(&self) -> &[u8] {
        &self.raw[HEADER..]
    }

    /// As it came, for passing on.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> MessageStream<S> {
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
        }
    }

    /// Goes on where [`Self::into_parts`] stopped.
    pub fn resume(stream: S, input: BytesMut) -> Self {
        Self { stream, input }
    }

    /// The next message, if its body has at most `max` bytes.
    pub async fn read(&mut self, max: usize) -> Result<Message, StreamError> {
        self.fill(HEADER).await?;
        let header = self.input.first_chunk().copied().unwrap_or_default();
        let (tag, body) = read_header(header)?;
        if body > max {
            return Err(StreamError::TooLong {
                tag: char::from(tag),
                length: body,
                max,
            });
        }
        self.fill(HEADER + body).await?;
        let raw = self.input.split_to(HEADER + body);
        Ok(Message { tag, raw })
    }

    /// Sends everything and empties `out`.
    pub async fn write(&mut self, out: &mut BytesMut) -> io::Result<()> {
        while out.has_remaining() {
            // Not `write_all_buf`: of one piece, a vectored write costs more.
            match poll_fn(|cx| Pin::new(&mut self.stream).poll_write(cx, out)).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => out.advance(count),
            }
        }
        self.stream.flush().await
    }

    /// Sends everything and empties `out`, and reads meanwhile: neither side waits for the other, however much
    /// there is to say. May be dropped and called again.
    pub async fn write_and_read(&mut self, out: &mut BytesMut) -> io::Result<()> {
        poll_fn(|cx| self.poll_write_and_read(cx, out)).await?;
        self.stream.flush().await
    }

    fn poll_write_and_read(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<io::Result<()>> {
        while out.has_remaining() {
            match Pin::new(&mut self.stream).poll_write(cx, out) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => out.advance(count),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.input.reserve(1024);
                    let read = poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input);
                    if ready!(read)? == 0 {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Resolves when the other side closes. What it says meanwhile is kept, up to a bound; then nothing more is
    /// read, and a close is not noticed.
    pub async fn closed(&mut self) {
        while self.input.len() < AHEAD_MAX {
            self.input.reserve(1024);
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        std::future::pending::<()>().await;
    }

    /// The stream, and what was read of it and not heard.
    pub fn into_parts(self) -> (S, BytesMut) {
        (self.stream, self.input)
    }

    async fn fill(&mut self, wanted: usize) -> Result<(), StreamError> {
        while self.input.len() < wanted {
            self.input.reserve(wanted.max(1024) - self.input.len());
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(StreamError::Closed);
            }
        }
        Ok(())
    }
}
