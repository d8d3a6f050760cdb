//! What is known of a database beyond any one session: which of its functions, views and tables change what a
//! session holds, and the names of custom settings.

mod asked;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::arrival::{Arrival, log_in};
use super::exchange::Aside;
use super::farewell::{leave, outlast};
use super::talk::Talk;
use super::way::Way;
use super::wire::opening::Startup;
use super::wire::state_words::{Learned, Vocabulary};
use crate::backoff::{Backoff, jittered};
use crate::metrics::Task;
use crate::names::UpstreamName;
use crate::net::Stream;
use crate::supervise::supervise;
pub use asked::AskError;
use asked::Digest;

/// Others define functions too.
const LEARN_EVERY: Duration = Duration::from_secs(300);
const JITTER: f64 = 0.1;
/// Definitions come in scripts of many.
const DOUBT_PAUSE: Duration = Duration::from_secs(1);
const LEARN_TIME: Duration = Duration::from_secs(30);
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_CAP: Duration = Duration::from_secs(60);
/// Custom settings whose names are kept. An application has a handful.
const SETTINGS_MAX: usize = 4096;
/// The library, and the task that learns: who else holds it is a session.
const OWNERS: usize = 2;
/// For the log: sessions count from 1.
const NO_SESSION: u64 = 0;
/// Definitions that somebody else makes all the time are not learned each time.
const BEHIND_PAUSE: Duration = Duration::from_secs(5);

/// Of one database of one upstream.
pub struct Lore {
    vocabulary: watch::Sender<Arc<Vocabulary>>,
    /// What definitions came to, by the server's counters, before the vocabulary was learned. 0: nothing was.
    defined: watch::Sender<u64>,
    /// When definitions were last found to be other ones.
    behind_at: Mutex<Option<Instant>>,
    settings: Mutex<BTreeSet<String>>,
    /// Somebody asks what sequences gave.
    asks_sequences: AtomicBool,
    doubted: Notify,
    /// Of what was learned.
    digest: Mutex<Option<Digest>>,
    /// Whose turn it is to learn anew.
    learning: tokio::sync::Mutex<()>,
    /// Nobody was in the database when it would have been learned again.
    is_stale: AtomicBool,
    /// How to log in there: as the latest session did.
    way: Mutex<Weak<Way>>,
}

/// The lore of every database that some session is in.
#[derive(Default)]
pub struct Library {
    books: Mutex<BTreeMap<Database, Arc<Lore>>>,
}

/// An upstream, and a name there.
type Database = (UpstreamName, Box<[u8]>);

#[derive(Debug, thiserror::Error)]
enum LearnError {
    #[error("no login")]
    Login,
    #[error("nobody is left who could log in there")]
    Deserted,
    #[error(transparent)]
    Asked(#[from] AskError),
    #[error("not done within {LEARN_TIME:?}")]
    TimedOut,
}

impl Library {
    /// Of the database that `startup` names. The first who asks has it learned.
    pub fn of(&self, way: &Arc<Way>, startup: &Startup) -> Arc<Lore> {
        let database = startup.get(b"database").unwrap_or_default();
        let key = (way.pool.target.upstream.name.clone(), database.into());
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lore) = books.get(&key) {
            lore.ask_by(way);
            if lore.is_stale.swap(false, Ordering::Relaxed) {
                lore.doubt();
            }
            return Arc::clone(lore);
        }
        let lore = Arc::new(Lore::unlearned());
        lore.ask_by(way);
        books.insert(key.clone(), Arc::clone(&lore));
        let mut startup = Startup::default();
        startup.set(b"database", database);
        startup.set(b"application_name", b"pgswivel");
        startup.set(b"client_encoding", b"UTF8");
        let (book, metrics) = (Arc::clone(&lore), Arc::clone(&way.access.metrics));
        tokio::spawn(supervise(Task::Learning, metrics, async move || {
            keep(&book, &key.0, &startup).await;
        }));
        lore
    }
}

