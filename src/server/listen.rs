use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::config::Listen;
use crate::net::Peer;
use crate::net::listen::Listener;
use crate::postgres::{Client, Wing, serve};

/// After a failed accept: out of descriptors, most likely, and that does not pass in a microsecond.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all listeners share.
#[derive(Clone, Debug)]
pub struct Door {
    pub sessions: TaskTracker,
    /// Connections at once, whatever they have come for: beyond it the kernel's backlog is the queue.
    pub places: Arc<Semaphore>,
    /// Numbers the sessions.
    pub numbers: Arc<AtomicU64>,
}

/// Accepts for ever.
pub async fn accept(listener: Listener, wing: Arc<Wing>, listen: Listen, door: Door) {
    let must_encrypt = !listen.insecure && is_exposed(listener.at());
    loop {
        let Ok(place) = Arc::clone(&door.places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok(socket) => {
                let id = door.numbers.fetch_add(1, Ordering::Relaxed);
                let client = Client {
                    socket,
                    id,
                    must_encrypt,
                };
                let wing = Arc::clone(&wing);
                door.sessions.spawn(async move {
                    serve(client, wing).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!(address = %listener.at(), %error, "can't accept a client");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_exposed(at: &Peer) -> bool {
    match at {
        Peer::Tcp(address) => !address.ip().to_canonical().is_loopback(),
        Peer::Unix(_) => false,
    }
}
