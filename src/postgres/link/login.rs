//! One login: one endpoint, one credential, one answer.

use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::login_error::{GREETING_MAX, LoginError};
use super::target::Target;
use crate::config::{ChannelBinding, Md5, TlsMode, TlsNegotiation};
use crate::credentials::{Credential, Password};
use crate::names::Endpoint;
use crate::net::dial::dial;
use crate::net::{Socket, Stream};
use crate::postgres::talk::stream::{MessageStream, StreamError};
use crate::postgres::wire::opening::Startup;
use crate::postgres::wire::read::{self, Authentication};
use crate::postgres::wire::say;
use crate::postgres::wire::scram::client::{Binding, ExpectServerFinal, ITERATIONS_MAX, client_first};
use crate::postgres::wire::scram::{Nonce, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, SaltedPassword};
use crate::postgres::wire::tag::from_server;
use crate::random;

/// As libpq bounds an authentication request or an error before the login is through.
const MESSAGE_MAX: usize = 30_000;

/// What a server may say before AuthenticationOk that asks for nothing.
const ASIDE_MAX: usize = 64 * 1024;

/// A logged-in connection at rest.
#[derive(Debug)]
pub struct Link {
    pub stream: Stream,
    /// Bytes behind its ReadyForQuery.
    pub unread: BytesMut,
    pub facts: Facts,
}

/// What the login told, and a client is told in turn.
#[derive(Clone, Debug)]
pub struct Facts {
    pub greeting: Arc<Greeting>,
    /// Process id and cancel key, if the server gave any.
    pub backend: Option<Backend>,
    pub endpoint: Endpoint,
    /// When its login began.
    pub born: Instant,
    /// Of what new sessions begin with. 0: nobody had looked when its login began.
    pub epoch: u64,
}

/// Every message from AuthenticationOk (not included) to ReadyForQuery, without BackendKeyData.
#[derive(Debug, PartialEq, Eq)]
pub struct Greeting {
    pub messages: Box<[u8]>,
    /// Where BackendKeyData stood.
    pub key_at: usize,
}

#[derive(Clone, Debug)]
pub struct Backend {
    pub process_id: i32,
    pub key: Box<[u8]>,
}

fn refused(body: &[u8], authenticated: bool) -> LoginError {
    LoginError::Server {
        body: Bytes::copy_from_slice(body),
        authenticated,
    }
}

/// Dials, encrypts, and logs in with `startup` as the credential's user.
pub async fn login(
    target: &Target,
    endpoint: &Endpoint,
    credential: &Credential,
    startup: &Startup,
) -> Result<Link, LoginError> {
    let limit = target.upstream.connect_timeout;
    let born = Instant::now();
    timeout(limit, async {
        let stream = reach(target, endpoint).await?;
        let mut link = log_in(stream, target, endpoint, credential, startup).await?;
        link.facts.born = born;
        Ok(link)
    })
    .await
    .unwrap_or(Err(LoginError::TimedOut))
}

/// A connection as the upstream demands it, with nothing said on it yet.
pub async fn reach(target: &Target, endpoint: &Endpoint) -> Result<Stream, LoginError> {
    let socket = dial(endpoint, &target.dial).await?;
    encrypt(socket, target, endpoint).await
}

/// The login alone. Without a limit of time.
pub async fn log_in(
    stream: Stream,
    target: &Target,
    endpoint: &Endpoint,
    credential: &Credential,
    startup: &Startup,
) -> Result<Link, LoginError> {
    let mut talk = MessageStream::new(stream);
    let mut startup = startup.clone();
    startup.set(b"user", credential.user.as_bytes());
    talk.stream
        .write_all(&startup.write())
        .await
        .map_err(StreamError::from)?;
    talk.stream.flush().await.map_err(StreamError::from)?;
    authenticate(&mut talk, target, credential).await?;
    greeted(talk, endpoint).await
}

