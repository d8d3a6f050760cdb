//! Links of one upstream that no session is on: made ready for the next client, or left by the last one. A link is
//! lent to the role that it was opened for, and to clients that begin exactly as its first one did.

mod queue;
mod tend;
mod wash;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::queue::{Next, Queue};
use super::Mapping;
use super::farewell::leave;
use super::links::{Arrival, Lent};
use super::login::{Greeting, Link, Target};
use super::roster::Berth;
use super::wire::opening::Startup;
use crate::credentials::Page;
use crate::limit::Permit;
use crate::metrics::Task;
use crate::names::RoleName;
use crate::supervise::supervise;

pub use self::queue::Place;
pub use self::wash::take_back;

/// A link that nobody wants is not kept longer.
const IDLE_LIFE: Duration = Duration::from_secs(60);
/// What a backend has gathered (caches, memory) is given back now and then.
const TOTAL_LIFE: Duration = Duration::from_secs(30 * 60);
/// A kind of client that has not come for so long is not expected.
const EXPECTED_FOR: Duration = Duration::from_secs(10 * 60);

/// Who a link can be lent to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    role: RoleName,
    /// The startup packet, without a user.
    startup: Arc<[u8]>,
}

impl Kind {
    pub fn new(role: &RoleName, startup: &Startup) -> Self {
        Self {
            role: role.clone(),
            startup: startup.write().into(),
        }
    }
}

#[derive(Default)]
pub struct Lender {
    room: Mutex<Room>,
}

#[derive(Default)]
struct Room {
    shelves: HashMap<Kind, Shelf>,
    queue: Queue,
}

/// Links of one kind, the latest last.
struct Shelf {
    kept: Vec<Kept>,
    /// So many are being made as good as new.
    washing: usize,
    /// What such links were greeted with, once for all of them.
    greeting: Option<Arc<Greeting>>,
    asked_at: Instant,
    page: watch::Receiver<Arc<Page>>,
    change: Arc<Notify>,
}

/// A link at rest, and its share of `connections_max`. It does not say where it leads: the target has the lender.
pub struct Kept {
    link: Link,
    berth: Berth,
    connection: Permit,
    since: Instant,
}

/// What there is for a client.
pub enum Offer {
    Ready(Box<Lent>),
    Queue(Place),
}

impl Kept {
    fn new(arrival: Arrival, connection: Permit) -> Self {
        Self {
            link: arrival.link,
            berth: arrival.berth,
            connection,
            since: Instant::now(),
        }
    }

    fn is_fit(&mut self, page: &Page, now: Instant) -> bool {
        let Link { stream, facts, .. } = &mut self.link;
        let is_young = now < self.since + IDLE_LIFE && now < facts.born + TOTAL_LIFE;
        is_young && page.is_live(self.berth.credential()) && stream.is_quiet()
    }

    fn lend(self, kind: Kind, target: Arc<Target>) -> Lent {
        let arrival = Arrival {
            link: self.link,
            berth: self.berth,
            target,
        };
        Lent {
            arrival,
            connection: self.connection,
            kind: Some(kind),
        }
    }

    fn part(self) -> JoinHandle<()> {
        tokio::spawn(async move {
            leave(self.link.stream, self.berth).await;
            drop(self.connection);
        })
    }
}

impl Shelf {
    fn new(page: watch::Receiver<Arc<Page>>) -> Self {
        Self {
            kept: Vec::new(),
            washing: 0,
            greeting: None,
            asked_at: Instant::now(),
            page,
            change: Arc::default(),
        }
    }

    /// The latest that is fit. What is older and is not goes.
    fn take(&mut self) -> Option<Kept> {
        let (now, page) = (Instant::now(), self.page.borrow().clone());
        while let Some(mut kept) = self.kept.pop() {
            if kept.is_fit(&page, now) {
                return Some(kept);
            }
            kept.part();
        }
        None
    }
}

impl Room {
    /// Of the clients that wait, somebody gets it. If nobody does, it rests.
    fn hand(&mut self, kind: &Kind, kept: Kept) {
        let Some(shelf) = self.shelves.get_mut(kind) else {
            return drop(kept.part());
        };
        if !shelf.page.borrow().is_live(kept.berth.credential()) {
            return drop(kept.part());
        }
        match self.queue.hand(kind, kept) {
            Next::Handed => {}
            Next::MakesRoom(kept) => drop(kept.part()),
            Next::Rests(kept) => shelf.kept.push(kept),
        }
    }
}

