//! One client, from accept to the beginning of its session.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::departure::Plan;
use super::held::{Held, address_of};
use super::run::Session;
use crate::backoff::chance;
use crate::postgres::client::Client;
use crate::postgres::client::admit::{Guest, enter, turn_away};
use crate::postgres::client::refusal::TurnedAway;
use crate::postgres::link::arrival::Arrival;
use crate::postgres::link::farewell::leave;
use crate::postgres::link::obtain::{Checkout, obtain};
use crate::postgres::relay::Relay;
use crate::postgres::service::Service;
use crate::postgres::state::notes::Notes;
use crate::postgres::wire::opening::Startup;
use crate::postgres::wire::say;

/// Protocol 3.2 is what made longer keys possible.
const MINOR_WITH_LONG_KEYS: u16 = 2;
/// For a client to read its greeting, however late its link came.
const GREETING_TIME: Duration = Duration::from_secs(5);
const KEY_SHORT: usize = 4;
const KEY_LONG: usize = 32;

/// Serves one accepted connection until its session begins. None: the client has left, or was turned away.
pub async fn begin(client: Client, service: Arc<Service>) -> Option<Box<Session>> {
    let id = client.id;
    let deadline = Instant::now() + service.limits.startup_time;
    let turn = tokio::select! {
        biased;
        turn = timeout_at(deadline, service.shared.startups.take()) => {
            let limit = service.limits.startups;
            turn.map_err(|_| TurnedAway::TooManyStartups { limit })
        }
        () = service.shared.stopped() => Err(TurnedAway::Stopping),
    };
    let guest = match turn {
        Ok(_turn) => enter(client, deadline, &service).await,
        Err(error) => {
            let out = &mut BytesMut::new();
            turn_away(client.socket.into(), out, &error, id, &service.shared).await;
            None
        }
    };
    attend(guest?, id, deadline, &service).await
}

/// Finds a link for the client.
async fn attend(
    mut guest: Guest,
    id: u64,
    deadline: Instant,
    service: &Arc<Service>,
) -> Option<Box<Session>> {
    let startup = guest.way.upstream_startup(&guest.startup);
    let link = tokio::select! {
        biased;
        link = obtain(&guest.way, &startup, guest.came_at, service.limits.queue_wait, id) => {
            link.map_err(TurnedAway::from)
        }
        () = service.shared.stopped() => Err(TurnedAway::Stopping),
        () = guest.talk.closed() => {
            debug!(session = id, "client left before it was served");
            return None;
        }
    };
    // Who was held for long, while no credential worked, has its time to read all the same.
    let deadline = deadline.max(Instant::now() + GREETING_TIME);
    let checkout = match link {
        Ok(checkout) => checkout,
        Err(error) => {
            let client = guest.talk.into_parts().0;
            turn_away(client, &mut guest.out, &error, id, &service.shared).await;
            return None;
        }
    };
    let session = greet(guest, checkout, id, startup, service, deadline).await;
    if session.is_none() {
        debug!(session = id, "client left before it was served");
    }
    session
}

/// Tells the client what its link said at login, with a cancel key of our own in the place of the link's.
async fn greet(
    guest: Guest,
    checkout: Checkout,
    id: u64,
    upstream: Startup,
    service: &Arc<Service>,
    deadline: Instant,
) -> Option<Box<Session>> {
    let Checkout {
        arrival,
        connection,
        kind,
    } = checkout;
    let Arrival {
        link,
        mut registration,
        pool,
    } = arrival;
    let facts = link.facts;
    let Guest {
        mut talk,
        mut out,
        startup,
        way,
        seat,
        ..
    } = guest;
    let length = if startup.minor >= MINOR_WITH_LONG_KEYS {
        KEY_LONG
    } else {
        KEY_SHORT
    };
    let address = address_of(&facts, &link.stream, &way.pool.target);
    let place = address.map(|address| {
        let cancels = &service.shared.cancels;
        cancels.enter(address.backend.process_id, length, address)
    });
    say::authentication_ok(&mut out);
    let (before, after) = facts.greeting.messages.split_at(facts.greeting.key_at);
    out.extend_from_slice(before);
    if let Some(place) = &place {
        say::backend_key(&mut out, place.process_id(), place.key());
    }
    out.extend_from_slice(after);
    // Before the client knows, so that nobody counts fewer sessions than there are.
    registration.seat(id);
    if !matches!(timeout_at(deadline, talk.write(&mut out)).await, Ok(Ok(()))) {
        debug!(session = id, "client did not read its greeting");
        tokio::spawn(leave(link.stream, registration));
        return None;
    }
    let (client, unread) = talk.into_parts();
    let mut session = Box::new(Session {
        id,
        service: Arc::clone(service),
        startup: upstream,
        relay: Relay::new(client, link.stream, unread, link.unread),
        place,
        plan: Plan::new(Instant::now().into_std()),
        page: way.access.page.clone(),
        chance: chance(),
        pinned: None,
        held: Held {
            facts,
            registration,
            pool,
            connection,
            kind,
            ledger: None,
        },
        way,
        _seat: seat,
    });
    session.watch_what_passes();
    Some(session)
}

impl Session {
    /// Has the relay keep and note what a move, a rescue and the next client of the link will need.
    fn watch_what_passes(&mut self) {
        let Self {
            relay,
            service,
            startup,
            held,
            way,
            ..
        } = self;
        let upstream = &held.pool.target.upstream;
        if held.kind.is_some() && upstream.reuse {
            relay.keep_link();
        }
        if startup.speaks_sql() {
            if upstream.again {
                relay.keep_units_up_to(service.limits.again_bytes);
            }
            let risky = service.shared.risky_names.of(way, startup);
            relay.observe(Notes::new(risky, service.limits.statement_bytes));
        }
    }
}
