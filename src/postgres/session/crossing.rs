//! From one link to another, at a safe point: survey the old, make the new the same, verify, and overlap what they
//! listen to. It changes nothing that the client could notice, and leaves the old link as it was if it fails.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout, timeout_at};

use crate::postgres::link::learn::AskError;
use crate::postgres::state::known::{Known, Unnamed};
use crate::postgres::state::ledger::{Difference, Ledger, Pin};
use crate::postgres::talk::exchange::{Aside, Broken, Marker, SqlState, drain_until_marker};
use crate::postgres::talk::replay::{
    self, Replay, ReplayError, forget, listen_for, overlap, recall, recall_unnamed,
};
use crate::postgres::talk::stream::{MessageStream, StreamError};
use crate::postgres::talk::survey::{Question, Survey, SurveyError};
use crate::postgres::wire::described::Shape;
use crate::postgres::wire::read::{is_disowned, passes};

/// What the old link is asked is bounded by the server; one that does not answer at all is lost.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);
/// invalid_sql_statement_name: there is no such prepared statement.
const NO_STATEMENT: &[u8; 5] = b"26000";

/// What there is to know before.
pub struct Crossing {
    pub question: Question,
    /// Who logged in on the new link.
    pub user: Box<[u8]>,
    pub unnamed: Option<Unnamed>,
    pub bytes_max: u32,
    pub known: Known,
    /// When the client has been held for long enough.
    pub until: Instant,
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
    #[error("{} would not be the same", list(.0))]
    Differs(Vec<Difference>),
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
            Self::Differs(differences) => differences.iter().map(|difference| difference.pin()).collect(),
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

fn list(differences: &[Difference]) -> String {
    let all: Vec<String> = differences.iter().map(Difference::to_string).collect();
    all.join(" and ")
}

/// Asks within [`SILENCE_MAX`].
pub async fn survey<S>(
    question: Question,
    talk: &mut MessageStream<S>,
    aside: &mut Aside,
) -> Result<Ledger, SurveyError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut survey = Survey::new(question);
    let told = timeout(SILENCE_MAX, survey.run(talk, aside)).await;
    told.unwrap_or_else(|_| Err(SurveyError::Lost(silent())))
}

/// What a fresh link of the session is asked to find out what is not known: all that its login makes of it.
pub async fn settle<S>(
    known: &Known,
    question: &Question,
    link: &mut MessageStream<S>,
    aside: &mut Aside,
) -> Result<Ledger, SurveyError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut ledger = match &known.ledger {
        Some(ledger) => ledger.clone(),
        None => survey(question.clone(), link, aside).await?,
    };
    ledger.without_statements(|name| known.since.parsed.contains_key(name));
    ledger.is_of_before(&known.before);
    Ok(ledger)
}

fn silent<T: std::fmt::Debug>() -> Broken<T> {
    Broken::Stream(StreamError::Io(ErrorKind::TimedOut.into()))
}

