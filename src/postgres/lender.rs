//! Links of one upstream that no session is on: made ready for the next client, or left by the last one. A link is
//! lent to the role that it was opened for, and to clients that begin exactly as its first one did: as a new session
//! would begin, as far as anybody could tell.

mod group;
mod look;
mod tend;
mod ticket;
mod wash;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::group::{Group, GroupName, STOOD_BACK};
use self::look::{Extent, Look};
use super::Mapping;
use super::farewell::leave;
use super::links::{Arrival, Lent};
use super::login::{Greeting, Link, Target};
use super::lore::Lore;
use super::wire::opening::Startup;
use crate::access::queue::{Next, Queue};
use crate::access::roster::Registration;
use crate::limit::Permit;
use crate::metrics::{Limit, Task};
use crate::names::{Endpoint, RoleName};
use crate::supervise::supervise;

pub use self::ticket::Ticket;
pub use self::wash::{Left, look_first, take_back};

/// A link that nobody wants is not kept longer,
const IDLE_LIFE: Duration = Duration::from_secs(60);
/// nor one of a kind that came once.
const IDLE_LIFE_ONCE: Duration = Duration::from_secs(2);
/// What a backend has gathered (caches, memory) is given back now and then.
const TOTAL_LIFE: Duration = Duration::from_secs(30 * 60);
/// A kind of client that has not come for so long is not expected.
const EXPECTED_FOR: Duration = Duration::from_secs(10 * 60);
/// A role's databases from which links are kept. Clients name them, where the configuration does not.
const GROUPS_MAX: usize = 64;

/// Who a link can be lent to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    group: Arc<GroupName>,
    /// The startup packet, without a user.
    startup: Arc<[u8]>,
}

