//! Makes a fresh link what a lost one was, by the last survey and what was noted since.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use super::crossing::{Failed, finish, same, settle, survey};
use crate::postgres::state::known::{Again, Known, Unnamed};
use crate::postgres::state::ledger::Ledger;
use crate::postgres::talk::exchange::Aside;
use crate::postgres::talk::replay::{Replay, ReplayError, overlap, put_right, say_again};
use crate::postgres::talk::stream::MessageStream;
use crate::postgres::talk::survey::{FORBIDDEN, Question, SurveyError, lacking};
use crate::postgres::wire::say;
use crate::postgres::wire::tag::from_server;

/// Everything that is asked of the new link.
const TIME_MAX: Duration = Duration::from_secs(10);

/// What there is to go by.
pub struct Rebuilding {
    /// Without a ledger, the session is as its login made it.
    pub known: Known,
    pub unnamed: Option<Unnamed>,
    pub bytes_max: u32,
}

pub struct Rebuilt {
    pub ledger: Ledger,
    /// What the client has to be told.
    pub messages: BytesMut,
}

impl Rebuilding {
    /// Right after the login. `question` is for the new link, about all that it may hold then.
    pub async fn run<S>(
        &self,
        question: &Question,
        user: &[u8],
        link: &mut MessageStream<S>,
    ) -> Result<Rebuilt, Failed>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let until = Instant::now() + TIME_MAX;
        let rebuilt = timeout_at(until, self.rebuild(question, user, link)).await;
        rebuilt.unwrap_or(Err(Failed::TimedOut))
    }

    async fn rebuild<S>(
        &self,
        question: &Question,
        user: &[u8],
        link: &mut MessageStream<S>,
    ) -> Result<Rebuilt, Failed>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut aside = Aside::dropped();
        let lost = |error: SurveyError| Failed::NewLost(error.to_string());
        let mut before = settle(&self.known, question, link, &mut aside)
            .await
            .map_err(lost)?;
        let parsed = &self.known.parsed;
        let mut replayed = Replay::new(&before, parsed).run(link, &mut aside).await;
        if let Err(ReplayError::Refused { state, .. }) = &replayed
            && state.as_bytes() == FORBIDDEN
            && before.lacks().is_empty()
        {
            // Rights may have been taken away since it was asked.
            let lacks = lacking(link, &mut aside).await.map_err(lost)?;
            if !lacks.is_empty() {
                before = before.of_a_server_that(lacks);
                replayed = Replay::new(&before, parsed).run(link, &mut aside).await;
            }
        }
        done(replayed)?;
        if before.channels().len() > 0 {
            done(overlap(&before, None).run(link, &mut aside).await)?;
        }
        aside.keep();
        let question_of_all = question.clone().knowing(before.lacks());
        let question = Question::new(user, before.names_to_verify(), self.bytes_max);
        let question = question.knowing(before.lacks());
        let after = survey(question, link, &mut aside).await.map_err(lost)?;
        let mut after = same(&before, after, &self.known)?;
        if !self.known.said.is_empty() {
            after = self
                .say_again(&before, &question_of_all, link, &mut aside)
                .await?;
        }
        finish(&after, self.unnamed.as_ref(), &self.known.told, link, &mut aside).await?;
        let mut messages = match &self.known.ledger {
            Some(_) => before.status_changes(&after),
            None => Ledger::default().status_changes(&after),
        };
        if after.channels().len() > 0 {
            say::warning(
                &mut messages,
                "01000",
                "the connection to the database was lost and made again: notifications sent meanwhile are missing",
            );
        }
        messages.extend_from_slice(&aside.take());
        Ok(Rebuilt {
            ledger: after,
            messages,
        })
    }

    /// In the encoding of the client, and under what was in force when it said so. What the link is then.
    async fn say_again<S>(
        &self,
        before: &Ledger,
        question: &Question,
        link: &mut MessageStream<S>,
        aside: &mut Aside,
    ) -> Result<Ledger, Failed>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // A statement that stands alone in its unit begins another.
        let units = self
            .known
            .said
            .chunk_by(|_, next| !matches!(next, Again::Alone(_)));
        for unit in units {
            let (first, rest) = match unit {
                [alone @ Again::Alone(_), rest @ ..] => (std::slice::from_ref(alone), rest),
                all => (&[][..], all),
            };
            for unit in [first, rest] {
                if !unit.is_empty() {
                    said(say_again(unit, before.lacks()).run(link, aside).await)?;
                }
            }
        }
        let lost = |error: SurveyError| Failed::NewLost(error.to_string());
        let mut after = survey(question.clone(), link, aside).await.map_err(lost)?;
        // Where it went back to a default, that may be another by now.
        let amiss = after.amiss(before, &self.known.values);
        if !amiss.is_empty() {
            done(put_right(&after, &amiss).run(link, aside).await)?;
            after = survey(question.clone(), link, aside).await.map_err(lost)?;
        }
        after.remember(Some(before), &self.known.since);
        Ok(after)
    }
}

/// The client's own limits are in force by then: a server that is slow for once may be quicker the next time.
fn said(replayed: Result<(), ReplayError>) -> Result<(), Failed> {
    match replayed {
        Err(error @ ReplayError::Refused { state, .. }) if matches!(state.class(), b"57" | b"55") => {
            Err(Failed::NewLost(error.to_string()))
        }
        replayed => done(replayed),
    }
}

fn done(replayed: Result<(), ReplayError>) -> Result<(), Failed> {
    replayed.map_err(|error| match error {
        ReplayError::Lost(broken) => Failed::NewLost(broken.to_string()),
        refused @ ReplayError::Refused { .. } => Failed::Replay(refused),
    })
}

/// Leaves a fresh link in a failed transaction, as the one was that its client is in.
pub async fn fail_transaction<S>(link: &mut MessageStream<S>) -> Result<(), Failed>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    const MESSAGE_MAX: usize = 64 * 1024;
    let lost = |error: &dyn std::fmt::Display| Failed::NewLost(error.to_string());
    let mut out = BytesMut::new();
    say::query(
        &mut out,
        "/* pgswivel */ BEGIN; ROLLBACK TO the_transaction_was_lost_with_its_connection",
    );
    link.write(&mut out).await.map_err(|error| lost(&error))?;
    loop {
        let message = link.read(MESSAGE_MAX).await.map_err(|error| lost(&error))?;
        match (message.tag, message.body()) {
            (from_server::READY, b"E") => return Ok(()),
            (from_server::READY, _) => return Err(lost(&"it is in no failed transaction")),
            _ => {}
        }
    }
}
