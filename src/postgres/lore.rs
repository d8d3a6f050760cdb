//! What is known of a database beyond any one session: which of its functions, views and tables change what a
//! session holds, and the names of custom settings.

use std::collections::{BTreeMap, BTreeSet};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::Mapping;
use super::farewell::{leave, outlast};
use super::links::{self, Arrival};
use super::talk::{Talk, TalkError};
use super::wire::opening::Startup;
use super::wire::read::{Malformed, error_field, row};
use super::wire::say;
use super::wire::state_words::{DEFINITIONS_MAX, Definition, LEARN_QUERY, Learned, Vocabulary, learn};
use crate::backoff::{Backoff, jittered};
use crate::metrics::Task;
use crate::names::UpstreamName;
use crate::net::Stream;
use crate::supervise::supervise;

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

/// Of one database of one upstream.
pub struct Lore {
    vocabulary: watch::Sender<Arc<Vocabulary>>,
    settings: Mutex<BTreeSet<String>>,
    /// Somebody asks what sequences gave.
    asks_sequences: AtomicBool,
    doubted: Notify,
    /// Nobody was in the database when it would have been learned again.
    is_stale: AtomicBool,
    /// How to log in there: as the latest session did.
    mapping: Mutex<Weak<Mapping>>,
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
        let (book, metrics) = (Arc::clone(&lore), Arc::clone(&mapping.book.metrics));
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
            settings: Mutex::default(),
            asks_sequences: AtomicBool::new(false),
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

    /// A definition may have changed.
    pub fn doubt(&self) {
        self.doubted.notify_one();
    }

    fn names(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
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
        let wait = match ask(lore.mapping(), startup).await {
            Ok(learned) => {
                debug!(%upstream, risky = learned.risky.len(), "learned what functions do");
                lore.take(learned);
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

async fn ask(mapping: Option<Arc<Mapping>>, startup: &Startup) -> Result<Learned, LearnError> {
    let mapping = mapping.ok_or(LearnError::Deserted)?;
    let arrival = links::log_in(&mapping, startup, NO_SESSION).await;
    let Arrival { link, berth, .. } = arrival.map_err(|_| LearnError::Login)?;
    let mut talk = Talk::resume(link.stream, link.unread);
    let rows = timeout(LEARN_TIME, ask_for_rows(&mut talk)).await;
    let link = talk.into_parts().0;
    match &rows {
        Ok(Ok(_)) => drop(tokio::spawn(leave(link, berth))),
        _ => drop(tokio::spawn(outlast(link, berth, None))),
    }
    let rows = rows.unwrap_or(Err(LearnError::TimedOut))?;
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
    // What it panics with, this task panics with.
    let learned = learning.await;
    learned.map_err(|error| panic::resume_unwind(error.into_panic()))
}

type Row = [Option<String>; 3];

async fn ask_for_rows(talk: &mut Talk<Stream>) -> Result<Vec<Row>, LearnError> {
    let mut out = BytesMut::new();
    say::query(&mut out, LEARN_QUERY);
    talk.say(&mut out).await.map_err(TalkError::from)?;
    let mut rows: Vec<Row> = Vec::new();
    loop {
        let message = talk.hear(ROW_MAX).await?;
        match message.tag {
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
            b'Z' => return Ok(rows),
            _ => {}
        }
    }
}
