//! One Postgres, asked over a connection of its own.

mod guard;
mod lock;
mod roles;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_postgres::config::{ChannelBinding as Binding, SslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_util::task::AbortOnDropHandle;

use self::guard::{Allowed, Guarded};
pub use self::lock::{Lock, LockError};
pub use self::roles::{Drift, DriftKind, Greeting, Role, Setting, Statement, identifier};
use crate::config::{self, Md5, TlsMode, TlsNegotiation, Upstream};
use crate::credentials::{Credential, Position};
use crate::names::{Endpoint, UpstreamName};
use crate::net::dial::{DialOptions, dial};
use crate::net::tls::{ClientTls, TlsError, TlsFilesError};
use crate::net::{Socket, Stream};
use crate::stores::Login;

/// For one statement.
const STATEMENT_TIME: Duration = Duration::from_secs(10);
/// Every cluster has it.
const DATABASE: &str = "postgres";

/// One endpoint of an upstream.
#[derive(Clone)]
pub struct Server {
    pub endpoint: Endpoint,
    upstream: Arc<Upstream>,
    tls: ClientTls,
    /// What other sessions on the server see it as.
    pub application: Arc<str>,
}

/// Why a server could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("{0}")]
    Unreachable(String),
    #[error("it did not answer within {} s", .0.as_secs_f32())]
    Slow(Duration),
    /// In the server's own words, which hold no statement.
    #[error("{message} (SQLSTATE {sqlstate})")]
    Refused { sqlstate: String, message: String },
}

impl DatabaseError {
    /// Another credential might be let in.
    pub fn is_about_the_credential(&self) -> bool {
        matches!(self, Self::Refused { sqlstate, .. } if matches!(sqlstate.as_str(), "28P01" | "28000"))
    }
}

impl From<tokio_postgres::Error> for DatabaseError {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(said) = error.as_db_error() {
            return Self::Refused {
                sqlstate: said.code().code().to_owned(),
                message: said.message().to_owned(),
            };
        }
        let mut words = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            words = format!("{words}: {error}");
            cause = error.source();
        }
        Self::Unreachable(words)
    }
}

/// A backend of somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    pub pid: i32,
    pub database: String,
    pub application: String,
    /// None: over a Unix socket, or not for this login to see.
    pub client: Option<String>,
    /// RFC 3339; None: not for this login to see.
    pub since: Option<String>,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "backend {}", self.pid)?;
        if !self.database.is_empty() {
            write!(f, " in {}", self.database)?;
        }
        if !self.application.is_empty() {
            write!(f, ", application {:?}", self.application)?;
        }
        if let Some(client) = &self.client {
            write!(f, ", from {client}")?;
        }
        match &self.since {
            Some(since) => write!(f, ", since {since}"),
            None => Ok(()),
        }
    }
}

impl Server {
    pub fn all(upstream: &Arc<Upstream>) -> Result<Vec<Self>, TlsFilesError> {
        let tls = ClientTls::load(&upstream.tls)?;
        let server = |endpoint: &Endpoint| Self {
            endpoint: endpoint.clone(),
            upstream: Arc::clone(upstream),
            tls: tls.clone(),
            application: "pgswivel rotate".into(),
        };
        Ok(upstream.hosts.iter().map(server).collect())
    }

    pub fn upstream(&self) -> &UpstreamName {
        &self.upstream.name
    }

    /// Whether a login is let in. `Err`: nobody can say.
    pub async fn lets_in(&self, login: &Login) -> Result<Result<(), String>, DatabaseError> {
        let credential = Credential {
            user: Arc::clone(&login.user),
            password: login.password.clone(),
            version: "".into(),
            position: Position::Current,
        };
        match self.log_in_with(&credential).await {
            Ok(_) => Ok(Ok(())),
            Err(error) if error.is_about_the_credential() => Ok(Err(error.to_string())),
            // Postgres says so only to who has proven the password: the role's own CONNECTION LIMIT is reached.
            Err(DatabaseError::Refused { sqlstate, message })
                if sqlstate == "53300" && message.contains(&format!("\"{}\"", login.user)) =>
            {
                Ok(Ok(()))
            }
            Err(error) => Err(error),
        }
    }

