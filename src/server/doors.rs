//! Where clients come in: a task for each listener, for as long as the configuration wants it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{info, warn};

use crate::complaint::{Complaint, Over};
use crate::limit::Limit;
use crate::metrics::{Metrics, Task};
use crate::net::Peer;
use crate::net::listen::{Bound, Listener};
use crate::postgres::{Client, Service, serve};
use crate::supervise::supervise;

/// After a failed accept: out of descriptors, most likely, and that does not pass in a microsecond.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Without descriptors some are accepted all the same, when others leave.
const ACCEPT_QUIET: Duration = Duration::from_secs(5);

/// What all listeners share.
#[derive(Clone)]
pub struct Accept {
    pub sessions: TaskTracker,
    /// Connections at once, whatever they have come for: beyond it the kernel's backlog is the queue.
    pub places: Arc<Limit>,
    /// Numbers the sessions.
    pub numbers: Arc<AtomicU64>,
    /// For new clients.
    pub service: watch::Receiver<Arc<Service>>,
    pub metrics: Arc<Metrics>,
}

pub struct Doors {
    accept: Accept,
    open: Vec<Door>,
}

struct Door {
    at: Peer,
    wanted: Peer,
    _accepting: AbortOnDropHandle<()>,
}

impl Doors {
    pub fn none(accept: Accept) -> Self {
        Self {
            accept,
            open: Vec::new(),
        }
    }

    /// What is listened on, as it was wanted.
    pub fn held(&self) -> Vec<Peer> {
        self.open.iter().map(|door| door.wanted.clone()).collect()
    }

    /// Who came in by a door that is closed stays.
    pub fn change(&mut self, bound: Bound) {
        let Bound { fresh, kept } = bound;
        self.open.retain(|door| {
            let is_kept = kept.contains(&door.wanted);
            if !is_kept {
                info!(address = %door.at, "not listening any more");
            }
            is_kept
        });
        for listener in fresh {
            info!(address = %listener.at(), "listening");
            let (at, wanted) = (listener.at().clone(), listener.wanted().clone());
            let (accept, metrics) = (self.accept.clone(), Arc::clone(&self.accept.metrics));
            let accepting = supervise(Task::Listener, metrics, async move || {
                accept_on(&listener, &accept).await;
            });
            self.open.push(Door {
                at,
                wanted,
                _accepting: AbortOnDropHandle::new(tokio::spawn(accepting)),
            });
        }
    }
}

/// For ever.
async fn accept_on(listener: &Listener, accept: &Accept) {
    let is_exposed = is_exposed(listener.at());
    let mut complaint = Complaint::default();
    loop {
        let place = accept.places.take().await;
        match listener.accept().await {
            Ok(socket) => {
                if let Some(Over { failures, lasted }) = complaint.ended_after(ACCEPT_QUIET, Instant::now()) {
                    info!(address = %listener.at(), failures, ?lasted, "clients are accepted again");
                }
                let service = accept.service.borrow().clone();
                let client = Client {
                    socket,
                    id: accept.numbers.fetch_add(1, Ordering::Relaxed),
                    must_encrypt: is_exposed && service.guards_exposed_listeners(),
                };
                let tasks = accept.sessions.clone();
                accept.sessions.spawn(serve(client, service, place, tasks));
            }
            Err(error) => {
                if let Some(failures) = complaint.failed(Instant::now()) {
                    warn!(address = %listener.at(), failures, %error, "can't accept clients");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Others can reach it.
pub fn is_exposed(at: &Peer) -> bool {
    match at {
        Peer::Tcp(address) => !address.ip().to_canonical().is_loopback(),
        Peer::Unix(_) => false,
    }
}
