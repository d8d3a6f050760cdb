//! Links of one role and database, and what new sessions there begin with.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::super::login::Greeting;
use super::look::{Extent, Look};
use super::{EXPECTED_FOR, IDLE_LIFE, IDLE_LIFE_ONCE, Idle, LinkKind, TOTAL_LIFE, Terms, Used};
use crate::credentials::Page;
use crate::limit::Limit;
use crate::metrics::{Metrics, NotLent};
use crate::names::{Endpoint, RoleName};
use crate::postgres::wire::opening::Startup;

/// A link that rests is looked over so often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// What was seen so shortly before a client came holds for it. Whoever changes something and connects then needs longer,
/// and where clients come and go all the time few of them wait for a look.
const SURE_FOR: Duration = Duration::from_millis(10);
/// A client that takes longer to prove who it is may have waited for the change.
const PROVED_WITHIN: Duration = Duration::from_millis(100);
/// Somebody wants the database for itself, or the server's last connections: Postgres waits five seconds for others
/// to leave a database.
pub const STOOD_BACK: Duration = Duration::from_secs(5);
/// A new session would not be let in, or would begin with more than is known here.
const NOT_LENT_FOR: Duration = Duration::from_secs(60);
/// Clients of so long ago count half.
const HALF_LIFE: Duration = Duration::from_secs(60);
/// Kinds that are told apart. Who names each of its sessions makes many, and none comes again.
const KINDS_MAX: usize = 256;

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct GroupName {
    pub role: RoleName,
    pub database: Box<[u8]>,
}

pub struct Group {
    kinds: HashMap<Arc<[u8]>, Bucket>,
    seen: Vec<Seen>,
    page: watch::Receiver<Arc<Page>>,
    change: Arc<Notify>,
    warm: Arc<Limit>,
    metrics: Arc<Metrics>,
    /// Until then, no link is idle.
    closed_until: Option<Instant>,
    halved_at: Instant,
}

/// Links of one kind, the latest last.
pub struct Bucket {
    pub idle: Vec<Idle>,
    /// So many are being made as good as new.
    pub resetting: usize,
    /// What such links were greeted with, once for all of them.
    pub greeting: Option<Arc<Greeting>>,
    pub startup: Startup,
    asked_at: Instant,
    /// When the last but one client came.
    asked_before: Option<Instant>,
    asks: u32,
}

/// What the last look told of one server and user.
pub struct Seen {
    endpoint: Endpoint,
    user: Box<str>,
    beginning: Box<[u8]>,
    /// Links of an earlier one began otherwise than a new one would.
    pub epoch: u64,
    /// Links that are older began under another configuration.
    reloaded_at: Option<Instant>,
    defined: u64,
    /// When the look was asked for.
    looked_at: Instant,
    /// The last that asked for everything.
    looked_at_all: Instant,
}

impl Bucket {
    fn new(startup: &Startup, now: Instant) -> Self {
        Self {
            idle: Vec::new(),
            resetting: 0,
            greeting: None,
            startup: startup.clone(),
            asked_at: now,
            asked_before: None,
            asks: 0,
        }
    }

    /// It came more than once, and lately.
    fn is_expected(&self, now: Instant) -> bool {
        self.asked_before.is_some_and(|at| now < at + EXPECTED_FOR)
    }

    fn is_idle(&self) -> bool {
        self.idle.is_empty() && self.resetting == 0
    }

    fn life(&self, now: Instant) -> Duration {
        if self.is_expected(now) {
            IDLE_LIFE
        } else {
            IDLE_LIFE_ONCE
        }
    }
}

impl Group {
    pub fn new(terms: Terms) -> Self {
        Self {
            kinds: HashMap::new(),
            seen: Vec::new(),
            page: terms.page,
            change: Arc::default(),
            warm: terms.warm,
            metrics: terms.metrics,
            closed_until: None,
            halved_at: Instant::now(),
        }
    }

    pub fn change(&self) -> Arc<Notify> {
        Arc::clone(&self.change)
    }

    pub fn limit(&self) -> (Arc<Limit>, Arc<Metrics>) {
        (Arc::clone(&self.warm), Arc::clone(&self.metrics))
    }

    pub fn bucket(&mut self, kind: &LinkKind) -> Option<&mut Bucket> {
        self.kinds.get_mut(&kind.startup)
    }

    /// One more is being made as good as new.
    pub fn expect(&mut self, kind: &LinkKind) {
        if let Some(bucket) = self.bucket(kind) {
            bucket.resetting += 1;
        }
    }

    pub fn buckets(&mut self) -> impl Iterator<Item = &mut Bucket> {
        self.kinds.values_mut()
    }

    pub fn kinds(&self, name: &Arc<GroupName>) -> Vec<LinkKind> {
        let kind = |startup: &Arc<[u8]>| LinkKind {
            group: Arc::clone(name),
            startup: Arc::clone(startup),
        };
        self.kinds.keys().map(kind).collect()
    }

