//! SIGINT and SIGTERM: a change is brought to its end, a wait is not.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

#[derive(Clone)]
pub(super) struct Signals(watch::Receiver<bool>);

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        let (sender, receiver) = watch::channel(false);
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            sender.send_replace(true);
            // Whoever waits asks the channel, not this task.
            sender.closed().await;
        });
        Ok(Self(receiver))
    }

    pub(super) fn have_come(&self) -> bool {
        *self.0.borrow()
    }

    pub(super) async fn come(&mut self) {
        if self.0.wait_for(|come| *come).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
