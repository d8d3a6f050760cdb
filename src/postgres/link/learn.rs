//! Learns what the functions of a database do out of sight, over links of its own: once for all sessions there, and
//! again while there are any.

mod asked;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::arrival::{Arrival, log_in};
use super::farewell::{leave, outlast};
use super::way::Way;
use crate::backoff::{Backoff, jittered};
use crate::lock::lock;
use crate::metrics::Task;
use crate::names::UpstreamName;
use crate::net::Stream;
use crate::postgres::state::risky_names::{Digest, RiskyNames};
use crate::postgres::talk::exchange::Aside;
use crate::postgres::talk::stream::MessageStream;
use crate::postgres::wire::opening::Startup;
use crate::postgres::wire::state_words::Learned;
use crate::supervise::supervise;
pub use asked::AskError;

/// Others define functions too.
const LEARN_EVERY: Duration = Duration::from_secs(300);
const JITTER: f64 = 0.1;
/// Definitions come in scripts of many.
const DOUBT_PAUSE: Duration = Duration::from_secs(1);
const LEARN_TIME: Duration = Duration::from_secs(30);
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_CAP: Duration = Duration::from_secs(60);
/// What nobody has asked for so long is forgotten: the database may be gone.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);
/// The list of databases, and the task that learns: who else holds the names is a session.
const OWNERS: usize = 2;
/// For the log: sessions count from 1.
const NO_SESSION: u64 = 0;

/// What is known of every database that some session is in, or was lately.
#[derive(Clone, Default)]
pub struct PerDatabase {
    all: Arc<Mutex<BTreeMap<Database, Known>>>,
}

/// An upstream, and a name there.
type Database = (UpstreamName, Box<[u8]>);

struct Known {
    names: Arc<RiskyNames>,
    /// How to log in there: as the latest session did.
    way: Arc<Mutex<Weak<Way>>>,
}

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

impl PerDatabase {
    /// Of the database that `startup` names. The first who asks has it learned.
    pub fn of(&self, way: &Arc<Way>, startup: &Startup) -> Arc<RiskyNames> {
        let database = startup.get(b"database").unwrap_or_default();
        let key = (way.pool.target.upstream.name.clone(), database.into());
        let mut all = self.all();
        if let Some(known) = all.get(&key) {
            *lock(&known.way) = Arc::downgrade(way);
            known.names.is_wanted();
            return Arc::clone(&known.names);
        }
        let names = Arc::new(RiskyNames::unlearned());
        let way_there = Arc::new(Mutex::new(Arc::downgrade(way)));
        let known = Known {
            names: Arc::clone(&names),
            way: Arc::clone(&way_there),
        };
        all.insert(key.clone(), known);
        let mut startup = Startup::default();
        startup.set(b"database", database);
        startup.set(b"application_name", b"pgswivel");
        startup.set(b"client_encoding", b"UTF8");
        let (learned, all, metrics) = (Arc::clone(&names), self.clone(), Arc::clone(way.metrics()));
        tokio::spawn(supervise(Task::Learning, metrics, async move || {
            all.keep_learning(&learned, &way_there, &key, &startup).await;
        }));
        names
    }

    /// Learns, and learns again while there are sessions.
    async fn keep_learning(
        &self,
        names: &Arc<RiskyNames>,
        way: &Mutex<Weak<Way>>,
        key: &Database,
        startup: &Startup,
    ) {
        let mut pause = Backoff::starting_at(RETRY_FIRST);
        let (upstream, _) = key;
        loop {
            let way = lock(way).upgrade();
            let wait = match ask(way, startup).await {
                Ok((learned, digest, defined)) => {
                    debug!(%upstream, risky = learned.risky.len(), "learned what functions do");
                    names.take_as_of(digest, learned);
                    names.learned_as_of(defined);
                    pause.reset();
                    jittered(LEARN_EVERY, JITTER)
                }
                Err(error) => {
                    debug!(%upstream, %error, "could not learn what functions do");
                    pause.next(RETRY_CAP)
                }
            };
            if timeout(wait, names.doubted()).await.is_ok() {
                sleep(DOUBT_PAUSE).await;
            } else if Arc::strong_count(names) <= OWNERS {
                names.grows_stale();
                let asked = timeout(FORGOTTEN_AFTER, names.doubted()).await;
                if asked.is_err() && self.forget(names, key) {
                    return;
                }
            }
        }
    }

