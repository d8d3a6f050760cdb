//! A session whose link was lost goes on over another one, if what it holds is known and can be made again.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{debug, info};

use super::converse::{Over, Session};
use super::crossing::{Failed, Unnamed};
use super::errors::{ClientError, Gone, Unrecoverable};
use super::ledger::{Ledger, Pin};
use super::links::{self, Arrival};
use super::login::Facts;
use super::move_::leave;
use super::notes::Notes;
use super::rebuilding::{Rebuilding, Rebuilt, fail_transaction};
use super::relay::{End, Loss};
use super::roster::Berth;
use super::session::address_of;
use super::survey::Question;
use super::talk::Talk;
use super::wire::aftermath::InFlight;
use super::wire::read::{error_field, is_going_away};
use crate::backoff::Backoff;
use crate::metrics::Rescue;
use crate::net::Stream;

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_CAP: Duration = Duration::from_secs(2);

impl Session {
    /// Answers what was in flight, and carries on.
    pub async fn rescue(&mut self, loss: Loss) -> Result<(), Over> {
        let rescued = self.save(loss).await;
        let result = match &rescued {
            Ok(InFlight::Nothing | InFlight::FailedTransaction) => Rescue::Unnoticed,
            Ok(_) => Rescue::Interrupted,
            Err(_) => Rescue::Lost,
        };
        (self.wing.lobby.metrics).rescued(&self.mapping.role.secret, result);
        rescued.map(drop)
    }

    async fn save(&mut self, loss: Loss) -> Result<InFlight, Over> {
        let began = Instant::now();
        let state = loss.fatal.as_deref().and_then(|body| error_field(body, b'C'));
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
        let pins: Vec<Pin> = self.pins().collect();
        if !pins.is_empty() {
            return Err(gone(Unrecoverable::Pinned(pins)));
        }
        if !self.relay.notes().is_some_and(Notes::is_rebuildable) {
            return Err(gone(Unrecoverable::Unsurveyed));
        }
        if let Some(place) = &self.place {
            place.repoint(None);
        }
        let in_flight = self.replace_link(&loss, &gone).await?;
        info!(session = self.id, in_flight = in_flight.label(), took = ?began.elapsed(), "session rescued");
        self.chart();
        Ok(in_flight)
    }

    /// Tries until a link is there that is what the lost one was, or until it is clear that there won't be one.
    async fn replace_link(
        &mut self,
        loss: &Loss,
        gone: &impl Fn(Unrecoverable) -> Over,
    ) -> Result<InFlight, Over> {
        let rebuilding = self.rebuilding();
        let deadline = Instant::now() + self.mapping.book.patience;
        let mut pause = Backoff::starting_at(RETRY_FIRST);
        loop {
            self.follow();
            let Arrival { link, berth, target } = self.log_in_again(gone).await?;
            let mut talk = Talk::resume(link.stream, link.unread);
            let mut rebuilt = self.rebuild(&rebuilding, &berth, &mut talk).await;
            // Only now: what the client has sent ahead meanwhile counts.
            let aftermath = match self.relay.aftermath(loss) {
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
                    self.leaves_with(rebuilt.ledger);
                    self.repoint(&link.facts, &stream);
                    let ids = self.process_ids(link.facts.backend.as_ref());
                    drop(self.relay.take_up(aftermath, stream, ids));
                    self.relay.resume(&rebuilt.messages, &unread);
                    (self.facts, self.target) = (link.facts, target);
                    self.berth = berth;
                    self.berth.seat(self.id);
                    return Ok(in_flight);
                }
                Err(failed) => failed,
            };
            tokio::spawn(leave(stream, berth));
            let may_pass = matches!(failed, Failed::NewLost(_) | Failed::TimedOut);
            if !may_pass || Instant::now() >= deadline {
                return Err(gone(Unrecoverable::Rebuilding(failed)));
            }
            debug!(session = self.id, reason = %failed, "rescue tried again");
            sleep(pause.next(RETRY_CAP)).await;
        }
    }

    async fn rebuild(
        &self,
        rebuilding: &Rebuilding,
        berth: &Berth,
        link: &mut Talk<Stream>,
    ) -> Result<Rebuilt, Failed> {
        let user = berth.credential().user.as_bytes();
        let names = self.custom_names();
        let question = Question::new(user, names.iter().map(String::as_bytes), rebuilding.bytes_max);
        let lacks = self.ledger.as_deref().map(Ledger::lacks);
        let question = question.knowing(lacks.unwrap_or_default());
        rebuilding.run(&question, user, link).await
    }

    /// Cancel requests go to the new backend.
    pub fn repoint(&self, facts: &Facts, stream: &Stream) {
        let backend = facts.backend.as_ref();
        let address = backend.map(|backend| address_of(&facts.endpoint, stream, backend, &self.mapping));
        if let Some(place) = &self.place {
            place.repoint(address);
        }
    }

    /// Waits as a new client would, for as long as the session's own stays.
    async fn log_in_again(&mut self, gone: &impl Fn(Unrecoverable) -> Over) -> Result<Arrival, Over> {
        let mut stop = self.wing.lobby.stop.clone();
        let logged_in = tokio::select! {
            biased;
            () = self.relay.client_left() => return Err(End::ClientGone.into()),
            _ = stop.wait_for(|stop| *stop) => return Err(Over::Stopping),
            logged_in = links::log_in(&self.mapping, &self.startup, self.id) => logged_in,
        };
        logged_in.map_err(|error: ClientError| gone(Unrecoverable::Login(Box::new(error))))
    }

    fn rebuilding(&self) -> Rebuilding {
        let (notes, greeting) = (self.relay.notes(), self.greeting());
        let known = notes.map(|notes| notes.known(self.ledger.as_deref(), &greeting));
        let unnamed = notes.and_then(|notes| notes.unnamed(&greeting));
        Rebuilding {
            known: known.unwrap_or_default(),
            // What was in flight is answered with an error, a Parse too.
            unnamed: unnamed.map(|unnamed| Unnamed {
                doubtful: true,
                ..unnamed
            }),
            bytes_max: self.wing.limits.statement_bytes,
        }
    }
}
