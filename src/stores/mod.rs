//! Where secrets are kept: a trait to read and one to write, one file a store, and the payload shapes that they share.
//!
//! A [`Store`] only reads, a [`WritableStore`] is for `rotate` alone. Each keeps what it needs to read cheaply (the last map of versions, a login, a
//! lease) and leaves policy to its caller: when to read, what to do with an error, whom to believe. The
//! one deadline that belongs here is that of a single read, see [`read`].

#[cfg(feature = "aws")]
mod aws;
mod calls;
mod command;
mod env;
mod error;
mod file;
pub mod payload;
#[cfg(feature = "vault")]
mod vault;
mod version;
mod write;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use calls::{Calls, Operation};
pub use error::{Retry, Said, StoreError, Unsuitable};
pub use payload::PayloadError;
pub use version::DigestKey;
pub use write::{Change, Holding, Login, NextPlace, Revision, WritableStore, WriteError, look, write};

#[cfg(feature = "aws")]
pub use self::aws::{RdsIamStore, SecretsManagerStore, SecretsManagerWriter, SsmStore};
pub use self::command::{CommandStore, writable_command};
pub use self::env::EnvStore;
pub use self::file::{FileStore, writable_file};
#[cfg(feature = "vault")]
pub use self::vault::{VaultDbStaticStore, VaultDbStore, VaultKvStore};
use crate::config::{Fields, Secret, Source};
use crate::credentials::{Credential, Position};
use crate::names::Endpoint;

/// How long one read may take before it counts as slow. A command brings its own.
pub const READ_TIME_MAX: Duration = Duration::from_secs(10);

/// How many bytes a store may answer with.
pub const PAYLOAD_BYTES_MAX: usize = 1_000_000;

pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One secret in one store, read by one task at a time.
///
/// Dropping a future of it is safe: what a store remembers changes only when a read has come to its end.
pub trait Store: Send {
    /// Reads everything once. Use [`read`], which adds the deadline.
    fn read(&mut self) -> StoreFuture<'_, Result<Reading, StoreError>>;

    /// Resolves when the store itself sees that the secret changed. Most can't: never.
    fn changed(&mut self) -> StoreFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    /// The credential of this version was refused wherever it was tried. A store that can have another
    /// one made will ask for it at the next read.
    fn refused(&mut self, _version: &str) {}

    /// What somebody should know about this store, in one line, as of the last read.
    fn warning(&self) -> Option<Warning> {
        None
    }

    /// How often this store called anybody, by operation.
    fn calls(&self) -> Arc<Calls>;

    fn read_time_max(&self) -> Duration {
        READ_TIME_MAX
    }
}

/// One read of a store, within its time.
pub async fn read(store: &mut dyn Store) -> Result<Reading, StoreError> {
    let limit = store.read_time_max();
    match tokio::time::timeout(limit, store.read()).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::Slow { limit }),
    }
}

/// What one read gave: one consistent set. No credential in it has its user and password from two reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Never empty; best first: current, next, previous, or the list in its own order.
    pub credentials: Vec<Credential>,
    /// When the store itself wants to be read again instead of at the next poll, since there is nothing to find before.
    pub next_read: Option<Duration>,
    /// When it wants to be read, or a little later. A poll may come before.
    pub read_by: Option<Duration>,
    /// The store will take the user away: sessions on these credentials end too.
    pub lease: Option<Lease>,
    /// How long these passwords open new sessions, when that is limited. Sessions they opened go on.
    pub logins_for: Option<Duration>,
    /// Where the secret says its Postgres is. Reported when it differs from the configured one, never followed.
    pub host: Option<HostInSecret>,
    /// Positions that were there and could not be used. None of them is the current one.
    pub skipped: Vec<Skipped>,
    /// As far as the store knows.
    pub made: Vec<Made>,
}

/// When a version came to be. For people: nothing is decided by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub version: Arc<str>,
    pub at: SystemTime,
}

/// A user that lives as long as its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub left: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostInSecret {
    pub host: String,
    pub port: Option<u16>,
}

impl HostInSecret {
    /// Whether it is one of the configured.
    pub fn is_among(&self, endpoints: &[Endpoint]) -> bool {
        endpoints.iter().any(|endpoint| match endpoint {
            Endpoint::Tcp { host, port } => {
                host.eq_ignore_ascii_case(&self.host) && self.port.is_none_or(|named| named == *port)
            }
            Endpoint::Unix(_) => false,
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    pub position: Position,
    pub why: StoreError,
}

impl Reading {
    /// A reading with nothing but credentials; the same (user, password) is kept once, at its best position.
    fn of(credentials: Vec<Credential>) -> Self {
        let mut once: Vec<Credential> = Vec::with_capacity(credentials.len());
        for credential in credentials {
            let known = once
                .iter()
                .any(|kept| kept.user == credential.user && kept.password == credential.password);
            if !known {
                once.push(credential);
            }
        }
        Self {
            credentials: once,
            next_read: None,
            read_by: None,
            lease: None,
            logins_for: None,
            host: None,
            skipped: Vec::new(),
            made: Vec::new(),
        }
    }

    /// Everything in it came to be at one time.
    fn made_at(mut self, at: Option<SystemTime>) -> Self {
        let Some(at) = at else {
            return self;
        };
        let versions = self.credentials.iter().map(|credential| &credential.version);
        self.made = versions
            .map(|version| Made {
                version: Arc::clone(version),
                at,
            })
            .collect();
        self
    }
}

/// A payload within its limit and with something in it.
fn check_size(bytes: &[u8]) -> Result<(), StoreError> {
    if bytes.len() > PAYLOAD_BYTES_MAX {
        return Err(StoreError::TooLarge {
            limit: PAYLOAD_BYTES_MAX,
        });
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(StoreError::Empty);
    }
    Ok(())
}

/// The reading of a payload that has no version of its own.
fn digested(bytes: &[u8], fields: Option<&Fields>, digests: &DigestKey) -> Result<Reading, StoreError> {
    check_size(bytes)?;
    let payload = payload::parse(bytes, fields)?;
    let pairs = payload.pairs.into_iter();
    Ok(Reading {
        host: payload.host,
        ..Reading::of(pairs.map(|pair| pair.digested(digests)).collect())
    })
}

/// A store that works, with a catch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Environment variables are fixed when a process starts.
    CannotRotate,
    /// The file is a mount of its own: whoever replaces it outside, this mount keeps the old one.
    MountedAlone,
    /// `DescribeSecret` is denied: every read fetches the values themselves.
    CannotDescribe,
}

impl Warning {
    /// A stable word for metrics and status.
    pub fn label(self) -> &'static str {
        match self {
            Self::CannotRotate => "cannot_rotate",
            Self::MountedAlone => "mounted_alone",
            Self::CannotDescribe => "cannot_describe",
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CannotRotate => {
                "environment variables are read once and cannot rotate: use another store for a credential that changes"
            }
            Self::MountedAlone => {
                "this file is a mount of its own (a subPath or single-file mount) and will not follow a replaced file: \
                 mount the directory instead"
            }
            Self::CannotDescribe => {
                "secretsmanager:DescribeSecret is denied, so every read fetches the values: allow it"
            }
        })
    }
}