    /// A client of this kind came. All that are of one kind share what says so.
    pub fn ask(&mut self, kind: LinkKind, startup: &Startup) -> LinkKind {
        let now = Instant::now();
        let is_new = !self.kinds.contains_key(&kind.startup);
        if is_new {
            self.make_place();
            self.kinds
                .insert(Arc::clone(&kind.startup), Bucket::new(startup, now));
        }
        let shared = self
            .kinds
            .get_key_value(&kind.startup)
            .map(|(shared, _)| Arc::clone(shared));
        if let Some(bucket) = self.kinds.get_mut(&kind.startup) {
            bucket.asked_before = (!is_new).then_some(bucket.asked_at);
            bucket.asked_at = now;
            bucket.asks = bucket.asks.saturating_add(1);
        }
        self.change.notify_one();
        LinkKind {
            startup: shared.unwrap_or(kind.startup),
            ..kind
        }
    }

    fn make_place(&mut self) {
        if self.kinds.len() < KINDS_MAX {
            return;
        }
        let idle = self.kinds.iter().filter(|(_, bucket)| bucket.is_idle());
        let oldest = idle.min_by_key(|(_, bucket)| bucket.asked_at);
        if let Some(oldest) = oldest.map(|(startup, _)| Arc::clone(startup)) {
            self.kinds.remove(&oldest);
        }
    }

    /// The latest that is fit. What is older and is not goes.
    pub fn take(&mut self, kind: &LinkKind) -> Option<Idle> {
        let (now, page) = (Instant::now(), self.page.borrow().clone());
        let bucket = self.kinds.get_mut(&kind.startup)?;
        let life = bucket.life(now);
        while let Some(mut idle) = bucket.idle.pop() {
            match fault(&mut idle, &self.seen, &page, life, now) {
                None => return Some(idle),
                Some(fault) => fault.part(idle, &self.metrics),
            }
        }
        None
    }

    /// None: it did not begin as a session would that began now, as far as was seen, and goes. With `is_sure`, that was
    /// a moment ago.
    pub fn good(&self, idle: Idle, is_sure: bool) -> Option<Idle> {
        let is_closed = self.closed_until.is_some_and(|until| Instant::now() < until);
        let fault = match is_closed {
            true => Some(Fault::Unwanted),
            false => staleness(&idle, &self.seen, &self.page.borrow(), is_sure),
        };
        match fault {
            None => Some(idle),
            Some(fault) => {
                fault.part(idle, &self.metrics);
                None
            }
        }
    }

    /// Whether what it began with was seen a moment before the client came, or since.
    pub fn is_sure_of(&self, idle: &Idle, came_at: Instant) -> bool {
        let (endpoint, user) = idle.login();
        let seen = self.seen(endpoint, user);
        seen.map(|seen| seen.looked_at + SURE_FOR)
            .is_some_and(|until| came_at < until && Instant::now() < until + PROVED_WITHIN)
    }

    pub fn seen(&self, endpoint: &Endpoint, user: &str) -> Option<&Seen> {
        self.seen.iter().find(|seen| seen.is_of(endpoint, user))
    }

    /// What is worth asking along with something else: who comes next would have to wait for it.
    pub fn look_due(&self, endpoint: &Endpoint, user: &str) -> Option<Extent> {
        let now = Instant::now();
        match self.seen(endpoint, user) {
            Some(seen) if now < seen.looked_at_all + LOOK_AGAIN => {
                (seen.looked_at + SURE_FOR <= now).then_some(Extent::Beginning)
            }
            _ => Some(Extent::Everything),
        }
    }

    /// What a look has told that was asked for at `asked_at`. Returns what to call logins that begin from now on.
    pub fn looked(
        &mut self,
        (endpoint, user): (&Endpoint, &str),
        look: Look,
        asked_at: Instant,
        epochs: &mut u64,
    ) -> u64 {
        let now = Instant::now();
        self.seen.retain(|seen| now < seen.looked_at + TOTAL_LIFE);
        let at = self.seen.iter().position(|seen| seen.is_of(endpoint, user));
        let before = at.map(|at| self.seen.swap_remove(at));
        let epoch = match &before {
            Some(before) if before.beginning == look.beginning => before.epoch,
            _ => {
                *epochs += 1;
                *epochs
            }
        };
        self.seen.push(Seen {
            endpoint: endpoint.clone(),
            user: user.into(),
            beginning: look.beginning,
            epoch,
            reloaded_at: now.checked_sub(look.loaded),
            defined: look.defined,
            looked_at: asked_at,
            looked_at_all: match (look.extent, &before) {
                (Extent::Beginning, Some(before)) => before.looked_at_all,
                _ => asked_at,
            },
        });
        if look.is_wanted {
            self.give_up_all(STOOD_BACK);
        } else if !look.lets_in {
            self.give_up_all(NOT_LENT_FOR);
        }
        epoch
    }

