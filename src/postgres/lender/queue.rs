//! Clients that wait for a link, in the order in which they came.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::super::links::Lent;
use super::super::login::Target;
use super::{Kept, Kind};

#[derive(Default)]
pub(super) struct Queue {
    waiting: BTreeMap<u64, Waiter>,
    numbers: u64,
}

struct Waiter {
    /// None: no link of another session will do.
    kind: Option<Kind>,
    /// There is no room for a link of its own.
    insists: bool,
    hand: oneshot::Sender<Kept>,
}

/// One client's place in the queue, until it is dropped.
pub struct Place {
    target: Arc<Target>,
    kind: Option<Kind>,
    number: u64,
    hand: oneshot::Receiver<Kept>,
    /// A link for it is being made as good as new.
    pub is_expected: bool,
}

/// What becomes of a link that nobody has.
pub(super) enum Next {
    /// Somebody has it now.
    Handed,
    /// Whoever has waited for longest needs its place, and not the link.
    MakesRoom(Kept),
    /// Nobody waits for it.
    Rests(Kept),
}

impl Queue {
    pub fn enter(&mut self, kind: Option<&Kind>) -> (u64, oneshot::Receiver<Kept>) {
        let (hand, taken) = oneshot::channel();
        self.numbers += 1;
        let waiter = Waiter {
            kind: kind.cloned(),
            insists: false,
            hand,
        };
        self.waiting.insert(self.numbers, waiter);
        (self.numbers, taken)
    }

    pub fn waiting_for(&self, kind: &Kind) -> usize {
        let kinds = self.waiting.values().filter_map(|waiter| waiter.kind.as_ref());
        kinds.filter(|wanted| *wanted == kind).count()
    }

    /// Hands it to whoever has waited for longest.
    pub fn hand(&mut self, kind: &Kind, mut kept: Kept) -> Next {
        loop {
            let mut waiting = self.waiting.iter();
            let first = waiting.find(|(_, waiter)| waiter.insists || waiter.kind.as_ref() == Some(kind));
            let number = match first {
                None => return Next::Rests(kept),
                Some((_, waiter)) if waiter.kind.as_ref() != Some(kind) => return Next::MakesRoom(kept),
                Some((number, _)) => *number,
            };
            let waiter = self.waiting.remove(&number).expect("it was found");
            match waiter.hand.send(kept) {
                Ok(()) => return Next::Handed,
                // It went a moment ago.
                Err(returned) => kept = returned,
            }
        }
    }
}

impl Place {
    pub(super) fn new(target: Arc<Target>, kind: Option<Kind>, queue: &mut Queue, washing: usize) -> Self {
        let is_expected = kind
            .as_ref()
            .is_some_and(|kind| queue.waiting_for(kind) < washing);
        let (number, hand) = queue.enter(kind.as_ref());
        Self {
            target,
            kind,
            number,
            hand,
            is_expected,
        }
    }

    /// There is no other way to a link than that somebody gives one up.
    pub fn insist(&mut self) {
        let mut room = self.target.lender.lock();
        if let Some(waiter) = room.queue.waiting.get_mut(&self.number) {
            waiter.insists = true;
        }
    }

    /// For who goes on with a link of its own: who else that can be lent to.
    pub fn leave(self) -> Option<Kind> {
        self.kind.clone()
    }

    /// Cancel-safe: what is handed over is not lost.
    pub async fn handed(&mut self) -> Lent {
        match ((&mut self.hand).await, &self.kind) {
            (Ok(kept), Some(kind)) => kept.lend(kind.clone(), Arc::clone(&self.target)),
            _ => pending().await,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.target.lender.lock().queue.waiting.remove(&self.number);
        self.hand.close();
        if let (Ok(kept), Some(kind)) = (self.hand.try_recv(), &self.kind) {
            self.target.lender.keep(kind, kept);
        }
    }
}
