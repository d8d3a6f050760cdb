//! What is known of a database beyond any one session: which of its functions, views and tables change what a
//! session holds, and the names of custom settings.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::Mapping;
use super::links::{self, Arrival};
use super::talk::{Talk, TalkError};
use super::wire::opening::Startup;
use super::wire::read::{Malformed, error_field, row};
use super::wire::say;
use super::wire::state_words::{
    DEFINED, DEFINITIONS_MAX, Definition, LEARN_QUERY, Learned, Risk, Spotted, Vocabulary, digest, learn,
};
use crate::backoff::{Backoff, jittered};
use crate::names::UpstreamName;

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
/// Of one row of [`LEARN_QUERY`].
const ROW_MAX: usize = 1 << 20;

/// Definitions that somebody else makes all the time are not learned each time.
const BEHIND_PAUSE: Duration = Duration::from_secs(5);

/// Of one database of one upstream.
pub struct Lore {
    vocabulary: watch::Sender<Arc<Vocabulary>>,
    /// Never ahead of the vocabulary.
    extent: watch::Sender<Extent>,
    /// When definitions were last found to be other ones.
    behind_at: Mutex<Option<Instant>>,
    settings: Mutex<BTreeSet<String>>,
    doubted: Notify,
    /// Nobody was in the database when it would have been learned again.
    is_stale: AtomicBool,
    /// How to log in there: as the latest session did.
    mapping: Mutex<Weak<Mapping>>,
}

/// How far it goes.
#[derive(Clone, Copy, Default)]
struct Extent {
    /// What [`DEFINED`] came to before it was learned. 0: nothing was.
    defined: u64,
    /// Nothing that is defined there leaves what no survey sees.
    is_plain: bool,
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
    Talk(#[from] TalkError),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the server refused with {0}")]
    Refused(String),
    #[error("not done within {LEARN_TIME:?}")]
    TimedOut,
}

impl Library {
    /// Of the database that `startup` names. The first who asks has it learned.
    pub fn of(&self, mapping: &Arc<Mapping>, startup: &Startup) -> Arc<Lore> {
        let database = startup.get(b"database").unwrap_or_default();
        let key = (mapping.target.upstream.name.clone(), database.into());
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lore) = books.get(&key) {
            lore.ask_by(mapping);
            if lore.is_stale.swap(false, Ordering::Relaxed) {
                lore.doubt();
            }
            return Arc::clone(lore);
        }
        let lore = Arc::new(Lore::unlearned());
        lore.ask_by(mapping);
        books.insert(key.clone(), Arc::clone(&lore));
        let mut startup = Startup::default();
        startup.set(b"database", database);
        startup.set(b"application_name", b"pgswivel");
        startup.set(b"client_encoding", b"UTF8");
        tokio::spawn(keep(Arc::clone(&lore), key.0, startup));
        lore
    }
}

impl Lore {
    /// Until something is learned, any statement may change anything.
    fn unlearned() -> Self {
        let nothing = Learned {
            risky: BTreeMap::new(),
            settings: BTreeSet::new(),
            complete: false,
        };
        Self {
            vocabulary: watch::Sender::new(Arc::new(Vocabulary::taught(&nothing))),
            extent: watch::Sender::default(),
            behind_at: Mutex::default(),
            settings: Mutex::default(),
            doubted: Notify::new(),
            is_stale: AtomicBool::new(false),
            mapping: Mutex::default(),
        }
    }

    /// Of a database without anything that runs out of sight.
    #[cfg(test)]
    pub fn plain() -> Self {
        let lore = Self::unlearned();
        lore.vocabulary.send_replace(Arc::default());
        lore
    }

    fn ask_by(&self, mapping: &Arc<Mapping>) {
        *self.mapping.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(mapping);
    }

    fn mapping(&self) -> Option<Arc<Mapping>> {
        self.mapping
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .upgrade()
    }

    pub fn vocabulary(&self) -> watch::Receiver<Arc<Vocabulary>> {
        self.vocabulary.subscribe()
    }

    /// Custom settings that somebody may have set.
    pub fn settings(&self) -> BTreeSet<String> {
        self.names().clone()
    }

    /// False: there is no room for all of them.
    pub fn note(&self, spotted: &Spotted) -> bool {
        if spotted.settings.is_empty() {
            return true;
        }
        let mut names = self.names();
        spotted.settings.iter().all(|name| {
            let is_known = names.contains(name);
            is_known || names.len() < SETTINGS_MAX && names.insert(name.clone())
        })
    }