    /// Gives up every link at rest, and keeps none for a while.
    pub fn give_up_all(&mut self, pause: Duration) {
        self.closed_until = Some(Instant::now() + pause);
        for idle in self.kinds.values_mut().flat_map(|bucket| bucket.idle.drain(..)) {
            idle.part();
        }
    }

    /// Closes what is not fit any more: each link is asked. False: nobody is expected.
    pub fn sort_out(&mut self) -> bool {
        let (now, page) = (Instant::now(), self.page.borrow().clone());
        let halves = self.halved_at + HALF_LIFE <= now;
        if halves {
            self.halved_at = now;
        }
        for bucket in self.kinds.values_mut() {
            if halves {
                bucket.asks /= 2;
            }
            let life = bucket.life(now);
            for mut idle in std::mem::take(&mut bucket.idle) {
                match fault(&mut idle, &self.seen, &page, life, now) {
                    None => bucket.idle.push(idle),
                    Some(fault) => fault.part(idle, &self.metrics),
                }
            }
        }
        self.kinds
            .retain(|_, bucket| now < bucket.asked_at + EXPECTED_FOR || !bucket.is_idle());
        !self.kinds.is_empty()
    }

    /// Takes links to look with: one for each login whose last look was some time ago.
    pub fn due(&mut self, name: &Arc<GroupName>) -> Vec<(LinkKind, Idle)> {
        let mut due: Vec<(LinkKind, Idle)> = Vec::new();
        let seen = &self.seen;
        for (startup, bucket) in &mut self.kinds {
            let is_due = |idle: &Idle, due: &[(LinkKind, Idle)]| {
                let (endpoint, user) = idle.login();
                let seen = seen.iter().find(|seen| seen.is_of(endpoint, user));
                let is_old = seen.is_none_or(|seen| seen.looked_at_all + LOOK_AGAIN <= Instant::now());
                is_old && due.iter().all(|(_, other)| other.login() != idle.login())
            };
            while let Some(at) = bucket.idle.iter().position(|idle| is_due(idle, &due)) {
                bucket.resetting += 1;
                let kind = LinkKind {
                    group: Arc::clone(name),
                    startup: Arc::clone(startup),
                };
                due.push((kind, bucket.idle.remove(at)));
            }
        }
        due
    }

    /// The kind that is asked for most, unless links are not idle now. Of several kinds, one that came once is none.
    pub fn favourite(&self, name: &Arc<GroupName>) -> Option<(LinkKind, &Bucket)> {
        let now = Instant::now();
        if self.closed_until.is_some_and(|until| now < until) {
            return None;
        }
        let is_only = self.kinds.len() == 1;
        let expected = self.kinds.iter().filter(|(_, bucket)| {
            let is_new = is_only && now < bucket.asked_at + IDLE_LIFE_ONCE;
            is_new || bucket.is_expected(now)
        });
        let (startup, bucket) = expected.max_by_key(|(_, bucket)| (bucket.asks, bucket.asked_at))?;
        let kind = LinkKind {
            group: Arc::clone(name),
            startup: Arc::clone(startup),
        };
        Some((kind, bucket))
    }
}

impl Seen {
    fn is_of(&self, endpoint: &Endpoint, user: &str) -> bool {
        self.endpoint == *endpoint && *self.user == *user
    }
}

/// Why a link goes.
enum Fault {
    /// Nobody wants it any more, or somebody wants it gone.
    Unwanted,
    NotLent(NotLent),
}

impl Fault {
    fn part(self, idle: Idle, metrics: &Metrics) {
        if let Self::NotLent(reason) = self {
            metrics.not_lent(reason);
        }
        idle.part();
    }
}

fn staleness(idle: &Idle, seen: &[Seen], page: &Page, is_sure: bool) -> Option<Fault> {
    if !page.is_live(idle.registration.credential()) {
        return Some(Fault::Unwanted);
    }
    let (endpoint, user) = idle.login();
    let facts = &idle.link.facts;
    let is_as_new = |seen: &Seen| {
        seen.epoch == facts.epoch
            && seen
                .reloaded_at
                .is_none_or(|reloaded_at| reloaded_at < facts.born)
    };
    let seen = seen.iter().find(|seen| seen.is_of(endpoint, user));
    let Some(seen) = seen.filter(|seen| is_as_new(seen)) else {
        return Some(Fault::NotLent(NotLent::ChangedDefaults));
    };
    // More may have been learned since an earlier look.
    let knew_all = |(risky, learned): &Used| risky.knew_all(*learned, seen.defined);
    let is_known = !is_sure || idle.used.as_ref().is_none_or(knew_all);
    (!is_known).then_some(Fault::NotLent(NotLent::UnknownFunctions))
}

fn fault(idle: &mut Idle, seen: &[Seen], page: &Page, life: Duration, now: Instant) -> Option<Fault> {
    let is_young = now < idle.since + life && now < idle.link.facts.born + TOTAL_LIFE;
    match is_young && idle.link.stream.is_quiet() {
        true => staleness(idle, seen, page, false),
        false => Some(Fault::Unwanted),
    }
}