impl Lore {
    /// Until something is learned, any statement may change anything.
    pub fn unlearned() -> Self {
        Self {
            vocabulary: watch::Sender::new(Arc::new(Vocabulary::unlearned())),
            defined: watch::Sender::default(),
            behind_at: Mutex::default(),
            settings: Mutex::default(),
            asks_sequences: AtomicBool::new(false),
            doubted: Notify::new(),
            digest: Mutex::default(),
            learning: tokio::sync::Mutex::default(),
            is_stale: AtomicBool::new(false),
            way: Mutex::default(),
        }
    }

    /// Of a database without anything that runs out of sight.
    #[cfg(test)]
    pub fn plain() -> Self {
        let lore = Self::unlearned();
        lore.vocabulary.send_replace(Arc::default());
        lore
    }

    fn ask_by(&self, way: &Arc<Way>) {
        *self.way.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(way);
    }

    fn way(&self) -> Option<Arc<Way>> {
        self.way.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }

    pub fn vocabulary(&self) -> watch::Receiver<Arc<Vocabulary>> {
        self.vocabulary.subscribe()
    }

    /// Custom settings that somebody may have set.
    pub fn settings(&self) -> BTreeSet<String> {
        let mut names = self.names().clone();
        names.extend(self.vocabulary.borrow().settings().map(str::to_owned));
        names
    }

    /// Whether everybody asks for this one.
    pub fn knows(&self, name: &str) -> bool {
        self.names().contains(name)
    }

    /// Has everybody ask for this one. False: there is no room for it.
    pub fn share(&self, name: &str) -> bool {
        let mut names = self.names();
        names.len() < SETTINGS_MAX && names.insert(name.to_owned())
    }

    /// Whether some session there asks what sequences gave to it: others will as well.
    pub fn asks_sequences(&self) -> bool {
        self.asks_sequences.load(Ordering::Relaxed)
    }

    pub fn sequences_asked(&self) {
        self.asks_sequences.store(true, Ordering::Relaxed);
    }

    /// What there was to know when it was learned. To be asked before the vocabulary is. 0: nothing is yet.
    pub fn learned(&self) -> u64 {
        *self.defined.borrow()
    }

    /// None: something was learned already.
    pub fn until_learned(&self) -> Option<impl Future<Output = ()> + use<>> {
        let mut defined = self.defined.subscribe();
        let is_unlearned = *defined.borrow_and_update() == 0;
        is_unlearned.then_some(async move {
            let _ = defined.wait_for(|defined| *defined != 0).await;
        })
    }

    /// Whether a session would have been seen to call what leaves something behind, if all that it said was read when
    /// so much was learned: what is defined now was known then, or nothing of it would.
    pub fn knew_all(&self, learned: u64, defined: u64) -> bool {
        if self.learned() != defined {
            self.fell_behind();
            return false;
        }
        learned == defined || learned == 0 && self.vocabulary.borrow().leaves_nothing_unseen()
    }

    fn fell_behind(&self) {
        let now = Instant::now();
        let mut behind_at = self.behind_at.lock().unwrap_or_else(PoisonError::into_inner);
        if behind_at.is_none_or(|at| at + BEHIND_PAUSE <= now) {
            *behind_at = Some(now);
            self.doubt();
        }
    }

    /// A definition may have changed.
    pub fn doubt(&self) {
        self.doubted.notify_one();
    }

    fn names(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns what functions do by now, if that has changed since it was learned last: asked over a fresh link of a
    /// session that is about to go by it. What comes between is known the next time.
    pub async fn catch_up<S>(&self, talk: &mut Talk<S>) -> Result<(), AskError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // Sessions wait for what was never learned, or are not sure.
        if !self.vocabulary.borrow().is_learned() {
            return Ok(());
        }
        let mut aside = Aside::dropped();
        let digest = asked::digest(talk, &mut aside).await?;
        // One learns, and the others find that it has.
        let _turn = self.learning.lock().await;
        if *self.digest.lock().unwrap_or_else(PoisonError::into_inner) == Some(digest) {
            return Ok(());
        }
        let learned = asked::definitions(talk, &mut aside).await?;
        debug!(risky = learned.risky.len(), "learned anew what functions do");
        self.take_as_of(digest, learned);
        Ok(())
    }

