//! From one link to another, at a safe point: survey the old, make the new the same, verify, and overlap what they
//! listen to. It changes nothing that the client could notice, and leaves the old link as it was if it fails.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout, timeout_at};

use super::exchange::{Aside, Broken, Marker, SqlState, drain_until_marker};
use super::ledger::{Difference, Ledger, Pin};
use super::lore::AskError;
use super::replay::{self, Parses, Replay, ReplayError, forget, listen_for, overlap, recall};
use super::survey::{Question, Survey, SurveyError};
use super::talk::{Talk, TalkError};
use super::wire::read::passes;

/// What the old link is asked is bounded by the server; one that does not answer at all is lost.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);

/// What there is to know before.
pub struct Crossing {
    pub question: Question,
    /// Who logged in on the new link.
    pub user: Box<[u8]>,
    pub unnamed: Option<Unnamed>,
    pub bytes_max: u32,
    /// What the last survey said, if it holds and the old link may refuse to say it again.
    pub known: Option<Ledger>,
    /// When the client has been held for long enough.
    pub until: Instant,
}

/// The client's Parse of its unnamed statement.
pub struct Unnamed {
    pub body: Box<[u8]>,
    /// There may never have been such a statement.
    pub doubtful: bool,
}

/// What the client gets to know of it.
pub struct Crossed {
    /// Of the new link.
    pub ledger: Ledger,
    pub messages: BytesMut,
}

/// Why the session stays where it is, for now.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error("the old link was lost: {0}")]
    OldLost(SurveyError),
    #[error("the old link was lost: {0}")]
    OldCut(Broken<()>),
    #[error(transparent)]
    Survey(SurveyError),
    #[error("it can't leave its link")]
    Pinned(Vec<Pin>),
    #[error(transparent)]
    Replay(ReplayError),
    #[error("the new link was lost: {0}")]
    NewLost(String),
    #[error("what functions do can't be learned: {0}")]
    Unlearned(SqlState),
    #[error("it takes too long")]
    TimedOut,
    #[error("{0:?} would not be the same")]
    Differs(Difference),
}

impl Failed {
    /// Whether another attempt with a new link may fare better.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::NewLost(_) | Self::TimedOut => true,
            Self::Replay(ReplayError::Refused { state, .. }) => passes(state.as_bytes()),
            Self::Survey(SurveyError::Refused { state, .. }) => passes(state.as_bytes()),
            Self::Unlearned(state) => passes(state.as_bytes()),
            _ => false,
        }
    }

    /// Of the old link's server, if it ended that.
    pub fn last_words(&self) -> Option<&Bytes> {
        match self {
            Self::OldLost(error) => error.last_words(),
            Self::OldCut(broken) => broken.last_words(),
            _ => None,
        }
    }

    /// Whether the session has no link any more.
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::OldLost(_) | Self::OldCut(_))
    }

    /// What the session can't take along, if it will not do so later either.
    pub fn pins(&self) -> Vec<Pin> {
        match self {
            Self::Pinned(pins) => pins.clone(),
            Self::Replay(error) => error.pin().into_iter().collect(),
            Self::Differs(difference) => vec![match difference {
                Difference::Settings | Difference::CustomSettings => Pin::UnreplayableSetting,
                Difference::Statements => Pin::UnreplayableStatement,
                Difference::Channels => Pin::UnreplayableChannel,
                Difference::SessionAuthorization | Difference::Role => Pin::UnreplayableRole,
            }],
            _ => Vec::new(),
        }
    }
}

impl From<AskError> for Failed {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Refused(state) => Self::Unlearned(state),
            lost => Self::NewLost(lost.to_string()),
        }
    }
}

/// Asks within [`SILENCE_MAX`].
pub async fn survey<S>(
    question: Question,
    talk: &mut Talk<S>,
    aside: &mut Aside,
) -> Result<Ledger, SurveyError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut survey = Survey::new(question);
    let told = timeout(SILENCE_MAX, survey.run(talk, aside)).await;
    told.unwrap_or_else(|_| Err(SurveyError::Lost(silent())))
}

fn silent<T: std::fmt::Debug>() -> Broken<T> {
    Broken::Talk(TalkError::Io(ErrorKind::TimedOut.into()))
}

