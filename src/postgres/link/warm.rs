//! Keeps links fit, and some of them ready.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::arrival::{Arrival, log_in};
use super::pool::{Extent, GroupName, Idle, LinkKind, NewGroup, keep, look_again, look_first};
use super::way::Way;
use crate::limit::Permit;
use crate::metrics::Task;
use crate::supervise::supervise;

/// So often the links are asked whether they are fit, one of them what new sessions begin with, and a login that
/// failed is tried again. Who drops a database waits longer than that for others to leave it.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// For the log: sessions count from 1.
const NO_SESSION: u64 = 0;

/// Keeps the links of one role and database fit, and as many of them ready as are wanted, for as long as the way is in
/// use.
pub fn keep_warm(way: &Arc<Way>, group: NewGroup) {
    let (metrics, way) = (Arc::clone(way.metrics()), Arc::downgrade(way));
    let NewGroup { name, change } = group;
    tokio::spawn(supervise(Task::Warm, metrics, async move || {
        keep_on(Weak::clone(&way), &name, &change).await;
    }));
}

async fn keep_on(way: Weak<Way>, name: &Arc<GroupName>, change: &Notify) {
    let (mut look_at, mut generation) = (Instant::now(), None);
    loop {
        let Some(way) = way.upgrade() else {
            return;
        };
        let pool = &way.pool;
        if way.replaced.is_cancelled() {
            return pool.close(name);
        }
        let page = way.access.page.borrow().clone();
        let now = Instant::now();
        // Not with each client that comes: that is one link less, and the others are as they were.
        if look_at <= now || generation != Some(page.generation) {
            if !pool.sort_out(name) {
                return;
            }
            (look_at, generation) = (now + LOOK_EVERY, Some(page.generation));
            for (kind, idle) in pool.due(name) {
                look_again(Arc::clone(pool), kind, idle, Extent::Everything);
            }
        }
        if make_ready(&way, name).await {
            continue;
        }
        let (mut pages, replaced) = (way.access.page.clone(), way.replaced.clone());
        drop(way);
        tokio::select! {
            _ = pages.wait_for(|now| now.generation != page.generation) => {}
            () = change.notified() => {}
            () = replaced.cancelled() => {}
            () = sleep_until(look_at) => {}
        }
    }
}

/// One link more, if one is wanted. True: there may be a reason for another.
async fn make_ready(way: &Arc<Way>, name: &Arc<GroupName>) -> bool {
    let pool = &way.pool;
    let Some((kind, startup, warm)) = pool.wanting(name, pool.target.upstream.warm as usize) else {
        return false;
    };
    let Some(connection) = pool.connections.try_take() else {
        return false;
    };
    match log_in(way, &startup, NO_SESSION).await {
        Ok(arrival) => keep_ready(&kind, arrival, connection, warm).await,
        Err(error) => {
            debug!(role = %way.role.name, %error, "no link made ready");
            false
        }
    }
}

async fn keep_ready(kind: &LinkKind, arrival: Arrival, connection: Permit, warm: Permit) -> bool {
    let Arrival {
        mut link,
        registration,
        pool,
    } = arrival;
    pool.share(kind, &mut link.facts.greeting);
    let looked = look_first(&pool, kind, &mut link, &registration.credential().user).await;
    let mut idle = Idle::new(link, registration, connection, None);
    if let Err(error) = looked {
        debug!(%error, "no link made ready");
        idle.part();
        return false;
    }
    idle.warm = Some(warm);
    keep(&pool, kind, idle)
}
