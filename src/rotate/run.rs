//! Works through a plan: facts, the first step, facts again.

mod failpoint;
mod signals;
mod steps;

use std::time::{Duration, Instant};

use self::failpoint::Failpoint;
use self::signals::Signals;
use self::steps::StepError;
use super::database::{Lock, LockError, Session};
use super::evidence::Evidence;
use super::facts::{Facts, LookError, Looked, look, users_of};
use super::gate::Reason;
pub use super::outcome::Outcome;
use super::plan::{Done, Goal, Plan, Refusal, Situation, Step, plan, situation};
use super::{DatabaseError, Opened};
use crate::credentials::Password;
use crate::names::Endpoint;
use crate::stores::{Revision, StoreError, WritableStore, WriteError};

/// A store may show for a moment what it held before.
const LOOKS_FOR_FOREIGN: u32 = 4;
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What somebody wants.
pub struct Wish {
    pub goal: Goal,
    /// What can be overridden is, and whoever is still on the old user is ended.
    pub force: bool,
    /// For each wait.
    pub within: Duration,
    /// A password that a person brings.
    pub password: Option<Password>,
}

/// What happens, as it happens.
pub enum Event<'a> {
    Planned(&'a Plan),
    Begun(&'a Step),
    Done {
        step: &'a Step,
        took: Duration,
        words: &'a str,
    },
    Failed {
        step: &'a Step,
        why: &'a str,
    },
    Waiting(&'a [Reason]),
    Note(&'a str),
}

pub type Tell<'a> = dyn FnMut(Event<'_>) + 'a;

/// Why a loop stops before its end.
pub(super) enum Stop {
    Refused(Vec<Refusal>),
    Unreachable(String),
    /// What was to be done can't be done.
    Failed(String),
    /// Somebody else is at work: nothing is touched any more.
    Foreign(String),
    /// Somebody is still on the old user, or the process was asked to end. What is done stays.
    Paused(String),
}

pub struct Run<'a> {
    pub(super) opened: &'a mut Opened,
    pub(super) store: Box<dyn WritableStore>,
    pub(super) wish: Wish,
    pub(super) done: Done,
    pub(super) tell: &'a mut Tell<'a>,
    pub(super) evidence: Evidence,
    pub(super) lock: Option<Lock>,
    pub(super) begun: Instant,
    /// What the store is at, if nobody else writes.
    expected: Option<Revision>,
    changed: bool,
    /// What cannot be done is no reason not to take back what can.
    undoing: bool,
    signals: Signals,
    failpoint: Failpoint,
}

/// What is to be done, without a lock and without a change.
pub async fn foresee(
    opened: &mut Opened,
    store: &mut dyn WritableStore,
    goal: &Goal,
) -> Result<(Facts, Plan), LookError> {
    let looked = Looked {
        minted: None,
        tries_trust: true,
    };
    let (facts, _sessions) = look(opened, store, &looked).await?;
    let plan = plan(&facts, &opened.rotation, goal, &Done::default());
    Ok((facts, plan))
}

/// All of it.
pub async fn run<'a>(
    opened: &'a mut Opened,
    store: Box<dyn WritableStore>,
    wish: Wish,
    tell: &'a mut Tell<'a>,
) -> Outcome {
    let evidence = match Evidence::begin(&opened.rotation, &wish.goal) {
        Ok(evidence) => evidence,
        Err(error) => return Outcome::NotBegun(format!("the evidence can't be written: {error}")),
    };
    let signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return Outcome::NotBegun(format!("signals can't be heard: {error}")),
    };
    let mut run = Run {
        opened,
        store,
        wish,
        done: Done::default(),
        tell,
        evidence,
        lock: None,
        begun: Instant::now(),
        expected: None,
        changed: false,
        undoing: false,
        signals,
        failpoint: Failpoint::from_environment(),
    };
    let outcome = run.complete().await;
    let lost = run.evidence.end(&outcome);
    if let Some(lost) = lost {
        (run.tell)(Event::Note(&lost));
    }
    outcome
}

