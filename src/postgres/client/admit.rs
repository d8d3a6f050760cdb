//! Letting a client in: from its first packet to its proof of who it is.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use super::auth::{self, AuthError};
use super::refusal::TurnedAway;
use super::startup::{self, Purpose};
use crate::config::OtherDatabase;
use crate::limit::Permit;
use crate::metrics::{Counted, Limit};
use crate::net::Stream;
use crate::postgres::client::Client;
use crate::postgres::link::way::Way;
use crate::postgres::service::{LocalRole, Service, Shared};
use crate::postgres::talk::stream::{MessageStream, StreamError};
use crate::postgres::wire::opening::Startup;

/// A client that is told why it is turned away gets this long, and may still send so much, before the socket
/// closes: closing with unread data would destroy the message on its way.
pub const FAREWELL_TIME: Duration = Duration::from_secs(1);
const FAREWELL_BYTES: usize = 64 * 1024;

/// Why a session came to nothing, or to its end.
#[derive(Debug)]
enum Failed {
    Left,
    Refused(TurnedAway),
}

/// An authenticated client that has not been answered yet.
pub struct Guest {
    pub talk: MessageStream<Stream>,
    /// Messages that go before anything else.
    pub out: BytesMut,
    pub startup: Startup,
    /// When it had said what it came for.
    pub came_at: Instant,
    pub way: Arc<Way>,
    pub seat: Seat,
}

/// One of `limits.clients`.
#[derive(Debug)]
pub struct Seat {
    _permit: Permit,
    _counted: Counted,
}

/// From the first packet to the client's proof of who it is. A cancel request is carried out on the way.
pub async fn enter(client: Client, deadline: Instant, service: &Arc<Service>) -> Option<Guest> {
    let Client {
        socket,
        id,
        must_encrypt,
    } = client;
    let shared = &service.shared;
    let Ok(opened) = timeout_at(deadline, startup::open(socket, service.tls.as_ref())).await else {
        shared.metrics.hit(Limit::StartupTime);
        debug!(
            session = id,
            "client did not say what it came for in time (limits.startup_time)"
        );
        return None;
    };
    let (stream, startup) = match opened {
        Ok((stream, Purpose::Session(startup))) => (stream, startup),
        Ok((mut stream, Purpose::Cancel { process_id, key })) => {
            // Detached: a client that closes at once is served all the same.
            let shared = shared.clone();
            tokio::spawn(async move {
                if let Err(error) = shared.cancels.carry_out(process_id, &key).await {
                    debug!(process_id, %error, "cancel request not carried out");
                    shared.not_cancelled(&error);
                }
                // A client over TLS takes an end without close_notify for a failed cancel.
                let _ = timeout(FAREWELL_TIME, stream.shutdown()).await;
            });
            return None;
        }
        Err(startup::Failed::Left) => return None,
        Err(startup::Failed::Tls(error)) => {
            debug!(session = id, %error, "TLS with the client failed");
            return None;
        }
        Err(startup::Failed::Unanswered(error)) => {
            count(shared, &error);
            debug!(session = id, %error, "client not answered");
            return None;
        }
        Err(startup::Failed::Refused(stream, error)) => {
            turn_away(*stream, &mut BytesMut::new(), &error, id, shared).await;
            return None;
        }
    };
    let came_at = Instant::now();
    let mut talk = MessageStream::new(stream);
    let mut out = BytesMut::new();
    let introduced = tokio::select! {
        biased;
        introduced = timeout_at(deadline, introduce(&mut talk, &mut out, startup, must_encrypt, service)) => {
            let limit = service.limits.startup_time;
            introduced.unwrap_or_else(|_| Err(TurnedAway::StartupTime { limit }.into()))
        }
        () = shared.stopped() => Err(TurnedAway::Stopping.into()),
    };
    match introduced {
        Ok((startup, way, seat)) => Some(Guest {
            talk,
            out,
            startup,
            came_at,
            way,
            seat,
        }),
        Err(Failed::Left) => None,
        Err(Failed::Refused(error)) => {
            turn_away(talk.into_parts().0, &mut out, &error, id, shared).await;
            None
        }
    }
}