impl Lender {
    /// A link that is ready, or a place in the queue. The first client of a kind has more of them made.
    pub fn offer(&self, kind: Option<Kind>, mapping: &Arc<Mapping>, startup: &Startup) -> Offer {
        let mut room = self.lock();
        let Room { shelves, queue } = &mut *room;
        let kind = kind.filter(|_| !mapping.replaced.is_cancelled());
        let target = Arc::clone(&mapping.target);
        let Some(kind) = kind else {
            return Offer::Queue(Place::new(target, None, queue, 0));
        };
        let mut entry = match shelves.entry(kind) {
            Entry::Occupied(entry) => entry,
            Entry::Vacant(entry) => {
                let shelf = Shelf::new(mapping.book.page.clone());
                let metrics = Arc::clone(&mapping.book.metrics);
                let (mapping, change) = (Arc::downgrade(mapping), Arc::clone(&shelf.change));
                let kind = entry.key().clone();
                let startup = startup.clone();
                tokio::spawn(supervise(Task::Warm, metrics, async move || {
                    let (mapping, kind) = (Weak::clone(&mapping), kind.clone());
                    tend::tend(mapping, kind, &startup, &change).await;
                }));
                entry.insert_entry(shelf)
            }
        };
        // All that are of one kind share what says so.
        let kind = entry.key().clone();
        let shelf = entry.get_mut();
        shelf.asked_at = Instant::now();
        let ready = shelf.take();
        shelf.change.notify_one();
        match ready {
            Some(kept) => Offer::Ready(Box::new(kept.lend(kind, target))),
            None => Offer::Queue(Place::new(target, Some(kind), queue, shelf.washing)),
        }
    }

    /// Gives up the link that has been idle for longest, so that another client can have its place: once what is
    /// returned is done. None: no link is idle.
    pub fn make_room(&self) -> Option<JoinHandle<()>> {
        let mut room = self.lock();
        let idle = room.shelves.values_mut().filter(|shelf| !shelf.kept.is_empty());
        let shelf = idle.min_by_key(|shelf| shelf.kept[0].since);
        shelf.map(|shelf| shelf.kept.remove(0).part())
    }

    /// The same greeting is kept once.
    pub fn share(&self, kind: &Kind, greeting: &mut Arc<Greeting>) {
        let mut room = self.lock();
        let Some(shelf) = room.shelves.get_mut(kind) else {
            return;
        };
        match &shelf.greeting {
            Some(known) if **known == **greeting => *greeting = Arc::clone(known),
            _ => shelf.greeting = Some(Arc::clone(greeting)),
        }
    }

    /// A link for whoever waits, or comes.
    fn keep(&self, kind: &Kind, kept: Kept) {
        self.lock().hand(kind, kept);
    }

    fn expect(&self, kind: &Kind) {
        if let Some(shelf) = self.lock().shelves.get_mut(kind) {
            shelf.washing += 1;
        }
    }

    /// One that was expected is there; None: it was given up.
    fn washed(&self, kind: &Kind, kept: Option<Kept>) {
        let mut room = self.lock();
        if let Some(shelf) = room.shelves.get_mut(kind) {
            shelf.washing = shelf.washing.saturating_sub(1);
        }
        if let Some(kept) = kept {
            room.hand(kind, kept);
        }
        let Room { shelves, queue } = &mut *room;
        let coming = shelves.get(kind).map_or(0, |shelf| shelf.washing);
        queue.expect_at_most(kind, coming);
    }

    /// Closes what is not fit any more: each link is asked. False: nobody is expected, and the shelf is gone.
    fn sort_out(&self, kind: &Kind) -> bool {
        let now = Instant::now();
        let mut room = self.lock();
        let Some(shelf) = room.shelves.get_mut(kind) else {
            return false;
        };
        let page = shelf.page.borrow().clone();
        for mut kept in std::mem::take(&mut shelf.kept) {
            if kept.is_fit(&page, now) {
                shelf.kept.push(kept);
            } else {
                kept.part();
            }
        }
        let is_expected = now < shelf.asked_at + EXPECTED_FOR;
        let is_wanted = is_expected || !shelf.kept.is_empty() || shelf.washing > 0;
        if !is_wanted {
            room.shelves.remove(kind);
        }
        is_wanted
    }

    /// How many are ready, or will be in a moment.
    fn ready(&self, kind: &Kind) -> usize {
        let room = self.lock();
        let Some(shelf) = room.shelves.get(kind) else {
            return 0;
        };
        let coming = shelf.washing.saturating_sub(room.queue.waiting_for(kind));
        shelf.kept.len() + coming
    }

    fn close(&self, kind: &Kind) {
        let shelf = self.lock().shelves.remove(kind);
        for kept in shelf.into_iter().flat_map(|shelf| shelf.kept) {
            kept.part();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
