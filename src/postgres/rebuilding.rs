//! Makes a fresh link what a lost one was, by the last survey and what was noted since.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use super::crossing::{Failed, Known, Unnamed, finish, same, survey};
use super::exchange::Aside;
use super::ledger::Ledger;
use super::replay::{Replay, ReplayError, overlap};
use super::survey::{Question, SurveyError};
use super::talk::Talk;
use super::wire::say;

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
    /// Right after the login. `question` is for the new link.
    pub async fn run<S>(
        &self,
        question: &Question,
        user: &[u8],
        link: &mut Talk<S>,
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
        link: &mut Talk<S>,
    ) -> Result<Rebuilt, Failed>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut aside = Aside::dropped();
        let lost = |error: SurveyError| Failed::NewLost(error.to_string());
        let before = self
            .known
            .settle(question, link, &mut aside)
            .await
            .map_err(lost)?;
        done(
            Replay::new(&before, &self.known.parsed)
                .run(link, &mut aside)
                .await,
        )?;
        finish(&before, self.unnamed.as_ref(), &self.known.told, link, &mut aside).await?;
        if before.channels().len() > 0 {
            done(overlap(&before, None).run(link, &mut aside).await)?;
        }
        aside.keep();
        let question = Question::new(user, before.names_to_verify(), self.bytes_max);
        let question = question.knowing(before.lacks());
        let after = survey(question, link, &mut aside).await.map_err(lost)?;
        let after = same(&before, after, &self.known)?;
        let mut messages = match &self.known.ledger {
            Some(_) => before.status_changes(&after),
            None => Ledger::default().status_changes(&after),
        };
        if before.channels().len() > 0 {
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
}

fn done(replayed: Result<(), ReplayError>) -> Result<(), Failed> {
    replayed.map_err(|error| match error {
        ReplayError::Lost(broken) => Failed::NewLost(broken.to_string()),
        refused @ ReplayError::Refused { .. } => Failed::Replay(refused),
    })
}

/// Leaves a fresh link in a failed transaction, as the one was that its client is in.
pub async fn fail_transaction<S>(link: &mut Talk<S>) -> Result<(), Failed>
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
    link.say(&mut out).await.map_err(|error| lost(&error))?;
    loop {
        let message = link.hear(MESSAGE_MAX).await.map_err(|error| lost(&error))?;
        match (message.tag, message.body()) {
            (b'Z', b"E") => return Ok(()),
            (b'Z', _) => return Err(lost(&"it is in no failed transaction")),
            _ => {}
        }
    }
}
