//! The first packets of a connection: encryption is settled, then the client says what it came for.

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::refusal::TurnedAway;
use crate::net::tls::{self, ServerTls, TlsError};
use crate::net::{Peer, Socket, Stream};
use crate::postgres::wire::opening::{self, BadOpening, MINOR_MAX, Opening, Startup};
use crate::postgres::wire::say;

/// The first byte of a TLS ClientHello. As the first byte of a packet's length it would mean 369 MB.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a client came for.
#[derive(Debug)]
pub enum Purpose {
    Session(Startup),
    Cancel { process_id: i32, key: Vec<u8> },
}

/// How a startup ended that led nowhere.
#[derive(Debug)]
pub enum Failed {
    /// It looked, and left: a health check, a port scan.
    Left,
    /// TLS did not come about: there is nothing left to speak on.
    Tls(TlsError),
    /// What it says is no packet. Postgres does not answer that: it speaks something else, or leaves in a hurry, as
    /// drivers do with a bare Terminate.
    Unanswered(TurnedAway),
    /// It can be told why.
    Refused(Box<Stream>, TurnedAway),
}

/// Reads exactly the packets it answers, never a byte more: what an attacker sends ahead of a TLS handshake
/// ends in that handshake, if it is not seen before, and never in the session.
pub async fn open(mut socket: Socket, tls: Option<&ServerTls>) -> Result<(Stream, Purpose), Failed> {
    let (mut ssl_asked, mut gss_asked) = (false, false);
    loop {
        let prefix = prefix(&mut socket).await?;
        if prefix[0] == TLS_HANDSHAKE && !ssl_asked && !gss_asked {
            let Some(tls) = tls else {
                return refuse(socket, TurnedAway::TlsUnavailable);
            };
            return Box::pin(encrypted(socket, tls, tls::Opening::Direct(&prefix))).await;
        }
        let opening = match packet(&mut socket, prefix).await? {
            Ok(opening) => opening,
            Err(error) => return refuse(socket, error),
        };
        let asks = matches!(opening, Opening::SslRequest | Opening::GssEncRequest);
        if asks && !socket.is_quiet() {
            return refuse(socket, TurnedAway::EarlyData);
        }
        match (opening, tls) {
            (Opening::SslRequest, Some(tls)) if !ssl_asked && matches!(socket.peer(), Peer::Tcp(_)) => {
                answer(&mut socket, b"S").await?;
                return Box::pin(encrypted(socket, tls, tls::Opening::Asked)).await;
            }
            (Opening::SslRequest, _) if !ssl_asked => {
                ssl_asked = true;
                answer(&mut socket, b"N").await?;
            }
            (Opening::GssEncRequest, _) if !gss_asked => {
                gss_asked = true;
                answer(&mut socket, b"N").await?;
            }
            (opening, _) => return purpose(socket.into(), opening),
        }
    }
}

/// Inside TLS there is nothing left to ask for.
async fn encrypted(
    socket: Socket,
    tls: &ServerTls,
    opening: tls::Opening<'_>,
) -> Result<(Stream, Purpose), Failed> {
    let mut stream = tls.accept(socket, opening).await.map_err(Failed::Tls)?;
    let prefix = prefix(&mut stream).await?;
    match packet(&mut stream, prefix).await? {
        Ok(opening) => purpose(stream, opening),
        Err(error) => refuse(stream, error),
    }
}

fn purpose(stream: Stream, opening: Opening) -> Result<(Stream, Purpose), Failed> {
    match opening {
        Opening::Startup(startup) => Ok((stream, Purpose::Session(startup))),
        Opening::Cancel { process_id, key } => Ok((stream, Purpose::Cancel { process_id, key })),
        // Asked twice, or inside TLS: Postgres takes the code for a protocol version, and so do we.
        Opening::SslRequest => refuse(stream, BadOpening::Version(1234, 5679)),
        Opening::GssEncRequest => refuse(stream, BadOpening::Version(1234, 5680)),
    }
}

fn refuse<T>(stream: impl Into<Stream>, error: impl Into<TurnedAway>) -> Result<T, Failed> {
    Err(Failed::Refused(Box::new(stream.into()), error.into()))
}

async fn prefix(stream: &mut (impl AsyncRead + Unpin)) -> Result<[u8; 4], Failed> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).await.map_err(|_| Failed::Left)?;
    Ok(prefix)
}

async fn packet(
    stream: &mut (impl AsyncRead + Unpin),
    prefix: [u8; 4],
) -> Result<Result<Opening, BadOpening>, Failed> {
    let length = opening::body_length(prefix).map_err(|bad| Failed::Unanswered(bad.into()))?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.map_err(|_| Failed::Left)?;
    match Opening::read(&body) {
        // A cancel request is never answered, well-formed or not.
        Err(BadOpening::Cancel) => Err(Failed::Left),
        read => Ok(read),
    }
}

async fn answer(socket: &mut Socket, answer: &[u8]) -> Result<(), Failed> {
    socket.write_all(answer).await.map_err(|_| Failed::Left)
}

/// Settles the protocol version: newer minors and unknown extensions are answered with what is spoken here.
pub fn negotiate(startup: &mut Startup, out: &mut BytesMut) {
    let extensions = startup.take_extensions();
    if startup.minor > MINOR_MAX || !extensions.is_empty() {
        startup.minor = startup.minor.min(MINOR_MAX);
        say::negotiate(out, startup.minor, &extensions);
    }
}
