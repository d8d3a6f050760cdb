//! Names that a person gave to things, and the address of one Postgres.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $type {
            fn from(name: &str) -> Self {
                Self(name.into())
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// A local identity that a client logs in as.
    RoleName
}
name! {
    /// A Postgres to reach.
    UpstreamName
}
name! {
    /// A named place in a store that yields credentials.
    SecretName
}
name! {
    /// What `pgswivel rotate` works on.
    RotationName
}

/// One address of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    Tcp {
        host: Arc<str>,
        port: u16,
    },
    /// The socket file itself, `…/.s.PGSQL.5432`.
    Unix(Arc<PathBuf>),
}

impl Endpoint {
    /// Whether bytes to it stay on this machine, as far as the name alone can tell.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } => is_loopback_host(host),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// `localhost` by its reserved meaning, or a literal loopback address.
pub fn is_loopback_host(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_prints_as_it_is_written() {
        let v6 = Endpoint::Tcp {
            host: "::1".into(),
            port: 5432,
        };
        assert_eq!(v6.to_string(), "[::1]:5432");
        assert!(v6.is_loopback());
        let named = Endpoint::Tcp {
            host: "db.internal".into(),
            port: 5433,
        };
        assert_eq!(named.to_string(), "db.internal:5433");
        assert!(!named.is_loopback());
    }
}
