//! How a login goes: which credential to try on which endpoint, what to make of the answer, and how long
//! to hold the client. It opens no socket: `attempt` is one real login.
//!
//! * Only a refusal (28P01, 28000) leads to another credential, and it is an answer: it never leads to
//!   another endpoint, which might be a standby that has not heard of the new password yet.
//! * Only an endpoint that can't be asked leads to the next one, and after the last to a pause.
//! * Everything else is the client's to see, at once and as it is.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::gate::{Gate, Gates, Pass, ScoutPass, ScoutVerdict, follow};
use crate::backoff::{Backoff, jittered};
use crate::credentials::{Credential, Page, Refusal, Try, Verdicts};
use crate::metrics::{Counted, Metrics};
use crate::names::Endpoint;

/// A client whose last good credential was refused waits this long for the store before it tries another.
const REFRESH_WAIT_MAX: Duration = Duration::from_secs(2);
/// A login that gets no answer holds up others for so long if their credential is proven. If it is proven no more,
/// each of them is refused, too.
const SCOUT_WAIT_MAX: Duration = Duration::from_secs(2);
/// A held client looks up, and asks for a refresh, this often; the keeper decides how often to read.
const HOLD_TICK: Duration = Duration::from_secs(1);
const HOLD_JITTER: f64 = 0.25;
const NOT_YET_RETRY_FIRST: Duration = Duration::from_millis(100);
const NOT_YET_RETRY_CAP: Duration = Duration::from_secs(2);

/// What a login needs. Cheap to clone.
#[derive(Clone)]
pub struct Access {
    pub page: watch::Receiver<Arc<Page>>,
    pub verdicts: Arc<dyn Verdicts>,
    pub gates: Arc<Gates>,
    /// How long a client is held while nothing works.
    pub patience: Duration,
    pub metrics: Arc<Metrics>,
}

/// Why one login failed. `E` is what there is to tell the client or the log.
#[derive(Debug, PartialEq, Eq)]
pub enum AttemptError<E> {
    /// Not with this credential.
    Refused(Refusal, E),
    /// Not now: the server goes away or comes back, connection refused or reset, time over.
    NotYet(E),
    /// Neither time nor another credential will help.
    Fatal {
        error: E,
        /// It came after AuthenticationOk: the credential is proven all the same.
        authenticated: bool,
    },
}

/// A link and what it was opened with.
#[derive(Debug, PartialEq, Eq)]
pub struct LoggedIn<L> {
    pub link: L,
    pub credential: Credential,
    pub endpoint: Endpoint,
    /// Of the page that was in force before the connection was made.
    pub generation: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Denied<E> {
    /// Nothing was accepted for as long as patience lasted: 28P01 with the local role's name.
    /// None: others were refused while this client waited.
    Refused(Option<E>),
    /// No endpoint could be asked for as long as patience lasted.
    NotYet(Option<E>),
    /// The store has not given a credential yet.
    NoCredential,
    /// To be passed on as it is.
    Fatal(E),
}

/// What is told to the client if patience ends now.
enum Said<E> {
    Nothing,
    Refused(Option<E>),
    NotYet(Option<E>),
}

/// A login that has begun to wait. It is over when this is gone, also when the client is.
struct Hold {
    metrics: Arc<Metrics>,
    since: Instant,
    _counted: Counted,
}

impl Hold {
    fn now(metrics: &Arc<Metrics>) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            since: Instant::now(),
            _counted: metrics.hold(),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.metrics.held(self.since.elapsed());
    }
}

/// Why one endpoint was left without a link.
enum Stop<E> {
    /// It refused whatever there is to try by this page.
    Refused(Arc<Page>),
    NotYet,
    Fatal(E),
}

/// Why one credential gave no link.
enum Miss<E> {
    /// Things have changed meanwhile.
    LookAgain,
    Refused,
    Stop(Stop<E>),
}

/// One client's login.
struct Caller<'a, A, E> {
    access: &'a Access,
    page: watch::Receiver<Arc<Page>>,
    attempt: &'a A,
    said: Said<E>,
    has_refreshed: bool,
    held: Option<Hold>,
}

impl Access {
    /// Logs in to the first endpoint that can be asked with the first credential that is accepted.
    pub async fn log_in<L, E, A, F>(
        &self,
        endpoints: &[Endpoint],
        attempt: A,
    ) -> Result<LoggedIn<L>, Denied<E>>
    where
        A: Fn(Credential, Endpoint) -> F,
        F: Future<Output = Result<L, AttemptError<E>>>,
    {
        let deadline = Instant::now() + self.patience;
        let mut caller = Caller {
            access: self,
            page: self.page.clone(),
            attempt: &attempt,
            said: Said::Nothing,
            has_refreshed: false,
            held: None,
        };
        match timeout_at(deadline, caller.log_in(endpoints)).await {
            Ok(Ok(logged_in)) => Ok(logged_in),
            Ok(Err(error)) => Err(Denied::Fatal(error)),
            Err(_) => Err(match caller.said {
                Said::Refused(error) => Denied::Refused(error),
                Said::NotYet(error) => Denied::NotYet(error),
                Said::Nothing if self.page.borrow().entries().is_empty() => Denied::NoCredential,
                Said::Nothing => Denied::NotYet(None),
            }),
        }
    }
}

