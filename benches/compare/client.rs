//! A tiny client of our own: it keeps the keys of its password, and looks at nothing but headers.

use std::fmt;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use pgswivel::postgres::wire::read::{Authentication, authentication};
use pgswivel::postgres::wire::scram::client::{Binding, ITERATIONS_MAX, client_first};
use pgswivel::postgres::wire::scram::{NONCE_BYTES, Nonce, SCRAM_SHA_256, SaltedPassword};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::failure::{Failure, io};
use super::support::wire::{PROTOCOL_3_0, SSL_REQUEST, message, startup};

/// Nothing here takes that long, unless a peer is stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// Few clients read more at once, and fewer would measure the client.
const READ: usize = 256 * 1024;
const HEADER: usize = 5;

/// Where a client connects, and as whom.
#[derive(Clone)]
pub struct Target {
    pub port: u16,
    pub user: &'static str,
    pub password: &'static str,
    pub database: &'static str,
    /// How the connection is encrypted, if the server that it ends at wants that.
    pub tls: Option<Arc<ClientConfig>>,
}

/// What the password comes to, with the salt of whoever asked last.
#[derive(Clone, Default)]
pub struct Keys(Option<(Vec<u8>, NonZeroU32, SaltedPassword)>);

trait Duplex: Read + Write + Send {}
impl<S: Read + Write + Send> Duplex for S {}

pub struct Session {
    stream: Box<dyn Duplex>,
    /// Read and not looked at.
    pending: Vec<u8>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

struct Message {
    tag: u8,
    body: Vec<u8>,
}

impl Session {
    /// Logs in, up to the first ReadyForQuery.
    pub fn open(target: &Target, keys: &mut Keys) -> Result<Self, Failure> {
        let mut session = Self {
            stream: connect(target)?,
            pending: Vec::new(),
        };
        let parameters = [("user", target.user), ("database", target.database)];
        session.send(&startup(PROTOCOL_3_0, &parameters))?;
        session.authenticate(target, keys)?;
        session.until_ready()?;
        Ok(session)
    }

    /// Runs one statement and throws its answer away.
    pub fn run(&mut self, sql: &str) -> Result<(), Failure> {
        self.send(&message(b'Q', &[sql.as_bytes(), b"\0"].concat()))?;
        self.until_ready()
    }

    /// Runs a COPY from the client and sends it `blocks` times the messages in `block`.
    pub fn copy_in(&mut self, sql: &str, block: &[u8], blocks: usize) -> Result<(), Failure> {
        self.send(&message(b'Q', &[sql.as_bytes(), b"\0"].concat()))?;
        match self.next()? {
            Message { tag: b'G', .. } => {}
            other => return Err(other.unexpected()),
        }
        for _ in 0..blocks {
            self.stream.write_all(block).map_err(io("send"))?;
        }
        self.send(&message(b'c', b""))?;
        self.until_ready()
    }

    pub fn close(mut self) -> Result<(), Failure> {
        self.send(&message(b'X', b""))
    }

    /// Reads to the next ReadyForQuery, by whole blocks.
    fn until_ready(&mut self) -> Result<(), Failure> {
        let mut block = vec![0; READ];
        let mut skip = 0;
        loop {
            while self.pending.len() > skip + HEADER {
                let (tag, length) = header(&self.pending[skip..]);
                if tag == b'E' {
                    self.pending.drain(..skip);
                    return Err(self.next()?.unexpected());
                }
                skip += length;
                if tag == b'Z' && self.pending.len() >= skip {
                    self.pending.drain(..skip);
                    return Ok(());
                }
            }
            let had = self.pending.len().min(skip);
            self.pending.drain(..had);
            skip -= had;
            let count = self.read(&mut block)?;
            self.pending.extend_from_slice(&block[..count]);
        }
    }