/// Settles encryption on a fresh connection, as the upstream demands it.
pub async fn encrypt(mut socket: Socket, target: &Target, endpoint: &Endpoint) -> Result<Stream, LoginError> {
    let tls = &target.upstream.tls;
    let Endpoint::Tcp { host, .. } = endpoint else {
        return Ok(socket.into());
    };
    if tls.mode == TlsMode::Disable {
        return Ok(socket.into());
    }
    if tls.negotiation == TlsNegotiation::Postgres {
        let mut out = BytesMut::new();
        say::ssl_request(&mut out);
        socket.write_all(&out).await.map_err(StreamError::from)?;
        // Exactly one byte is the answer; whatever follows it belongs to the handshake.
        match socket.read_u8().await.map_err(StreamError::from)? {
            b'S' => {}
            b'N' if tls.mode == TlsMode::Prefer => return Ok(socket.into()),
            b'N' => return Err(LoginError::TlsNotOffered),
            other => return Err(LoginError::BadTlsAnswer(other)),
        }
    }
    Ok(target.tls.connect(socket, host).await?)
}

/// Answers the server's authentication requests until AuthenticationOk.
async fn authenticate(
    talk: &mut MessageStream<Stream>,
    target: &Target,
    credential: &Credential,
) -> Result<(), LoginError> {
    let mut scram = Scram::NotUsed;
    let mut out = BytesMut::new();
    let mut aside = 0;
    loop {
        let message = talk.read(MESSAGE_MAX).await?;
        match message.tag {
            from_server::AUTHENTICATION => {}
            from_server::ERROR => return Err(refused(message.body(), false)),
            // The version and the extensions are settled with the client; a notice at this point is for nobody.
            from_server::NEGOTIATE_VERSION | from_server::NOTICE => {
                aside += message.raw().len();
                if aside > ASIDE_MAX {
                    return Err(LoginError::Chatter);
                }
                continue;
            }
            other => return Err(LoginError::Unexpected(char::from(other))),
        }
        match read::authentication(message.body())? {
            Authentication::Ok => {
                return match scram {
                    Scram::NotUsed if target.upstream.tls.channel_binding == ChannelBinding::Require => {
                        Err(LoginError::Unbound)
                    }
                    Scram::NotUsed | Scram::Verified => Ok(()),
                    Scram::Expects(_) => Err(LoginError::Unproven),
                };
            }
            Authentication::Cleartext if talk.stream.tls().is_some_and(|tls| tls.verified) => {
                say::password(&mut out, credential.password.expose());
            }
            Authentication::Cleartext => return Err(LoginError::CleartextRefused),
            Authentication::Md5 { salt } if md5_allowed(target, &talk.stream) => {
                let (user, password) = (credential.user.as_bytes(), credential.password.expose());
                let answer = postgres_protocol::authentication::md5_hash(user, password, salt);
                say::password(&mut out, answer.as_bytes());
            }
            Authentication::Md5 { .. } => return Err(LoginError::Md5Refused),
            Authentication::Sasl { mechanisms } => {
                let binding = choose_binding(&mechanisms, target, &talk.stream)?;
                scram = Scram::Expects(answer_scram(talk, target, binding, credential).await?);
            }
            Authentication::SaslFinal(data) => match std::mem::replace(&mut scram, Scram::Verified) {
                Scram::Expects(phase) => phase.verify(data)?,
                _ => return Err(LoginError::Unexpected('R')),
            },
            Authentication::SaslContinue(_) => return Err(LoginError::Unexpected('R')),
            Authentication::Other(method) => return Err(LoginError::Method(method)),
        }
        talk.write(&mut out).await.map_err(StreamError::from)?;
    }
}

enum Scram {
    NotUsed,
    Expects(ExpectServerFinal),
    Verified,
}

