//! A client's place in the queue for a link.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use super::{Idle, LinkKind, Pool, keep};
use crate::access::queue::{Queue, Waiter};

/// Longer than a login takes, a client does not wait for a link that is being made as good as new.
const RESET_WAIT: Duration = Duration::from_millis(250);

/// One client's place in the queue, until it is dropped.
pub struct Ticket {
    pool: Arc<Pool>,
    kind: Option<LinkKind>,
    number: u64,
    waiter: Waiter<Idle>,
}

impl Ticket {
    pub(super) fn new(
        pool: &Arc<Pool>,
        kind: Option<LinkKind>,
        queue: &mut Queue<LinkKind, Idle>,
        coming: usize,
    ) -> Self {
        let (number, waiter) = queue.enter(kind.as_ref(), coming);
        Self {
            pool: Arc::clone(pool),
            kind,
            number,
            waiter,
        }
    }

    /// The link that is being made as good as new. None: there is none, it was given up, or it is late.
    pub async fn expected(&mut self) -> Option<(Idle, LinkKind)> {
        let idle = self.waiter.expected(RESET_WAIT).await?;
        Some((idle, self.kind.clone()?))
    }

    /// There is no other way to a link than that somebody gives one up.
    pub fn insist(&mut self) {
        self.pool.lock().queue.insist(self.number);
    }

    /// For who goes on with a link of its own: who else that can be lent to.
    pub fn leave(self) -> Option<LinkKind> {
        self.kind.clone()
    }

    /// Cancel-safe: what is given is not lost.
    pub async fn given(&mut self) -> (Idle, LinkKind) {
        let idle = self.waiter.given().await;
        match self.kind.clone() {
            Some(kind) => (idle, kind),
            None => pending().await,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.pool.lock().queue.leave(self.number);
        if let (Some(idle), Some(kind)) = (self.waiter.close(), &self.kind) {
            keep(&self.pool, kind, idle);
        }
    }
}