    fn next(&mut self) -> Result<Message, Failure> {
        let mut block = [0; 4096];
        loop {
            if self.pending.len() >= HEADER {
                let (tag, length) = header(&self.pending);
                if self.pending.len() >= length {
                    let body = self.pending[HEADER..length].to_vec();
                    self.pending.drain(..length);
                    return Ok(Message { tag, body });
                }
            }
            let count = self.read(&mut block)?;
            self.pending.extend_from_slice(&block[..count]);
        }
    }

    fn read(&mut self, block: &mut [u8]) -> Result<usize, Failure> {
        match self.stream.read(block).map_err(io("read"))? {
            0 => Err(Failure::Refused("it closed".to_owned())),
            count => Ok(count),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(bytes).map_err(io("send"))?;
        self.stream.flush().map_err(io("send"))
    }

    fn authenticate(&mut self, target: &Target, keys: &mut Keys) -> Result<(), Failure> {
        let mut phase = None;
        let mut last = None;
        loop {
            let asked = self.next()?;
            if asked.tag != b'R' {
                return Err(asked.unexpected());
            }
            match authentication(&asked.body)? {
                Authentication::Ok => return Ok(()),
                Authentication::Sasl { .. } => {
                    let (first, next) = client_first(Binding::None, nonce());
                    phase = Some(next);
                    let length = (first.len() as u32).to_be_bytes();
                    let body = [SCRAM_SHA_256.as_bytes(), b"\0", &length, &first].concat();
                    self.send(&message(b'p', &body))?;
                }
                Authentication::SaslContinue(data) => {
                    let phase = phase.take().ok_or(Failure::Unexpected('R'))?;
                    let challenge = phase.read(data, ITERATIONS_MAX)?;
                    let salted = keys.salted(target, challenge.salt(), challenge.iterations());
                    let (answer, next) = challenge.answer(&salted);
                    last = Some(next);
                    self.send(&message(b'p', &answer))?;
                }
                Authentication::SaslFinal(data) => {
                    last.take().ok_or(Failure::Unexpected('R'))?.verify(data)?;
                }
                _ => return Err(Failure::Unexpected('R')),
            }
        }
    }
}

impl Keys {
    fn salted(&mut self, target: &Target, salt: &[u8], iterations: NonZeroU32) -> SaltedPassword {
        match &self.0 {
            Some((known, times, salted)) if known == salt && *times == iterations => salted.clone(),
            _ => {
                let salted = SaltedPassword::derive(target.password.as_bytes(), salt, iterations);
                self.0 = Some((salt.to_vec(), iterations, salted.clone()));
                salted
            }
        }
    }
}

impl Message {
    fn unexpected(self) -> Failure {
        match self.tag {
            b'E' => Failure::Refused(String::from_utf8_lossy(&self.body).replace('\0', " ")),
            other => Failure::Unexpected(char::from(other)),
        }
    }
}

fn header(bytes: &[u8]) -> (u8, usize) {
    let length = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
    (bytes[0], length as usize + 1)
}

fn connect(target: &Target) -> Result<Box<dyn Duplex>, Failure> {
    let address = (Ipv4Addr::LOCALHOST, target.port);
    let mut stream = TcpStream::connect(address).map_err(io("connect"))?;
    stream.set_nodelay(true).map_err(io("set up a socket"))?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .map_err(io("set up a socket"))?;
    stream
        .set_write_timeout(Some(PATIENCE))
        .map_err(io("set up a socket"))?;
    let Some(config) = &target.tls else {
        return Ok(Box::new(stream));
    };
    stream.write_all(&SSL_REQUEST).map_err(io("send"))?;
    let mut answer = [0];
    stream.read_exact(&mut answer).map_err(io("read"))?;
    if answer != *b"S" {
        return Err(Failure::Unexpected(char::from(answer[0])));
    }
    let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
    let session = ClientConnection::new(Arc::clone(config), name);
    let session = session.map_err(|error| io("begin TLS")(std::io::Error::other(error)))?;
    Ok(Box::new(StreamOwned::new(session, stream)))
}

fn nonce() -> Nonce {
    let mut bytes = [0; NONCE_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source does not fail");
    Nonce::from_random(&bytes)
}