    /// False: somebody has come.
    fn forget(&self, names: &Arc<RiskyNames>, key: &Database) -> bool {
        let mut all = self.all();
        let is_alone = Arc::strong_count(names) <= OWNERS;
        if is_alone {
            all.remove(key);
        }
        is_alone
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Database, Known>> {
        lock(&self.all)
    }
}

/// Learns what functions do by now, if that has changed since it was learned last: asked over a fresh link of a session
/// that is about to go by it. What comes between is known the next time.
pub async fn catch_up<S>(names: &RiskyNames, talk: &mut MessageStream<S>) -> Result<(), AskError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Sessions wait for what was never learned, or are not sure.
    if !names.is_learned() {
        return Ok(());
    }
    let mut aside = Aside::dropped();
    let digest = asked::digest(talk, &mut aside).await?;
    // One learns, and the others find that it has.
    let _turn = names.turn_to_learn().await;
    if names.is_as_of(digest) {
        return Ok(());
    }
    let learned = asked::definitions(talk, &mut aside).await?;
    debug!(risky = learned.risky.len(), "learned anew what functions do");
    names.take_as_of(digest, learned);
    Ok(())
}

async fn ask(way: Option<Arc<Way>>, startup: &Startup) -> Result<(Learned, Digest, u64), LearnError> {
    let way = way.ok_or(LearnError::Deserted)?;
    let arrival = log_in(&way, startup, NO_SESSION).await;
    let Arrival {
        link,
        mut registration,
        ..
    } = arrival.map_err(|_| LearnError::Login)?;
    registration.ends_soon();
    let mut talk = MessageStream::resume(link.stream, link.unread);
    let told = timeout(LEARN_TIME, learn_over(&mut talk)).await;
    let link = talk.into_parts().0;
    match &told {
        Ok(Ok(_)) => drop(tokio::spawn(leave(link, registration))),
        _ => drop(tokio::spawn(outlast(link, registration, None))),
    }
    told.unwrap_or(Err(LearnError::TimedOut))
}

async fn learn_over(talk: &mut MessageStream<Stream>) -> Result<(Learned, Digest, u64), LearnError> {
    let mut aside = Aside::dropped();
    // What changes between the two is learned, and looked at once more.
    let defined = asked::defined(talk, &mut aside).await?;
    let digest = asked::digest(talk, &mut aside).await?;
    Ok((asked::definitions(talk, &mut aside).await?, digest, defined))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_database_that_nobody_is_in_any_more_is_forgotten() {
        let (all, key) = (PerDatabase::default(), ("db".into(), Box::from(&b"orders"[..])));
        let names = Arc::new(RiskyNames::plain());
        let way = Arc::new(Mutex::new(Weak::new()));
        let known = Known {
            names: Arc::clone(&names),
            way: Arc::clone(&way),
        };
        all.all().insert(key.clone(), known);
        let (learns, learned, of) = (all.clone(), Arc::clone(&names), key.clone());
        let task = tokio::spawn(async move {
            learns
                .keep_learning(&learned, &way, &of, &Startup::default())
                .await;
        });
        sleep(2 * FORGOTTEN_AFTER).await;
        assert!(all.all().contains_key(&key) && !task.is_finished(), "somebody is");
        drop(names);
        sleep(2 * FORGOTTEN_AFTER).await;
        assert!(all.all().is_empty() && task.is_finished());
    }
}
