//! Who waits for a thing of some kind, in the order in which they came.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

pub struct Queue<K, T> {
    waiting: BTreeMap<u64, Waiting<K, T>>,
    numbers: u64,
}

impl<K, T> Default for Queue<K, T> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            numbers: 0,
        }
    }
}

struct Waiting<K, T> {
    /// None: nothing that was another's will do.
    kind: Option<K>,
    /// There is no room for one of its own.
    insists: bool,
    give: oneshot::Sender<T>,
    /// One is being made ready for it, for as long as this is there.
    expects: Option<oneshot::Sender<Infallible>>,
}

/// Hears what becomes of the wait.
pub struct Waiter<T> {
    given: oneshot::Receiver<T>,
    given_up: Option<oneshot::Receiver<Infallible>>,
}

/// What becomes of a thing that nobody has.
pub enum Next<T> {
    /// Somebody has it now.
    Given,
    /// Whoever has waited for longest needs its room, and not the thing.
    MakesRoom(T),
    /// Nobody waits for it.
    Rests(T),
}

impl<K: Clone + PartialEq, T> Queue<K, T> {
    /// Of its kind, so many are `coming`. The number is for [`insist`](Self::insist) and [`leave`](Self::leave).
    pub fn enter(&mut self, kind: Option<&K>, coming: usize) -> (u64, Waiter<T>) {
        let is_expected = kind.is_some_and(|kind| self.waiting_for(kind) < coming);
        let (give, given) = oneshot::channel();
        let (expects, given_up) = is_expected.then(oneshot::channel).unzip();
        self.numbers += 1;
        let waiting = Waiting {
            kind: kind.cloned(),
            insists: false,
            give,
            expects,
        };
        self.waiting.insert(self.numbers, waiting);
        (self.numbers, Waiter { given, given_up })
    }

    /// There is no other way for this one than that somebody gives one up.
    pub fn insist(&mut self, number: u64) {
        if let Some(waiting) = self.waiting.get_mut(&number) {
            waiting.insists = true;
        }
    }

    pub fn leave(&mut self, number: u64) {
        self.waiting.remove(&number);
    }

    /// No more than so many are coming: who waits behind as many others is told not to wait for one.
    pub fn expect_at_most(&mut self, kind: &K, coming: usize) {
        let waiting = self.waiting.values_mut();
        let alike = waiting.filter(|waiting| waiting.kind.as_ref() == Some(kind));
        for waiting in alike.skip(coming) {
            waiting.expects = None;
        }
    }

    pub fn waiting_for(&self, kind: &K) -> usize {
        let kinds = self.waiting.values().filter_map(|waiting| waiting.kind.as_ref());
        kinds.filter(|wanted| *wanted == kind).count()
    }

    /// Gives it to whoever has waited for longest.
    pub fn give(&mut self, kind: &K, mut thing: T) -> Next<T> {
        loop {
            let mut waiting = self.waiting.iter();
            let first = waiting.find(|(_, waiting)| waiting.insists || waiting.kind.as_ref() == Some(kind));
            let number = match first {
                None => return Next::Rests(thing),
                Some((_, waiting)) if waiting.kind.as_ref() != Some(kind) => return Next::MakesRoom(thing),
                Some((number, _)) => *number,
            };
            let waiting = self.waiting.remove(&number).expect("it was found");
            match waiting.give.send(thing) {
                Ok(()) => return Next::Given,
                // It went a moment ago.
                Err(returned) => thing = returned,
            }
        }
    }
}

impl<T> Waiter<T> {
    /// The one that is being made ready. None: there is none, it was given up, or it takes longer than `wait`.
    pub async fn expected(&mut self, wait: Duration) -> Option<T> {
        let given_up = self.given_up.take()?;
        tokio::select! {
            biased;
            thing = self.given() => Some(thing),
            _ = given_up => None,
            () = sleep(wait) => None,
        }
    }

    /// Cancel-safe: what is given is not lost.
    pub async fn given(&mut self) -> T {
        match (&mut self.given).await {
            Ok(thing) => thing,
            Err(_) => pending().await,
        }
    }

    /// For who has left the queue: what was given at the last moment.
    pub fn close(&mut self) -> Option<T> {
        self.given.close();
        self.given.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    fn waits(waiter: &mut Waiter<()>) -> bool {
        let given_up = waiter.given_up.as_mut();
        given_up.is_some_and(|given_up| given_up.try_recv() == Err(TryRecvError::Empty))
    }

    #[test]
    fn who_waits_for_a_link_that_is_given_up_is_told() {
        let (kind, other) = ("orders", "billing");
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

    #[test]
    fn who_has_waited_for_longest_is_given_it_unless_it_has_left() {
        let mut queue = Queue::default();
        let (_, gone) = queue.enter(Some(&"orders"), 0);
        let (number, mut first) = queue.enter(Some(&"orders"), 0);
        let (_, mut second) = queue.enter(Some(&"orders"), 0);
        drop(gone);
        assert!(matches!(queue.give(&"orders", 1), Next::Given));
        queue.leave(number);
        assert_eq!((first.close(), second.close()), (Some(1), None));
        assert!(matches!(queue.give(&"billing", 2), Next::Rests(2)));
        let (number, _first) = queue.enter(Some(&"billing"), 0);
        queue.insist(number);
        assert!(matches!(queue.give(&"orders", 3), Next::MakesRoom(3)));
    }
}
