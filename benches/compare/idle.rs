//! What an idle client costs.

use std::thread::sleep;
use std::time::Duration;

use postgres_protocol::password::scram_sha_256;

use super::client::{Keys, Session};
use super::failure::Failure;
use super::kind::Kind;
use super::light::Light;
use super::measure::memory;
use super::peers::{Starter, Upstream};
use super::support::{Authority, Postgres};

/// What was needed for a login, or a moment, is given back after it.
const SETTLE: Duration = Duration::from_millis(500);

/// kB for each of so many clients, each with a link that answered one query. None: nothing holds them.
pub fn measure(kind: Kind, clients: u32, tls: bool, starter: &Starter<'_>) -> Result<Option<f64>, Failure> {
    // Who is transparent passes the client's own TLS on, and does not know that it is there.
    if kind == Kind::Direct || tls && kind.is_transparent() {
        return Ok(None);
    }
    let authority = Authority::new();
    let certified = tls.then(|| authority.certified_server(&["localhost", "127.0.0.1"]));
    let light = Light::start(starter.runtime, certified)?;
    let upstream = Upstream {
        port: light.port(),
        tls: tls.then_some(&authority),
        verifier: scram_sha_256(Postgres::PASSWORD.as_bytes()),
        socket_directory: None,
    };
    let peer = starter.start(kind, &upstream)?;
    let Some(pid) = peer.pid() else {
        return Ok(None);
    };
    let mut keys = Keys::default();
    let mut open = || {
        let mut session = Session::open(&peer.target, &mut keys)?;
        session.run("SELECT 1")?;
        Ok::<_, Failure>(session)
    };
    open()?.close()?;
    sleep(SETTLE);
    let before = memory(pid)?;
    let sessions: Vec<Session> = (0..clients).map(|_| open()).collect::<Result<_, _>>()?;
    sleep(SETTLE);
    let after = memory(pid)?;
    drop(sessions);
    Ok(Some(after.saturating_sub(before) as f64 / f64::from(clients)))
}
