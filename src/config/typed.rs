//! The configuration that the rest of the program sees: every value checked, every name resolved.

mod rotation;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use rotation::{Alphabet, Fleet, PasswordRecipe, Rotation, Sidecar, Style};

use super::source::Source;
use crate::credentials::Password;
use crate::names::{Endpoint, RoleName, RotationName, SecretName, UpstreamName};

#[derive(Clone, Debug)]
pub struct Config {
    pub listen: Listen,
    pub roles: BTreeMap<RoleName, Arc<Role>>,
    pub upstreams: BTreeMap<UpstreamName, Arc<Upstream>>,
    pub secrets: BTreeMap<SecretName, Arc<Secret>>,
    pub rotations: BTreeMap<RotationName, Arc<Rotation>>,
    pub login: LoginPolicy,
    pub limits: Limits,
    /// None: this process tells no other of changes, and hears of none.
    pub fleet: Option<Fleet>,
    pub admin: Admin,
    pub log: Log,
    /// How long sessions may take to end after SIGTERM.
    pub drain: Duration,
    /// Threads that serve sessions.
    pub workers: u32,
    /// Under which values get versions that a fleet can compare. None: a role's password.
    pub version_key: Option<Password>,
}

impl Config {
    /// What every process of a fleet knows that has this secret, and nobody else. None: there is no such thing.
    pub fn version_key(&self, secret: &SecretName) -> Option<&Password> {
        let mut roles = self.roles.values().filter(|role| role.secret == *secret);
        let of_role = || {
            roles.find_map(|role| match &role.auth {
                Auth::Scram(password) => Some(password),
                Auth::Trust => None,
            })
        };
        self.version_key.as_ref().or_else(of_role)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Listen {
    pub addresses: Vec<ListenAddress>,
    pub tls: Option<CertifiedKeyFiles>,
    /// Announced to local clients in SCRAM.
    pub scram_iterations: u32,
    /// A listener that others can reach, without TLS, because somebody wrote so.
    pub insecure: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    Tcp {
        host: String,
        port: u16,
    },
    /// The socket file itself.
    Unix(PathBuf),
    /// Sockets that systemd passes: those of this `FileDescriptorName=`, or all.
    Passed(Option<String>),
}

/// As it is written in `listen.address`.
impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Passed(None) => f.write_str("systemd"),
            Self::Passed(Some(name)) => write!(f, "systemd:{name}"),
        }
    }
}

/// PEM files: a certificate chain, leaf first, and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertifiedKeyFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// A local identity, and what it is mapped to.
#[derive(Clone, Debug, PartialEq)]
pub struct Role {
    pub name: RoleName,
    pub auth: Auth,
    pub upstream: UpstreamName,
    pub secret: SecretName,
    /// `SET ROLE` after login.
    pub set_role: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Auth {
    Scram(Password),
    Trust,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    pub name: UpstreamName,
    /// Never empty.
    pub hosts: Vec<Endpoint>,
    /// None: what the client asks for.
    pub database: Option<String>,
    pub other_database: OtherDatabase,
    pub tls: UpstreamTls,
    pub md5: Md5,
    pub connect_timeout: Duration,
    pub keepalive: Keepalive,
    /// How long sent bytes may stay unacknowledged before the link counts as lost.
    pub user_timeout: Duration,
    pub connections_max: u32,
    pub warm: u32,
    pub reuse: bool,
    /// What a server says it has undone is asked of another link.
    pub again: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamTls {
    pub mode: TlsMode,
    pub negotiation: TlsNegotiation,
    pub channel_binding: ChannelBinding,
    /// PEM roots to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// The name to verify and to announce instead of the host.
    pub server_name: Option<String>,
    /// SHA-256 of the server's leaf certificate: trusted whatever its chain or name.
    pub pin: Option<[u8; 32]>,
    pub client: Option<CertifiedKeyFiles>,
}

/// What a client gets that asks for another database than the upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherDatabase {
    /// Nothing: what it does there was meant for another.
    Refuse,
    /// The upstream's.
    Ignore,
}

/// libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// libpq's `sslnegotiation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsNegotiation {
    Postgres,
    Direct,
}

/// libpq's `channel_binding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

/// Whether a server may ask for an md5 answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Md5 {
    /// Over TLS, or to this machine.
    Guarded,
    Allow,
    Deny,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    pub idle: Duration,
    pub interval: Duration,
    pub count: u32,
}

/// A named place in a store, and what to do with what it yields.
#[derive(Clone, Debug, PartialEq)]
pub struct Secret {
    pub name: SecretName,
    pub source: Source,
    /// Maps a payload of any shape; None: recognised by its keys.
    pub fields: Option<Fields>,
    pub poll: Duration,
    pub sessions: SessionsPolicy,
    pub grace: Duration,
    /// How old a credential may become before somebody should know.
    pub max_age: Option<Duration>,
}

/// Names of the keys that hold each part of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    pub current: FieldPair,
    pub next: Option<FieldPair>,
    pub previous: Option<FieldPair>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPair {
    pub user: String,
    pub password: String,
}

/// What happens to sessions on a retired credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionsPolicy {
    Auto,
    Keep,
    Move,
    Cut,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoginPolicy {
    /// How long a client is held while no credential works.
    pub patience: Duration,
    /// How long a refused credential is not tried again on that endpoint.
    pub refused_retry: Duration,
}

/// Everything that can be exhausted. Each is named in the error that a hit causes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Clients at once.
    pub clients: u32,
    /// Clients at once that have not logged in yet.
    pub startups: u32,
    /// From accept to the client's last authentication message.
    pub startup_time: Duration,
    /// Cancel requests carried upstream at once.
    pub cancels: u32,
    /// Upstream logins at once, per endpoint.
    pub logins_per_endpoint: u32,
    /// How long a client waits for one of an upstream's `connections_max`.
    pub queue_wait: Duration,
    /// Bytes of statement text kept per session for replay.
    pub statement_bytes: u32,
    /// Bytes of what a session has in flight, kept to be asked again.
    pub again_bytes: u32,
    /// Sessions that change links at once.
    pub moves: u32,
    /// Links that no session is on: made ready, or left by one.
    pub warm: u32,
    /// Connections to the admin address that ask for pages.
    pub admin_connections: u32,
    /// Logins that an endpoint may refuse in a minute before no more are sent.
    pub refused_logins_per_minute: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    pub address: SocketAddr,
    /// Names that it is asked by, besides its address.
    pub hosts: Vec<String>,
    /// Whoever knows it may ask for a refresh or a stop from elsewhere.
    pub token: Option<Password>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// None: text on a terminal, JSON elsewhere.
    pub format: Option<LogFormat>,
    /// A `tracing` filter.
    pub level: String,
    /// Where audit lines go besides the log.
    pub audit: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}