impl Crossing {
    /// `aside` is of the old link: what it has for the client when this fails.
    pub async fn run<O, N>(
        mut self,
        old: &mut MessageStream<O>,
        new: &mut MessageStream<N>,
        aside: &mut Aside,
    ) -> Result<Crossed, Failed>
    where
        O: AsyncRead + AsyncWrite + Unpin,
        N: AsyncRead + AsyncWrite + Unpin,
    {
        let mut fresh = Aside::dropped();
        let (ledger, old_answers) = self.look(old, new, aside, &mut fresh).await?;
        let pins: Vec<Pin> = ledger.pins().collect();
        if !pins.is_empty() {
            return Err(Failed::Pinned(pins));
        }
        let until = self.until;
        let (unnamed, told) = (self.unnamed.take(), std::mem::take(&mut self.known.told));
        let by_notes = (told.clone(), unnamed.clone());
        let parsed = if old_answers { &[][..] } else { &self.known.parsed };
        // Side by side: the client waits.
        let (recalled, replayed) = tokio::join!(
            async {
                match old_answers {
                    true => recalled(&ledger, unnamed, old, aside).await,
                    false => Ok((told, unnamed)),
                }
            },
            timeout_at(until, run_new(Replay::new(&ledger, parsed), new, &mut fresh)),
        );
        let (told, unnamed) = match recalled {
            // It can't look at them any more.
            Err(Failed::Replay(ReplayError::Refused { state, .. })) if is_disowned(state.as_bytes()) => {
                by_notes
            }
            recalled => recalled?,
        };
        replayed.unwrap_or(Err(Failed::TimedOut))?;
        self.in_time(finish(&ledger, unnamed.as_ref(), &told, new, &mut fresh))
            .await?;
        let listens = ledger.channels().len() > 0;
        let marker = match listens && old_answers {
            true => Some(self.listen_on_both(&ledger, old, new, aside, &mut fresh).await?),
            false => None,
        };
        if listens && !old_answers {
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

    /// Both links listen for a while, and the marker that is returned tells where the new one takes over. When this
    /// fails, the old link knows of no marker.
    async fn listen_on_both<O, N>(
        &self,
        ledger: &Ledger,
        old: &mut MessageStream<O>,
        new: &mut MessageStream<N>,
        aside: &mut Aside,
        fresh: &mut Aside,
    ) -> Result<Marker, Failed>
    where
        O: AsyncRead + AsyncWrite + Unpin,
        N: AsyncRead + AsyncWrite + Unpin,
    {
        let marker = Marker::fresh();
        aside.watch_for(&marker);
        fresh.watch_for(&marker);
        on_old(listen_for(&marker), old, aside).await?;
        let overlapped = self.in_time(hear_both(ledger, &marker, new, fresh)).await;
        let drained = match overlapped {
            Ok(()) => timeout_at(self.until, drain_until_marker(old, aside)).await,
            Err(failed) => {
                on_old(forget(&marker), old, aside).await?;
                return Err(failed);
            }
        };
        match drained {
            Ok(Ok(())) => Ok(marker),
            Ok(Err(broken)) => Err(Failed::OldCut(broken)),
            Err(_) => {
                on_old(forget(&marker), old, aside).await?;
                Err(Failed::TimedOut)
            }
        }
    }

    async fn in_time<T>(&self, step: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
        timeout_at(self.until, step)
            .await
            .unwrap_or(Err(Failed::TimedOut))
    }

    /// What the session holds, and whether its old link has said so itself.
    async fn look<O, N>(
        &self,
        old: &mut MessageStream<O>,
        new: &mut MessageStream<N>,
        aside: &mut Aside,
        fresh: &mut Aside,
    ) -> Result<(Ledger, bool), Failed>
    where
        O: AsyncRead + AsyncWrite + Unpin,
        N: AsyncRead + AsyncWrite + Unpin,
    {
        match survey(self.question.clone(), old, aside).await {
            Ok(mut ledger) => {
                ledger.remember(self.known.ledger.as_ref(), &self.known.since);
                Ok((ledger, true))
            }
            Err(error) if !error.leaves_the_link() => Err(Failed::OldLost(error)),
            Err(_) if self.known.is_all => {
                let question = self.question.clone().of(&self.user);
                let settled = self.in_time(async {
                    let settled = settle(&self.known, &question, new, fresh).await;
                    settled.map_err(|error| Failed::NewLost(error.to_string()))
                });
                Ok((settled.await?, false))
            }
            Err(error) => Err(Failed::Survey(error)),
        }
    }

    async fn verify<N>(
        &self,
        ledger: &Ledger,
        new: &mut MessageStream<N>,
        fresh: &mut Aside,
    ) -> Result<Ledger, Failed>
    where
        N: AsyncRead + AsyncWrite + Unpin,
    {
        let question = Question::new(&self.user, ledger.names_to_verify(), self.bytes_max);
        let question = question.knowing(ledger.lacks());
        let verified = survey(question, new, fresh).await;
        let verified = verified.map_err(|error| Failed::NewLost(error.to_string()))?;
        same(ledger, verified, &self.known)
    }
}

/// The ledger of a new link, if it is what it should be.
pub fn same(before: &Ledger, mut after: Ledger, known: &Known) -> Result<Ledger, Failed> {
    let differences = before.differences(&after, known.parsed.len());
    if !differences.is_empty() {
        return Err(Failed::Differs(differences));
    }
    after.remember(Some(before), &known.since);
    Ok(after)
}

/// Makes the unnamed statement, and sees to it that statements take and give what their client was `told`.
pub async fn finish<S>(
    ledger: &Ledger,
    mut unnamed: Option<&Unnamed>,
    told: &[(Box<[u8]>, Shape)],
    new: &mut MessageStream<S>,
    fresh: &mut Aside,
) -> Result<(), Failed>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let of_unnamed = unnamed.and_then(|unnamed| Some((&b""[..], unnamed.told?)));
        let told: Vec<(&[u8], Shape)> = (told.iter())
            .map(|(name, told)| (&**name, *told))
            .chain(of_unnamed)
            .collect();
        if told.is_empty() && unnamed.is_none() {
            return Ok(());
        }
        let parsed = unnamed.map(|unnamed| &unnamed.parsed);
        let mut last = Replay::last(ledger, parsed, told.iter().map(|(name, _)| *name));
        match last.run(new, fresh).await {
            Err(ReplayError::Refused {
                at: replay::ReplayStep::Unnamed,
                ..
            }) if unnamed.is_some_and(|unnamed| unnamed.doubtful) => unnamed = None,
            Err(error) => return Err(new_failed(error)),
            Ok(()) => {
                let described = last.take_described();
                let is_all = described.len() == told.len();
                let mut both = described.iter().zip(&told);
                return match is_all && both.all(|(now, (_, told))| now.is_as(*told)) {
                    true => Ok(()),
                    false => Err(Failed::Differs(vec![Difference::Results])),
                };
            }
        }
    }
}

