//! Links of one upstream that no session is on: made ready for the next client, or left by the last one. A link is
//! lent to the role that it was opened for, and to clients that begin exactly as its first one did: as a new session
//! would begin, as far as anybody could tell.

mod bucket;
mod look;
mod reset;
mod ticket;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::bucket::{Group, STOOD_BACK};
use self::look::Look;
use super::farewell::leave;
use super::login::{Greeting, Link};
use super::target::Target;
use crate::access::queue::{Next, Queue};
use crate::access::roster::Registration;
use crate::credentials::Page;
use crate::limit::{Limit, Permit};
use crate::lock::lock;
use crate::metrics::{self, Metrics};
use crate::names::{Endpoint, RoleName};
use crate::postgres::state::risky_names::RiskyNames;
use crate::postgres::wire::opening::Startup;

pub use self::bucket::GroupName;
pub use self::look::Extent;
pub use self::reset::{Left, look_again, look_first, take_back};
pub use self::ticket::Ticket;

/// A link that nobody wants is not idle longer,
const IDLE_LIFE: Duration = Duration::from_secs(60);
/// nor one of a kind that came once.
const IDLE_LIFE_ONCE: Duration = Duration::from_secs(2);
/// What a backend has gathered (caches, memory) is given back now and then.
const TOTAL_LIFE: Duration = Duration::from_secs(30 * 60);
/// A kind of client that has not come for so long is not expected.
const EXPECTED_FOR: Duration = Duration::from_secs(10 * 60);
/// A role's databases from which links are idle. Clients name them, where the configuration does not.
const GROUPS_MAX: usize = 64;

/// Who a link can be lent to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LinkKind {
    group: Arc<GroupName>,
    /// The startup packet, without a user.
    startup: Arc<[u8]>,
}

impl LinkKind {
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

/// The links of one upstream that no session is on, and what may be open to it.
pub struct Pool {
    pub target: Arc<Target>,
    /// `connections_max`.
    pub connections: Arc<Limit>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    groups: HashMap<Arc<GroupName>, Group>,
    queue: Queue<LinkKind, Idle>,
    epochs: u64,
}

/// What idle links are judged by, and counted in.
pub struct Terms {
    pub page: watch::Receiver<Arc<Page>>,
    /// Links that no session is on, of all upstreams.
    pub warm: Arc<Limit>,
    pub metrics: Arc<Metrics>,
}

/// A link at rest, and its share of `connections_max`. It does not say where it leads: the pool does.
pub struct Idle {
    pub link: Link,
    pub registration: Registration,
    pub connection: Permit,
    /// Of `limits.warm`, while nobody has it.
    pub warm: Option<Permit>,
    /// None: no session was on it yet.
    used: Option<Used>,
    since: Instant,
}

/// What sessions are judged by in its database, and what was known there when all that its last session had said was
/// read.
pub type Used = (Arc<RiskyNames>, u64);

/// What there is for a client.
pub enum Offer {
    /// For whoever is of its kind.
    Ready(Box<Idle>, LinkKind),
    Queue(Ticket),
}

/// The links of a role and database are to be kept fit from now on.
pub struct NewGroup {
    pub name: Arc<GroupName>,
    pub change: Arc<Notify>,
}

impl Idle {
    pub fn new(link: Link, registration: Registration, connection: Permit, used: Option<Used>) -> Self {
        Self {
            link,
            registration,
            connection,
            warm: None,
            used,
            since: Instant::now(),
        }
    }

    fn login(&self) -> (&Endpoint, &str) {
        (&self.link.facts.endpoint, &self.registration.credential().user)
    }

    /// Ends it. It counts until it is gone.
    pub fn part(mut self) -> JoinHandle<()> {
        self.warm = None;
        tokio::spawn(async move {
            leave(self.link.stream, self.registration).await;
            drop(self.connection);
        })
    }
}

impl State {
    /// Of the clients that wait, somebody gets it. If nobody does, it rests. False: it was given up.
    fn give(&mut self, pool: &Arc<Pool>, kind: &LinkKind, idle: Idle, seen: Sight) -> bool {
        let Some(group) = self.groups.get_mut(&kind.group) else {
            idle.part();
            return false;
        };
        let is_sure = seen == Sight::Now || group.is_sure_of(&idle, Instant::now());
        let Some(idle) = group.good(idle, is_sure) else {
            return false;
        };
        if !is_sure && self.queue.waiting_for(kind) > 0 {
            group.expect(kind);
            reset::look_again(Arc::clone(pool), kind.clone(), idle, Extent::Beginning);
            return true;
        }
        match self.queue.give(kind, idle) {
            Next::Given => true,
            Next::MakesRoom(idle) => {
                idle.part();
                false
            }
            Next::Rests(idle) => self.rest(kind, idle),
        }
    }

