//! A link of pgswivel's own that listens on a channel of a database: how the processes of a fleet hear of each other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::arrival::{Arrival, log_in};
use super::farewell::leave;
use super::no_link::NoLink;
use super::way::Way;
use crate::access::roster::Registration;
use crate::credentials::Page;
use crate::names::{SecretName, UpstreamName};
use crate::net::Stream;
use crate::postgres::talk::exchange::{Aside, Broken, LastWords, Script};
use crate::postgres::talk::stream::{MessageStream, StreamError};
use crate::postgres::wire::opening::Startup;
use crate::postgres::wire::parts::messages;
use crate::postgres::wire::read::notification;
use crate::postgres::wire::tag::from_server;

/// Notifications are shorter, and so is what else comes unasked.
const MESSAGE_MAX: usize = 64 * 1024;
/// What came while something else was asked. Whoever floods the channel is not kept word by word.
const HEARD_MAX: usize = 64;
/// A longer one says nothing to anybody here.
const PAYLOAD_MAX: usize = 64;
const ASK_TIME: Duration = Duration::from_secs(10);
const TEXT: u32 = 25;
/// For the log: sessions count from 1.
const NO_SESSION: u64 = 0;

/// A database that some role leads to, and how to get there.
#[derive(Clone)]
pub struct ServedDatabase {
    way: Arc<Way>,
}

/// Logged in, and listening.
pub struct FleetLink {
    talk: MessageStream<Stream>,
    registration: Registration,
    page: watch::Receiver<Arc<Page>>,
    channel: Box<[u8]>,
    /// What this process says itself comes back to it.
    process_id: Option<i32>,
    heard: VecDeque<Box<[u8]>>,
}

#[derive(Debug, thiserror::Error)]
pub enum FleetLinkError {
    #[error("no login: {0}")]
    Login(#[from] NoLink),
    #[error(transparent)]
    Broken(#[from] Broken<()>),
    #[error("the link was lost: {0}")]
    Lost(#[from] StreamError),
    #[error("no answer within {ASK_TIME:?}")]
    Slow,
}

impl ServedDatabase {
    pub fn new(way: &Arc<Way>) -> Self {
        Self { way: Arc::clone(way) }
    }

    pub fn upstream(&self) -> &UpstreamName {
        &self.way.role.upstream
    }

    pub fn secret(&self) -> &SecretName {
        &self.way.role.secret
    }

    /// What its next login goes by.
    pub fn page(&self) -> watch::Receiver<Arc<Page>> {
        self.way.access.page.clone()
    }

    /// `name` is what others see in `pg_stat_activity`.
    pub async fn listen(&self, channel: &str, name: &str) -> Result<FleetLink, FleetLinkError> {
        let mut startup = Startup::default();
        startup.set(b"application_name", name.as_bytes());
        startup.set(b"client_encoding", b"UTF8");
        let startup = self.way.upstream_startup(&startup);
        let arrival = log_in(&self.way, &startup, NO_SESSION).await?;
        let Arrival {
            link, registration, ..
        } = arrival;
        let mut there = FleetLink {
            process_id: link.facts.backend.as_ref().map(|backend| backend.process_id),
            talk: MessageStream::resume(link.stream, link.unread),
            registration,
            page: self.page(),
            channel: channel.as_bytes().into(),
            heard: VecDeque::new(),
        };
        let quoted = channel.replace('"', "\"\"");
        match there.ask(&format!("LISTEN \"{quoted}\""), &[]).await {
            Ok(()) => Ok(there),
            Err(error) => {
                there.leave();
                Err(error)
            }
        }
    }
}

impl FleetLink {
    /// The next payload that somebody else sent. May be dropped and called again.
    pub async fn heard(&mut self) -> Result<Box<[u8]>, FleetLinkError> {
        loop {
            if let Some(payload) = self.heard.pop_front() {
                return Ok(payload);
            }
            let message = self.talk.read(MESSAGE_MAX).await?;
            match message.tag {
                from_server::NOTIFICATION => self.take(message.body()),
                b'S' | b'N' => {}
                b'E' => return Err(Broken::Fatal(LastWords::of(message.body())).into()),
                other => return Err(Broken::Unexpected(char::from(other)).into()),
            }
        }
    }

    /// Tells everybody else who listens there.
    pub async fn tell(&mut self, channel: &str, payload: &str) -> Result<(), FleetLinkError> {
        self.ask("SELECT pg_catalog.pg_notify($1, $2)", &[channel, payload])
            .await
    }

    pub async fn change_name(&mut self, name: &str) -> Result<(), FleetLinkError> {
        const STATEMENT: &str = "SELECT pg_catalog.set_config('application_name', $1, false)";
        self.ask(STATEMENT, &[name]).await
    }

    /// New logins begin with another credential.
    pub fn is_replaced(&self) -> bool {
        self.page
            .borrow()
            .retirement(self.registration.credential())
            .is_some()
    }

    /// It counts until its backend has ended.
    pub fn leave(self) {
        let Self {
            talk, registration, ..
        } = self;
        tokio::spawn(leave(talk.into_parts().0, registration));
    }

    async fn ask(&mut self, statement: &str, values: &[&str]) -> Result<(), FleetLinkError> {
        let mut script = Script::new();
        let types = vec![TEXT; values.len()];
        let values: Vec<_> = values.iter().map(|value| Some(value.as_bytes())).collect();
        script.ask((), format!("/* pgswivel */ {statement}"), &types, &values);
        let mut exchange = script.finish(());
        let mut aside = Aside::kept();
        let answered = timeout(ASK_TIME, exchange.run(&mut self.talk, &mut aside)).await;
        answered.map_err(|_| FleetLinkError::Slow)??;
        self.take_aside(&aside.take());
        Ok(())
    }

    /// Whole messages.
    fn take_aside(&mut self, aside: &[u8]) {
        for (tag, body) in messages(aside) {
            if tag == from_server::NOTIFICATION {
                self.take(body);
            }
        }
    }

    fn take(&mut self, body: &[u8]) {
        let Some((process_id, channel, payload)) = notification(body) else {
            return;
        };
        let payload = &payload[..payload.len().min(PAYLOAD_MAX)];
        let is_news = Some(process_id) != self.process_id
            && *channel == *self.channel
            && self.heard.len() < HEARD_MAX
            && !self.heard.iter().any(|heard| **heard == *payload);
        if is_news {
            self.heard.push_back(payload.into());
        }
    }
}
