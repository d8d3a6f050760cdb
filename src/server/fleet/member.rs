//! Who listens in one database: on one link after the other, whatever becomes of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::Event;
use crate::backoff::{Backoff, chance};
use crate::fleet::Call;
use crate::metrics::Metrics;
use crate::postgres::{FleetLink, FleetLinkError, ServedDatabase};

const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_CAP: Duration = Duration::from_secs(60);
/// Links that listen leave a replaced credential within this, spread out: there may be thousands of them.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// One database, and what goes out and comes in there.
pub(super) struct Member {
    pub(super) database: ServedDatabase,
    pub(super) channel: String,
    pub(super) name: watch::Receiver<String>,
    pub(super) calls: broadcast::Sender<Call>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop: CancellationToken,
}

/// Why a link is left.
enum Left {
    Stopped,
    /// New logins begin with another credential.
    Replaced,
}

impl Member {
    pub(super) async fn keep_listening(&self) {
        let (upstream, mut pause) = (self.database.upstream(), Backoff::starting_at(RETRY_FIRST));
        let mut was_there = false;
        loop {
            let error = match self.log_in().await {
                None => return,
                Some(Err(error)) => error,
                Some(Ok(link)) => {
                    info!(%upstream, channel = self.channel, "listening for the fleet");
                    if was_there && self.events.send(Event::Reconnected).await.is_err() {
                        return;
                    }
                    (was_there, pause) = (true, Backoff::starting_at(RETRY_FIRST));
                    match self.stay(link).await {
                        Ok(()) => return,
                        Err(error) => error,
                    }
                }
            };
            debug!(%upstream, %error, "does not listen for the fleet");
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep(pause.next(RETRY_CAP)) => {}
            }
        }
    }

    /// None: it has to stop.
    async fn log_in(&self) -> Option<Result<FleetLink, FleetLinkError>> {
        let name = self.name.borrow().clone();
        tokio::select! {
            () = self.stop.cancelled() => None,
            link = self.database.listen(&self.channel, &name) => Some(link),
        }
    }

    /// On one link after the other: the next is there before the last one is left.
    async fn stay(&self, mut link: FleetLink) -> Result<(), FleetLinkError> {
        let _listening = self.metrics.fleet_listening();
        loop {
            match self.listen_on(&mut link).await {
                Ok(Left::Stopped) => {
                    link.leave();
                    return Ok(());
                }
                Ok(Left::Replaced) => match self.log_in().await {
                    Some(Ok(next)) => std::mem::replace(&mut link, next).leave(),
                    None => {
                        link.leave();
                        return Ok(());
                    }
                    Some(Err(error)) => {
                        link.leave();
                        return Err(error);
                    }
                },
                Err(error) => {
                    link.leave();
                    return Err(error);
                }
            }
        }
    }

    async fn listen_on(&self, link: &mut FleetLink) -> Result<Left, FleetLinkError> {
        let (mut name, mut calls, mut page) =
            (self.name.clone(), self.calls.subscribe(), self.database.page());
        name.mark_changed();
        let mut leaves_at = None;
        loop {
            if leaves_at.is_none() && link.is_replaced() {
                leaves_at = Some(Instant::now() + LEAVE_WITHIN.mul_f64(chance()));
            }
            tokio::select! {
                () = self.stop.cancelled() => return Ok(Left::Stopped),
                () = sleep_until(leaves_at.unwrap_or_else(Instant::now)), if leaves_at.is_some() => return Ok(Left::Replaced),
                heard = link.heard() => {
                    let heard = Event::Heard(heard?);
                    if self.events.send(heard).await.is_err() {
                        return Ok(Left::Stopped);
                    }
                }
                Ok(call) = calls.recv() => link.tell(&self.channel, &call.payload()).await?,
                Ok(()) = name.changed() => {
                    let name = name.borrow_and_update().clone();
                    link.change_name(&name).await?;
                }
                Ok(()) = page.changed() => {}
            }
        }
    }
}