    /// Within `limits.warm`: who has rested for longest makes place.
    fn rest(&mut self, kind: &LinkKind, mut idle: Idle) -> bool {
        let Some((limit, metrics)) = self.groups.get(&kind.group).map(Group::limit) else {
            idle.part();
            return false;
        };
        idle.warm = idle.warm.take().or_else(|| limit.try_take());
        if idle.warm.is_none() {
            metrics.hit(metrics::Limit::Warm);
            if let Some(oldest) = self.longest_idle() {
                oldest.part();
                idle.warm = limit.try_take();
            }
        }
        let bucket = self
            .groups
            .get_mut(&kind.group)
            .and_then(|group| group.bucket(kind));
        match bucket {
            Some(bucket) if idle.warm.is_some() => bucket.idle.push(idle),
            _ => {
                idle.part();
                return false;
            }
        }
        true
    }

    fn longest_idle(&mut self) -> Option<Idle> {
        let buckets = self.groups.values_mut().flat_map(Group::buckets);
        let idle = buckets.filter_map(|bucket| {
            let idle = bucket.idle.iter().map(|idle| idle.since).enumerate();
            let (at, since) = idle.min_by_key(|(_, since)| *since)?;
            Some((since, at, bucket))
        });
        let (_, at, bucket) = idle.min_by_key(|(since, ..)| *since)?;
        Some(bucket.idle.remove(at))
    }

