//! The flags that commands share.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "brackets name an environment variable in the help that is made of these comments"
)]

use std::path::PathBuf;

use crate::config;

/// What every command that needs the configuration takes. No `Debug`: a URL may hold a password that
/// will be refused.
#[derive(clap::Args)]
pub(super) struct Flags {
    /// The configuration file, TOML [PGSWIVEL_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where clients connect: host:port, unix:/directory or systemd; may be repeated [PGSWIVEL_LISTEN]
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,

    /// The Postgres to reach, such as postgres://db.internal/orders?sslmode=verify-full [PGSWIVEL_UPSTREAM]
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,

    /// Where the credentials are, such as file:/run/secrets/orders.json [PGSWIVEL_SECRET]
    #[arg(long, value_name = "URL")]
    secret: Option<String>,

    /// The local role that these flags describe [PGSWIVEL_ROLE]
    #[arg(long, value_name = "NAME")]
    role: Option<String>,

    /// Where metrics, health and status are served, IP:port [PGSWIVEL_ADMIN]
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
}

/// What a command takes that asks a running pgswivel.
#[derive(clap::Args)]
pub(super) struct Whom {
    /// Where it serves its status, IP:port; without it, as `run` finds it [PGSWIVEL_ADMIN]
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,

    /// Its configuration file, for the address [PGSWIVEL_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl From<Whom> for config::Flags {
    fn from(whom: Whom) -> Self {
        Self {
            admin: whom.admin,
            config: whom.config,
            ..Self::default()
        }
    }
}

impl From<Flags> for config::Flags {
    fn from(flags: Flags) -> Self {
        Self {
            config: flags.config,
            listen: flags.listen,
            upstream: flags.upstream,
            secret: flags.secret,
            role: flags.role,
            admin: flags.admin,
        }
    }
}
