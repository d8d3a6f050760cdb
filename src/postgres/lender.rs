//! Links of one upstream that no session is on: made ready for the next client, or left by the last one. A link is
//! lent to the role that it was opened for, and to clients that begin exactly as its first one did.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::Mapping;
use super::links::{self, Arrival, Lent};
use super::login::{Greeting, Link};
use super::move_::leave;
use super::roster::Berth;
use super::talk::{Talk, TalkError};
use super::wire::opening::Startup;
use super::wire::read::{self, Malformed};
use super::wire::say;
use crate::credentials::Page;
use crate::limit::Permit;
use crate::names::RoleName;
use crate::net::Stream;

/// A link that nobody wants is not kept longer.
const IDLE_LIFE: Duration = Duration::from_secs(60);
/// What a backend has gathered (caches, memory) is given back now and then.
const TOTAL_LIFE: Duration = Duration::from_secs(30 * 60);
/// A kind of client that has not come for so long is not expected.
const EXPECTED_FOR: Duration = Duration::from_secs(10 * 60);
const LOOK_EVERY: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(5);
/// For a server to forget a session.
const RESET_TIME: Duration = Duration::from_secs(5);
const MESSAGE_MAX: usize = 1 << 20;
/// For the log: sessions count from 1.
const NO_SESSION: u64 = 0;

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
    shelves: Mutex<HashMap<Kind, Shelf>>,
}

/// Links of one kind, the latest last.
#[derive(Default)]
struct Shelf {
    kept: Vec<Kept>,
    /// What such links were greeted with, once for all of them.
    greeting: Option<Arc<Greeting>>,
    asked_at: Option<Instant>,
    change: Arc<Notify>,
}

/// A link at rest, and its share of `connections_max`.
struct Kept {
    link: Link,
    berth: Berth,
    connection: Permit,
    since: Instant,
}

impl Kept {
    fn is_fit(&mut self, page: &Page, now: Instant) -> bool {
        let Link { stream, facts, .. } = &mut self.link;
        let is_young = now < self.since + IDLE_LIFE && now < facts.born + TOTAL_LIFE;
        is_young && page.is_live(self.berth.credential()) && stream.is_quiet()
    }

    fn part(self) -> JoinHandle<()> {
        tokio::spawn(async move {
            leave(self.link.stream, self.berth).await;
            drop(self.connection);
        })
    }
}