/// One login to prove one credential, and never a second one beside a login that will tell. The verdict is
/// reported before those who wait for it go on. None: somebody else's login has told, or will.
pub async fn prove<L, E>(
    gates: &Gates,
    verdicts: &dyn Verdicts,
    credential: &Credential,
    endpoint: &Endpoint,
    attempt: impl Future<Output = Result<L, AttemptError<E>>>,
) -> Option<Result<L, AttemptError<E>>> {
    let gate = gates.at(endpoint);
    let pass = match gate.enter(credential) {
        Pass::Scout(pass) => pass,
        Pass::Follow(verdict) => {
            follow(verdict).await;
            return None;
        }
    };
    if gate.is_governed(credential) {
        return None;
    }
    let result = {
        let _permit = gate.permit().await;
        attempt.await
    };
    let told = tell(verdicts, credential, endpoint, &result);
    if told == ScoutVerdict::Refused {
        gate.count_refusal(credential);
    }
    pass.report(told);
    Some(result)
}

impl<A, F, L, E> Caller<'_, A, E>
where
    A: Fn(Credential, Endpoint) -> F,
    F: Future<Output = Result<L, AttemptError<E>>>,
{
    async fn log_in(&mut self, endpoints: &[Endpoint]) -> Result<LoggedIn<L>, E> {
        let mut pause = Backoff::starting_at(NOT_YET_RETRY_FIRST);
        loop {
            let mut refused_at = None;
            for endpoint in endpoints {
                match self.log_in_at(endpoint).await {
                    Ok(logged_in) => return Ok(logged_in),
                    Err(Stop::Fatal(error)) => return Err(error),
                    Err(Stop::NotYet) => {}
                    Err(Stop::Refused(page)) => {
                        refused_at = Some((endpoint, page));
                        break;
                    }
                }
            }
            match refused_at {
                Some((endpoint, page)) => self.hold(endpoint, &page).await,
                None => {
                    self.hold_on();
                    sleep(pause.next(NOT_YET_RETRY_CAP)).await;
                }
            }
        }
    }

    async fn log_in_at(&mut self, endpoint: &Endpoint) -> Result<LoggedIn<L>, Stop<E>> {
        let gate = self.access.gates.at(endpoint);
        let mut refused: Vec<Credential> = Vec::new();
        loop {
            let page = self.page.borrow_and_update().clone();
            let Some(candidate) = first(&page, endpoint, &gate, &refused) else {
                if !page.entries().is_empty() {
                    self.say_refused(None);
                }
                return Err(Stop::Refused(page));
            };
            if candidate.doubtful && page.is_behind(endpoint) {
                self.say_refused(None);
                if self.refresh_once(&page).await {
                    continue;
                }
            }
            match self.log_in_with(&candidate, endpoint, &gate, &refused).await {
                Ok(logged_in) => return Ok(logged_in),
                Err(Miss::Stop(stop)) => return Err(stop),
                Err(Miss::LookAgain) => {}
                Err(Miss::Refused) => refused.push(candidate.credential),
            }
        }
    }

    async fn log_in_with(
        &mut self,
        candidate: &Try,
        endpoint: &Endpoint,
        gate: &Gate,
        refused: &[Credential],
    ) -> Result<LoggedIn<L>, Miss<E>> {
        let Try { credential, doubtful } = candidate;
        let pass = self.pass(gate, candidate).await?;
        let _permit = gate.permit().await;
        // The wait may have outlived what the page said: who was replaced meanwhile may be said to be unused by now.
        let page = self.page.borrow().clone();
        let is_first = first(&page, endpoint, gate, refused)
            .is_some_and(|first| first.credential.is_same_login(credential));
        if !is_first {
            return Err(Miss::LookAgain);
        }
        let result = (self.attempt)(credential.clone(), endpoint.clone()).await;
        let told = tell(&*self.access.verdicts, credential, endpoint, &result);
        if let Some(pass) = pass {
            // That a credential is refused which worked is news, and those who were under way with it can't
            // be called back: it happens once for each change of the database, and is nobody's guess.
            if *doubtful && told == ScoutVerdict::Refused {
                gate.count_refusal(credential);
            }
            pass.report(told);
        }
        match result {
            Ok(link) => Ok(LoggedIn {
                link,
                credential: credential.clone(),
                endpoint: endpoint.clone(),
                generation: page.generation,
            }),
            Err(AttemptError::Refused(_, error)) => {
                self.say_refused(Some(error));
                Err(Miss::Refused)
            }
            Err(AttemptError::NotYet(error)) => {
                self.say_not_yet(Some(error));
                Err(Miss::Stop(Stop::NotYet))
            }
            Err(AttemptError::Fatal { error, .. }) => Err(Miss::Stop(Stop::Fatal(error))),
        }
    }

    /// None: somebody has just shown that the credential is taken, or nobody shows otherwise.
    async fn pass<'t>(&mut self, gate: &'t Gate, candidate: &Try) -> Result<Option<ScoutPass<'t>>, Miss<E>> {
        let verdict = match gate.enter(&candidate.credential) {
            Pass::Scout(pass) => return Ok(Some(pass)),
            Pass::Follow(verdict) => verdict,
        };
        let verdict = if candidate.doubtful {
            follow(verdict).await
        } else {
            let told = timeout(SCOUT_WAIT_MAX, follow(verdict)).await;
            told.unwrap_or(ScoutVerdict::Taken)
        };
        match verdict {
            ScoutVerdict::Taken => Ok(None),
            ScoutVerdict::Refused => {
                self.say_refused(None);
                Err(Miss::Refused)
            }
            ScoutVerdict::NotYet => {
                self.say_not_yet(None);
                Err(Miss::Stop(Stop::NotYet))
            }
            ScoutVerdict::Unknown => Err(Miss::LookAgain),
        }
    }

    /// The last good credential was refused: perhaps the store knows more than this page. False: it was
    /// asked before.
    async fn refresh_once(&mut self, page: &Page) -> bool {
        if std::mem::replace(&mut self.has_refreshed, true) {
            return false;
        }
        self.hold_on();
        self.access.verdicts.refresh_wanted();
        let is_newer = |now: &Arc<Page>| now.reads > page.reads || now.generation > page.generation;
        // Late or in vain, the tries go on.
        let _ = timeout(REFRESH_WAIT_MAX, self.page.wait_for(is_newer)).await;
        true
    }

    /// Waits for a page with more to try than the one that was tried through, or for a refused
    /// credential's next turn.
    async fn hold(&mut self, endpoint: &Endpoint, tried: &Page) {
        self.hold_on();
        let openings = |page: &Page| page.tries(endpoint, Instant::now().into_std()).count();
        let openings_before = openings(tried);
        self.access.verdicts.refresh_wanted();
        let tick = Instant::now() + jittered(HOLD_TICK, HOLD_JITTER);
        let next_try = tried.next_try(endpoint, Instant::now().into_std());
        let wake = next_try.map_or(tick, |next_try| tick.min(next_try.into()));
        let is_worth_a_look =
            |page: &Arc<Page>| page.generation != tried.generation || openings(page) > openings_before;
        // A keeper that is gone publishes nothing any more; the wait is the same.
        let published = async { self.page.wait_for(is_worth_a_look).await.is_ok() };
        if timeout_at(wake, published).await == Ok(false) {
            sleep_until(wake).await;
        }
    }

    fn hold_on(&mut self) {
        self.held.get_or_insert_with(|| Hold::now(&self.access.metrics));
    }

    fn say_refused(&mut self, error: Option<E>) {
        if error.is_some() || !matches!(self.said, Said::Refused(_)) {
            self.said = Said::Refused(error);
        }
    }

    fn say_not_yet(&mut self, error: Option<E>) {
        if error.is_some() || !matches!(self.said, Said::NotYet(_)) {
            self.said = Said::NotYet(error);
        }
    }
}

