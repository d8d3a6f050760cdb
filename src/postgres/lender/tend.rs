//! Keeps links fit, and some of them ready.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::super::links::Arrival;
use super::super::{Mapping, links};
use super::group::GroupName;
use super::look::Extent;
use super::wash::{look_again, look_first};
use super::{Kept, Kind, keep};
use crate::limit::Permit;

/// So often the links are asked whether they are fit, one of them what new sessions begin with, and a login that
/// failed is tried again. Who drops a database waits longer than that for others to leave it.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// For the log: sessions count from 1.
const NO_SESSION: u64 = 0;

/// Keeps the links of one role and database fit, and as many of them ready as are wanted, for as long as the mapping
/// is in use.
pub async fn tend(mapping: Weak<Mapping>, name: &Arc<GroupName>, change: &Notify) {
    let (mut look_at, mut generation) = (Instant::now(), None);
    loop {
        let Some(mapping) = mapping.upgrade() else {
            return;
        };
        let target = &mapping.target;
        if mapping.replaced.is_cancelled() {
            return target.lender.close(name);
        }
        let page = mapping.access.page.borrow().clone();
        let now = Instant::now();
        // Not with each client that comes: that is one link less, and the others are as they were.
        if look_at <= now || generation != Some(page.generation) {
            if !target.lender.sort_out(name) {
                return;
            }
            (look_at, generation) = (now + LOOK_EVERY, Some(page.generation));
            for (kind, kept) in target.lender.due(name) {
                look_again(Arc::clone(target), kind, kept, Extent::Everything);
            }
        }
        if make_ready(&mapping, name).await {
            continue;
        }
        let (mut pages, replaced) = (mapping.access.page.clone(), mapping.replaced.clone());
        drop(mapping);
        tokio::select! {
            _ = pages.wait_for(|now| now.generation != page.generation) => {}
            () = change.notified() => {}
            () = replaced.cancelled() => {}
            () = sleep_until(look_at) => {}
        }
    }
}

/// One link more, if one is wanted. True: there may be a reason for another.
async fn make_ready(mapping: &Arc<Mapping>, name: &Arc<GroupName>) -> bool {
    let target = &mapping.target;
    let Some((kind, startup, warm)) = target.lender.wanting(name, target.upstream.warm as usize) else {
        return false;
    };
    let Some(connection) = target.connections.try_take() else {
        return false;
    };
    match links::log_in(mapping, &startup, NO_SESSION).await {
        Ok(arrival) => keep_ready(&kind, arrival, connection, warm).await,
        Err(error) => {
            debug!(role = %mapping.role.name, %error, "no link made ready");
            false
        }
    }
}

async fn keep_ready(kind: &Kind, mut arrival: Arrival, connection: Permit, warm: Permit) -> bool {
    let target = Arc::clone(&arrival.target);
    target.lender.share(kind, &mut arrival.link.facts.greeting);
    let looked = look_first(kind, &mut arrival).await;
    let mut kept = Kept::new(arrival, connection, None);
    if let Err(error) = looked {
        debug!(%error, "no link made ready");
        kept.part();
        return false;
    }
    kept.warm = Some(warm);
    keep(&target, kind, kept)
}
