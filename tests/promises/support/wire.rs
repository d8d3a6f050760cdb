//! One connection, byte by byte, from either end.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{PATIENCE, within};

pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
pub const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];
/// 3.0
pub const PROTOCOL_3_0: u32 = 196_608;
/// 3.2
pub const PROTOCOL_3_2: u32 = 196_610;

/// How much is read at once, if there is that much.
const READ: usize = 1 << 16;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection that says what it is told to say and reads what comes.
pub struct Wire {
    stream: Box<dyn Stream>,
    /// Read and not yet looked at.
    pending: BytesMut,
    /// Everything ever read, TLS taken off, when somebody wants it.
    heard: Option<Vec<u8>>,
}

/// One message with a tag.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    pub tag: u8,
    pub body: Bytes,
}

/// An ErrorResponse, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    pub severity: String,
    pub code: String,
    pub message: String,
    /// Each field in the order it came.
    pub fields: Vec<(char, String)>,
}

impl Wire {
    pub async fn connect(address: &str) -> Self {
        let stream = within(PATIENCE, "connecting", TcpStream::connect(address))
            .await
            .unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    pub fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            pending: BytesMut::new(),
            heard: None,
        }
    }

    /// Remembers from here on what the other side says.
    pub fn remembering(mut self) -> Self {
        self.heard = Some(Vec::new());
        self
    }

    /// Connects and logs in with SCRAM, up to the first ReadyForQuery.
    pub async fn login(address: &str, user: &str, password: &str, database: &str) -> Self {
        let mut wire = Self::connect(address).await;
        wire.startup(PROTOCOL_3_0, &[("user", user), ("database", database)])
            .await;
        wire.authenticate(password.as_bytes()).await.unwrap();
        wire.until(b'Z').await;
        wire
    }

    /// Writes `bytes`, and does not mind when the other side has hung up.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.try_send(bytes).await;
    }

    pub async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        within(PATIENCE, "writing", async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        })
        .await
    }

    /// Sends one message with a tag and the right length.
    pub async fn say(&mut self, tag: u8, body: &[u8]) {
        self.send(&message(tag, body)).await;
    }

    pub async fn query(&mut self, sql: &str) {
        self.say(b'Q', &[sql.as_bytes(), b"\0"].concat()).await;
    }

    pub async fn startup(&mut self, version: u32, parameters: &[(&str, &str)]) {
        self.send(&startup(version, parameters)).await;
    }

    /// Sends SSLRequest or its like and returns the one byte that answers it.
    pub async fn ask(&mut self, request: &[u8]) -> u8 {
        self.send(request).await;
        self.byte().await.expect("an answer of one byte")
    }

    /// One byte, or None at the end.
    pub async fn byte(&mut self) -> Option<u8> {
        if self.fill(1).await {
            return Some(self.pending.get_u8());
        }
        None
    }

    /// The next message, or None when the other side has closed.
    pub async fn next(&mut self) -> Option<Message> {
        if !self.fill(5).await {
            return None;
        }
        let length = (&self.pending[1..5]).get_u32() as usize;
        assert!(length >= 4, "a message of {length} bytes: {:?}", self.pending);
        if !self.fill(length + 1).await {
            return None;
        }
        let tag = self.pending.get_u8();
        let mut body = self.pending.split_to(length);
        body.advance(4);
        Some(Message {
            tag,
            body: body.freeze(),
        })
    }

    /// The next message, which must have this tag.
    pub async fn expect(&mut self, tag: u8) -> Message {
        let message = self.next().await;
        match message {
            Some(message) if message.tag == tag => message,
            other => panic!("expected {}, got {other:?}", tag as char),
        }
    }

    /// Everything up to and with the first message of this tag.
    pub async fn until(&mut self, tag: u8) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            match self.next().await {
                Some(message) => messages.push(message),
                None => panic!("closed before {}, after {messages:?}", tag as char),
            }
            if messages.last().is_some_and(|message| message.tag == tag) {
                return messages;
            }
        }
    }

    /// Everything until the other side closes.
    pub async fn rest(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(message) = self.next().await {
            messages.push(message);
        }
        messages
    }

    /// The error that ends this connection: the only message that is left, and then the end.
    pub async fn refusal(&mut self) -> ServerError {
        let messages = self.rest().await;
        match messages.as_slice() {
            [only] if only.tag == b'E' => only.error(),
            other => panic!("expected one error and the end, got {other:?}"),
        }
    }

    /// Whether the other side closes without a word.
    pub async fn ends(&mut self) -> bool {
        !self.fill(1).await
    }

    /// Exactly `length` raw bytes, or fewer at the end.
    pub async fn raw(&mut self, length: usize) -> Bytes {
        self.fill(length).await;
        let length = length.min(self.pending.len());
        self.pending.split_to(length).freeze()
    }

    /// Reads and forgets `length` bytes, however many; false when the other side ends before.
    pub async fn skip(&mut self, mut length: u64) -> bool {
        while length > 0 {
            if !self.fill(1).await {
                return false;
            }
            let taken = self
                .pending
                .len()
                .min(usize::try_from(length).unwrap_or(usize::MAX));
            self.pending.advance(taken);
            length -= taken as u64;
        }
        true
    }

    /// What the other side has said since it is remembered, TLS taken off.
    pub fn heard(&self) -> &[u8] {
        self.heard.as_deref().unwrap_or_default()
    }

    /// Tells the other side that nothing more will come, and still listens.
    pub async fn half_close(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Starts TLS as a client, after whatever was agreed on before.
    pub async fn start_tls(self, config: Arc<ClientConfig>) -> std::io::Result<Self> {
        assert!(self.pending.is_empty(), "bytes before TLS: {:?}", self.pending);
        let remembers = self.heard.is_some();
        let connector = tokio_rustls::TlsConnector::from(config);
        let name = ServerName::try_from("localhost").expect("a valid name");
        let stream = within(PATIENCE, "TLS", connector.connect(name, self.stream)).await?;
        Ok(Self {
            heard: remembers.then(Vec::new),
            ..Self::over(stream)
        })
    }

    /// Starts TLS as a server.
    pub async fn accept_tls(self, config: Arc<ServerConfig>) -> std::io::Result<Self> {
        assert!(self.pending.is_empty(), "bytes before TLS: {:?}", self.pending);
        let remembers = self.heard.is_some();
        let acceptor = tokio_rustls::TlsAcceptor::from(config);
        let stream = within(PATIENCE, "TLS", acceptor.accept(self.stream)).await?;
        Ok(Self {
            heard: remembers.then(Vec::new),
            ..Self::over(stream)
        })
    }

    /// Reads a packet without a tag: what a client starts with.
    pub async fn packet(&mut self) -> Option<Bytes> {
        if !self.fill(4).await {
            return None;
        }
        let length = (&self.pending[..4]).get_u32() as usize;
        if !self.fill(length).await {
            return None;
        }
        let mut packet = self.pending.split_to(length);
        packet.advance(4);
        Some(packet.freeze())
    }

    /// Answers the server's requests for a password, SCRAM without channel binding or trust, up to
    /// and with AuthenticationOk.
    pub async fn authenticate(&mut self, password: &[u8]) -> Result<(), ServerError> {
        let mut scram = ScramSha256::new(password, ChannelBinding::unsupported());
        loop {
            let message = self.next().await.expect("an answer to the login");
            match (message.tag, message.body.get(..4)) {
                (b'E', _) => return Err(message.error()),
                // What is not known was negotiated away.
                (b'v', _) => {}
                (b'R', Some([0, 0, 0, 0])) => return Ok(()),
                (b'R', Some([0, 0, 0, 3])) => self.say(b'p', &[password, b"\0"].concat()).await,
                (b'R', Some([0, 0, 0, 10])) => {
                    let mut out = BytesMut::new();
                    frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut out).unwrap();
                    self.send(&out).await;
                }
                (b'R', Some([0, 0, 0, 11])) => {
                    scram.update(&message.body[4..]).unwrap();
                    let mut out = BytesMut::new();
                    frontend::sasl_response(scram.message(), &mut out).unwrap();
                    self.send(&out).await;
                }
                (b'R', Some([0, 0, 0, 12])) => scram.finish(&message.body[4..]).unwrap(),
                _ => panic!("no answer to a login: {message:?}"),
            }
        }
    }

    /// Reads until `length` bytes are pending; false when the other side ends first.
    async fn fill(&mut self, length: usize) -> bool {
        while self.pending.len() < length {
            let before = self.pending.len();
            self.pending.reserve(READ);
            let read = within(PATIENCE, "reading", self.stream.read_buf(&mut self.pending)).await;
            match read {
                // A reset is an end, and rustls calls an end without close_notify an error.
                Ok(0) | Err(_) => return false,
                Ok(_) => {
                    if let Some(heard) = &mut self.heard {
                        heard.extend_from_slice(&self.pending[before..]);
                    }
                }
            }
        }
        true
    }
}