/// From here on both links hear the marker, and what comes after it over the new one is the client's.
async fn hear_both<N>(
    ledger: &Ledger,
    marker: &Marker,
    new: &mut MessageStream<N>,
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

async fn run_new<N>(mut replay: Replay, new: &mut MessageStream<N>, fresh: &mut Aside) -> Result<(), Failed>
where
    N: AsyncRead + AsyncWrite + Unpin,
{
    replay.run(new, fresh).await.map_err(new_failed)
}

/// Whether every statement of the old link still is what its client takes it for, and what that is. The unnamed one,
/// if there is one.
async fn recalled<O>(
    ledger: &Ledger,
    unnamed: Option<Unnamed>,
    old: &mut MessageStream<O>,
    aside: &mut Aside,
) -> Result<(Vec<(Box<[u8]>, Shape)>, Option<Unnamed>), Failed>
where
    O: AsyncRead + AsyncWrite + Unpin,
{
    let statements = ledger.statements();
    let mut described = Vec::new();
    if !statements.is_empty() {
        described = described_by_old(recall(ledger), old, aside).await?;
    }
    let names = statements.iter().map(|statement| statement.name.clone());
    let told = names.zip(described).collect();
    let Some(unnamed) = unnamed else {
        return Ok((told, None));
    };
    match described_by_old(recall_unnamed(), old, aside).await {
        Ok(described) => {
            let unnamed = Unnamed {
                doubtful: false,
                told: described.first().copied(),
                ..unnamed
            };
            Ok((told, Some(unnamed)))
        }
        Err(Failed::Replay(ReplayError::Refused { state, .. })) if state.as_bytes() == NO_STATEMENT => {
            Ok((told, None))
        }
        Err(failed) => Err(failed),
    }
}

async fn described_by_old<O>(
    mut recall: Replay,
    old: &mut MessageStream<O>,
    aside: &mut Aside,
) -> Result<Vec<Shape>, Failed>
where
    O: AsyncRead + AsyncWrite + Unpin,
{
    match timeout(SILENCE_MAX, recall.run(old, aside)).await {
        Ok(Ok(())) => Ok(recall.take_described()),
        Ok(Err(refused @ ReplayError::Refused { .. })) => Err(Failed::Replay(refused)),
        Ok(Err(ReplayError::Lost(broken))) => Err(Failed::OldCut(broken.anywhere())),
        Err(_) => Err(Failed::OldCut(silent())),
    }
}

/// A small thing that the old link is asked to do. If it can't, nobody knows what it will say.
async fn on_old<O>(mut step: Replay, old: &mut MessageStream<O>, aside: &mut Aside) -> Result<(), Failed>
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
