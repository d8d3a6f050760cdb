//! What tells the process from outside to reload or to end: signals, and `POST /quit`. What follows is not known here.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{Signal as Source, SignalKind, signal};
use tokio::sync::Notify;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP.
    Reload,
    /// SIGTERM, SIGINT, or `POST /quit`.
    Terminate,
}

#[derive(Debug)]
pub struct Signals {
    hangup: Source,
    terminate: Source,
    interrupt: Source,
    quit: Arc<Notify>,
}

impl Signals {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: Arc::default(),
        })
    }

    /// Whoever notifies it asks for an end as SIGTERM does.
    pub fn quit(&self) -> Arc<Notify> {
        Arc::clone(&self.quit)
    }

    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hangup.recv() => Signal::Reload,
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Terminate,
            () = self.quit.notified() => Signal::Terminate,
        }
    }
}