    fn take_as_of(&self, digest: Digest, learned: Learned) {
        *self.digest.lock().unwrap_or_else(PoisonError::into_inner) = Some(digest);
        self.take(learned);
    }

    /// What is as it was is no news.
    pub fn take(&self, learned: Learned) {
        if self.vocabulary.borrow().is_taught(&learned) {
            return;
        }
        let vocabulary = Vocabulary::taught(Arc::new(learned));
        self.vocabulary.send_replace(Arc::new(vocabulary));
    }
}

/// Learns, and learns again while there are sessions.
async fn keep(lore: &Arc<Lore>, upstream: &UpstreamName, startup: &Startup) {
    let mut pause = Backoff::starting_at(RETRY_FIRST);
    loop {
        let wait = match ask(lore.way(), startup).await {
            Ok((learned, digest, defined)) => {
                debug!(%upstream, risky = learned.risky.len(), "learned what functions do");
                lore.take_as_of(digest, learned);
                // Behind it: whoever sees this sees that.
                lore.defined.send_replace(defined);
                pause.reset();
                jittered(LEARN_EVERY, JITTER)
            }
            Err(error) => {
                debug!(%upstream, %error, "could not learn what functions do");
                pause.next(RETRY_CAP)
            }
        };
        if timeout(wait, lore.doubted.notified()).await.is_ok() {
            sleep(DOUBT_PAUSE).await;
        } else if Arc::strong_count(lore) <= OWNERS {
            lore.is_stale.store(true, Ordering::Relaxed);
            lore.doubted.notified().await;
        }
    }
}

async fn ask(way: Option<Arc<Way>>, startup: &Startup) -> Result<(Learned, Digest, u64), LearnError> {
    let way = way.ok_or(LearnError::Deserted)?;
    let arrival = log_in(&way, startup, NO_SESSION).await;
    let Arrival {
        link, registration, ..
    } = arrival.map_err(|_| LearnError::Login)?;
    let mut talk = Talk::resume(link.stream, link.unread);
    let told = timeout(LEARN_TIME, learn_over(&mut talk)).await;
    let link = talk.into_parts().0;
    match &told {
        Ok(Ok(_)) => drop(tokio::spawn(leave(link, registration))),
        _ => drop(tokio::spawn(outlast(link, registration, None))),
    }
    told.unwrap_or(Err(LearnError::TimedOut))
}

async fn learn_over(talk: &mut Talk<Stream>) -> Result<(Learned, Digest, u64), LearnError> {
    let mut aside = Aside::dropped();
    // What changes between the two is learned, and looked at once more.
    let defined = asked::defined(talk, &mut aside).await?;
    let digest = asked::digest(talk, &mut aside).await?;
    Ok((asked::definitions(talk, &mut aside).await?, digest, defined))
}

#[cfg(test)]
mod tests {
    use super::super::wire::state_words::{Definition, learn};
    use super::*;

    fn taught(lore: &Lore, body: &str, defined: u64) {
        lore.take(learn([Definition {
            name: "f",
            language: "sql",
            body: Some(body),
        }]));
        lore.defined.send_replace(defined);
    }

    #[test]
    fn who_was_judged_by_less_than_there_is_may_have_left_anything() {
        let lore = Lore::unlearned();
        assert!(!lore.knew_all(0, 5), "nothing is known");
        taught(&lore, "SELECT 1", 5);
        assert!(lore.knew_all(5, 5));
        assert!(lore.knew_all(0, 5), "whatever it called leaves nothing");
        assert!(!lore.knew_all(4, 5), "what it called may be gone");
        assert!(!lore.knew_all(5, 6), "there is something new");
        for body in [
            "SELECT setseed(0.5)",
            "SELECT set_config(name, '1', false) FROM t",
        ] {
            taught(&lore, body, 6);
            assert!(lore.knew_all(6, 6) && !lore.knew_all(0, 6), "{body}");
        }
        taught(&lore, "SELECT set_config('a.b', '1', false)", 7);
        assert!(lore.knew_all(0, 7), "whether it was set is asked");
    }
}
