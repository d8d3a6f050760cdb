//! Sees how a server asks for the password, before anybody answers: in the clear, or by md5, only where that is allowed.
//! A server that is not who it should be would ask for just that.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[derive(Clone, Copy)]
pub(super) struct Allowed {
    pub(super) cleartext: bool,
    pub(super) md5: bool,
}

/// A stream that is listened to until the login is through.
pub(super) struct Guarded<S> {
    stream: S,
    allowed: Allowed,
    seen: Seen,
}

/// What has been read of the server's messages.
enum Seen {
    /// One byte that answers SSLRequest comes first.
    AnswerToSsl,
    /// The first bytes of a message.
    Start([u8; START], usize),
    /// So much of a message is still to come.
    Rest(usize),
    LoggedIn,
}

/// Tag, length, and of an authentication request what it asks for.
const START: usize = 9;
const HEADER: usize = 5;

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, allowed: Allowed, negotiates_tls: bool) -> Self {
        let seen = match negotiates_tls {
            true => Seen::AnswerToSsl,
            false => Seen::Start([0; START], 0),
        };
        Self {
            stream,
            allowed,
            seen,
        }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    fn watch(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while let Some((&first, rest)) = bytes.split_first() {
            match &mut self.seen {
                Seen::LoggedIn => return Ok(()),
                Seen::AnswerToSsl => {
                    self.seen = Seen::Start([0; START], 0);
                    bytes = rest;
                }
                Seen::Rest(left) => {
                    let step = (*left).min(bytes.len());
                    *left -= step;
                    bytes = &bytes[step..];
                    if *left == 0 {
                        self.seen = Seen::Start([0; START], 0);
                    }
                }
                Seen::Start(start, length) => {
                    start[*length] = first;
                    *length += 1;
                    bytes = rest;
                    let (start, length) = (*start, *length);
                    self.started(&start[..length])?;
                }
            }
        }
        Ok(())
    }

    fn started(&mut self, start: &[u8]) -> io::Result<()> {
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte))
        };
        if start.len() < HEADER || start[0] == b'R' && start.len() < START {
            return Ok(());
        }
        let length = number(&start[1..HEADER]);
        if start[0] == b'R' {
            let refuse = |how: &str| {
                let words = format!(
                    "the server asks for the password {how}, which is not allowed on this connection"
                );
                Err(io::Error::new(io::ErrorKind::PermissionDenied, words))
            };
            match number(&start[HEADER..]) {
                0 => {
                    self.seen = Seen::LoggedIn;
                    return Ok(());
                }
                3 if !self.allowed.cleartext => return refuse("in the clear"),
                5 if !self.allowed.md5 => return refuse("as md5"),
                _ => {}
            }
        }
        let left = (length + 1).saturating_sub(start.len());
        self.seen = match left {
            0 => Seen::Start([0; START], 0),
            left => Seen::Rest(left),
        };
        Ok(())
    }
}

impl<S> AsRef<S> for Guarded<S> {
    fn as_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        Poll::Ready(self.watch(&buffer.filled()[before..]))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(code: u32) -> Vec<u8> {
        let mut message = vec![b'R', 0, 0, 0, 12];
        message.extend(code.to_be_bytes());
        message.extend([1, 2, 3, 4]);
        message
    }

    const NOTICE: &[u8] = b"N\0\0\0\x06x\0";
    const OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";

    fn heard(allowed: Allowed, negotiates: bool, bytes: &[u8], piece: usize) -> bool {
        let mut guarded = Guarded::new((), allowed, negotiates);
        bytes.chunks(piece).all(|piece| guarded.watch(piece).is_ok())
    }

    #[test]
    fn a_password_is_asked_for_in_the_clear_or_as_md5_only_where_that_is_allowed() {
        let nothing = Allowed {
            cleartext: false,
            md5: false,
        };
        let everything = Allowed {
            cleartext: true,
            md5: true,
        };
        for piece in 1..20 {
            for code in [3, 5] {
                let bytes = [NOTICE, &asked(code), OK].concat();
                assert!(!heard(nothing, false, &bytes, piece), "{code}");
                assert!(heard(everything, false, &bytes, piece), "{code}");
                let after_ssl = [b"N", &bytes[..]].concat();
                assert!(!heard(nothing, true, &after_ssl, piece), "{code}");
            }
            let scram = [NOTICE, &asked(10), &asked(11), &asked(12), OK].concat();
            assert!(heard(nothing, false, &scram, piece));
            // What rows hold later on is not an authentication request.
            let rows = [OK, &asked(3)].concat();
            assert!(heard(nothing, false, &rows, piece));
        }
    }
}