    pub fn is_of(&self, upstream: &UpstreamName) -> bool {
        self.upstream.name == *upstream
    }

    /// With the first of these that is let in.
    pub async fn log_in(&self, credentials: &[Credential]) -> Result<Session, DatabaseError> {
        let mut last = DatabaseError::Unreachable("no credential is there to log in with".to_owned());
        for credential in credentials {
            match self.log_in_with(credential).await {
                Err(error) if error.is_about_the_credential() => last = error,
                result => return result,
            }
        }
        Err(last)
    }

    async fn log_in_with(&self, credential: &Credential) -> Result<Session, DatabaseError> {
        let limit = self.upstream.connect_timeout;
        let attempt = timeout(limit, self.connect(credential));
        attempt.await.unwrap_or(Err(DatabaseError::Slow(limit)))
    }

    async fn connect(&self, credential: &Credential) -> Result<Session, DatabaseError> {
        let dialled = dial(&self.endpoint, &DialOptions::from(&*self.upstream)).await;
        let socket = dialled.map_err(|error| DatabaseError::Unreachable(error.to_string()))?;
        let is_local = socket.peer().is_local();
        let tls = &self.upstream.tls;
        let mut config = tokio_postgres::Config::new();
        config
            .user(&*credential.user)
            .password(credential.password.expose())
            .dbname(self.upstream.database.as_deref().unwrap_or(DATABASE))
            .application_name(&*self.application);
        let host = match &self.endpoint {
            Endpoint::Unix(_) => None,
            Endpoint::Tcp { host, .. } => Some(Arc::clone(host)),
        };
        config.ssl_mode(match (tls.mode, &host) {
            (TlsMode::Disable, _) | (_, None) => SslMode::Disable,
            (TlsMode::Prefer, _) => SslMode::Prefer,
            _ => SslMode::Require,
        });
        config.ssl_negotiation(match tls.negotiation {
            TlsNegotiation::Postgres => SslNegotiation::Postgres,
            TlsNegotiation::Direct => SslNegotiation::Direct,
        });
        config.channel_binding(match tls.channel_binding {
            config::ChannelBinding::Disable => Binding::Disable,
            config::ChannelBinding::Prefer => Binding::Prefer,
            config::ChannelBinding::Require => Binding::Require,
        });
        let md5 = self.upstream.md5;
        let allowed = move |has_tls: bool, is_verified: bool| Allowed {
            cleartext: has_tls && is_verified,
            md5: match md5 {
                Md5::Allow => true,
                Md5::Guarded => has_tls || is_local,
                Md5::Deny => false,
            },
        };
        let negotiates = config.get_ssl_mode() != SslMode::Disable
            && config.get_ssl_negotiation() == SslNegotiation::Postgres;
        let connector = Connector {
            tls: self.tls.clone(),
            host: host.unwrap_or_default(),
            allowed: Box::new(allowed),
        };
        let plain = Guarded::new(socket, allowed(false, false), negotiates);
        let (client, connection) = config.connect_raw(plain, connector).await?;
        let connection = tokio::spawn(async move {
            // Whoever asked hears of it by the answer that does not come.
            let _ = connection.await;
        });
        Ok(Session {
            client,
            _connection: AbortOnDropHandle::new(connection),
        })
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.endpoint, f)
    }
}

/// Logged in.
pub struct Session {
    client: tokio_postgres::Client,
    _connection: AbortOnDropHandle<()>,
}

