//! A session: relays, and meanwhile sees to it that the session survives its link.

use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::ending::Over;
use super::held::Held;
use crate::postgres::client::admit::Seat;
use crate::postgres::link::cancel::Cancellable;
use crate::postgres::state::notes::Notes;

use crate::access::leave::Leave;
use crate::access::roster::Pinned;
use crate::backoff::{Backoff, chance};
use crate::credentials::Page;
use crate::limit::Permit;
use crate::metrics::Move;
use crate::net::Stream;
use crate::postgres::link::way::Way;
use crate::postgres::relay::poll_if_woken::PollIfWoken;
use crate::postgres::relay::{End, Relay, Want};
use crate::postgres::service::Service;
use crate::postgres::wire::opening::Startup;

/// A client that says nothing for so long is at rest.
pub const SETTLE: Duration = Duration::from_millis(50);
/// One that never rests is surveyed nevertheless, between two of its queries.
const RESTLESS_FOR: Duration = Duration::from_secs(1);

/// A session whose user is gone tries again to leave.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// A server that refuses to be asked is asked again after this, then less and less often.
const REFUSED_FIRST: Duration = Duration::from_millis(500);
const REFUSED_CAP: Duration = Duration::from_secs(60);

/// A client, and what it holds of a link.
pub struct Session {
    pub id: u64,
    pub service: Arc<Service>,
    pub way: Arc<Way>,
    /// What every link of the session begins with.
    pub startup: Startup,
    pub relay: Relay<Stream, Stream>,
    pub place: Option<Cancellable>,
    pub held: Held,
    pub plan: Plan,
    pub _seat: Seat,
}

/// When the session has to do something of its own accord.
pub struct Plan {
    pub page: watch::Receiver<Arc<Page>>,
    /// The session's own place among all that leave a credential.
    pub chance: f64,
    pub leave: Option<Leave>,
    /// New logins are another user's.
    pub user_changed: bool,
    /// When to leave, or to try again.
    pub leave_at: Option<Instant>,
    /// When to survey if the client still rests, and since when that is wanted.
    pub survey_at: Option<(Instant, Instant)>,
    /// The server refused the last survey.
    pub refused: Option<Backoff>,
    /// What the client had said when it was last looked at, and since when it is known to have said no more.
    pub turns: u64,
    pub silent_since: Instant,
    pub pinned: Option<Pinned>,
}

enum Event {
    Rested,
    Page,
    Alarm,
}

impl Plan {
    pub fn new(page: watch::Receiver<Arc<Page>>) -> Self {
        Self {
            page,
            chance: chance(),
            leave: None,
            user_changed: false,
            leave_at: None,
            survey_at: None,
            refused: None,
            turns: 0,
            silent_since: Instant::now(),
            pinned: None,
        }
    }

    /// What to wait for, and until when.
    fn next(&self, now: Instant) -> (Want, Option<Instant>) {
        let cut = self.leave.and_then(|leave| leave.cut).map(Instant::from_std);
        let survey_at = self.survey_at.map(|(at, _)| at);
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        // A client that never rests is caught between two of its queries.
        if is_due(self.leave_at) {
            return (Want::Safe, cut);
        }
        let earliest = |times: [Option<Instant>; 3]| times.into_iter().flatten().min();
        if is_due(survey_at) && self.is_restless(now) {
            return (Want::Safe, earliest([self.leave_at, cut, None]));
        }
        let want = match survey_at {
            None => Want::Unsure,
            Some(_) => Want::End,
        };
        (want, earliest([self.leave_at, cut, survey_at]))
    }

    pub fn survey_is_refused(&mut self) {
        self.refused = self.refused.or(Some(Backoff::starting_at(REFUSED_FIRST)));
    }

    pub fn survey_is_answered(&mut self) {
        self.refused = None;
    }

    /// How long a client has to be at rest for a survey.
    fn settle(&mut self) -> Duration {
        let refused = self.refused.as_mut();
        refused.map_or(SETTLE, |refused| refused.next(REFUSED_CAP))
    }

    /// A survey has been wanted for too long.
    fn is_restless(&self, now: Instant) -> bool {
        self.survey_at
            .is_some_and(|(_, since)| now >= since + RESTLESS_FOR)
    }

    pub fn is_pressing(&self) -> bool {
        self.leave
            .is_some_and(|leave| Instant::now().into_std() >= leave.press)
    }
}

