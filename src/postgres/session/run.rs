//! A session: relays, and meanwhile sees to it that the session survives its link.

use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::departure::{Cause, Facts, Haste, Plan, Step};
use super::ending::Over;
use super::held::Held;
use crate::postgres::client::admit::Seat;
use crate::postgres::link::cancel::Cancellable;

use crate::access::roster::Pinned;
use crate::credentials::Page;
use crate::limit::Permit;
use crate::metrics::Move;
use crate::net::Stream;
use crate::postgres::link::way::Way;
use crate::postgres::relay::poll_if_woken::PollIfWoken;
use crate::postgres::relay::{End, Relay};
use crate::postgres::service::Service;
use crate::postgres::wire::opening::Startup;

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
    /// What the session's credentials are now.
    pub page: watch::Receiver<Arc<Page>>,
    /// The session's own place among all that leave a credential.
    pub chance: f64,
    /// As others see it.
    pub pinned: Option<Pinned>,
    pub _seat: Seat,
}

enum Event {
    Page,
    Due(Cause),
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
        let (want, alarm) = self.plan.next(Instant::now().into_std());
        let Self {
            relay, page, service, ..
        } = self;
        let mut stop = service.shared.stop.clone();
        let aside = pin!(async {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => Err(Over::Stopping),
                () = published(page) => Ok(Event::Page),
                () = at(alarm) => Ok(Event::Due(Cause::Alarm)),
            }
        });
        let mut aside = PollIfWoken::new(aside);
        let mut relaying = pin!(relay.run_until(want));
        poll_fn(|cx| match relaying.as_mut().poll(cx) {
            Poll::Ready(rested) => Poll::Ready(rested.map(|()| Event::Due(Cause::Rested)).map_err(Over::End)),
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
        let Event::Due(cause) = event else {
            self.replan();
            return Ok(());
        };
        let now = Instant::now();
        let mut facts = self.facts();
        let mut step = self.plan.decide(cause, &facts, now.into_std());
        if step == Step::AskForUser {
            step = match self.is_user_gone().await? {
                true => Step::Move(Haste::Flight),
                false => {
                    facts = Facts {
                        is_disowned: false,
                        ..self.facts()
                    };
                    self.plan.decide(cause, &facts, now.into_std())
                }
            };
        }
        match step {
            Step::Relay | Step::AskForUser => Ok(()),
            Step::Cut => Err(self.cut(now)),
            Step::Move(haste) => self.leave(haste).await,
            Step::Survey => self.survey_at_rest().await,
        }
    }

    /// What the plan goes by. That the server has disowned the session is asked once.
    fn facts(&mut self) -> Facts {
        let (turns, is_safe) = (self.relay.turns(), self.relay.is_safe());
        let Some(notes) = self.relay.notes_mut() else {
            return Facts {
                turns,
                is_safe,
                ..Facts::default()
            };
        };
        Facts {
            turns,
            is_safe,
            is_unsure: notes.is_unsure(),
            may_ask_sequences: notes.may_ask_sequences(),
            is_disowned: is_safe && notes.take_disowned(),
        }
    }

    fn cut(&mut self, now: Instant) -> Over {
        let pinned = self.pinned.take();
        self.count_move(Move::Cut, now);
        Over::Cut(pinned.map_or_else(Vec::new, |pinned| pinned.reasons))
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

async fn at(when: Option<std::time::Instant>) {
    match when {
        Some(when) => sleep_until(when.into()).await,
        None => pending().await,
    }
}
