//! Carries a live session from its link to a new one. Until the last step the old link is whole: whatever fails, the
//! session goes on where it was.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use super::crossing::{Crossing, Failed, SILENCE_MAX, survey};
use super::ending::Over;
use super::held::Next;
use super::run::Session;
use crate::credentials::Credential;
use crate::metrics::{Limit, Move};
use crate::postgres::link::arrival::{Arrival, log_in};
use crate::postgres::link::farewell::leave;
use crate::postgres::link::learn;
use crate::postgres::relay::{End, Loss, Relay, Want};
use crate::postgres::state::ledger::{Ledger, Pin};
use crate::postgres::state::notes::Notes;
use crate::postgres::state::risky_names::RiskyNames;
use crate::postgres::talk::exchange::{Aside, Broken};
use crate::postgres::talk::stream::MessageStream;
use crate::postgres::talk::survey::{Question, SurveyError, whose_session};

/// How long a request that arrives meanwhile may be held.
const HOLD_MAX: Duration = Duration::from_secs(2);
/// A new link is kept so long for a client that has begun something meanwhile.
const SAFE_WAIT: Duration = Duration::from_secs(1);
const UNDEFINED_OBJECT: &[u8; 5] = b"42704";

impl Session {
    /// One attempt, at a safe point. False: pinned, or to be tried again.
    pub async fn move_on(&mut self) -> Result<bool, Over> {
        let began = Instant::now();
        // A session that says nothing meanwhile has not heard what was learned of functions since it spoke.
        if let Some(notes) = self.relay.notes_mut() {
            notes.hear_news();
        }
        self.survey().await?;
        let pins: Vec<Pin> = self.pins().collect();
        if !pins.is_empty() {
            self.pin(pins);
            return Ok(false);
        }
        self.unpin();
        let moves = Arc::clone(&self.service.shared.moves);
        let metrics = Arc::clone(&self.service.shared.metrics);
        let turn = moves.take_or_wait(|| metrics.hit(Limit::Moves));
        let turn = self.beside(turn).await?;
        self.follow();
        let Some(arrival) = self.log_in_beside().await? else {
            self.count_move(Move::PutOff, began);
            return Ok(false);
        };
        let moved = self.cross(arrival).await?;
        drop(turn);
        self.count_move(if moved { Move::Moved } else { Move::PutOff }, began);
        if moved {
            let version = &self.held.registration.credential().version;
            debug!(session = self.id, %version, took = ?began.elapsed(), "session moved");
            self.replan();
        }
        Ok(moved)
    }

    pub fn count_move(&self, result: Move, began: Instant) {
        let secret = &self.way.role.secret;
        self.service.shared.metrics.moved(secret, result, began.elapsed());
    }

    /// Asks the link what the session holds, if there was a reason to. A server that refuses changes nothing.
    pub async fn survey(&mut self) -> Result<(), Over> {
        if self.held.ledger.is_some() && !self.relay.notes().is_some_and(Notes::is_signalled) {
            return Ok(());
        }
        match self.survey_link().await {
            Ok(ledger) => self.surveyed(ledger),
            Err(error) if error.leaves_the_link() => {
                debug!(session = self.id, %error, "session not surveyed");
                self.plan.survey_is_refused();
            }
            Err(error) => {
                debug!(session = self.id, %error, "link lost");
                return Err(End::LinkLost(Loss::with(error.last_words())).into());
            }
        }
        Ok(())
    }

    /// Whether the link's user was dropped: the server does not know then whose session it is.
    pub async fn is_user_gone(&mut self) -> Result<bool, Over> {
        let mut aside = Aside::kept();
        let mut talk = MessageStream::new(self.relay.link());
        let asked = timeout(SILENCE_MAX, whose_session().run(&mut talk, &mut aside)).await;
        let (_, unseen) = talk.into_parts();
        self.relay.resume(&aside.take(), &unseen);
        let last_words = match asked {
            Ok(Ok(())) => return Ok(false),
            Ok(Err(Broken::Refused { state, .. })) => return Ok(state.as_bytes() == UNDEFINED_OBJECT),
            Ok(Err(broken)) => broken.last_words().cloned(),
            Err(_) => None,
        };
        debug!(session = self.id, "link lost");
        Err(End::LinkLost(Loss::with(last_words.as_ref())).into())
    }

    fn surveyed(&mut self, mut ledger: Ledger) {
        self.plan.survey_is_answered();
        if let Some(notes) = self.relay.notes() {
            if notes.is_hidden() {
                ledger.may_hold_more();
            }
            ledger.remember(self.held.ledger.as_deref(), &notes.since(&self.greeting()));
        }
        self.holds(ledger);
    }

    async fn survey_link(&mut self) -> Result<Ledger, SurveyError> {
        let question = self.question();
        let mut aside = Aside::kept();
        let mut talk = MessageStream::new(self.relay.link());
        let ledger = survey(question, &mut talk, &mut aside).await;
        let (_, unseen) = talk.into_parts();
        self.relay.resume(&aside.take(), &unseen);
        ledger
    }

    fn question(&self) -> Question {
        let names = self.custom_names();
        let names = names.iter().map(String::as_bytes);
        let user = self.held.registration.credential().user.as_bytes();
        let question = Question::new(user, names, self.service.limits.statement_bytes);
        question.knowing(self.held.ledger.as_deref().map(Ledger::lacks).unwrap_or_default())
    }

    /// Of custom settings that the session may have.
    pub fn custom_names(&self) -> BTreeSet<String> {
        let notes = self.relay.notes();
        notes.map(Notes::custom_names).unwrap_or_default()
    }