impl Session {
    pub async fn run(mut self: Box<Self>, _admission: Permit) {
        self.replan();
        let over = loop {
            let event = self.next_event().await;
            // Boxed: it is rare, and most sessions are idle.
            if let Err(over) = Box::pin(self.handle(event)).await {
                break over;
            }
        };
        Box::pin(self.close(over)).await;
    }

    /// Relays until there is something else to do.
    async fn next_event(&mut self) -> Result<Event, Over> {
        let Self {
            relay, plan, service, ..
        } = self;
        let (want, alarm) = plan.next(Instant::now());
        let mut stop = service.shared.stop.clone();
        let aside = pin!(async {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => Err(Over::Stopping),
                () = published(&mut plan.page) => Ok(Event::Page),
                () = at(alarm) => Ok(Event::Alarm),
            }
        });
        let mut aside = PollIfWoken::new(aside);
        let mut relaying = pin!(relay.run_until(want));
        poll_fn(|cx| match relaying.as_mut().poll(cx) {
            Poll::Ready(rested) => Poll::Ready(rested.map(|()| Event::Rested).map_err(Over::End)),
            Poll::Pending => Pin::new(&mut aside).poll(cx),
        })
        .await
    }

    /// Does what the event asks for, and gets over the loss of a link.
    async fn handle(&mut self, event: Result<Event, Over>) -> Result<(), Over> {
        let handled = match event {
            Ok(event) => self.respond(event).await,
            Err(over) => Err(over),
        };
        match handled {
            Err(Over::End(End::LinkLost(loss))) => Box::pin(self.rescue(loss)).await,
            handled => handled,
        }
    }

    async fn respond(&mut self, event: Event) -> Result<(), Over> {
        let now = Instant::now();
        if matches!(event, Event::Page) {
            self.replan();
            return Ok(());
        }
        if let Some(cut) = self.plan.leave.and_then(|leave| leave.cut)
            && cut <= now.into_std()
        {
            let reasons = self
                .plan
                .pinned
                .take()
                .map_or_else(Vec::new, |pinned| pinned.reasons);
            self.count_move(Move::Cut, now);
            return Err(Over::Cut(reasons));
        }
        if self.relay.is_safe()
            && self.relay.notes_mut().is_some_and(Notes::take_disowned)
            && self.is_disowned().await?
        {
            // No use in waiting for a better moment: nothing works here any more.
            self.relay.notes_mut().into_iter().for_each(Notes::lose_sequences);
            if !self.move_on().await? {
                self.plan.leave_at = Some(Instant::now() + RETRY_AFTER);
            }
            return Ok(());
        }
        if let Some(at) = self.plan.leave_at
            && at <= now
        {
            return self.leave(now).await;
        }
        if !self.relay.notes().is_some_and(Notes::is_unsure) {
            self.plan.survey_at = None;
            return Ok(());
        }
        match self.plan.survey_at {
            None if matches!(event, Event::Rested) => {
                self.plan.survey_at = Some((now + self.plan.settle(), now));
                self.hear();
                Ok(())
            }
            Some((at, since)) if at <= now => self.survey_if_at_rest(now, since).await,
            _ => Ok(()),
        }
    }

    /// A survey that is not urgent.
    async fn survey_if_at_rest(&mut self, now: Instant, since: Instant) -> Result<(), Over> {
        let rests = self.relay.turns() == self.plan.turns || self.plan.is_restless(now);
        if !(rests && self.relay.is_safe()) {
            self.hear();
            self.plan.survey_at = Some((now + SETTLE, since));
            return Ok(());
        }
        self.plan.survey_at = None;
        let was_pinned = self.plan.pinned.is_some();
        self.survey().await?;
        if was_pinned && self.pins().next().is_none() {
            self.plan.leave_at = Some(Instant::now());
        }
        Ok(())
    }

    /// How far the client has come.
    pub fn hear(&mut self) {
        let turns = self.relay.turns();
        if self.plan.turns != turns {
            (self.plan.turns, self.plan.silent_since) = (turns, Instant::now());
        }
    }

    /// Relays until `done` is.
    pub async fn beside<T>(&mut self, done: impl Future<Output = T>) -> Result<T, Over> {
        let mut stop = self.service.shared.stop.clone();
        tokio::select! {
            biased;
            end = self.relay.run() => Err(end.into()),
            _ = stop.wait_for(|stop| *stop) => Err(Over::Stopping),
            done = done => Ok(done),
        }
    }
}

/// A keeper that is gone publishes nothing any more.
async fn published(page: &mut watch::Receiver<Arc<Page>>) {
    if page.changed().await.is_err() {
        pending::<()>().await;
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => pending().await,
    }
}