impl Session {
    async fn query(
        &self,
        statement: &str,
        values: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>, DatabaseError> {
        match timeout(STATEMENT_TIME, self.client.query(statement, values)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(DatabaseError::Slow(STATEMENT_TIME)),
        }
    }

    async fn one(
        &self,
        statement: &str,
        values: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<tokio_postgres::Row, DatabaseError> {
        let mut rows = self.query(statement, values).await?;
        rows.pop()
            .ok_or_else(|| DatabaseError::Unreachable("it answered with nothing".to_owned()))
    }

    async fn execute(&self, statement: &str) -> Result<(), DatabaseError> {
        match timeout(STATEMENT_TIME, self.client.batch_execute(statement)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(DatabaseError::Slow(STATEMENT_TIME)),
        }
    }

    pub async fn has_role(&self, name: &str) -> Result<bool, DatabaseError> {
        const STATEMENT: &str = "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = $1";
        Ok(!self.query(STATEMENT, &[&name]).await?.is_empty())
    }

    /// Until when a role may log in, and whether that time is over. None: for ever, or there is no such role.
    pub async fn valid_until(&self, name: &str) -> Result<Option<(String, bool)>, DatabaseError> {
        const STATEMENT: &str = "SELECT to_char(rolvaliduntil AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
             rolvaliduntil <= now() FROM pg_catalog.pg_roles WHERE rolname = $1 AND isfinite(rolvaliduntil)";
        let rows = self.query(STATEMENT, &[&name]).await?;
        let row = rows.first().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        let found: Result<_, tokio_postgres::Error> = row.transpose();
        Ok(found?)
    }

    /// To everybody who listens in this database.
    pub async fn notify(&self, channel: &str, payload: &str) -> Result<(), DatabaseError> {
        const STATEMENT: &str = "SELECT pg_catalog.pg_notify($1, $2)";
        self.query(STATEMENT, &[&channel, &payload]).await.map(drop)
    }

    /// Whose application name begins so: the name, and from where.
    pub async fn backends_called(
        &self,
        prefix: &str,
    ) -> Result<Vec<(String, Option<String>)>, DatabaseError> {
        const STATEMENT: &str = "SELECT application_name, host(client_addr) FROM pg_catalog.pg_stat_activity \
             WHERE pg_catalog.starts_with(application_name, $1) ORDER BY 1, 2";
        let rows = self.query(STATEMENT, &[&prefix]).await?;
        let found: Result<_, tokio_postgres::Error> = rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect();
        Ok(found?)
    }

    /// Everything that is logged in as this role, whatever it does: sessions, replication, workers of both.
    pub async fn backends_of(&self, role: &str) -> Result<Vec<Backend>, DatabaseError> {
        const STATEMENT: &str = "SELECT pid, coalesce(datname, '')::text, coalesce(application_name, ''), \
             host(client_addr), to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') \
             FROM pg_catalog.pg_stat_activity WHERE usename = $1 ORDER BY backend_start, pid";
        let rows = self.query(STATEMENT, &[&role]).await?;
        let backend = |row: &tokio_postgres::Row| {
            Ok(Backend {
                pid: row.try_get(0)?,
                database: row.try_get(1)?,
                application: row.try_get(2)?,
                client: row.try_get(3)?,
                since: row.try_get(4)?,
            })
        };
        let backends: Result<_, tokio_postgres::Error> = rows.iter().map(backend).collect();
        Ok(backends?)
    }
}

/// TLS as the upstream wants it.
struct Connector {
    tls: ClientTls,
    host: Arc<str>,
    allowed: Box<dyn FnOnce(bool, bool) -> Allowed + Send>,
}

impl TlsConnect<Guarded<Socket>> for Connector {
    type Stream = Encrypted;
    type Error = TlsError;
    type Future = Pin<Box<dyn Future<Output = Result<Encrypted, TlsError>> + Send>>;

    fn connect(self, plain: Guarded<Socket>) -> Self::Future {
        Box::pin(async move {
            let stream = self.tls.connect(plain.into_inner(), &self.host).await?;
            let is_verified = stream.tls().is_some_and(|facts| facts.verified);
            let allowed = (self.allowed)(true, is_verified);
            Ok(Encrypted(Guarded::new(stream, allowed, false)))
        })
    }
}

struct Encrypted(Guarded<Stream>);

impl TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        let facts = self.0.as_ref().tls();
        match facts.and_then(|facts| facts.end_point.as_ref()) {
            Some(hash) => ChannelBinding::tls_server_end_point(hash.to_vec()),
            None => ChannelBinding::none(),
        }
    }
}

type Polled<T> = std::task::Poll<std::io::Result<T>>;
type Context<'a, 'b> = &'a mut std::task::Context<'b>;

impl AsyncRead for Encrypted {
    fn poll_read(mut self: Pin<&mut Self>, cx: Context<'_, '_>, buffer: &mut ReadBuf<'_>) -> Polled<()> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, cx: Context<'_, '_>, bytes: &[u8]) -> Polled<usize> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: Context<'_, '_>) -> Polled<()> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: Context<'_, '_>) -> Polled<()> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