/// What is to be tried now, of what this client has not seen refused.
fn first(page: &Page, endpoint: &Endpoint, gate: &Gate, refused: &[Credential]) -> Option<Try> {
    page.tries(endpoint, Instant::now().into_std()).find(|candidate| {
        let was_refused = (refused.iter()).any(|login| login.is_same_login(&candidate.credential));
        !(was_refused || (candidate.doubtful && gate.is_governed(&candidate.credential)))
    })
}

/// Puts into the book what an attempt says of the credential.
fn tell<L, E>(
    verdicts: &dyn Verdicts,
    credential: &Credential,
    endpoint: &Endpoint,
    result: &Result<L, AttemptError<E>>,
) -> ScoutVerdict {
    match result {
        Ok(_)
        | Err(AttemptError::Fatal {
            authenticated: true, ..
        }) => {
            verdicts.proven(credential, endpoint);
            ScoutVerdict::Taken
        }
        Err(AttemptError::Refused(refusal, _)) => {
            verdicts.refused(credential, endpoint, *refusal);
            ScoutVerdict::Refused
        }
        Err(AttemptError::NotYet(_)) => ScoutVerdict::NotYet,
        Err(AttemptError::Fatal { .. }) => ScoutVerdict::Unknown,
    }
}

#[cfg(test)]
mod tests;
