//! A client's place in the queue for a link.

use std::sync::Arc;
use std::time::Duration;

use super::super::links::Lent;
use super::super::login::Target;
use super::{Kept, Kind, keep};
use crate::access::queue::{Queue, Waiter};

/// Longer than a login takes, a client does not wait for a link that is being made as good as new.
const RESET_WAIT: Duration = Duration::from_millis(250);

/// One client's place in the queue, until it is dropped.
pub struct Ticket {
    target: Arc<Target>,
    kind: Option<Kind>,
    number: u64,
    waiter: Waiter<Kept>,
}

impl Ticket {
    pub(super) fn new(
        target: Arc<Target>,
        kind: Option<Kind>,
        queue: &mut Queue<Kind, Kept>,
        coming: usize,
    ) -> Self {
        let (number, waiter) = queue.enter(kind.as_ref(), coming);
        Self {
            target,
            kind,
            number,
            waiter,
        }
    }

    /// The link that is being made as good as new. None: there is none, it was given up, or it is late.
    pub async fn expected(&mut self) -> Option<Lent> {
        let kept = self.waiter.expected(RESET_WAIT).await?;
        self.lend(kept)
    }

    /// There is no other way to a link than that somebody gives one up.
    pub fn insist(&mut self) {
        self.target.lender.lock().queue.insist(self.number);
    }

    /// For who goes on with a link of its own: who else that can be lent to.
    pub fn leave(self) -> Option<Kind> {
        self.kind.clone()
    }

    /// Cancel-safe: what is given is not lost.
    pub async fn given(&mut self) -> Lent {
        let kept = self.waiter.given().await;
        match self.lend(kept) {
            Some(lent) => lent,
            None => std::future::pending().await,
        }
    }

    fn lend(&self, kept: Kept) -> Option<Lent> {
        let kind = self.kind.clone()?;
        Some(kept.lend(kind, Arc::clone(&self.target)))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.target.lender.lock().queue.leave(self.number);
        if let (Some(kept), Some(kind)) = (self.waiter.close(), &self.kind) {
            keep(&self.target, kind, kept);
        }
    }
}
