//! Makes links that sessions have left as good as new.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::timeout;

use super::super::cancel::UnderWay;
use super::super::farewell::leave;
use super::super::links::Arrival;
use super::super::talk::{Talk, TalkError};
use super::super::wire::read::{self, Malformed};
use super::super::wire::say;
use super::{Kept, Kind};
use crate::limit::Permit;
use crate::net::Stream;

/// For a server to forget a session.
const RESET_TIME: Duration = Duration::from_secs(5);
const MESSAGE_MAX: usize = 1 << 20;

/// Takes back the link that a session has left, who may have left more there than DISCARD ALL takes away. Who waits
/// for one of its kind knows from now on that it comes. A cancel request that is still on its way would hit the next.
pub fn take_back(
    kind: Kind,
    mut arrival: Arrival,
    connection: Permit,
    is_touched: bool,
    under_way: Option<UnderWay>,
) {
    let target = Arc::clone(&arrival.target);
    target.lender.expect(&kind);
    tokio::spawn(async move {
        arrival.berth.unseat();
        let is_left_alone = match under_way {
            Some(under_way) => under_way.ended().await,
            None => true,
        };
        let reset = timeout(RESET_TIME, reset(&mut arrival.link.stream, is_touched)).await;
        if is_left_alone && matches!(reset, Ok(Ok(()))) {
            let kept = Kept::new(arrival, connection);
            target.lender.washed(&kind, Some(kept));
        } else {
            target.lender.washed(&kind, None);
            leave(arrival.link.stream, arrival.berth).await;
        }
    });
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
async fn reset(link: &mut Stream, is_touched: bool) -> Result<(), ResetError> {
    let mut talk = Talk::new(link);
    let mut out = BytesMut::new();
    let question = is_touched.then_some("SELECT pg_catalog.pg_my_temp_schema()");
    let asked: Vec<_> = question.into_iter().chain(["DISCARD ALL"]).collect();
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
