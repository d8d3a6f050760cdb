//! Makes a fresh link what a lost one was, by the last survey and what was noted since.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use super::crossing::{Failed, Unnamed, survey};
use super::exchange::Aside;
use super::ledger::Ledger;
use super::notes::Again;
use super::replay::{Parses, Replay, ReplayError, overlap, say_again};
use super::survey::Question;
use super::talk::Talk;
use super::wire::say;

/// Everything that is asked of the new link.
const TIME_MAX: Duration = Duration::from_secs(10);

/// What there is to go by.
pub struct Rebuilding {
    /// None: the session is as its login made it.
    pub ledger: Option<Ledger>,
    /// What was said since, in its order.
    pub said: Vec<Again>,
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
        let before = match &self.ledger {
            Some(ledger) => ledger.clone(),
            // What another login makes of it is what there was, but for who it is.
            None => asked(question.clone(), link, &mut aside).await?,
        };
        self.replay(&before, link, &mut aside).await?;
        if before.channels().len() > 0 {
            done(overlap(&before, None).run(link, &mut aside).await)?;
        }
        aside.keep();
        let known = Question::new(user, before.names_to_verify(), self.bytes_max);
        let mut after = asked(known, link, &mut aside).await?;
        if let Some(difference) = before.difference(&after) {
            return Err(Failed::Differs(difference));
        }
        if !self.said.is_empty() || self.unnamed.is_some() {
            self.say_again(link, &mut aside).await?;
            if !self.said.is_empty() {
                after = asked(question.clone(), link, &mut aside).await?;
            }
        }
        let mut messages = match &self.ledger {
            Some(ledger) => ledger.status_changes(&after),
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

    async fn replay<S>(&self, ledger: &Ledger, link: &mut Talk<S>, aside: &mut Aside) -> Result<(), Failed>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        done(Replay::new(ledger, Parses::default()).run(link, aside).await)
    }

    /// In the encoding of the client, and under what was in force when it said so.
    async fn say_again<S>(&self, link: &mut Talk<S>, aside: &mut Aside) -> Result<(), Failed>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // A statement that stands alone in its unit begins another.
        for unit in self.said.chunk_by(|_, next| !matches!(next, Again::Alone(_))) {
            let (first, rest) = match unit {
                [alone @ Again::Alone(_), rest @ ..] => (std::slice::from_ref(alone), rest),
                all => (&[][..], all),
            };
            for unit in [first, rest] {
                if !unit.is_empty() {
                    said(say_again(unit, None).run(link, aside).await)?;
                }
            }
        }
        let Some(unnamed) = &self.unnamed else {
            return Ok(());
        };
        match say_again(&[], Some(&unnamed.body)).run(link, aside).await {
            Err(ReplayError::Refused { .. }) if unnamed.doubtful => Ok(()),
            replayed => said(replayed),
        }
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

async fn asked<S>(question: Question, link: &mut Talk<S>, aside: &mut Aside) -> Result<Ledger, Failed>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ledger = survey(question, link, aside).await;
    ledger.map_err(|error| Failed::NewLost(error.to_string()))
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