impl Kind {
    pub fn new(role: &RoleName, startup: &Startup) -> Self {
        let group = GroupName {
            role: role.clone(),
            database: startup.get(b"database").unwrap_or_default().into(),
        };
        Self {
            group: Arc::new(group),
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
    groups: HashMap<Arc<GroupName>, Group>,
    queue: Queue<Kind, Kept>,
    epochs: u64,
}

/// A link at rest, and its share of `connections_max`. It does not say where it leads: the target has the lender.
pub struct Kept {
    link: Link,
    registration: Registration,
    connection: Permit,
    /// Of `limits.warm`, while nobody has it.
    warm: Option<Permit>,
    /// None: no session was on it yet.
    used: Option<Used>,
    since: Instant,
}

/// What sessions are judged by in its database, and what was known there when all that its last session had said was
/// read.
pub type Used = (Arc<Lore>, u64);

/// What there is for a client.
pub enum Offer {
    Ready(Box<Lent>),
    Queue(Ticket),
}

impl Kept {
    fn new(arrival: Arrival, connection: Permit, used: Option<Used>) -> Self {
        Self {
            link: arrival.link,
            registration: arrival.registration,
            connection,
            warm: None,
            used,
            since: Instant::now(),
        }
    }

    fn login(&self) -> (&Endpoint, &str) {
        (&self.link.facts.endpoint, &self.registration.credential().user)
    }

    fn lend(self, kind: Kind, target: Arc<Target>) -> Lent {
        let arrival = Arrival {
            link: self.link,
            registration: self.registration,
            target,
        };
        Lent {
            arrival,
            connection: self.connection,
            kind: Some(kind),
        }
    }

    fn part(mut self) -> JoinHandle<()> {
        self.warm = None;
        tokio::spawn(async move {
            leave(self.link.stream, self.registration).await;
            drop(self.connection);
        })
    }
}

impl Room {
    /// Of the clients that wait, somebody gets it. If nobody does, it rests. False: it was given up.
    fn give(&mut self, target: &Arc<Target>, kind: &Kind, kept: Kept, seen: Sight) -> bool {
        let Some(group) = self.groups.get_mut(&kind.group) else {
            kept.part();
            return false;
        };
        let is_sure = seen == Sight::Now || group.is_sure_of(&kept);
        let Some(kept) = group.good(kept, is_sure) else {
            return false;
        };
        if !is_sure && self.queue.waiting_for(kind) > 0 {
            group.expect(kind);
            wash::look_again(Arc::clone(target), kind.clone(), kept, Extent::Beginning);
            return true;
        }
        match self.queue.give(kind, kept) {
            Next::Given => true,
            Next::MakesRoom(kept) => {
                kept.part();
                false
            }
            Next::Rests(kept) => self.rest(kind, kept),
        }
    }

    /// Within `limits.warm`: who has rested for longest makes place.
    fn rest(&mut self, kind: &Kind, mut kept: Kept) -> bool {
        let Some((limit, metrics)) = self.groups.get(&kind.group).map(Group::limit) else {
            kept.part();
            return false;
        };
        kept.warm = kept.warm.take().or_else(|| limit.try_take());
        if kept.warm.is_none() {
            metrics.hit(Limit::Warm);
            if let Some(oldest) = self.longest_idle() {
                oldest.part();
                kept.warm = limit.try_take();
            }
        }
        let shelf = self
            .groups
            .get_mut(&kind.group)
            .and_then(|group| group.shelf(kind));
        match shelf {
            Some(shelf) if kept.warm.is_some() => shelf.kept.push(kept),
            _ => {
                kept.part();
                return false;
            }
        }
        true
    }

    fn longest_idle(&mut self) -> Option<Kept> {
        let shelves = self.groups.values_mut().flat_map(Group::shelves);
        let idle = shelves.filter_map(|shelf| {
            let kept = shelf.kept.iter().map(|kept| kept.since).enumerate();
            let (at, since) = kept.min_by_key(|(_, since)| *since)?;
            Some((since, at, shelf))
        });
        let (_, at, shelf) = idle.min_by_key(|(since, ..)| *since)?;
        Some(shelf.kept.remove(at))
    }

    /// One that was expected is there, or not.
    fn came(&mut self, kind: &Kind) {
        let group = self.groups.get_mut(&kind.group);
        let coming = group.and_then(|group| group.shelf(kind)).map_or(0, |shelf| {
            shelf.washing = shelf.washing.saturating_sub(1);
            shelf.washing
        });
        self.queue.expect_at_most(kind, coming);
    }
}

/// When a link was looked over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// Just now, itself.
    Now,
    Earlier,
}

/// A link for whoever waits, or comes. False: it was given up.
fn keep(target: &Arc<Target>, kind: &Kind, kept: Kept) -> bool {
    target.lender.lock().give(target, kind, kept, Sight::Earlier)
}

/// One that was expected is there.
fn washed(target: &Arc<Target>, kind: &Kind, kept: Kept, seen: Sight) {
    let mut room = target.lender.lock();
    room.give(target, kind, kept, seen);
    room.came(kind);
}

impl Lender {
    /// A link that is ready, or a place in the queue.
    pub fn offer(&self, kind: Option<Kind>, mapping: &Arc<Mapping>, startup: &Startup) -> Offer {
        let mut room = self.lock();
        let Room { groups, queue, .. } = &mut *room;
        let has_place = |kind: &Kind| groups.len() < GROUPS_MAX || groups.contains_key(&kind.group);
        let kind = kind.filter(|kind| !mapping.replaced.is_cancelled() && has_place(kind));
        let target = Arc::clone(&mapping.target);
        let Some(kind) = kind else {
            return Offer::Queue(Ticket::new(target, None, queue, 0));
        };
        let group = groups.entry(Arc::clone(&kind.group)).or_insert_with(|| {
            let group = Group::new(mapping);
            let metrics = Arc::clone(&mapping.access.metrics);
            let (mapping, name, change) = (Arc::downgrade(mapping), Arc::clone(&kind.group), group.change());
            tokio::spawn(supervise(Task::Warm, metrics, async move || {
                tend::tend(Weak::clone(&mapping), &name, &change).await;
            }));
            group
        });
        let kind = group.ask(kind, startup);
        while let Some(mut kept) = group.take(&kind) {
            kept.warm = None;
            if !group.is_sure_of(&kept) {
                // It is asked first, and whoever comes meanwhile may have it.
                group.expect(&kind);
                wash::look_again(Arc::clone(&target), kind.clone(), kept, Extent::Beginning);
                break;
            }
            if let Some(kept) = group.good(kept, true) {
                return Offer::Ready(Box::new(kept.lend(kind, target)));
            }
        }
        let coming = group.shelf(&kind).map_or(0, |shelf| shelf.washing);
        Offer::Queue(Ticket::new(target, Some(kind), queue, coming))
    }

