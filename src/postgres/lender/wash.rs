//! Makes links that sessions have left as good as new.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::timeout;
use tracing::debug;

use super::super::cancel::UnderWay;
use super::super::links::Arrival;
use super::super::login::{Link, Target};
use super::super::lore::Lore;
use super::super::move_::leave;
use super::super::talk::{Talk, TalkError};
use super::super::wire::extended::{self, BYTEA_ARRAY, bytea_array};
use super::super::wire::read::{self, Malformed};
use super::super::wire::say;
use super::look::Look;
use super::{Kept, Kind};
use crate::limit::Permit;

/// For a server to forget a session.
const RESET_TIME: Duration = Duration::from_secs(5);
/// For what a database does out of sight to be learned.
const LEARN_WAIT: Duration = Duration::from_secs(5);
const MESSAGE_MAX: usize = 1 << 20;

/// What outlives DISCARD ALL, as far as a server tells: the schema of temporary objects, and a custom setting that
/// somebody has set, which is empty from then on and not absent. True: nothing.
const IS_AS_NEW: &str = "/* pgswivel */ SELECT \
     pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.=) 0::pg_catalog.oid AND NOT EXISTS (SELECT FROM \
     (SELECT pg_catalog.convert_from(b.name, pg_catalog.getdatabaseencoding()) AS name \
     FROM pg_catalog.unnest($1) AS b(name)) AS n \
     WHERE pg_catalog.current_setting(n.name, true) OPERATOR(pg_catalog.=) '')";
const TRUE: &[u8] = &[1];

/// What a session leaves with its link.
pub struct Left {
    /// There may be more than DISCARD ALL takes away.
    pub is_touched: bool,
    pub under_way: Option<UnderWay>,
    pub lore: Arc<Lore>,
    /// What was known of the database's functions when it began.
    pub learned: u64,
}

/// Takes back the link that a session has left. Who waits for one of its kind knows from now on that it comes. A
/// cancel request that is still on its way would hit the next.
pub fn take_back(kind: Kind, mut arrival: Arrival, connection: Permit, left: Left) {
    let target = Arc::clone(&arrival.target);
    let wait = left.lore.unlearned();
    let expect = move |target: &Target, kind: &Kind| target.lender.expect(kind);
    if wait.is_none() {
        expect(&target, &kind);
    }
    tokio::spawn(async move {
        arrival.berth.unseat();
        if let Some(learned) = wait {
            // Not counted as coming: it may be long.
            let _ = timeout(LEARN_WAIT, learned).await;
            expect(&target, &kind);
        }
        match wash(&target, &kind, &mut arrival, left).await {
            Ok(()) => target.lender.washed(&kind, Some(Kept::new(arrival, connection))),
            Err(reason) => {
                debug!(%reason, "link not lent again");
                target.lender.washed(&kind, None);
                leave(arrival.link.stream, arrival.berth).await;
            }
        }
    });
}

/// Looks over a link that was at rest; then it is for whoever waits.
pub fn look_again(target: Arc<Target>, kind: Kind, mut kept: Kept) {
    tokio::spawn(async move {
        match ask(&mut kept.link, &[Part::Look]).await {
            Ok(look) => {
                target.lender.looked(&kind, kept.login(), look);
                target.lender.washed(&kind, Some(kept));
            }
            Err(reason) => {
                debug!(%reason, "link not lent again");
                target.lender.washed(&kind, None);
                kept.part();
            }
        }
    });
}