    /// One that was expected is there, or not.
    fn came(&mut self, kind: &LinkKind) {
        let group = self.groups.get_mut(&kind.group);
        let coming = group.and_then(|group| group.bucket(kind)).map_or(0, |bucket| {
            bucket.resetting = bucket.resetting.saturating_sub(1);
            bucket.resetting
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
pub fn keep(pool: &Arc<Pool>, kind: &LinkKind, idle: Idle) -> bool {
    pool.lock().give(pool, kind, idle, Sight::Earlier)
}

/// One that was expected is there.
fn came_back(pool: &Arc<Pool>, kind: &LinkKind, idle: Idle, seen: Sight) {
    let mut state = pool.lock();
    state.give(pool, kind, idle, seen);
    state.came(kind);
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl Pool {
    pub fn new(target: Target, connections: Option<Arc<Limit>>) -> Self {
        Self {
            connections: connections.unwrap_or_else(|| Limit::new(target.upstream.connections_max)),
            target: Arc::new(target),
            state: Mutex::default(),
        }
    }

    /// A link that is ready, or a place in the queue, for who came at `came_at`. `kind`: of the links that will do. Where
    /// it is the first that comes of its role and database, whoever asks sees to it that their links are kept fit, on the
    /// `terms`.
    pub fn offer(
        self: &Arc<Self>,
        kind: Option<LinkKind>,
        startup: &Startup,
        came_at: Instant,
        terms: impl FnOnce() -> Terms,
    ) -> (Offer, Option<NewGroup>) {
        let mut state = self.lock();
        let State { groups, queue, .. } = &mut *state;
        let has_place = |kind: &LinkKind| groups.len() < GROUPS_MAX || groups.contains_key(&kind.group);
        let Some(kind) = kind.filter(has_place) else {
            return (Offer::Queue(Ticket::new(self, None, queue, 0)), None);
        };
        let mut new = None;
        let group = groups.entry(Arc::clone(&kind.group)).or_insert_with(|| {
            let group = Group::new(terms());
            let (name, change) = (Arc::clone(&kind.group), group.change());
            new = Some(NewGroup { name, change });
            group
        });
        let kind = group.ask(kind, startup);
        while let Some(mut idle) = group.take(&kind) {
            idle.warm = None;
            if !group.is_sure_of(&idle, came_at) {
                // It is asked first, and whoever comes meanwhile may have it.
                group.expect(&kind);
                reset::look_again(Arc::clone(self), kind.clone(), idle, Extent::Beginning);
                break;
            }
            if let Some(idle) = group.good(idle, true) {
                return (Offer::Ready(Box::new(idle), kind), new);
            }
        }
        let coming = group.bucket(&kind).map_or(0, |bucket| bucket.resetting);
        (Offer::Queue(Ticket::new(self, Some(kind), queue, coming)), new)
    }

    /// Gives up the link that has been idle for longest, so that another client can have its place: once what is
    /// returned is done. None: no link is idle.
    pub fn make_room(&self) -> Option<JoinHandle<()>> {
        self.lock().longest_idle().map(Idle::part)
    }

    /// Whether some link is about to be idle.
    pub fn is_resetting(&self) -> bool {
        let mut state = self.lock();
        let mut buckets = state.groups.values_mut().flat_map(Group::buckets);
        buckets.any(|bucket| bucket.resetting > 0)
    }

    /// The same greeting is idle once.
    pub fn share(&self, kind: &LinkKind, greeting: &mut Arc<Greeting>) {
        let mut state = self.lock();
        let bucket = state
            .groups
            .get_mut(&kind.group)
            .and_then(|group| group.bucket(kind));
        let Some(bucket) = bucket else {
            return;
        };
        match &bucket.greeting {
            Some(known) if **known == **greeting => *greeting = Arc::clone(known),
            _ => bucket.greeting = Some(Arc::clone(greeting)),
        }
    }

    /// To be asked before a login: what it begins with is at least as new. 0: nobody has looked yet.
    pub fn epoch(&self, kind: &LinkKind, endpoint: &Endpoint, user: &str) -> u64 {
        let state = self.lock();
        let group = state.groups.get(&kind.group);
        group
            .and_then(|group| group.seen(endpoint, user))
            .map_or(0, |seen| seen.epoch)
    }

    /// What is worth asking over a link that is about to rest.
    fn look_due(&self, kind: &LinkKind, endpoint: &Endpoint, user: &str) -> Option<Extent> {
        let state = self.lock();
        let group = state.groups.get(&kind.group)?;
        group.look_due(endpoint, user)
    }

    /// What a look has told that was asked for at `asked_at`. Returns what to call logins that begin from now on.
    fn looked(&self, kind: &LinkKind, login: (&Endpoint, &str), look: Look, asked_at: Instant) -> u64 {
        let mut state = self.lock();
        let State { groups, epochs, .. } = &mut *state;
        let Some(group) = groups.get_mut(&kind.group) else {
            return 0;
        };
        group.looked(login, look, asked_at, epochs)
    }

    fn expect(&self, kind: &LinkKind) {
        let mut state = self.lock();
        if let Some(group) = state.groups.get_mut(&kind.group) {
            group.expect(kind);
        }
    }

    /// One that was expected is given up.
    fn lost(&self, kind: &LinkKind) {
        self.lock().came(kind);
    }

    /// Closes what is not fit any more: each link is asked. False: nobody is expected, and the group is gone.
    pub fn sort_out(&self, name: &Arc<GroupName>) -> bool {
        let mut state = self.lock();
        let Some(group) = state.groups.get_mut(name) else {
            return false;
        };
        let is_wanted = group.sort_out();
        if !is_wanted {
            state.groups.remove(name);
        }
        is_wanted
    }

    /// Links to look with: one for each login whose last look was some time ago. They come back by `came_back`.
    pub fn due(&self, name: &Arc<GroupName>) -> Vec<(LinkKind, Idle)> {
        let mut state = self.lock();
        state
            .groups
            .get_mut(name)
            .map_or_else(Vec::new, |group| group.due(name))
    }

    /// A kind of which fewer than `warm` links are ready, or will be in a moment, and a place within `limits.warm`.
    pub fn wanting(&self, name: &Arc<GroupName>, warm: usize) -> Option<(LinkKind, Startup, Permit)> {
        let state = self.lock();
        let group = state.groups.get(name)?;
        let (kind, bucket) = group.favourite(name)?;
        let coming = bucket.resetting.saturating_sub(state.queue.waiting_for(&kind));
        if bucket.idle.len() + coming >= warm {
            return None;
        }
        let permit = group.limit().0.try_take()?;
        Some((kind, bucket.startup.clone(), permit))
    }

    pub fn close(&self, name: &Arc<GroupName>) {
        let mut state = self.lock();
        let Some(mut group) = state.groups.remove(name) else {
            return;
        };
        for kind in group.kinds(name) {
            state.queue.expect_at_most(&kind, 0);
        }
        group.give_up_all(STOOD_BACK);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}
