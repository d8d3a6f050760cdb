//! Clients that wait for a link, in the order in which they came.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use super::super::links::Lent;
use super::super::login::Target;
use super::{Kept, Kind, keep};

/// Longer than a login takes, a client does not wait for a link that is being made as good as new.
const RESET_WAIT: Duration = Duration::from_millis(250);

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
    /// A link for it is being made as good as new, for as long as this is there.
    expects: Option<oneshot::Sender<Infallible>>,
}

/// Where a waiter hears what becomes of it.
struct Ear {
    hand: oneshot::Receiver<Kept>,
    given_up: Option<oneshot::Receiver<Infallible>>,
}

/// One client's place in the queue, until it is dropped.
pub struct Place {
    target: Arc<Target>,
    kind: Option<Kind>,
    number: u64,
    ear: Ear,
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
    /// Of its kind, so many links are `coming`.
    fn enter(&mut self, kind: Option<&Kind>, coming: usize) -> (u64, Ear) {
        let is_expected = kind.is_some_and(|kind| self.waiting_for(kind) < coming);
        let (hand, taken) = oneshot::channel();
        let (expects, given_up) = is_expected.then(oneshot::channel).unzip();
        self.numbers += 1;
        let waiter = Waiter {
            kind: kind.cloned(),
            insists: false,
            hand,
            expects,
        };
        self.waiting.insert(self.numbers, waiter);
        let ear = Ear {
            hand: taken,
            given_up,
        };
        (self.numbers, ear)
    }

    /// No more than so many are coming: who waits behind as many others is told not to wait for one.
    pub fn expect_at_most(&mut self, kind: &Kind, coming: usize) {
        let waiting = self.waiting.values_mut();
        let alike = waiting.filter(|waiter| waiter.kind.as_ref() == Some(kind));
        for waiter in alike.skip(coming) {
            waiter.expects = None;
        }
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
    pub(super) fn new(target: Arc<Target>, kind: Option<Kind>, queue: &mut Queue, coming: usize) -> Self {
        let (number, ear) = queue.enter(kind.as_ref(), coming);
        Self {
            target,
            kind,
            number,
            ear,
        }
    }

    /// The link that is being made as good as new. None: there is none, it was given up, or it is late.
    pub async fn expected(&mut self) -> Option<Lent> {
        let given_up = self.ear.given_up.take()?;
        tokio::select! {
            biased;
            lent = self.handed() => Some(lent),
            _ = given_up => None,
            () = sleep(RESET_WAIT) => None,
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
        match ((&mut self.ear.hand).await, &self.kind) {
            (Ok(kept), Some(kind)) => kept.lend(kind.clone(), Arc::clone(&self.target)),
            _ => pending().await,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.target.lender.lock().queue.waiting.remove(&self.number);
        self.ear.hand.close();
        if let (Ok(kept), Some(kind)) = (self.ear.hand.try_recv(), &self.kind) {
            keep(&self.target, kind, kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::super::super::wire::opening::Startup;
    use super::*;

    fn waits(ear: &mut Ear) -> bool {
        let given_up = ear.given_up.as_mut();
        given_up.is_some_and(|given_up| given_up.try_recv() == Err(TryRecvError::Empty))
    }

    #[test]
    fn who_waits_for_a_link_that_is_given_up_is_told() {
        let [kind, other] = ["orders", "billing"].map(|role| Kind::new(&role.into(), &Startup::default()));
        let mut queue = Queue::default();
        let [mut first, mut second, mut third] = [(); 3].map(|()| queue.enter(Some(&kind), 2).1);
        let (_, mut stranger) = queue.enter(Some(&other), 1);
        assert_eq!(
            [&mut first, &mut second, &mut third].map(waits),
            [true, true, false]
        );
        queue.expect_at_most(&kind, 1);
        assert_eq!([&mut first, &mut second].map(waits), [true, false]);
        queue.expect_at_most(&kind, 0);
        assert!(!waits(&mut first));
        assert!(waits(&mut stranger));
    }
}