    /// What there was to know when it was learned. To be asked before the vocabulary is. 0: nothing is yet.
    pub fn learned(&self) -> u64 {
        self.extent.borrow().defined
    }

    /// None: something was learned already.
    pub fn unlearned(&self) -> Option<impl Future<Output = ()> + use<>> {
        let mut extent = self.extent.subscribe();
        let is_unlearned = extent.borrow_and_update().defined == 0;
        is_unlearned.then(|| async move {
            let _ = extent.wait_for(|extent| extent.defined != 0).await;
        })
    }

    /// Whether a session that began when so much was learned would have been seen to call what leaves something
    /// behind: what is defined now was known then, or nothing of it would.
    pub fn knew_all(&self, learned: u64, defined: u64) -> bool {
        let extent = *self.extent.borrow();
        if extent.defined != defined {
            self.fell_behind();
            return false;
        }
        learned == defined || learned == 0 && extent.is_plain
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

    fn take(&self, learned: Learned, defined: u64) {
        self.vocabulary
            .send_replace(Arc::new(Vocabulary::taught(&learned)));
        let is_plain = |risk: &Risk| !risk.blind && risk.unseen.is_empty();
        self.extent.send_replace(Extent {
            defined,
            is_plain: learned.complete && learned.risky.values().all(is_plain),
        });
        let mut names = self.names();
        let room = SETTINGS_MAX.saturating_sub(names.len());
        names.extend(learned.settings.into_iter().take(room));
    }
}

/// Learns, and learns again while there are sessions.
async fn keep(lore: Arc<Lore>, upstream: UpstreamName, startup: Startup) {
    let mut pause = Backoff::starting_at(RETRY_FIRST);
    loop {
        let learned = timeout(LEARN_TIME, ask(lore.mapping(), &startup)).await;
        let wait = match learned.unwrap_or(Err(LearnError::TimedOut)) {
            Ok((learned, defined)) => {
                debug!(%upstream, risky = learned.risky.len(), "learned what functions do");
                lore.take(learned, defined);
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
        } else if Arc::strong_count(&lore) <= OWNERS {
            lore.is_stale.store(true, Ordering::Relaxed);
            lore.doubted.notified().await;
        }
    }
}

async fn ask(mapping: Option<Arc<Mapping>>, startup: &Startup) -> Result<(Learned, u64), LearnError> {
    let mapping = mapping.ok_or(LearnError::Deserted)?;
    let arrival = links::log_in(&mapping, startup, NO_SESSION).await;
    let Arrival { link, berth, .. } = arrival.map_err(|_| LearnError::Login)?;
    let mut talk = Talk::resume(link.stream, link.unread);
    let mut out = BytesMut::new();
    say::query(&mut out, &format!("SELECT\n{DEFINED}"));
    say::query(&mut out, LEARN_QUERY);
    talk.say(&mut out).await.map_err(TalkError::from)?;
    let mut rows: Vec<[Option<String>; 3]> = Vec::new();
    let (mut defined, mut is_asked) = (None, false);
    loop {
        let message = talk.hear(ROW_MAX).await?;
        match message.tag {
            b'Z' if defined.is_none() => return Err(Malformed("DataRow").into()),
            b'Z' if !is_asked => is_asked = true,
            b'D' if defined.is_none() => {
                let [text] = row(message.body())?;
                defined = Some(digest(text.unwrap_or_default()));
            }
            b'D' => {
                let columns = row::<3>(message.body())?;
                rows.push(
                    columns.map(|column| column.map(|text| String::from_utf8_lossy(text).into_owned())),
                );
            }
            b'E' => {
                let state = error_field(message.body(), b'C').unwrap_or_default();
                return Err(LearnError::Refused(state.escape_ascii().to_string()));
            }
            b'Z' => break,
            _ => {}
        }
    }
    say::terminate(&mut out);
    // The server ends the backend either way.
    let _ = talk.say(&mut out).await;
    drop(berth);
    // A few hundred milliseconds of work, in the worst case, on whose thread sessions run.
    let learning = tokio::task::spawn_blocking(move || {
        let definitions = rows.iter().map(|[name, language, body]| Definition {
            name: name.as_deref().unwrap_or_default(),
            language: language.as_deref().unwrap_or_default(),
            body: body.as_deref(),
        });
        let mut learned = learn(definitions);
        learned.complete &= rows.len() < DEFINITIONS_MAX;
        learned
    });
    let learned = learning
        .await
        .expect("reading definitions does not panic, and nobody cancels it");
    Ok((learned, defined.unwrap_or_default()))
}
