//! The process's own limits.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::admin::room::asking_max;
use crate::config::{Config, Limits};

/// Listeners, timers, stores: what is open besides clients, links and who is on the admin address.
const FILES_BESIDES: u64 = 64;

/// Clients that are served, clients that are being let in, and cancel requests.
pub fn places(limits: &Limits) -> u32 {
    let Limits {
        clients,
        startups,
        cancels,
        ..
    } = *limits;
    clients + startups + cancels
}

/// Every session needs two descriptors. Raises the soft limit of open files as far as the hard one lets it, and lowers
/// what is configured to what fits: who comes beyond is told, and what has no place of its own, such as the admin
/// address, finds a descriptor at any time.
pub fn fit_open_files(config: &mut Config) {
    let links = config.upstreams.values();
    let links = links.map(|upstream| u64::from(upstream.connections_max)).sum();
    let wanted = wanted(&config.limits, links);
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let reachable = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = Rlimit {
        current: Some(reachable),
        ..limit
    };
    let reached = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => reachable,
        Err(error) => {
            warn!(%error, "the limit of open files can't be raised");
            limit.current.unwrap_or(reachable)
        }
    };
    if reached < wanted {
        lower(&mut config.limits, links, reached);
        warn!(
            wanted,
            limit = reached,
            clients = config.limits.clients,
            "too few open files for the configured limits, fewer clients are served: raise LimitNOFILE (systemd), ulimits (containers), or lower limits.clients"
        );
    }
}

fn besides(limits: &Limits) -> u64 {
    let pages = limits.admin_connections;
    FILES_BESIDES + u64::from(pages) + u64::from(asking_max(pages))
}

fn wanted(limits: &Limits, links: u64) -> u64 {
    // A cancel request is carried on by a connection of its own.
    u64::from(places(limits)) + u64::from(limits.cancels) + links + besides(limits)
}

/// Half of what is left for clients is links, at most: each of them has one.
fn lower(limits: &mut Limits, links: u64, files: u64) {
    let left = files - besides(limits).min(files / 2);
    let places = left.saturating_sub(links).max(left / 2);
    let places = u32::try_from(places).unwrap_or(u32::MAX).max(3);
    let entering = (places / 4).min(limits.startups + 2 * limits.cancels);
    limits.cancels = limits.cancels.min((entering / 4).max(1));
    limits.startups = limits
        .startups
        .min(entering.saturating_sub(2 * limits.cancels).max(1));
    limits.clients = limits.clients.min((places - entering).max(1));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limits() -> Limits {
        Limits {
            clients: 10_000,
            startups: 1000,
            startup_time: Duration::from_secs(60),
            cancels: 64,
            logins_per_endpoint: 8,
            queue_wait: Duration::from_secs(30),
            statement_bytes: 1 << 20,
            again_bytes: 1 << 16,
            moves: 8,
            warm: 50,
            admin_connections: 64,
            refused_logins_per_minute: 10,
        }
    }

    #[test]
    fn what_is_lowered_fits_and_leaves_everybody_something() {
        for files in [16, 64, 256, 600, 1024, 4096, 11_000] {
            for links in [1, 100, 5000] {
                let mut lowered = limits();
                lower(&mut lowered, links, files);
                let Limits {
                    clients,
                    startups,
                    cancels,
                    ..
                } = lowered;
                assert!(clients > 0 && startups > 0 && cancels > 0, "{lowered:?}");
                let taken = u64::from(places(&lowered)) + u64::from(cancels);
                let is_small = files < 64;
                // As many links as clients, or all that there may be.
                let links = links.min(u64::from(clients));
                let besides = besides(&lowered).min(files / 2);
                assert!(
                    is_small || taken + links + besides <= files,
                    "{files}: {lowered:?}"
                );
            }
        }
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        let mut lowered = limits();
        let files = wanted(&lowered, 100) + 20_000;
        lower(&mut lowered, 100, files);
        assert_eq!(lowered, limits());
    }
}
