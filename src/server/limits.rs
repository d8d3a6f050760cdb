//! The process's own limits.

use rustix::process::{Resource, getrlimit, setrlimit};
use tracing::warn;

use crate::config::{Config, Limits};

/// Listeners, timers, stores, the admin server: what is open besides clients and links.
const FILES_BESIDES: u64 = 128;

/// Clients that are served, clients that are being let in, and cancel requests.
pub fn places(config: &Config) -> u32 {
    let Limits {
        clients,
        startups,
        cancels,
        ..
    } = config.limits;
    clients + startups + cancels
}

/// Every session needs two descriptors. Raises the soft limit as far as the hard one lets it.
pub fn raise_open_files(config: &Config) {
    let links: u64 = config
        .upstreams
        .values()
        .map(|upstream| u64::from(upstream.connections_max))
        .sum();
    let wanted = u64::from(config.limits.clients) + u64::from(config.limits.startups) + links + FILES_BESIDES;
    let mut limit = getrlimit(Resource::Nofile);
    let Some(current) = limit.current else {
        return;
    };
    if current >= wanted {
        return;
    }
    let reachable = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    limit.current = Some(reachable);
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "the limit of open files can't be raised");
        return;
    }
    if reachable < wanted {
        warn!(
            wanted,
            limit = reachable,
            "too few open files for the configured limits: raise LimitNOFILE (systemd), ulimits (containers), or lower limits.clients"
        );
    }
}