impl Lender {
    /// A link that is ready, if there is one. The first client of a kind has more of them made.
    pub fn lend(&self, kind: &Kind, mapping: &Arc<Mapping>, startup: &Startup) -> Option<Lent> {
        if mapping.replaced.is_cancelled() {
            return None;
        }
        let now = Instant::now();
        let page = mapping.book.page.borrow().clone();
        let mut shelves = self.lock();
        let shelf = match shelves.entry(kind.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let shelf = entry.insert(Shelf::default());
                let change = Arc::clone(&shelf.change);
                tokio::spawn(tend(
                    Arc::downgrade(mapping),
                    kind.clone(),
                    startup.clone(),
                    change,
                ));
                shelf
            }
        };
        shelf.asked_at = Some(now);
        let mut lent = None;
        while let (None, Some(mut kept)) = (&lent, shelf.kept.pop()) {
            if kept.is_fit(&page, now) {
                lent = Some(kept);
            } else {
                kept.part();
            }
        }
        shelf.change.notify_one();
        let Kept {
            link,
            berth,
            connection,
            ..
        } = lent?;
        let target = Arc::clone(&mapping.target);
        Some(Lent {
            arrival: Arrival { link, berth, target },
            connection,
            kind: Some(kind.clone()),
        })
    }

    /// Gives up the link that has been idle for longest, so that another client can have its place: once what is
    /// returned is done. None: no link is idle.
    pub fn make_room(&self) -> Option<JoinHandle<()>> {
        let mut shelves = self.lock();
        let shelf = shelves
            .values_mut()
            .filter(|shelf| !shelf.kept.is_empty())
            .min_by_key(|shelf| shelf.kept[0].since);
        shelf.map(|shelf| shelf.kept.remove(0).part())
    }

    /// The same greeting is kept once.
    pub fn share(&self, kind: &Kind, greeting: &mut Arc<Greeting>) {
        let mut shelves = self.lock();
        let Some(shelf) = shelves.get_mut(kind) else {
            return;
        };
        match &shelf.greeting {
            Some(known) if **known == **greeting => *greeting = Arc::clone(known),
            _ => shelf.greeting = Some(Arc::clone(greeting)),
        }
    }

    fn keep(&self, kind: &Kind, arrival: Arrival, connection: Permit) {
        let kept = Kept {
            link: arrival.link,
            berth: arrival.berth,
            connection,
            since: Instant::now(),
        };
        match self.lock().get_mut(kind) {
            Some(shelf) => shelf.kept.push(kept),
            None => drop(kept.part()),
        }
    }

    /// Closes what is not fit any more. None: nobody is expected, and the shelf is gone.
    fn look(&self, kind: &Kind, page: &Page) -> Option<usize> {
        let now = Instant::now();
        let mut shelves = self.lock();
        let shelf = shelves.get_mut(kind)?;
        for mut kept in std::mem::take(&mut shelf.kept) {
            if kept.is_fit(page, now) {
                shelf.kept.push(kept);
            } else {
                kept.part();
            }
        }
        let is_expected = shelf.asked_at.is_some_and(|at| now < at + EXPECTED_FOR);
        if !is_expected && shelf.kept.is_empty() {
            shelves.remove(kind);
            return None;
        }
        Some(shelf.kept.len())
    }

    fn close(&self, kind: &Kind) {
        let shelf = self.lock().remove(kind);
        for kept in shelf.into_iter().flat_map(|shelf| shelf.kept) {
            kept.part();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Kind, Shelf>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the links of one kind fit, and as many of them ready as are wanted, for as long as the mapping is in use.
async fn tend(mapping: Weak<Mapping>, kind: Kind, startup: Startup, change: Arc<Notify>) {
    loop {
        let Some(mapping) = mapping.upgrade() else {
            return;
        };
        let target = &mapping.target;
        if mapping.replaced.is_cancelled() {
            return target.lender.close(&kind);
        }
        let page = mapping.book.page.borrow().clone();
        let Some(ready) = target.lender.look(&kind, &page) else {
            return;
        };
        let mut pause = LOOK_EVERY;
        if ready < target.upstream.warm as usize
            && let Some(connection) = target.connections.try_take()
        {
            match links::log_in(&mapping, &startup, NO_SESSION).await {
                Ok(arrival) => {
                    target.lender.keep(&kind, arrival, connection);
                    continue;
                }
                Err(error) => {
                    debug!(role = %mapping.role.name, %error, "no link made ready");
                    pause = RETRY;
                }
            }
        }
        let (mut pages, replaced) = (mapping.book.page.clone(), mapping.replaced.clone());
        drop(mapping);
        tokio::select! {
            _ = pages.wait_for(|now| now.generation != page.generation) => {}
            () = change.notified() => {}
            () = replaced.cancelled() => {}
            () = sleep(pause) => {}
        }
    }
}

/// Makes a link that a session has left as good as new, and keeps it.
pub async fn take_back(kind: Kind, mut arrival: Arrival, connection: Permit) {
    arrival.berth.unseat();
    let reset = timeout(RESET_TIME, reset(&mut arrival.link.stream)).await;
    if matches!(reset, Ok(Ok(()))) {
        let target = Arc::clone(&arrival.target);
        target.lender.keep(&kind, arrival, connection);
    } else {
        leave(arrival.link.stream, arrival.berth).await;
    }
}

#[derive(Debug, thiserror::Error)]
enum ResetError {
    #[error(transparent)]
    Talk(#[from] TalkError),
    #[error("the server refused")]
    Refused,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("its schema of temporary objects outlives them")]
    TemporarySchema,
}

/// A session that begins on it must not find out that there was one before.
async fn reset(link: &mut Stream) -> Result<(), ResetError> {
    let mut talk = Talk::new(link);
    let mut out = BytesMut::new();
    let asked = ["SELECT pg_catalog.pg_my_temp_schema()", "DISCARD ALL"];
    asked.iter().for_each(|sql| say::query(&mut out, sql));
    talk.say(&mut out).await.map_err(TalkError::from)?;
    let mut answered = 0;
    while answered < asked.len() {
        let message = talk.hear(MESSAGE_MAX).await?;
        match (message.tag, message.body()) {
            (b'Z', b"I") => answered += 1,
            (b'Z' | b'E', _) => return Err(ResetError::Refused),
            (b'D', body) if read::row::<1>(body)? != [Some(&b"0"[..])] => {
                return Err(ResetError::TemporarySchema);
            }
            _ => {}
        }
    }
    let (_, unread) = talk.into_parts();
    if unread.is_empty() {
        Ok(())
    } else {
        Err(ResetError::Refused)
    }
}
