//! The configuration that the rest of the program sees: every value checked, every name resolved.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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

/// What `pgswivel rotate` works on.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotation {
    pub name: RotationName,
    pub secret: SecretName,
    /// Whose credential looks at the servers.
    pub admin: SecretName,
    pub upstreams: Vec<UpstreamName>,
    /// The logins that take turns: none, or at least two.
    pub users: Vec<String>,
    /// How old a credential may become before `rotate age` fails.
    pub max_age: Option<Duration>,
    pub sidecars: Vec<Sidecar>,
    pub style: Style,
    /// Owns what `users` make.
    pub owner: Option<String>,
    /// `run --if-due` does nothing before the credential is so old.
    pub min_interval: Option<Duration>,
    pub soak: Duration,
    pub recipe: PasswordRecipe,
    /// What comes after the new one stays in the secret.
    pub keep_next: bool,
    pub audit: Option<PathBuf>,
    pub report: Option<PathBuf>,
    /// Of the same configuration.
    pub fleet: Option<Fleet>,
}

/// How a rotation replaces what is current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A new password of the same user.
    Single,
    /// `users` take turns.
    Alternating,
}

/// How passwords are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordRecipe {
    pub length: usize,
    pub alphabet: Alphabet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alphabet {
    UrlSafe,
    Alphanumeric,
}

impl Default for PasswordRecipe {
    fn default() -> Self {
        Self {
            length: 40,
            alphabet: Alphabet::UrlSafe,
        }
    }
}

/// The admin address of one pgswivel, or of all that a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sidecar {
    pub every_address: bool,
    pub host: String,
    pub port: u16,
}

/// As it is written in `sidecars`.
impl fmt::Display for Sidecar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.every_address { "dns+http" } else { "http" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

/// Which store, and where in it.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// One file, or a directory with `username` and `password` in it.
    File {
        path: PathBuf,
    },
    Env {
        user: String,
        password: String,
    },
    AwsSecretsManager {
        id: String,
        aws: Aws,
    },
    AwsSsm {
        id: String,
        aws: Aws,
    },
    AwsRdsIam {
        user: String,
        aws: Aws,
    },
    VaultKv {
        mount: String,
        path: String,
        vault: Vault,
    },
    VaultDbStatic {
        mount: String,
        role: String,
        vault: Vault,
    },
    VaultDb {
        mount: String,
        role: String,
        vault: Vault,
    },
    Command {
        argv: Vec<String>,
        /// Takes a new payload; without it, the secret is only read.
        write: Option<Vec<String>>,
        timeout: Duration,
    },
}

impl Source {
    /// Whether others read the same values there, and it gives them no versions.
    pub fn gives_no_versions(&self) -> bool {
        matches!(
            self,
            Self::File { .. } | Self::Env { .. } | Self::Command { .. } | Self::VaultDbStatic { .. }
        )
    }

    /// What it yields is for the endpoints that it was opened for, and no other.
    pub fn names_its_endpoints(&self) -> bool {
        matches!(self, Self::AwsRdsIam { .. })
    }

    /// As `store` is written.
    pub fn store(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Env { .. } => "env",
            Self::AwsSecretsManager { .. } => "aws-secretsmanager",
            Self::AwsSsm { .. } => "aws-ssm",
            Self::AwsRdsIam { .. } => "aws-rds-iam",
            Self::VaultKv { .. } => "vault-kv",
            Self::VaultDbStatic { .. } => "vault-db-static",
            Self::VaultDb { .. } => "vault-db",
            Self::Command { .. } => "command",
        }
    }

    /// As `id` may be written: what it names there.
    pub fn id(&self) -> String {
        match self {
            Self::File { path } => path.display().to_string(),
            Self::Env { user, password } => format!("{user} {password}"),
            Self::AwsSecretsManager { id, .. } | Self::AwsSsm { id, .. } => id.clone(),
            Self::AwsRdsIam { user, .. } => user.clone(),
            Self::VaultKv { mount, path, .. } => format!("{mount}/{path}"),
            Self::VaultDbStatic { mount, role, .. } | Self::VaultDb { mount, role, .. } => {
                format!("{mount}/{role}")
            }
            Self::Command { argv, .. } => argv.join(" "),
        }
    }
}

/// What the AWS SDK's own chain would not find by itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Aws {
    pub region: Option<String>,
    pub endpoint: Option<String>,
}

/// How to reach and log in to a Vault. What is absent comes from Vault's own variables.
#[derive(Clone, Debug, PartialEq)]
pub struct Vault {
    pub address: String,
    pub namespace: Option<String>,
    pub ca: Option<PathBuf>,
    pub auth: VaultAuth,
}

#[derive(Clone, Debug, PartialEq)]
pub enum VaultAuth {
    Token(Password),
    TokenFile(PathBuf),
    AppRole {
        mount: String,
        role_id: String,
        secret_id: VaultSecretId,
    },
    Kubernetes {
        mount: String,
        role: String,
        token_file: PathBuf,
    },
    /// By who this machine is at AWS.
    Aws {
        mount: String,
        role: String,
        /// Of the STS endpoint that Vault asks; None: the global one.
        region: Option<String>,
        /// What Vault wants to see signed, so that a proof for another Vault is worth nothing.
        server_id: Option<String>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum VaultSecretId {
    Literal(Password),
    File(PathBuf),
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

/// How the processes that use the same secrets tell each other that one has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// Of the database that they serve.
    pub channel: String,
    /// None: the host and the process.
    pub instance: Option<String>,
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