impl Crossing {
    /// `aside` is of the old link: what it has for the client when this fails.
    pub async fn run<O, N>(
        mut self,
        old: &mut Talk<O>,
        new: &mut Talk<N>,
        aside: &mut Aside,
    ) -> Result<Crossed, Failed>
    where
        O: AsyncRead + AsyncWrite + Unpin,
        N: AsyncRead + AsyncWrite + Unpin,
    {
        let surveyed = survey(self.question.clone(), old, aside).await;
        let (ledger, old_answers) = match (surveyed, self.known.take()) {
            (Ok(ledger), _) => (ledger, true),
            (Err(error), Some(known)) if error.leaves_the_link() => (known, false),
            (Err(error), None) if error.leaves_the_link() => return Err(Failed::Survey(error)),
            (Err(error), _) => return Err(Failed::OldLost(error)),
        };
        let pins: Vec<Pin> = ledger.pins().collect();
        if !pins.is_empty() {
            return Err(Failed::Pinned(pins));
        }
        let mut fresh = Aside::dropped();
        let until = self.until;
        // Side by side: the client waits.
        let (recalled, replayed) = tokio::join!(
            async {
                match old_answers {
                    true => recalled(&ledger, old, aside).await,
                    false => Ok(()),
                }
            },
            self.in_time(self.replay(&ledger, new, &mut fresh)),
        );
        recalled.and(replayed)?;
        let listens = ledger.channels().len() > 0;
        let marker = (listens && old_answers).then(Marker::fresh);
        if let Some(marker) = &marker {
            aside.watch_for(marker);
            fresh.watch_for(marker);
            on_old(listen_for(marker), old, aside).await?;
            let overlapped = self.in_time(hear_both(&ledger, marker, new, &mut fresh)).await;
            let drained = match overlapped {
                Ok(()) => timeout_at(until, drain_until_marker(old, aside)).await,
                Err(failed) => {
                    on_old(forget(marker), old, aside).await?;
                    return Err(failed);
                }
            };
            match drained {
                Ok(Ok(())) => {}
                Ok(Err(broken)) => return Err(Failed::OldCut(broken)),
                Err(_) => {
                    on_old(forget(marker), old, aside).await?;
                    return Err(Failed::TimedOut);
                }
            }
        } else if listens {
            self.in_time(run_new(overlap(&ledger, None), new, &mut fresh))
                .await?;
        }
        fresh.keep();
        let verified = self.in_time(self.verify(&ledger, new, &mut fresh)).await;
        let verified = match (verified, &marker) {
            (Ok(verified), _) => verified,
            (Err(failed), Some(marker)) => {
                on_old(forget(marker), old, aside).await?;
                return Err(failed);
            }
            (Err(failed), None) => return Err(failed),
        };
        let mut messages = match &marker {
            Some(_) => aside.take_until_marker(),
            None => aside.take(),
        };
        messages.extend_from_slice(&ledger.status_changes(&verified));
        messages.extend_from_slice(&fresh.take());
        Ok(Crossed {
            ledger: verified,
            messages,
        })
    }

    async fn in_time<T>(&self, step: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
        timeout_at(self.until, step)
            .await
            .unwrap_or(Err(Failed::TimedOut))
    }

    async fn replay<N>(&self, ledger: &Ledger, new: &mut Talk<N>, fresh: &mut Aside) -> Result<(), Failed>
    where
        N: AsyncRead + AsyncWrite + Unpin,
    {
        let unnamed = self.unnamed.as_ref();
        let parses = Parses {
            unnamed: unnamed.map(|unnamed| &*unnamed.body),
            ..Parses::default()
        };
        match Replay::new(ledger, parses).run(new, fresh).await {
            Err(ReplayError::Refused {
                at: replay::Step::Unnamed,
                ..
            }) if unnamed.is_some_and(|unnamed| unnamed.doubtful) => {
                run_new(Replay::new(ledger, Parses::default()), new, fresh).await
            }
            done => done.map_err(new_failed),
        }
    }

    async fn verify<N>(&self, ledger: &Ledger, new: &mut Talk<N>, fresh: &mut Aside) -> Result<Ledger, Failed>
    where
        N: AsyncRead + AsyncWrite + Unpin,
    {
        let question = Question::new(&self.user, ledger.names_to_verify(), self.bytes_max);
        let verified = survey(question, new, fresh).await;
        let verified = verified.map_err(|error| Failed::NewLost(error.to_string()))?;
        match ledger.difference(&verified) {
            Some(difference) => Err(Failed::Differs(difference)),
            None => Ok(verified),
        }
    }
}

/// From here on both links hear the marker, and what comes after it over the new one is the client's.
async fn hear_both<N>(
    ledger: &Ledger,
    marker: &Marker,
    new: &mut Talk<N>,
    fresh: &mut Aside,
) -> Result<(), Failed>
where
    N: AsyncRead + AsyncWrite + Unpin,
{
    run_new(overlap(ledger, Some(marker)), new, fresh).await?;
    let drained = drain_until_marker(new, fresh).await;
    drained.map_err(|broken| Failed::NewLost(broken.to_string()))?;
    run_new(forget(marker), new, fresh).await
}

async fn run_new<N>(mut replay: Replay, new: &mut Talk<N>, fresh: &mut Aside) -> Result<(), Failed>
where
    N: AsyncRead + AsyncWrite + Unpin,
{
    replay.run(new, fresh).await.map_err(new_failed)
}

/// Whether every statement of the old link still is what its client takes it for.
async fn recalled<O>(ledger: &Ledger, old: &mut Talk<O>, aside: &mut Aside) -> Result<(), Failed>
where
    O: AsyncRead + AsyncWrite + Unpin,
{
    if ledger.statements().is_empty() {
        return Ok(());
    }
    match timeout(SILENCE_MAX, recall(ledger).run(old, aside)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(refused @ ReplayError::Refused { .. })) => Err(Failed::Replay(refused)),
        Ok(Err(ReplayError::Lost(broken))) => Err(Failed::OldCut(broken.anywhere())),
        Err(_) => Err(Failed::OldCut(silent())),
    }
}

/// A small thing that the old link is asked to do. If it can't, nobody knows what it will say.
async fn on_old<O>(mut step: Replay, old: &mut Talk<O>, aside: &mut Aside) -> Result<(), Failed>
where
    O: AsyncRead + AsyncWrite + Unpin,
{
    match timeout(SILENCE_MAX, step.run(old, aside)).await {
        Ok(Ok(()) | Err(ReplayError::Refused { .. })) => Ok(()),
        Ok(Err(ReplayError::Lost(broken))) => Err(Failed::OldCut(broken.anywhere())),
        Err(_) => Err(Failed::OldCut(silent())),
    }
}

fn new_failed(error: ReplayError) -> Failed {
    match error {
        ReplayError::Lost(broken) => Failed::NewLost(broken.to_string()),
        refused @ ReplayError::Refused { .. } => Failed::Replay(refused),
    }
}