/// What every store needs besides its own settings.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The endpoints that this secret logs in to. A signed token names one of them.
    pub endpoints: &'a [Endpoint],
    /// The same whenever the store is opened again, so that versions outlive it.
    pub digests: &'a DigestKey,
}

/// Makes the store that a secret names. Nothing is read or dialled yet.
pub fn open(secret: &Secret, around: Surroundings<'_>) -> Result<Box<dyn Store>, StoreError> {
    let digests = around.digests.clone();
    let fields = secret.fields.clone();
    Ok(match &secret.source {
        Source::File { path } => Box::new(FileStore::new(path.clone(), fields, digests)),
        Source::Env { user, password } => Box::new(EnvStore::new(user, password, digests)),
        Source::Command { argv, timeout, .. } => {
            Box::new(CommandStore::new(argv.clone(), *timeout, fields, digests)?)
        }
        #[cfg(feature = "aws")]
        Source::AwsSecretsManager { id, aws } => {
            Box::new(SecretsManagerStore::new(id.clone(), aws.clone(), fields))
        }
        #[cfg(feature = "aws")]
        Source::AwsSsm { id, aws } => Box::new(SsmStore::new(id.clone(), aws.clone(), fields)),
        #[cfg(feature = "aws")]
        Source::AwsRdsIam { user, aws } => {
            let store = RdsIamStore::new(user.clone(), aws.clone(), around.endpoints, digests)?;
            Box::new(store)
        }
        #[cfg(not(feature = "aws"))]
        Source::AwsSecretsManager { .. } | Source::AwsSsm { .. } | Source::AwsRdsIam { .. } => {
            return Err(StoreError::Unsuitable(Unsuitable::NotBuiltIn { feature: "aws" }));
        }
        #[cfg(feature = "vault")]
        Source::VaultKv { mount, path, vault } => {
            let store = VaultKvStore::new(vault.clone(), mount.clone(), path.clone(), fields)?;
            Box::new(store)
        }
        #[cfg(feature = "vault")]
        Source::VaultDbStatic { mount, role, vault } => {
            let store = VaultDbStaticStore::new(vault.clone(), mount.clone(), role.clone(), digests)?;
            Box::new(store)
        }
        #[cfg(feature = "vault")]
        Source::VaultDb { mount, role, vault } => {
            let store = VaultDbStore::new(vault.clone(), mount.clone(), role.clone(), digests)?;
            Box::new(store)
        }
        #[cfg(not(feature = "vault"))]
        Source::VaultKv { .. } | Source::VaultDbStatic { .. } | Source::VaultDb { .. } => {
            return Err(StoreError::Unsuitable(Unsuitable::NotBuiltIn {
                feature: "vault",
            }));
        }
    })
}

/// Makes the store that a secret names, to be written. Nothing is read or dialled yet.
pub fn open_writable(secret: &Secret, digests: &DigestKey) -> Result<Box<dyn WritableStore>, StoreError> {
    let fields = secret.fields.clone();
    Ok(match &secret.source {
        Source::File { path } => writable_file(path.clone(), fields, digests.clone()),
        #[cfg(feature = "aws")]
        Source::AwsSecretsManager { id, aws } => {
            let store = SecretsManagerStore::new(id.clone(), aws.clone(), fields);
            Box::new(SecretsManagerWriter::new(store))
        }
        #[cfg(feature = "aws")]
        Source::AwsSsm { id, aws } => SsmStore::new(id.clone(), aws.clone(), fields).writable(),
        #[cfg(feature = "vault")]
        Source::VaultKv { mount, path, vault } => {
            VaultKvStore::new(vault.clone(), mount.clone(), path.clone(), fields)?.writable()
        }
        Source::Command {
            argv,
            write: Some(write),
            timeout,
        } => writable_command(argv.clone(), write.clone(), *timeout, fields, digests)?,
        Source::Command { write: None, .. } => {
            return Err(StoreError::Unsuitable(Unsuitable::NoWriteCommand));
        }
        _ => return Err(StoreError::Unsuitable(Unsuitable::ReadOnly)),
    })
}
