//! Makes links that sessions have left as good as new, and looks whether they are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::super::cancel::UnderWay;
use super::super::farewell::leave;
use super::super::login::Link;
use super::look::{Extent, Look};
use super::{Idle, LinkKind, Pool, Sight, Used, came_back};
use crate::metrics::{Metrics, NotLent};
use crate::postgres::talk::stream::{MessageStream, StreamError};
use crate::postgres::wire::extended::{self, BYTEA_ARRAY, bytea_array};
use crate::postgres::wire::read::{self, Malformed};
use crate::postgres::wire::say;
use crate::postgres::wire::tag::from_server;

/// For a server to forget a session.
const RESET_TIME: Duration = Duration::from_secs(5);
/// For a server to tell for the first time what sessions begin with: a client waits for it.
const FIRST_LOOK_TIME: Duration = Duration::from_millis(500);
/// For what a database does out of sight to be learned.
const LEARN_WAIT: Duration = Duration::from_secs(5);
const MESSAGE_MAX: usize = 1 << 20;

/// What outlives DISCARD ALL, as far as a server tells: a custom setting that somebody has set, which is empty from
/// then on and not absent, and the schema of temporary objects. True: it is there.
const LEFT: &str = "/* pgswivel */ SELECT EXISTS (SELECT FROM \
     (SELECT pg_catalog.convert_from(b.name, pg_catalog.getdatabaseencoding()) AS name \
     FROM pg_catalog.unnest($1) AS b(name)) AS n \
     WHERE pg_catalog.current_setting(n.name, true) OPERATOR(pg_catalog.=) ''), \
     pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) 0::pg_catalog.oid";
const TRUE: &[u8] = &[1];

/// What a session leaves with its link.
pub struct Left {
    /// There may be more than DISCARD ALL takes away: custom settings among these, or temporary objects.
    pub touched: Option<BTreeSet<String>>,
    pub under_way: Option<UnderWay>,
    /// None: whatever the database has, it has not used it.
    pub used: Option<Used>,
    pub metrics: Arc<Metrics>,
}

/// Takes back the link that a session has left. Who waits for one of its kind knows from now on that it comes. A
/// cancel request that is still on its way would hit the next.
pub fn take_back(pool: Arc<Pool>, kind: LinkKind, mut idle: Idle, left: Left) {
    let wait = left.used.as_ref().and_then(|(risky, learned)| match learned {
        0 => risky.until_learned(),
        _ => None,
    });
    if wait.is_none() {
        pool.expect(&kind);
    }
    tokio::spawn(async move {
        idle.registration.unseat();
        if let Some(learned) = wait {
            // Not counted as coming: it may be long.
            let _ = timeout(LEARN_WAIT, learned).await;
            pool.expect(&kind);
        }
        let metrics = Arc::clone(&left.metrics);
        match reset(&pool, &kind, &mut idle, left).await {
            Ok(used) => {
                let Idle {
                    link,
                    registration,
                    connection,
                    ..
                } = idle;
                let idle = Idle::new(link, registration, connection, used);
                came_back(&pool, &kind, idle, Sight::Earlier);
            }
            Err(error) => {
                debug!(%error, "link not lent again");
                metrics.not_lent(error.reason());
                pool.lost(&kind);
                leave(idle.link.stream, idle.registration).await;
            }
        }
    });
}

/// Looks over a link that was at rest; then it is for whoever waits.
pub fn look_again(pool: Arc<Pool>, kind: LinkKind, mut idle: Idle, extent: Extent) {
    tokio::spawn(async move {
        let asked_at = Instant::now();
        match ask(&mut idle.link, extent, RESET_TIME).await {
            Ok(look) => {
                pool.looked(&kind, idle.login(), look, asked_at);
                came_back(&pool, &kind, idle, Sight::Now);
            }
            Err(error) => {
                debug!(%error, "link not lent again");
                pool.lost(&kind);
                idle.part();
            }
        }
    });
}

/// Looks over a link of `user` that was just made, if nobody had looked when its login began: nobody could tell later
/// whether it is as a new one would be. On an error it is not to be used.
pub async fn look_first(pool: &Pool, kind: &LinkKind, link: &mut Link, user: &str) -> Result<(), ResetError> {
    if link.facts.epoch != 0 {
        return Ok(());
    }
    let endpoint = link.facts.endpoint.clone();
    let asked_at = Instant::now();
    let asked = ask(link, Extent::Beginning, FIRST_LOOK_TIME).await;
    let (look, result) = match asked {
        Ok(look) => (look, Ok(())),
        Err(ResetError::Refused) => (Look::refused(), Ok(())),
        // Nobody waits for that twice.
        Err(error) => (Look::refused(), Err(error)),
    };
    link.facts.epoch = pool.looked(kind, (&endpoint, user), look, asked_at);
    result
}

