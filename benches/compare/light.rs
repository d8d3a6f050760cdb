//! A server that lets everyone in and has an empty answer to everything: what idle clients cost a proxy is
//! the proxy's, and thousands of backends of a real server would fill the machine.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::failure::{Failure, io};
use super::support::wire::{SSL_REQUEST, message};

/// No client of ours says more at once.
const READ: usize = 1024;

/// As Postgres has them, for poolers that want to pass them on.
const PARAMETERS: [(&str, &str); 8] = [
    ("server_version", "18.0"),
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("TimeZone", "UTC"),
    ("integer_datetimes", "on"),
    ("standard_conforming_strings", "on"),
    ("application_name", ""),
];

pub struct Light {
    port: u16,
    accepting: JoinHandle<()>,
}

impl Light {
    /// With TLS for those who ask, if there is something to offer it with.
    pub fn start(runtime: &Runtime, tls: Option<Arc<ServerConfig>>) -> Result<Self, Failure> {
        let bound = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listener = bound.map_err(io("listen"))?;
        let port = listener.local_addr().map_err(io("listen"))?.port();
        let tls = tls.map(TlsAcceptor::from);
        let accepting = runtime.spawn(async move {
            let mut number = 0;
            while let Ok((stream, _)) = listener.accept().await {
                number += 1;
                // A client that breaks off is done.
                tokio::spawn(attend(stream, tls.clone(), number));
            }
        });
        Ok(Self { port, accepting })
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Light {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn attend(mut stream: TcpStream, tls: Option<TlsAcceptor>, number: u32) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut opening = packet(&mut stream).await?;
    if opening == SSL_REQUEST {
        let Some(tls) = tls else {
            stream.write_all(b"N").await?;
            packet(&mut stream).await?;
            return converse(stream, number).await;
        };
        stream.write_all(b"S").await?;
        let mut stream = tls.accept(stream).await?;
        opening = packet(&mut stream).await?;
        return match opening.is_empty() {
            true => Ok(()),
            false => converse(stream, number).await,
        };
    }
    converse(stream, number).await
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, number: u32) -> io::Result<()> {
    let mut out = message(b'R', &[0; 4]);
    for (name, value) in PARAMETERS {
        out.extend(message(
            b'S',
            &[name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat(),
        ));
    }
    out.extend(message(
        b'K',
        &[number.to_be_bytes(), number.to_be_bytes()].concat(),
    ));
    out.extend(message(b'Z', b"I"));
    stream.write_all(&out).await?;
    stream.flush().await?;
    let answer = [message(b'I', b""), message(b'Z', b"I")].concat();
    loop {
        // On the stack, and small: there are thousands of these.
        let mut block = [0; READ];
        match stream.read(&mut block).await? {
            0 => return Ok(()),
            _ if block[0] == b'X' => return Ok(()),
            _ => stream.write_all(&answer).await?,
        }
        stream.flush().await?;
    }
}

/// One packet without a tag, its length included.
async fn packet<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    let rest = usize::try_from(length)
        .unwrap_or_default()
        .saturating_sub(4)
        .min(READ);
    let mut packet = vec![0; 4 + rest];
    packet[..4].copy_from_slice(&length.to_be_bytes());
    stream.read_exact(&mut packet[4..]).await?;
    Ok(packet)
}
