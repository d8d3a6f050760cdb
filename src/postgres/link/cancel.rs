//! Cancel requests: keys minted here, carried to wherever the session's link is now.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;

use super::login::{Backend, encrypt};
use super::login_error::LoginError;
use super::target::Target;
use crate::limit::Limit;
use crate::lock::lock;
use crate::names::Endpoint;
use crate::net::Peer;
use crate::net::dial::dial_again;
use crate::postgres::talk::stream::StreamError;
use crate::postgres::wire::say;
use crate::random;

/// How long a cancel request waits for its turn while many are under way.
const TURN_WAIT: Duration = Duration::from_secs(5);

/// Where a session's backend can be told to stop.
#[derive(Clone)]
pub struct Address {
    pub target: Arc<Target>,
    pub endpoint: Endpoint,
    pub peer: Peer,
    pub encrypted: bool,
    pub backend: Backend,
}

/// Every session that can be cancelled, found by process id and key together: two upstreams may use one id.
pub struct Cancels {
    known: Mutex<Known>,
    pub turns: Arc<Limit>,
}

#[derive(Default)]
struct Known {
    sessions: HashMap<i32, Vec<Entry>>,
    /// Requests on their way, by the process id of the backend that they are for.
    under_way: Vec<(i32, watch::Receiver<Passage>)>,
}

/// How far a request has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passage {
    OnItsWay,
    /// The server has passed it on to the backend.
    Ended,
    /// Nobody knows whether it still will be.
    Unknown,
}

/// A request on its way.
struct Request<'a> {
    cancels: &'a Cancels,
    passage: watch::Sender<Passage>,
}

/// Requests on their way to one backend.
pub struct UnderWay(Vec<watch::Receiver<Passage>>);

struct Entry {
    key: Arc<[u8]>,
    /// None while the session has no backend that could be told.
    address: Option<Address>,
}

/// A session's place among the cancellable; it is given up on drop.
pub struct Cancellable {
    cancels: Arc<Cancels>,
    process_id: i32,
    key: Arc<[u8]>,
}

#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    #[error("no session has this process id and key")]
    Unknown,
    #[error("too many cancel requests at once (limits.cancels)")]
    TooMany,
    #[error("not carried out within {0:?}")]
    TimedOut(Duration),
    #[error("the link is encrypted, the new connection is not")]
    Unencrypted,
    #[error(transparent)]
    Login(#[from] LoginError),
}

impl Cancels {
    pub fn new(turns: u32) -> Arc<Self> {
        Arc::new(Self {
            known: Mutex::default(),
            turns: Limit::new(turns),
        })
    }

    /// Mints a key of `length` bytes for a session whose client knows it by this process id.
    pub fn enter(self: &Arc<Self>, process_id: i32, length: usize, address: Address) -> Cancellable {
        let mut key = vec![0; length];
        random::fill(&mut key);
        let key: Arc<[u8]> = key.into();
        let entry = Entry {
            key: Arc::clone(&key),
            address: Some(address),
        };
        // Nearly always the only one.
        let alone = || Vec::with_capacity(1);
        let mut known = self.lock();
        known.sessions.entry(process_id).or_insert_with(alone).push(entry);
        Cancellable {
            cancels: Arc::clone(self),
            process_id,
            key,
        }
    }

    /// Carries one request to the backend that the session has at this moment. A request that names no session
    /// does nothing, as in Postgres.
    pub async fn carry_out(&self, process_id: i32, key: &[u8]) -> Result<(), CancelError> {
        let Ok(_turn) = timeout(TURN_WAIT, self.turns.take()).await else {
            return Err(CancelError::TooMany);
        };
        let (address, request) = self.find(process_id, key).ok_or(CancelError::Unknown)?;
        let limit = address.target.upstream.connect_timeout;
        let sent = timeout(limit, send(&address))
            .await
            .map_err(|_| CancelError::TimedOut(limit))?;
        if sent.is_ok() {
            request.passage.send_replace(Passage::Ended);
        }
        sent
    }

    /// What is on its way to this backend. No more will be once its session has left its place.
    pub fn under_way(&self, backend: i32) -> UnderWay {
        let known = self.lock();
        let requests = known.under_way.iter().filter(|(to, _)| *to == backend);
        UnderWay(requests.map(|(_, passage)| passage.clone()).collect())
    }

    fn find(&self, process_id: i32, key: &[u8]) -> Option<(Address, Request<'_>)> {
        let mut known = self.lock();
        let mut candidates = known.sessions.get(&process_id)?.iter();
        let found = candidates.find(|entry| verify_slices_are_equal(&entry.key, key).is_ok())?;
        let address = found.address.clone()?;
        let (sender, passage) = watch::channel(Passage::OnItsWay);
        known.under_way.push((address.backend.process_id, passage));
        let request = Request {
            cancels: self,
            passage: sender,
        };
        Some((address, request))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        self.passage.send_if_modified(|passage| {
            let is_unknown = *passage == Passage::OnItsWay;
            if is_unknown {
                *passage = Passage::Unknown;
            }
            is_unknown
        });
        let mine = self.passage.subscribe();
        let mut known = self.cancels.lock();
        known
            .under_way
            .retain(|(_, passage)| !passage.same_channel(&mine));
    }
}

impl UnderWay {
    /// Waits for their end. False: one of them may come yet.
    pub async fn ended(self) -> bool {
        for mut passage in self.0 {
            let ended = passage.wait_for(|passage| *passage != Passage::OnItsWay).await;
            if !ended.is_ok_and(|passage| *passage == Passage::Ended) {
                return false;
            }
        }
        true
    }
}

impl Cancellable {
    pub fn process_id(&self) -> i32 {
        self.process_id
    }

    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Requests go there from now on. None: nowhere.
    pub fn repoint(&self, address: Option<Address>) {
        let mut known = self.cancels.lock();
        let mut entries = known.sessions.get_mut(&self.process_id).into_iter().flatten();
        if let Some(entry) = entries.find(|entry| Arc::ptr_eq(&entry.key, &self.key)) {
            entry.address = address;
        }
    }
}

impl Drop for Cancellable {
    fn drop(&mut self) {
        let mut known = self.cancels.lock();
        if let Some(entries) = known.sessions.get_mut(&self.process_id) {
            entries.retain(|entry| !Arc::ptr_eq(&entry.key, &self.key));
            if entries.is_empty() {
                known.sessions.remove(&self.process_id);
            }
        }
    }
}

/// Over a new connection to the very address of the link, with the same TLS. The server closes when it has
/// passed the request on, so a client that waits for our close knows as much as with Postgres.
pub async fn send(address: &Address) -> Result<(), CancelError> {
    let socket = dial_again(&address.peer, &address.target.dial)
        .await
        .map_err(LoginError::from)?;
    let mut stream = encrypt(socket, &address.target, &address.endpoint).await?;
    if address.encrypted && stream.tls().is_none() {
        return Err(CancelError::Unencrypted);
    }
    let mut out = BytesMut::new();
    say::cancel_request(&mut out, address.backend.process_id, &address.backend.key);
    let sent = async {
        stream.write_all(&out).await?;
        stream.flush().await?;
        stream.read(&mut [0; 1]).await
    };
    // A server that closes by reset has read the request all the same.
    match sent.await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(LoginError::from(StreamError::from(error)).into()),
    }
}