impl Message {
    /// This ErrorResponse or NoticeResponse, taken apart.
    pub fn error(&self) -> ServerError {
        assert!(matches!(self.tag, b'E' | b'N'), "no error: {self:?}");
        let fields: Vec<(char, String)> = self
            .body
            .split(|byte| *byte == 0)
            .filter(|field| !field.is_empty())
            .map(|field| {
                (
                    field[0] as char,
                    String::from_utf8_lossy(&field[1..]).into_owned(),
                )
            })
            .collect();
        let field = |name: char| {
            let found = fields.iter().find(|(key, _)| *key == name);
            found.map_or_else(String::new, |(_, value)| value.clone())
        };
        ServerError {
            severity: field('V'),
            code: field('C'),
            message: field('M'),
            fields,
        }
    }

    /// The name and the value of this ParameterStatus.
    pub fn parameter(&self) -> (String, String) {
        assert_eq!(self.tag, b'S', "no ParameterStatus: {self:?}");
        let mut parts = self.body.split(|byte| *byte == 0);
        let mut text = || String::from_utf8_lossy(parts.next().unwrap()).into_owned();
        (text(), text())
    }

    /// The process id and the key of this BackendKeyData.
    pub fn key(&self) -> (i32, Bytes) {
        assert_eq!(self.tag, b'K', "no BackendKeyData: {self:?}");
        ((&self.body[..4]).get_i32(), self.body.slice(4..))
    }

    /// The first column of this DataRow, as text.
    pub fn first_column(&self) -> Option<String> {
        assert_eq!(self.tag, b'D', "no DataRow: {self:?}");
        let length = usize::try_from((&self.body[2..6]).get_i32()).ok()?;
        Some(String::from_utf8_lossy(&self.body[6..6 + length]).into_owned())
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = &self.body[..self.body.len().min(200)];
        write!(
            f,
            "{}[{}] {:?}",
            self.tag as char,
            self.body.len(),
            Bytes::copy_from_slice(shown)
        )
    }
}

/// A message with a tag and the right length.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a message below 4 GB");
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

/// A packet without a tag and with the right length.
pub fn packet(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a packet below 4 GB");
    [&length.to_be_bytes()[..], body].concat()
}

pub fn startup(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend_from_slice(&[name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
    }
    body.push(0);
    packet(&body)
}

pub fn cancel_request(pid: i32, key: &[u8]) -> Vec<u8> {
    packet(&[&80_877_102_u32.to_be_bytes()[..], &pid.to_be_bytes(), key].concat())
}