/// Looks over a link that was just made, if nobody has for long. On an error it is not to be used.
pub async fn look_first(kind: &Kind, arrival: &mut Arrival) -> Result<(), ResetError> {
    let lender = &arrival.target.lender;
    let login = (
        &arrival.link.facts.endpoint.clone(),
        &*arrival.berth.credential().user,
    );
    if !lender.is_look_due(kind, login.0, login.1) {
        return Ok(());
    }
    let look = match ask(&mut arrival.link, &[Part::Look]).await {
        Ok(look) => look,
        Err(ResetError::Refused) => Look::refused(),
        Err(error) => return Err(error),
    };
    let epoch = lender.looked(kind, login, look);
    if arrival.link.facts.epoch == 0 {
        arrival.link.facts.epoch = epoch;
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    #[error(transparent)]
    Talk(#[from] TalkError),
    /// The link is at rest.
    #[error("the server refused")]
    Refused,
    #[error("the server did not answer in time")]
    TimedOut,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("something outlives the reset")]
    Left,
    #[error("new sessions are greeted otherwise")]
    Greeting,
    #[error("it may have called a function that was not known")]
    Unlearned,
    #[error("a cancel request may still hit it")]
    Cancel,
}

/// A session that begins on it must not find out that there was one before.
async fn wash(target: &Target, kind: &Kind, arrival: &mut Arrival, left: Left) -> Result<(), ResetError> {
    if let Some(under_way) = left.under_way
        && !under_way.ended().await
    {
        return Err(ResetError::Cancel);
    }
    let Arrival { link, berth, .. } = arrival;
    let (endpoint, user) = (link.facts.endpoint.clone(), &berth.credential().user);
    let mut parts = vec![Part::Discard];
    if left.is_touched {
        parts.push(Part::IsAsNew(left.lore.settings()));
    }
    if target.lender.is_look_due(kind, &endpoint, user) {
        parts.push(Part::Look);
        let look = ask(link, &parts).await?;
        target.lender.looked(kind, (&endpoint, user), look);
    } else {
        reset(link, &parts).await?;
    }
    let defined = target.lender.defined(kind, &endpoint, user);
    if defined.is_some_and(|defined| left.lore.knew_all(left.learned, defined)) {
        Ok(())
    } else {
        Err(ResetError::Unlearned)
    }
}

/// Of what is asked in one flight.
enum Part {
    Discard,
    /// But for these custom settings, which somebody may have set.
    IsAsNew(BTreeSet<String>),
    Look,
}

impl Part {
    fn say(&self, out: &mut BytesMut) {
        match self {
            Self::Discard => say::query(out, "DISCARD ALL"),
            Self::Look => Look::say(out),
            Self::IsAsNew(settings) => {
                // No setting has such a name, and a server refuses to look for one.
                let names = settings.iter().map(String::as_bytes);
                let names = bytea_array(names.filter(|name| !name.contains(&0)));
                extended::parse(out, b"", IS_AS_NEW.as_bytes(), &[BYTEA_ARRAY]);
                extended::bind(out, b"", &[Some(&names)]);
                extended::execute(out);
                extended::close_statement(out, b"");
                extended::sync(out);
            }
        }
    }
}

/// A flight with a look in it.
async fn ask(link: &mut Link, parts: &[Part]) -> Result<Look, ResetError> {
    reset(link, parts).await?.ok_or(ResetError::Refused)
}

async fn reset(link: &mut Link, parts: &[Part]) -> Result<Option<Look>, ResetError> {
    let answered = timeout(RESET_TIME, answers(link, parts)).await;
    answered.unwrap_or(Err(ResetError::TimedOut))
}

async fn answers(link: &mut Link, parts: &[Part]) -> Result<Option<Look>, ResetError> {
    let greeting = Arc::clone(&link.facts.greeting);
    let mut talk = Talk::resume(&mut link.stream, std::mem::take(&mut link.unread));
    let mut out = BytesMut::new();
    parts.iter().for_each(|part| part.say(&mut out));
    talk.say(&mut out).await.map_err(TalkError::from)?;
    let (mut look, mut refused) = (None, false);
    let mut left = parts.iter();
    let mut part = left.next();
    while let Some(answered) = part {
        let message = talk.hear(MESSAGE_MAX).await?;
        match (message.tag, message.body(), answered) {
            (b'Z', b"I", _) => part = left.next(),
            (b'Z', ..) => return Err(Malformed("ReadyForQuery").into()),
            (b'E', ..) => refused = true,
            // What a client had changed, and what is another's now for new sessions too.
            (b'S', body, _) => is_greeted_with(&greeting.messages, body)?,
            (b'D', body, Part::Look) => look = Some(Look::read(body)?),
            (b'D', body, Part::IsAsNew(_)) if read::row::<1>(body)? != [Some(TRUE)] => {
                return Err(ResetError::Left);
            }
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
    let mut parts = status.split(|byte| *byte == 0);
    let (name, value) = (parts.next().unwrap_or_default(), parts.next());
    if read::reported(greeting, name) == value {
        Ok(())
    } else {
        Err(ResetError::Greeting)
    }
}
