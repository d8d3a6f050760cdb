//! Learns what the functions of a database do out of sight, over links of its own: once for all sessions there, and
//! again while there are any.

mod asked;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::arrival::{Arrival, log_in};
use super::farewell::{leave, outlast};
use super::way::Way;
use crate::backoff::{Backoff, jittered};
use crate::metrics::Task;
use crate::names::UpstreamName;
use crate::net::Stream;
use crate::postgres::state::risky_names::{Digest, RiskyNames};
use crate::postgres::talk::exchange::Aside;
use crate::postgres::talk::stream::Talk;
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
/// The list of databases, and the task that learns: who else holds the names is a session.
const OWNERS: usize = 2;
/// For the log: sessions count from 1.
const NO_SESSION: u64 = 0;

/// What is known of every database that some session is in.
#[derive(Default)]
pub struct PerDatabase {
    all: Mutex<BTreeMap<Database, Known>>,
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
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(&key) {
            *known.way.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(way);
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
        let (learned, metrics) = (Arc::clone(&names), Arc::clone(way.metrics()));
        tokio::spawn(supervise(Task::Learning, metrics, async move || {
            keep_learning(&learned, &way_there, &key.0, &startup).await;
        }));
        names
    }
}

/// Learns what functions do by now, if that has changed since it was learned last: asked over a fresh link of a session
/// that is about to go by it. What comes between is known the next time.
pub async fn catch_up<S>(names: &RiskyNames, talk: &mut Talk<S>) -> Result<(), AskError>
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

/// Learns, and learns again while there are sessions.
async fn keep_learning(
    names: &Arc<RiskyNames>,
    way: &Mutex<Weak<Way>>,
    upstream: &UpstreamName,
    startup: &Startup,
) {
    let mut pause = Backoff::starting_at(RETRY_FIRST);
    loop {
        let way = way.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
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
            names.doubted().await;
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
