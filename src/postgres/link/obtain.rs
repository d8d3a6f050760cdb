//! Where sessions get their links from: one that is ready, one that somebody leaves, or a login.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::arrival::{Arrival, log_in};
use super::no_link::NoLink;
use super::pool::{Idle, LinkKind, Offer, Ticket, look_first};
use super::warm;
use super::way::Way;
use crate::backoff::Backoff;
use crate::limit::Permit;
use crate::metrics::Limit;
use crate::postgres::wire::opening::Startup;

/// A server that will have room in a moment is asked for it after this, then more rarely.
const ROOM_RETRY_FIRST: Duration = Duration::from_millis(20);
const ROOM_RETRY_CAP: Duration = Duration::from_secs(1);

/// A link, and its share of the upstream's `connections_max`.
#[derive(Debug)]
pub struct Checkout {
    pub arrival: Arrival,
    pub connection: Permit,
    /// Who else it can be lent to; None: nobody.
    pub kind: Option<LinkKind>,
}

impl Checkout {
    fn of(way: &Way, idle: Idle, kind: LinkKind) -> Self {
        let Idle {
            link,
            registration,
            connection,
            ..
        } = idle;
        Self {
            arrival: Arrival {
                link,
                registration,
                pool: Arc::clone(&way.pool),
            },
            connection,
            kind: Some(kind),
        }
    }
}

/// A link for a session of this role that began with `startup`, which the client had said at `came_at`.
pub async fn obtain(
    way: &Arc<Way>,
    startup: &Startup,
    came_at: Instant,
    wait: Duration,
    session: u64,
) -> Result<Checkout, NoLink> {
    let pool = &way.pool;
    let kind = way.kind_of(startup).filter(|_| !way.replaced.is_cancelled());
    let (offer, new) = pool.offer(kind, startup, came_at, || way.terms());
    if let Some(new) = new {
        warm::keep_warm(way, new);
    }
    let mut ticket = match offer {
        Offer::Ready(idle, kind) => return Ok(Checkout::of(way, *idle, kind)),
        Offer::Queue(ticket) => ticket,
    };
    let connection = match wait_with(&mut ticket, way, wait).await? {
        Got::Link(checkout) => return Ok(*checkout),
        Got::Connection(connection) => connection,
    };
    let kind = ticket.leave();
    // Boxed: most clients are lent a link.
    let mut arrival = Box::pin(log_in_with_room(way, startup, session)).await?;
    if let Some(kind) = &kind {
        pool.share(kind, &mut arrival.link.facts.greeting);
        let Arrival {
            link, registration, ..
        } = &mut arrival;
        let user = &registration.credential().user;
        if let Err(error) = Box::pin(look_first(pool, kind, link, user)).await {
            debug!(session, %error, "link lost before it was used");
            arrival.part();
            arrival = Box::pin(log_in_with_room(way, startup, session)).await?;
        }
    }
    Ok(Checkout {
        arrival,
        connection,
        kind,
    })
}

/// A server that has no room left would have some without links that wait here for a client, or has some in a moment: links
/// of ours are on their way out.
async fn log_in_with_room(way: &Way, startup: &Startup, session: u64) -> Result<Arrival, NoLink> {
    let pool = &way.pool;
    let deadline = Instant::now() + way.access.patience;
    let mut pause = Backoff::starting_at(ROOM_RETRY_FIRST);
    let mut made_room = false;
    loop {
        let error = match log_in(way, startup, session).await {
            Err(error) if error.is_server_full() && Instant::now() < deadline => error,
            arrived => return arrived,
        };
        if let Some(leaving) = pool.make_room() {
            // Gone, or given up on: the server has the last word on whether there is room now.
            let _ = leaving.await;
            made_room = true;
        } else if made_room || pool.is_resetting() || way.roster.awaits_an_end(&way.role.upstream) {
            debug!(session, %error, "login tried again");
            sleep(pause.next(ROOM_RETRY_CAP)).await;
        } else {
            return Err(error);
        }
    }
}

enum Got {
    Link(Box<Checkout>),
    /// There is room for a link of one's own.
    Connection(Permit),
}

async fn wait_with(ticket: &mut Ticket, way: &Way, wait: Duration) -> Result<Got, NoLink> {
    let pool = &way.pool;
    let lent = |(idle, kind)| Got::Link(Box::new(Checkout::of(way, idle, kind)));
    if let Some(expected) = ticket.expected().await {
        return Ok(lent(expected));
    }
    if let Some(connection) = pool.connections.try_take() {
        return Ok(Got::Connection(connection));
    }
    way.metrics().hit(Limit::ConnectionsMax);
    ticket.insist();
    pool.make_room();
    let turn = async {
        tokio::select! {
            biased;
            given = ticket.given() => lent(given),
            connection = pool.connections.take() => Got::Connection(connection),
        }
    };
    let limit = pool.target.upstream.connections_max;
    let turn = timeout(wait, turn).await;
    turn.map_err(|_| NoLink::QueueWait { wait, limit })
}
