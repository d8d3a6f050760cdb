//! A session whose link was lost goes on over another one, if what it holds is known and can be made again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info};

use super::crossing::{Failed, SILENCE_MAX};
use super::ending::{Gone, Over, Unrecoverable};
use super::held::Next;
use super::moving::catch_up;
use super::rebuilding::{Rebuilding, Rebuilt, fail_transaction};
use super::run::Session;
use crate::access::roster::Registration;
use crate::backoff::Backoff;
use crate::metrics::Rescue;
use crate::net::Stream;
use crate::postgres::link::arrival::{Arrival, log_in};
use crate::postgres::link::farewell::leave;
use crate::postgres::relay::{End, Loss};
use crate::postgres::state::known::Unnamed;
use crate::postgres::state::ledger::{Ledger, Pin};
use crate::postgres::talk::stream::MessageStream;
use crate::postgres::talk::survey::Question;
use crate::postgres::wire::aftermath::{Aftermath, InFlight};
use crate::postgres::wire::read::{error_field, is_going_away};
use crate::postgres::wire::tag::field;

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_CAP: Duration = Duration::from_secs(2);
/// A session that spoke before it was known what functions do waits for that so long.
const LEARN_WAIT: Duration = Duration::from_secs(3);

impl Session {
    /// Answers what was in flight, and carries on.
    pub async fn rescue(&mut self, loss: Loss) -> Result<(), Over> {
        let rescued = self.save(loss).await;
        let result = match &rescued {
            Ok(InFlight::Nothing | InFlight::FailedTransaction | InFlight::AskedAgain) => Rescue::Unnoticed,
            Ok(_) => Rescue::Interrupted,
            Err(_) => Rescue::Lost,
        };
        (self.service.shared.metrics).rescued(&self.way.role.secret, result);
        rescued.map(drop)
    }

    async fn save(&mut self, loss: Loss) -> Result<InFlight, Over> {
        let began = Instant::now();
        let state = loss
            .fatal
            .as_deref()
            .and_then(|body| error_field(body, field::SQLSTATE));
        info!(
            session = self.id,
            sqlstate = state.map(|state| state.escape_ascii().to_string()),
            error = loss.error.as_ref().map(tracing::field::display),
            "link lost"
        );
        // Whatever else a server says, it says of the session, and that is for the client to hear.
        if state.is_some_and(|state| !is_going_away(state)) || self.relay.notes().is_none() {
            return Err(End::LinkLost(loss).into());
        }
        let gone = |reason: Unrecoverable| {
            let fatal = loss.fatal.clone();
            Over::Gone(Gone { reason, fatal })
        };
        if let Err(unanswerable) = self.relay.aftermath(&loss) {
            return Err(gone(unanswerable.into()));
        }
        if let Some(notes) = self.relay.notes_mut() {
            // Nothing learned in time is nothing known.
            let _ = timeout(LEARN_WAIT, notes.learned()).await;
        }
        if let Some(reason) = self.what_is_lost() {
            return Err(gone(reason));
        }
        if let Some(place) = &self.place {
            place.repoint(None);
        }
        let in_flight = self.replace_link(&loss, &gone).await?;
        info!(session = self.id, in_flight = in_flight.label(), took = ?began.elapsed(), "session rescued");
        self.replan();
        Ok(in_flight)
    }

    /// What was not asked about, or can't be made again, by what is known now.
    fn what_is_lost(&mut self) -> Option<Unrecoverable> {
        let notes = self.relay.notes_mut()?;
        notes.hear_news();
        let is_rebuildable = notes.is_rebuildable();
        let pins: Vec<Pin> = self.pins().collect();
        if !pins.is_empty() {
            return Some(Unrecoverable::Pinned(pins));
        }
        (!is_rebuildable).then_some(Unrecoverable::Unsurveyed)
    }