    /// Gives up the link that has been idle for longest, so that another client can have its place: once what is
    /// returned is done. None: no link is idle.
    pub fn make_room(&self) -> Option<JoinHandle<()>> {
        self.lock().longest_idle().map(Kept::part)
    }

    /// The same greeting is kept once.
    pub fn share(&self, kind: &Kind, greeting: &mut Arc<Greeting>) {
        let mut room = self.lock();
        let shelf = room
            .groups
            .get_mut(&kind.group)
            .and_then(|group| group.shelf(kind));
        let Some(shelf) = shelf else {
            return;
        };
        match &shelf.greeting {
            Some(known) if **known == **greeting => *greeting = Arc::clone(known),
            _ => shelf.greeting = Some(Arc::clone(greeting)),
        }
    }

    /// To be asked before a login: what it begins with is at least as new. 0: nobody has looked yet.
    pub fn epoch(&self, kind: &Kind, endpoint: &Endpoint, user: &str) -> u64 {
        let room = self.lock();
        let group = room.groups.get(&kind.group);
        group
            .and_then(|group| group.seen(endpoint, user))
            .map_or(0, |seen| seen.epoch)
    }

    /// Whether nobody has looked for some time.
    fn is_look_due(&self, kind: &Kind, endpoint: &Endpoint, user: &str) -> bool {
        let room = self.lock();
        let group = room.groups.get(&kind.group);
        group.is_some_and(|group| group.is_look_due(endpoint, user))
    }

    /// What a look has told that was asked for at `asked_at`. Returns what to call logins that begin from now on.
    fn looked(&self, kind: &Kind, login: (&Endpoint, &str), look: Look, asked_at: Instant) -> u64 {
        let mut room = self.lock();
        let Room { groups, epochs, .. } = &mut *room;
        let Some(group) = groups.get_mut(&kind.group) else {
            return 0;
        };
        group.looked(login, look, asked_at, epochs)
    }

    fn expect(&self, kind: &Kind) {
        let mut room = self.lock();
        if let Some(group) = room.groups.get_mut(&kind.group) {
            group.expect(kind);
        }
    }

    /// One that was expected is given up.
    fn lost(&self, kind: &Kind) {
        self.lock().came(kind);
    }

    /// Closes what is not fit any more: each link is asked. False: nobody is expected, and the group is gone.
    fn sort_out(&self, name: &Arc<GroupName>) -> bool {
        let mut room = self.lock();
        let Some(group) = room.groups.get_mut(name) else {
            return false;
        };
        let is_wanted = group.sort_out();
        if !is_wanted {
            room.groups.remove(name);
        }
        is_wanted
    }

    /// Links to look with: one for each login whose last look was some time ago. They come back by `washed`.
    fn due(&self, name: &Arc<GroupName>) -> Vec<(Kind, Kept)> {
        let mut room = self.lock();
        room.groups
            .get_mut(name)
            .map_or_else(Vec::new, |group| group.due(name))
    }

    /// A kind of which fewer than `warm` links are ready, or will be in a moment, and a place within `limits.warm`.
    fn wanting(&self, name: &Arc<GroupName>, warm: usize) -> Option<(Kind, Startup, Permit)> {
        let room = self.lock();
        let group = room.groups.get(name)?;
        let (kind, shelf) = group.favourite(name)?;
        let coming = shelf.washing.saturating_sub(room.queue.waiting_for(&kind));
        if shelf.kept.len() + coming >= warm {
            return None;
        }
        let permit = group.limit().0.try_take()?;
        Some((kind, shelf.startup.clone(), permit))
    }

    fn close(&self, name: &Arc<GroupName>) {
        let mut room = self.lock();
        let Some(mut group) = room.groups.remove(name) else {
            return;
        };
        for kind in group.kinds(name) {
            room.queue.expect_at_most(&kind, 0);
        }
        group.give_up_all(STOOD_BACK);
    }

    fn lock(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
