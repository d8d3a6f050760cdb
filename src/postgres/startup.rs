//! The first packets of a connection: encryption is settled, then the client says what it came for.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::errors::ClientError;
use super::wire::opening::{self, BadOpening, MINOR_MAX, Opening, Startup};
use super::wire::say;
use crate::net::{ServerTls, Stream};

/// The first byte of a TLS ClientHello. As the first byte of a packet's length it would mean 369 MB.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a client came for.
#[derive(Debug)]
pub enum Purpose {
    Session { stream: Stream, startup: Startup },
    Cancel { stream: Stream, process_id: i32, key: Vec<u8> },
    /// It looked, and left: a health check, a port scan.
    Nothing,
}

/// A startup that failed, and the stream on which to say so, as far as there is one.
#[derive(Debug)]
pub struct Failed {
    pub stream: Option<Stream>,
    pub error: ClientError,
}

/// Reads exactly the packets it answers, never a byte more: what an attacker sends ahead of a TLS handshake
/// ends in that handshake and not in the session.
pub async fn open(mut stream: Stream, tls: Option<&ServerTls>) -> Result<Purpose, Failed> {
    let (mut ssl_asked, mut gss_asked) = (false, false);
    loop {
        let mut prefix = [0; 4];
        match stream.read_exact(&mut prefix).await {
            Ok(_) => {}
            Err(_) => return Ok(Purpose::Nothing),
        }
        if prefix[0] == TLS_HANDSHAKE && !stream.is_tls() && !ssl_asked && !gss_asked {
            stream = accept_direct(stream, tls, &prefix).await?;
            ssl_asked = true;
            continue;
        }
        let body = match body(&mut stream, prefix).await {
            Ok(Some(body)) => body,
            Ok(None) => return Ok(Purpose::Nothing),
            Err(error) => return Err(failed(stream, error)),
        };
        match Opening::read(&body) {
            Ok(Opening::SslRequest) if !ssl_asked && !stream.is_tls() => {
                ssl_asked = true;
                stream = match answer_ssl(stream, tls).await? {
                    Some(stream) => stream,
                    None => return Ok(Purpose::Nothing),
                };
            }
            Ok(Opening::GssEncRequest) if !gss_asked && !stream.is_tls() => {
                gss_asked = true;
                if stream.write_all(b"N").await.is_err() {
                    return Ok(Purpose::Nothing);
                }
            }
            // Asked twice, or inside TLS: Postgres takes the code for a protocol version, and so do we.
            Ok(Opening::SslRequest) => return Err(failed(stream, BadOpening::Version(1234, 5679))),
            Ok(Opening::GssEncRequest) => return Err(failed(stream, BadOpening::Version(1234, 5680))),
            Ok(Opening::Cancel { process_id, key }) => {
                return Ok(Purpose::Cancel {
                    stream,
                    process_id,
                    key,
                });
            }
            Ok(Opening::Startup(startup)) => return Ok(Purpose::Session { stream, startup }),
            Err(error) => return Err(failed(stream, error)),
        }
    }
}

/// Settles the protocol version: newer minors and unknown extensions are answered with what is spoken here.
pub fn negotiate(startup: &mut Startup, out: &mut BytesMut) {
    let extensions = startup.take_extensions();
    if startup.minor > MINOR_MAX || !extensions.is_empty() {
        startup.minor = startup.minor.min(MINOR_MAX);
        say::negotiate(out, startup.minor, &extensions);
    }
}

fn failed(stream: Stream, error: impl Into<ClientError>) -> Failed {
    Failed {
        stream: Some(stream),
        error: error.into(),
    }
}

async fn body(stream: &mut Stream, prefix: [u8; 4]) -> Result<Option<Vec<u8>>, BadOpening> {
    let mut body = vec![0; opening::length(prefix)? - prefix.len()];
    Ok(stream.read_exact(&mut body).await.is_ok().then_some(body))
}

async fn answer_ssl(mut stream: Stream, tls: Option<&ServerTls>) -> Result<Option<Stream>, Failed> {
    let answer = if tls.is_some() && !stream.is_unix() { b"S" } else { b"N" };
    if stream.write_all(answer).await.is_err() {
        return Ok(None);
    }
    match tls {
        Some(tls) if answer == b"S" => tls.accept(stream, &[]).await.map(Some).map_err(|error| {
            tracing::debug!(%error, "TLS handshake with a client failed");
            Failed {
                stream: None,
                error: ClientError::TlsUnavailable,
            }
        }),
        _ => Ok(Some(stream)),
    }
}

async fn accept_direct(stream: Stream, tls: Option<&ServerTls>, prefix: &[u8]) -> Result<Stream, Failed> {
    let unavailable = Failed {
        stream: None,
        error: ClientError::TlsUnavailable,
    };
    let Some(tls) = tls else {
        return Err(unavailable);
    };
    tls.accept_direct(stream, prefix).await.map_err(|error| {
        tracing::debug!(%error, "direct TLS handshake with a client failed");
        unavailable
    })
}