impl Run<'_> {
    async fn complete(&mut self) -> Outcome {
        if let Err(outcome) = self.take_lock().await {
            return outcome;
        }
        match self.work().await {
            Ok(0) => Outcome::Nothing,
            Ok(_) => Outcome::Done,
            Err(Stop::Refused(refusals)) => Outcome::Refused(refusals),
            Err(Stop::Unreachable(why)) if !self.changed => Outcome::Unreachable(why),
            Err(Stop::Foreign(why) | Stop::Paused(why)) if !self.changed => Outcome::NotBegun(why),
            Err(Stop::Failed(why)) => self.give_up(why).await,
            Err(Stop::Unreachable(why) | Stop::Foreign(why) | Stop::Paused(why)) => self.halfway(why),
        }
    }

    async fn take_lock(&mut self) -> Result<(), Outcome> {
        let unreachable =
            |name: &str, error: StoreError| Outcome::Unreachable(format!("the secret {name}: {error}"));
        let rotation = std::sync::Arc::clone(&self.opened.rotation);
        let holding = crate::stores::look(&mut *self.store)
            .await
            .map_err(|error| unreachable(rotation.secret.as_str(), error))?;
        let admin = self
            .opened
            .read_admin()
            .await
            .map_err(|error| unreachable(rotation.admin.as_str(), error))?;
        let roles = users_of(&rotation.users, &holding.current.user);
        let servers: Vec<_> = self.opened.servers.iter().collect();
        let lock = Lock::take(&servers, &admin, &roles)
            .await
            .map_err(|error| match error {
                LockError::Server { .. } | LockError::Lost { .. } => Outcome::Unreachable(error.to_string()),
                LockError::Held { .. } => Outcome::NotBegun(error.to_string()),
            })?;
        self.lock = Some(lock);
        Ok(())
    }

    /// Until nothing is left to do. Answers with how many steps that took.
    async fn work(&mut self) -> Result<usize, Stop> {
        let mut count = 0;
        let mut last: Option<(Step, Option<String>)> = None;
        loop {
            self.failpoint.pass();
            if self.signals.have_come() {
                return Err(Stop::Paused("it was asked to end".to_owned()));
            }
            let is_first = count == 0 && last.is_none();
            let (facts, sessions) = self.facts(is_first).await?;
            let plan = plan(&facts, &self.opened.rotation, &self.wish.goal, &self.done);
            if is_first && !self.undoing {
                (self.tell)(Event::Planned(&plan));
                let force = self.wish.force;
                let stands = |refusal: &Refusal| !(force && refusal.can_be_forced);
                let refusals: Vec<Refusal> = plan.refusals.into_iter().filter(stands).collect();
                if !refusals.is_empty() {
                    return Err(Stop::Refused(refusals));
                }
                // Somebody began it: to stop now is to stop half-way.
                self.changed |= plan.situation != Situation::Rest;
            } else if let (true, Some(refusal)) = (plan.steps.is_empty(), plan.refusals.first()) {
                return Err(Stop::Failed(refusal.words.clone()));
            }
            let Some(step) = plan.steps.into_iter().next() else {
                return Ok(count);
            };
            if let Some((again, why)) = last.take().filter(|(last, _)| *last == step) {
                let why = why.unwrap_or_else(|| "it was done, and is not so: somebody undoes it".to_owned());
                (self.tell)(Event::Failed {
                    step: &again,
                    why: &why,
                });
                self.note_down(&step, Duration::ZERO, Err(&why));
                return Err(Stop::Failed(format!("{again}: {why}")));
            }
            let why = self.one(&step, &facts, &sessions).await?;
            count += 1;
            last = Some((step, why));
            self.failpoint.pass();
        }
    }

    /// One step. A change whose answer got lost is no failure yet: facts will say.
    async fn one(
        &mut self,
        step: &Step,
        facts: &Facts,
        sessions: &[Session],
    ) -> Result<Option<String>, Stop> {
        if let Some(lock) = &self.lock {
            lock.is_held()
                .await
                .map_err(|error| Stop::Foreign(error.to_string()))?;
        }
        (self.tell)(Event::Begun(step));
        let begun = Instant::now();
        let result = match step.changes() {
            true => {
                self.changed = true;
                self.perform(step, facts, sessions).await
            }
            false => {
                let mut signals = self.signals.clone();
                tokio::select! {
                    result = self.perform(step, facts, sessions) => result,
                    () = signals.come() => Err(StepError::Paused("it was asked to end".to_owned())),
                }
            }
        };
        let took = begun.elapsed();
        let why = match result {
            Ok(words) => {
                (self.tell)(Event::Done {
                    step,
                    took,
                    words: &words,
                });
                self.note_down(step, took, Ok(&words));
                return Ok(None);
            }
            Err(StepError::Unknown(why)) => return Ok(Some(why)),
            Err(StepError::Paused(why)) => Stop::Paused(why),
            Err(StepError::Foreign(why)) => Stop::Foreign(why),
            Err(StepError::Failed(why)) => Stop::Failed(format!("{step}: {why}")),
        };
        let (Stop::Failed(words) | Stop::Paused(words) | Stop::Foreign(words)) = &why else {
            return Err(why);
        };
        (self.tell)(Event::Failed { step, why: words });
        self.note_down(step, took, Err(words));
        Err(why)
    }

    fn note_down(&mut self, step: &Step, took: Duration, result: Result<&str, &str>) {
        let revision = self.expected.as_ref().map_or("", Revision::as_str);
        self.evidence.step(step, revision, took, result);
    }

    /// With what was expected of the store, if this is not the first look.
    async fn facts(&mut self, is_first: bool) -> Result<(Facts, Vec<Session>), Stop> {
        let mut tries = LOOKS_FOR_FOREIGN;
        loop {
            let looked = Looked {
                minted: self.done.minted.as_ref(),
                tries_trust: is_first,
            };
            let found = look(self.opened, &mut *self.store, &looked).await;
            let (facts, sessions) = found.map_err(|error| match is_first {
                true => Stop::Unreachable(error.to_string()),
                false => Stop::Failed(error.to_string()),
            })?;
            tries -= 1;
            match &self.expected {
                None => self.expected = Some(facts.holding.revision.clone()),
                Some(expected) if *expected == facts.holding.revision => {}
                Some(_) if tries > 0 => {
                    tokio::time::sleep(LOOK_AGAIN_AFTER).await;
                    continue;
                }
                Some(expected) => {
                    return Err(Stop::Foreign(format!(
                        "somebody else changed the secret between two steps (it was at {expected}, and is at {}): see who writes there",
                        facts.holding.revision
                    )));
                }
            }
            return Ok((facts, sessions));
        }
    }

    /// What the store is at after a write from here.
    pub(super) fn expect(&mut self, revision: Revision) {
        self.expected = Some(revision);
    }

    /// Before anything new was current, everything is taken back.
    async fn give_up(&mut self, why: String) -> Outcome {
        let is_back = self.wish.goal == Goal::Back;
        let is_ending = !self.done.left.is_empty() || !self.done.ended.is_empty();
        if self.done.promoted.is_some() || is_back || is_ending {
            return self.halfway(why);
        }
        (self.tell)(Event::Note(&format!("{why}: what was done is taken back")));
        let minted = self.done.minted.take();
        self.done = Done {
            minted,
            ..Done::default()
        };
        self.undoing = true;
        let goal = std::mem::replace(&mut self.wish.goal, Goal::Back);
        let undone = self.undo().await;
        self.wish.goal = goal;
        match undone {
            Ok(()) => Outcome::RolledBack(why),
            Err(Stop::Refused(refusals)) => {
                let refusals: Vec<String> = refusals.iter().map(ToString::to_string).collect();
                self.halfway(format!("{why}; it can't be taken back: {}", refusals.join("; ")))
            }
            Err(Stop::Unreachable(more) | Stop::Failed(more) | Stop::Foreign(more) | Stop::Paused(more)) => {
                self.halfway(format!("{why}; it can't be taken back now: {more}"))
            }
        }
    }

    async fn undo(&mut self) -> Result<(), Stop> {
        let (facts, _) = self.facts(false).await?;
        match situation(&facts, &self.opened.rotation) {
            Situation::Rest => Ok(()),
            Situation::Promoted => Err(Stop::Failed("the new credential is current already".to_owned())),
            Situation::Staged | Situation::Changed => self.work().await.map(drop),
        }
    }

    fn halfway(&self, why: String) -> Outcome {
        let name = &self.opened.rotation.name;
        let how = match &self.wish.goal {
            // Back would be to what somebody knows.
            Goal::Emergency { role } => {
                format!(
                    "`pgswivel rotate emergency {name} --role {role}` goes on when that is mended, and is not to be rolled back"
                )
            }
            Goal::Forward | Goal::Back => format!(
                "`pgswivel rotate run {name}` goes on when that is mended, `pgswivel rotate rollback {name}` goes back, \
                 `pgswivel rotate show {name}` says where it stands"
            ),
        };
        Outcome::Halfway { why, how }
    }
}

/// A server's answer to a change.
#[expect(
    clippy::needless_pass_by_value,
    reason = "what `map_err` gives away ends here"
)]
fn on_server(endpoint: &Endpoint, error: DatabaseError) -> StepError {
    let words = format!("{endpoint}: {error}");
    match error {
        DatabaseError::Refused { .. } => StepError::Failed(words),
        DatabaseError::Unreachable(_) | DatabaseError::Slow(_) => StepError::Unknown(words),
    }
}

/// A store's answer to a write.
#[expect(
    clippy::needless_pass_by_value,
    reason = "what `map_err` gives away ends here"
)]
fn on_store(error: WriteError) -> StepError {
    let words = error.to_string();
    match error {
        WriteError::Foreign(_) | WriteError::NotThere | WriteError::NextIsAnother => {
            StepError::Foreign(words)
        }
        WriteError::Store(_) => StepError::Unknown(words),
        _ => StepError::Failed(words),
    }
}