#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The link is at rest.
    #[error("the server refused")]
    Refused,
    #[error("the server did not answer in time")]
    TimedOut,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("a custom setting outlives the reset")]
    CustomSetting,
    #[error("the schema of temporary objects outlives the reset")]
    TemporaryObjects,
    #[error("new sessions are greeted otherwise")]
    Greeting,
    #[error("a cancel request may still hit it")]
    Cancel,
}

impl ResetError {
    fn reason(&self) -> NotLent {
        match self {
            Self::Stream(_) | Self::Refused | Self::TimedOut | Self::Malformed(_) => NotLent::Failed,
            Self::CustomSetting => NotLent::CustomSetting,
            Self::TemporaryObjects => NotLent::TemporaryObjects,
            Self::Greeting => NotLent::ChangedDefaults,
            Self::Cancel => NotLent::Cancel,
        }
    }
}

/// A session that begins on it must not find out that there was one before.
async fn reset(
    pool: &Pool,
    kind: &LinkKind,
    idle: &mut Idle,
    left: Left,
) -> Result<Option<Used>, ResetError> {
    if let Some(under_way) = left.under_way
        && !under_way.ended().await
    {
        return Err(ResetError::Cancel);
    }
    let mut parts = vec![Part::Discard];
    if let Some(settings) = left.touched {
        parts.push(Part::Left(settings));
    }
    // As long as nobody has looked, this is a good time.
    let login = (
        &idle.link.facts.endpoint.clone(),
        &*idle.registration.credential().user,
    );
    let asked_at = Instant::now();
    parts.extend(pool.look_due(kind, login.0, login.1).map(Part::Look));
    if let Some(look) = answered(&mut idle.link, &parts, RESET_TIME).await? {
        pool.looked(kind, login, look, asked_at);
    }
    Ok(left.used)
}

/// Of what is asked in one flight.
enum Part {
    Discard,
    /// What it leaves, if anybody has set these.
    Left(BTreeSet<String>),
    Look(Extent),
}

impl Part {
    fn say(&self, out: &mut BytesMut) {
        match self {
            Self::Discard => say::query(out, "DISCARD ALL"),
            Self::Look(extent) => Look::say(*extent, out),
            Self::Left(settings) => {
                // No setting has such a name, and a server refuses to look for one.
                let names: Vec<&[u8]> = settings
                    .iter()
                    .map(String::as_bytes)
                    .filter(|name| !name.contains(&0))
                    .collect();
                extended::parse(out, b"", LEFT.as_bytes(), &[BYTEA_ARRAY]);
                extended::bind(out, b"", &[Some(&bytea_array(names.into_iter()))]);
                extended::execute(out);
                extended::close_statement(out, b"");
                extended::sync(out);
            }
        }
    }
}

async fn ask(link: &mut Link, extent: Extent, limit: Duration) -> Result<Look, ResetError> {
    let look = answered(link, &[Part::Look(extent)], limit).await?;
    look.ok_or(ResetError::Refused)
}

async fn answered(link: &mut Link, parts: &[Part], limit: Duration) -> Result<Option<Look>, ResetError> {
    let answered = timeout(limit, answers(link, parts)).await;
    answered.unwrap_or(Err(ResetError::TimedOut))
}

async fn answers(link: &mut Link, parts: &[Part]) -> Result<Option<Look>, ResetError> {
    let greeting = Arc::clone(&link.facts.greeting);
    let mut talk = MessageStream::resume(&mut link.stream, std::mem::take(&mut link.unread));
    let mut out = BytesMut::new();
    parts.iter().for_each(|part| part.say(&mut out));
    talk.write(&mut out).await.map_err(StreamError::from)?;
    let (mut look, mut refused) = (None, false);
    let mut left = parts.iter();
    let mut part = left.next();
    while let Some(answered) = part {
        let message = talk.read(MESSAGE_MAX).await?;
        match (message.tag, message.body(), answered) {
            (from_server::READY, b"I", _) => part = left.next(),
            (from_server::READY, ..) => return Err(Malformed("ReadyForQuery").into()),
            (from_server::ERROR, ..) => refused = true,
            // What a client had changed, and what is another's now for new sessions too.
            (from_server::PARAMETER_STATUS, body, _) => is_greeted_with(&greeting.messages, body)?,
            (from_server::DATA_ROW, body, Part::Look(extent)) => look = Some(Look::read(body, *extent)?),
            (from_server::DATA_ROW, body, Part::Left(_)) => match read::row::<2>(body)? {
                [Some(TRUE), _] => return Err(ResetError::CustomSetting),
                [_, Some(TRUE)] => return Err(ResetError::TemporaryObjects),
                _ => {}
            },
            _ => {}
        }
    }
    let (_, unread) = talk.into_parts();
    if refused || !unread.is_empty() {
        return Err(ResetError::Refused);
    }
    Ok(look)
}

fn is_greeted_with(greeting: &[u8], status: &[u8]) -> Result<(), ResetError> {
    match read::parameter_status(status) {
        Some((name, value)) if read::reported(greeting, name) == Some(value) => Ok(()),
        _ => Err(ResetError::Greeting),
    }
}