    /// A link with a credential that is not about to be left itself, once the client rests again. It is served
    /// meanwhile.
    async fn log_in_beside(&mut self) -> Result<Option<Arrival>, Over> {
        let (way, startup, id) = (Arc::clone(&self.way), self.startup.clone(), self.id);
        let logged_in = self.beside(log_in(&way, &startup, id)).await?;
        let arrival = match logged_in {
            Ok(arrival) => arrival,
            Err(error) => {
                debug!(session = id, %error, "no new link to move to");
                return Ok(None);
            }
        };
        if !way
            .access
            .page
            .borrow()
            .is_live(arrival.registration.credential())
        {
            debug!(session = id, "no better credential to move to yet");
            arrival.part();
            return Ok(None);
        }
        // Now, while the client is served: there will be little left to learn.
        let caught_up = catch_up(self.risky(), arrival, Instant::now() + SILENCE_MAX);
        let arrival = match self.beside(caught_up).await? {
            (arrival, Ok(())) => arrival,
            (arrival, Err(error)) => {
                debug!(session = id, %error, "session not moved");
                arrival.part();
                return Ok(None);
            }
        };
        match timeout(SAFE_WAIT, self.rests()).await {
            Ok(Ok(())) => Ok(Some(arrival)),
            Ok(Err(end)) => Err(end.into()),
            Err(_) => {
                arrival.part();
                Ok(None)
            }
        }
    }

    /// Until it would miss nothing after a move.
    async fn rests(&mut self) -> Result<(), End> {
        let turns = self.relay.turns();
        let is_asking = !self.plan.needs_not_ask(turns, Instant::now().into_std());
        self.relay.run_until(Want::Safe).await?;
        // It may have spoken just now.
        let has_spoken = turns != self.relay.turns() && !self.plan.is_late(Instant::now().into_std());
        match is_asking || has_spoken {
            true => self.relay.run_until(Want::Asked).await,
            false => Ok(()),
        }
    }

    /// From the old link to the new, at a safe point. The client waits.
    async fn cross(&mut self, arrival: Arrival) -> Result<bool, Over> {
        let until = Instant::now() + HOLD_MAX;
        let (arrival, caught_up) = catch_up(self.risky(), arrival, until).await;
        if let Err(error) = caught_up {
            debug!(session = self.id, %error, "session not moved");
            arrival.part();
            return Ok(false);
        }
        if let Some(notes) = self.relay.notes_mut() {
            notes.hear_news();
        }
        let pins: Vec<Pin> = self.pins().collect();
        if !pins.is_empty() {
            self.pin(pins);
            arrival.part();
            return Ok(false);
        }
        let crossing = self.crossing(arrival.registration.credential(), until);
        let Arrival {
            link,
            registration,
            pool,
        } = arrival;
        let mut successor = MessageStream::resume(link.stream, link.unread);
        let mut aside = Aside::kept();
        let mut old = MessageStream::new(self.relay.link());
        let crossed = crossing.run(&mut old, &mut successor, &mut aside).await;
        let (_, unseen) = old.into_parts();
        let (stream, unread) = successor.into_parts();
        let failed = match crossed {
            Ok(crossed) => {
                let next = Next {
                    facts: link.facts,
                    registration,
                    pool,
                    stream,
                    unread,
                    ledger: crossed.ledger,
                    messages: crossed.messages,
                };
                let (left, left_registration) = self.put_on(next, Relay::change_link);
                tokio::spawn(leave(left, left_registration));
                return Ok(true);
            }
            Err(failed) => failed,
        };
        debug!(session = self.id, reason = %failed, "session not moved");
        tokio::spawn(leave(stream, registration));
        if failed.is_loss() {
            return Err(End::LinkLost(Loss::with(failed.last_words())).into());
        }
        self.relay.resume(&aside.take(), &unseen);
        let pins = failed.pins();
        if !pins.is_empty() {
            self.pin(pins);
        }
        Ok(false)
    }

    pub fn risky(&self) -> Option<Arc<RiskyNames>> {
        self.relay.notes().map(|notes| Arc::clone(notes.risky()))
    }

    fn crossing(&self, successor: &Credential, until: Instant) -> Crossing {
        let (notes, greeting) = (self.relay.notes(), self.greeting());
        let known = notes.map(|notes| notes.known(self.held.ledger.as_deref(), &greeting));
        Crossing {
            question: self.question(),
            user: successor.user.as_bytes().into(),
            unnamed: notes.and_then(|notes| notes.unnamed(&greeting)),
            bytes_max: self.service.limits.statement_bytes,
            known: known.unwrap_or_default(),
            until,
        }
    }
}

/// Functions that were replaced a moment ago are known for what they do now, before anybody goes by what is noted.
pub async fn catch_up(
    risky: Option<Arc<RiskyNames>>,
    mut arrival: Arrival,
    until: Instant,
) -> (Arrival, Result<(), Failed>) {
    let Some(risky) = risky else {
        return (arrival, Ok(()));
    };
    let mut talk = MessageStream::resume(arrival.link.stream, arrival.link.unread);
    let caught_up = timeout_at(until, learn::catch_up(&risky, &mut talk)).await;
    (arrival.link.stream, arrival.link.unread) = talk.into_parts();
    let caught_up = match caught_up {
        Ok(caught_up) => caught_up.map_err(Failed::from),
        Err(_) => Err(Failed::TimedOut),
    };
    (arrival, caught_up)
}