async fn introduce(
    talk: &mut MessageStream<Stream>,
    out: &mut BytesMut,
    mut startup: Startup,
    must_encrypt: bool,
    service: &Service,
) -> Result<(Startup, Arc<Way>, Seat), Failed> {
    startup::negotiate(&mut startup, out);
    let Some(name) = startup.get(b"user").filter(|name| !name.is_empty()) else {
        return Err(TurnedAway::NoUser.into());
    };
    let encrypted = talk.stream.tls();
    if must_encrypt && encrypted.is_none() {
        return Err(TurnedAway::TlsRequired.into());
    }
    let binding = encrypted.and_then(|tls| tls.end_point.clone());
    let role = str::from_utf8(name).ok().and_then(|name| service.roles.get(name));
    let verifier = match role {
        Some(role) => role.verifier.clone(),
        None => Some(service.mock_verifier(name)),
    };
    let shown = String::from_utf8_lossy(name).into_owned();
    if let Some(verifier) = verifier {
        auth::authenticate(talk, out, &shown, verifier, binding).await?;
    }
    let Some(LocalRole { way, .. }) = role else {
        return Err(TurnedAway::WrongPassword { role: shown }.into());
    };
    check_database(way, &startup)?;
    let permit = service.shared.seats.try_take();
    let permit = permit.ok_or(TurnedAway::TooManyClients {
        limit: service.limits.clients,
    })?;
    let seat = Seat {
        _permit: permit,
        _counted: service.shared.metrics.client(),
    };
    Ok((startup, Arc::clone(way), seat))
}

/// Who asks for another database than there is here would do there what was meant for elsewhere. Drivers that were told
/// of none ask for one that is called as their user.
fn check_database(way: &Way, startup: &Startup) -> Result<(), TurnedAway> {
    let upstream = &way.pool.target.upstream;
    let Some(database) = &upstream.database else {
        return Ok(());
    };
    let asked = startup.get(b"database").unwrap_or_default();
    let is_here = [&b""[..], database.as_bytes(), way.role.name.as_str().as_bytes()].contains(&asked);
    if is_here || upstream.other_database == OtherDatabase::Ignore || startup.has_no_database() {
        return Ok(());
    }
    Err(TurnedAway::OtherDatabase {
        asked: String::from_utf8_lossy(asked).into_owned(),
        role: way.role.name.to_string(),
        database: database.clone(),
        upstream: upstream.name.to_string(),
    })
}

/// Says why, and closes so that it is heard.
pub async fn turn_away(stream: Stream, out: &mut BytesMut, error: &TurnedAway, id: u64, shared: &Shared) {
    count(shared, error);
    debug!(session = id, side = ?error.side(), sqlstate = error.sqlstate(), %error, "client turned away");
    error.write(out);
    close_heard(stream, out).await;
}

fn count(shared: &Shared, error: &TurnedAway) {
    if let Some(limit) = error.limit() {
        shared.limit_hit(limit, error);
    }
    if let TurnedAway::WrongPassword { role } = error {
        shared.complaints.stranger(role);
    }
}

/// Says the last that there is to say, and closes so that it is heard.
pub async fn close_heard(mut stream: Stream, out: &mut BytesMut) {
    let farewell = async {
        stream.write_all_buf(out).await?;
        stream.shutdown().await?;
        let mut rest = [0; 1024];
        let mut taken = 0;
        while taken < FAREWELL_BYTES {
            match stream.read(&mut rest).await? {
                0 => break,
                count => taken += count,
            }
        }
        std::io::Result::Ok(())
    };
    // Whether it was heard is the client's affair.
    let _ = timeout(FAREWELL_TIME, farewell).await;
}

impl From<TurnedAway> for Failed {
    fn from(error: TurnedAway) -> Self {
        Self::Refused(error)
    }
}

impl From<AuthError> for Failed {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Refused(error) => Self::Refused(error),
            AuthError::Stream(StreamError::BadLength(bad)) => Self::Refused(bad.into()),
            AuthError::Stream(StreamError::TooLong { tag, .. }) => Self::Refused(TurnedAway::NoPassword(tag)),
            AuthError::Stream(StreamError::Closed | StreamError::Io(_)) => Self::Left,
        }
    }
}