/// From the mechanism to the proof; the server's signature comes next.
async fn answer_scram(
    talk: &mut MessageStream<Stream>,
    target: &Target,
    binding: Binding,
    credential: &Credential,
) -> Result<ExpectServerFinal, LoginError> {
    let mut out = BytesMut::new();
    let mechanism = binding.mechanism();
    let (first, phase) = client_first(binding, Nonce::from_random(&random::bytes()));
    say::sasl_initial(&mut out, mechanism, &first);
    talk.write(&mut out).await.map_err(StreamError::from)?;

    let message = talk.read(MESSAGE_MAX).await?;
    let challenge = match (message.tag, message.body()) {
        (from_server::AUTHENTICATION, body) => match read::authentication(body)? {
            Authentication::SaslContinue(data) => phase.read(data, ITERATIONS_MAX)?,
            _ => return Err(LoginError::Unexpected('R')),
        },
        (from_server::ERROR, body) => return Err(refused(body, false)),
        (other, _) => return Err(LoginError::Unexpected(char::from(other))),
    };
    let (password, salt, iterations) = (&credential.password, challenge.salt(), challenge.iterations());
    let salted = match target.scram_keys.get(password, salt, iterations) {
        Some(salted) => salted,
        None => {
            let salted = derive(password.clone(), salt.to_vec(), iterations).await?;
            target
                .scram_keys
                .keep(password.clone(), salt, iterations, salted.clone());
            salted
        }
    };
    let (proof, phase) = challenge.answer(&salted);
    say::sasl_response(&mut out, &proof);
    talk.write(&mut out).await.map_err(StreamError::from)?;
    Ok(phase)
}

/// Off the threads that serve sessions: it may take milliseconds.
async fn derive(
    password: Password,
    salt: Vec<u8>,
    iterations: NonZeroU32,
) -> Result<SaltedPassword, StreamError> {
    let derive = move || SaltedPassword::derive(password.expose(), &salt, iterations);
    let derived = tokio::task::spawn_blocking(derive).await;
    derived.map_err(|_| StreamError::Io(io::ErrorKind::Interrupted.into()))
}

fn choose_binding(offered: &[&[u8]], target: &Target, stream: &Stream) -> Result<Binding, LoginError> {
    let plus = offered.contains(&SCRAM_SHA_256_PLUS.as_bytes());
    let plain = offered.contains(&SCRAM_SHA_256.as_bytes());
    let policy = target.upstream.tls.channel_binding;
    let hash = stream.tls().and_then(|tls| tls.end_point.clone());
    let hash = hash.filter(|_| policy != ChannelBinding::Disable);
    match hash {
        Some(hash) if plus => Ok(Binding::EndPoint(hash)),
        _ if policy == ChannelBinding::Require => Err(LoginError::Unbound),
        // Nobody else vouches for this server, and it could have.
        None if plus && target.upstream.tls.mode == TlsMode::Require && policy == ChannelBinding::Prefer => {
            Err(LoginError::Unbound)
        }
        Some(_) if plain => Ok(Binding::SupportedButNotOffered),
        None if plain => Ok(Binding::None),
        _ => Err(LoginError::Mechanism),
    }
}

fn md5_allowed(target: &Target, stream: &Stream) -> bool {
    match target.upstream.md5 {
        Md5::Allow => true,
        Md5::Deny => false,
        Md5::Guarded => stream.tls().is_some() || stream.peer().is_local(),
    }
}

/// Collects what the server says between AuthenticationOk and ReadyForQuery.
async fn greeted(mut talk: MessageStream<Stream>, endpoint: &Endpoint) -> Result<Link, LoginError> {
    let mut greeting = BytesMut::new();
    let mut key_at = 0;
    let mut backend = None;
    loop {
        let message = talk.read(GREETING_MAX - greeting.len().min(GREETING_MAX)).await?;
        match message.tag {
            from_server::BACKEND_KEY => {
                let (process_id, key) = read::backend_key(message.body())?;
                key_at = greeting.len();
                backend = Some(Backend {
                    process_id,
                    key: key.into(),
                });
            }
            from_server::ERROR => return Err(refused(message.body(), true)),
            from_server::PARAMETER_STATUS
            | from_server::NOTICE
            | from_server::NOTIFICATION
            | from_server::READY => greeting.extend_from_slice(message.raw()),
            other => return Err(LoginError::Unexpected(char::from(other))),
        }
        if greeting.len() > GREETING_MAX {
            return Err(LoginError::Greeting);
        }
        if message.tag == from_server::READY {
            break;
        }
    }
    let (stream, unread) = talk.into_parts();
    let greeting = Greeting {
        messages: (*greeting).into(),
        key_at,
    };
    Ok(Link {
        stream,
        unread,
        facts: Facts {
            greeting: Arc::new(greeting),
            backend,
            endpoint: endpoint.clone(),
            born: Instant::now(),
            epoch: 0,
        },
    })
}