    /// Tries until a link is there that is what the lost one was, or until it is clear that there won't be one.
    async fn replace_link(
        &mut self,
        loss: &Loss,
        gone: &impl Fn(Unrecoverable) -> Over,
    ) -> Result<InFlight, Over> {
        let rebuilding = self.rebuilding();
        let deadline = Instant::now() + self.way.access.patience;
        let mut pause = Backoff::starting_at(RETRY_FIRST);
        loop {
            self.follow();
            let arrival = self.log_in_again(deadline, &mut pause, gone).await?;
            let caught_up = catch_up(self.risky(), arrival, Instant::now() + SILENCE_MAX);
            let (
                Arrival {
                    link,
                    registration,
                    pool,
                },
                caught_up,
            ) = self.while_wanted(caught_up).await?;
            if let Some(reason) = self.what_is_lost() {
                tokio::spawn(leave(link.stream, registration));
                return Err(gone(reason));
            }
            let is_undone = self.is_undone(loss);
            let mut talk = MessageStream::resume(link.stream, link.unread);
            let mut rebuilt = match caught_up {
                Ok(()) => self.rebuild(&rebuilding, &registration, &mut talk).await,
                Err(failed) => Err(failed),
            };
            // Only now: what the client has sent ahead meanwhile counts.
            let aftermath = match self.relay.aftermath(loss) {
                Ok(_) if is_undone => Aftermath::unnoticed(),
                Ok(aftermath) => aftermath,
                Err(unanswerable) => return Err(gone(unanswerable.into())),
            };
            if rebuilt.is_ok()
                && aftermath.transaction_failed
                && let Err(failed) = fail_transaction(&mut talk).await
            {
                rebuilt = Err(failed);
            }
            let (stream, unread) = talk.into_parts();
            let failed = match rebuilt {
                Ok(rebuilt) => {
                    let in_flight = aftermath.in_flight;
                    if let Some(notes) = self.relay.notes_mut() {
                        notes.undone();
                    }
                    let next = Next {
                        facts: link.facts,
                        registration,
                        pool,
                        stream,
                        unread,
                        ledger: rebuilt.ledger,
                        messages: rebuilt.messages,
                    };
                    drop(self.put_on(next, |relay, stream, ids| relay.take_up(aftermath, stream, ids)));
                    return Ok(in_flight);
                }
                Err(failed) => failed,
            };
            tokio::spawn(leave(stream, registration));
            if !failed.may_pass() || Instant::now() >= deadline {
                return Err(gone(Unrecoverable::Rebuilding(failed)));
            }
            debug!(session = self.id, reason = %failed, "rescue tried again");
            self.while_wanted(sleep(pause.next(RETRY_CAP))).await?;
        }
    }

    async fn rebuild(
        &self,
        rebuilding: &Rebuilding,
        registration: &Registration,
        link: &mut MessageStream<Stream>,
    ) -> Result<Rebuilt, Failed> {
        let user = registration.credential().user.as_bytes();
        let names = self.custom_names();
        let question = Question::new(user, names.iter().map(String::as_bytes), rebuilding.bytes_max);
        let lacks = self.held.ledger.as_deref().map(Ledger::lacks);
        let question = question.knowing(lacks.unwrap_or_default());
        rebuilding.run(&question, user, link).await
    }

    /// Waits as a new client would, for as long as the session's own stays. What keeps new clients out may be its own
    /// backend, which has not gone yet.
    async fn log_in_again(
        &mut self,
        deadline: Instant,
        pause: &mut Backoff,
        gone: &impl Fn(Unrecoverable) -> Over,
    ) -> Result<Arrival, Over> {
        loop {
            let (way, startup, id) = (Arc::clone(&self.way), self.startup.clone(), self.id);
            let logged_in = self.while_wanted(log_in(&way, &startup, id)).await?;
            let error = match logged_in {
                Ok(arrival) => return Ok(arrival),
                Err(error) => error,
            };
            if !error.may_pass() || Instant::now() >= deadline {
                return Err(gone(Unrecoverable::Login(error)));
            }
            debug!(session = id, %error, "login tried again");
            if error.is_server_full()
                && let Some(leaving) = way.pool.make_room()
            {
                // The server has the last word on whether there is room now.
                let _ = self.while_wanted(leaving).await?;
            } else {
                self.while_wanted(sleep(pause.next(RETRY_CAP))).await?;
            }
            self.follow();
        }
    }

    /// Waits for it, unless nobody needs it any more.
    async fn while_wanted<T>(&mut self, done: impl Future<Output = T>) -> Result<T, Over> {
        let mut stop = self.service.shared.stop.clone();
        tokio::select! {
            biased;
            () = self.relay.client_left() => Err(End::ClientGone.into()),
            _ = stop.wait_for(|stop| *stop) => Err(Over::Stopping),
            done = done => Ok(done),
        }
    }

    /// Whether the lost server has undone what was in flight, so that it can be asked of another.
    fn is_undone(&self, loss: &Loss) -> bool {
        let Some(notes) = self.relay.notes() else {
            return false;
        };
        let statements = self.held.ledger.iter().flat_map(|ledger| ledger.statements());
        let statements: BTreeMap<&[u8], &[u8]> = statements
            .map(|statement| (&*statement.name, &*statement.text))
            .collect();
        self.relay.is_undone(loss, |name| match name {
            name if name.is_empty() || notes.is_replaced(name) => notes.text_of(name),
            name => statements.get(name).copied(),
        })
    }

    fn rebuilding(&self) -> Rebuilding {
        let (notes, greeting) = (self.relay.notes(), self.greeting());
        let known = notes.map(|notes| notes.known(self.held.ledger.as_deref(), &greeting));
        let unnamed = notes.and_then(|notes| notes.unnamed(&greeting));
        Rebuilding {
            known: known.unwrap_or_default(),
            // What was in flight is answered with an error, a Parse too.
            unnamed: unnamed.map(|unnamed| Unnamed {
                doubtful: true,
                ..unnamed
            }),
            bytes_max: self.service.limits.statement_bytes,
        }
    }
}
