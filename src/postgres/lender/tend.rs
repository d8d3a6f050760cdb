//! Keeps links ready.

use std::sync::Weak;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::super::wire::opening::Startup;
use super::super::{Mapping, links};
use super::{Kept, Kind};

/// So often the links are asked whether they are fit, and a login that failed is tried again.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// For the log: sessions count from 1.
const NO_SESSION: u64 = 0;

/// Keeps the links of one kind fit, and as many of them ready as are wanted, for as long as the mapping is in use.
pub async fn tend(mapping: Weak<Mapping>, kind: Kind, startup: &Startup, change: &Notify) {
    let (mut look_at, mut generation) = (Instant::now(), None);
    loop {
        let Some(mapping) = mapping.upgrade() else {
            return;
        };
        let target = &mapping.target;
        if mapping.replaced.is_cancelled() {
            return target.lender.close(&kind);
        }
        let page = mapping.book.page.borrow().clone();
        let now = Instant::now();
        // Not with each client that comes: that is one link less, and the others are as they were.
        if look_at <= now || generation != Some(page.generation) {
            if !target.lender.sort_out(&kind) {
                return;
            }
            (look_at, generation) = (now + LOOK_EVERY, Some(page.generation));
        }
        if target.lender.ready(&kind) < target.upstream.warm as usize
            && let Some(connection) = target.connections.try_take()
        {
            match links::log_in(&mapping, startup, NO_SESSION).await {
                Ok(mut arrival) => {
                    target.lender.share(&kind, &mut arrival.link.facts.greeting);
                    target.lender.keep(&kind, Kept::new(arrival, connection));
                    continue;
                }
                Err(error) => debug!(role = %mapping.role.name, %error, "no link made ready"),
            }
        }
        let (mut pages, replaced) = (mapping.book.page.clone(), mapping.replaced.clone());
        drop(mapping);
        tokio::select! {
            _ = pages.wait_for(|now| now.generation != page.generation) => {}
            () = change.notified() => {}
            () = replaced.cancelled() => {}
            () = sleep_until(look_at) => {}
        }
    }
}
