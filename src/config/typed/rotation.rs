//! What replaces credentials, and how processes tell each other that it has happened.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::names::{RotationName, SecretName, UpstreamName};

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

/// How the processes that use the same secrets tell each other that one has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// Of the database that they serve.
    pub channel: String,
    /// None: the host and the process.
    pub instance: Option<String>,
}
