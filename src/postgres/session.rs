//! One client, from accept to close.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, info};

use super::cancel::{Address, Place};
use super::entry::{FAREWELL_TIME, Guest, enter, turn_away};
use super::errors::ClientError;
use super::links::{self, Lent};
use super::relay::{End, Loss, Relay};
use super::wire::say;
use super::{Client, Wing};
use crate::net::Stream;

/// Protocol 3.2 is what made longer keys possible.
const MINOR_WITH_LONG_KEYS: u16 = 2;
const KEY_SHORT: usize = 4;
const KEY_LONG: usize = 32;

/// Serves one accepted connection.
pub(super) async fn run(client: Client, wing: Arc<Wing>) {
    let id = client.id;
    let deadline = Instant::now() + wing.limits.startup_time;
    let turn = timeout_at(deadline, wing.lobby.startups.acquire()).await;
    let guest = match turn {
        // Boxed: it is gone by the time the session has begun, and so is its memory.
        Ok(_turn) => Box::pin(enter(client, deadline, &wing)).await,
        Err(_) => {
            let limit = wing.limits.startups;
            let error = ClientError::TooManyStartups { limit };
            return turn_away(client.socket.into(), &mut BytesMut::new(), &error, id).await;
        }
    };
    if let Some(guest) = guest {
        attend(guest, id, &wing).await;
    }
}

/// Finds a link for the client, and relays until either side ends.
async fn attend(mut guest: Guest, id: u64, wing: &Arc<Wing>) {
    let startup = guest.mapping.upstream_startup(&guest.startup);
    let link = tokio::select! {
        link = links::obtain(&guest.mapping, &startup, wing.limits.queue_wait, id) => link,
        () = guest.talk.closed() => return debug!(session = id, "client left before it was served"),
    };
    let lent = match link {
        Ok(lent) => lent,
        Err(error) => return turn_away(guest.talk.into_parts().0, &mut guest.out, &error, id).await,
    };
    match greet(guest, lent, wing).await {
        Some(session) => session.converse(id, wing).await,
        None => debug!(session = id, "client left before it was served"),
    }
}

/// A client and its link.
struct Session {
    relay: Relay<Stream, Stream>,
    place: Option<Place>,
    _seat: OwnedSemaphorePermit,
    _connection: OwnedSemaphorePermit,
}

/// Tells the client what its link said at login, with a cancel key of our own in the place of the link's.
async fn greet(guest: Guest, lent: Lent, wing: &Wing) -> Option<Session> {
    let Lent { link, connection } = lent;
    let Guest {
        mut talk,
        mut out,
        startup,
        mapping,
        seat,
    } = guest;
    let length = if startup.minor >= MINOR_WITH_LONG_KEYS {
        KEY_LONG
    } else {
        KEY_SHORT
    };
    let place = link.backend.as_ref().map(|backend| {
        let address = Address {
            target: Arc::clone(&mapping.target),
            endpoint: link.endpoint.clone(),
            peer: link.stream.peer().clone(),
            encrypted: link.stream.tls().is_some(),
            backend: backend.clone(),
        };
        wing.lobby.cancels.enter(backend.process_id, length, address)
    });
    say::authentication_ok(&mut out);
    out.extend_from_slice(&link.greeting[..link.key_at]);
    if let Some(place) = &place {
        say::backend_key(&mut out, place.process_id(), place.key());
    }
    out.extend_from_slice(&link.greeting[link.key_at..]);
    talk.say(&mut out).await.ok()?;
    let (client, unread) = talk.into_parts();
    Some(Session {
        relay: Relay::new(client, link.stream, unread, link.unread),
        place,
        _seat: seat,
        _connection: connection,
    })
}

impl Session {
    async fn converse(mut self, id: u64, wing: &Wing) {
        let mut stop = wing.lobby.stop.clone();
        let end = tokio::select! {
            biased;
            end = self.relay.run() => Some(end),
            _ = stop.wait_for(|stop| *stop) => None,
        };
        drop(self.place);
        let error = match end {
            None => Some(ClientError::Stopping),
            Some(End::LinkLost(Loss { fatal, error })) => {
                info!(
                    session = id,
                    error = error.map(tracing::field::display),
                    "link lost"
                );
                Some(match fatal {
                    Some(body) => ClientError::Server {
                        body,
                        authenticated: false,
                    },
                    None => ClientError::LinkLost,
                })
            }
            Some(End::LinkMalformed(error)) => {
                info!(session = id, %error, "the server broke the protocol");
                Some(ClientError::LinkLost)
            }
            Some(End::ClientMalformed(error)) => Some(error.into()),
            Some(End::ClientGone | End::LinkClosed) => None,
        };
        let speakable = self.relay.client_at_boundary();
        let (mut client, link) = self.relay.into_streams();
        drop(link);
        match error {
            Some(error) if speakable => turn_away(client, &mut BytesMut::new(), &error, id).await,
            _ => {
                // The client may be gone, and then there is nobody to say goodbye to.
                let _ = timeout(FAREWELL_TIME, client.shutdown()).await;
            }
        }
    }
}
