//! The running proxy: listeners, keepers, signals, and the way out.

mod assemble;
mod limits;
mod listen;
mod parts;
mod signals;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::admin::{Admin, AdminError, Facts};
use crate::config::{Config, Limits, Problems};
use crate::keeper;
use crate::net::listen::{BindError, bind};
use crate::postgres::Lobby;
use crate::stores::DigestKey;
use listen::Door;
pub use parts::{OpenSecret, Parts};
use signals::{Signal, Signals};

/// How long sessions that were told to end may take to say so to their clients.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Bind(#[from] BindError),
    #[error("{0}")]
    Configuration(#[from] Problems),
    #[error("{0}")]
    Admin(#[from] AdminError),
    #[error("can't listen for signals: {0}")]
    Signals(#[source] std::io::Error),
}

/// Serves until a signal says otherwise.
pub async fn run(config: Config) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(Failure::Signals)?;
    limits::raise_open_files(&config);
    let (stop, stopping) = watch::channel(false);
    let lobby = Lobby::new(&config.limits, stopping.clone());
    let parts = Parts::load(&config, &DigestKey::random())?;
    let assembly = assemble::assemble(&config, parts, lobby);
    let admin = Admin::bind(config.admin.address)?;
    let listeners = bind(&config.listen.addresses).await?;
    let sessions = TaskTracker::new();
    let door = Door {
        sessions: sessions.clone(),
        places: Arc::new(Semaphore::new(places(&config))),
        numbers: Arc::default(),
    };
    let wing = Arc::new(assembly.wing);
    for listener in listeners {
        info!(address = %listener.at(), "listening");
        let accepting = listen::accept(listener, Arc::clone(&wing), config.listen.clone(), door.clone());
        let mut stopping = stopping.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = accepting => {}
                _ = stopping.wait_for(|stop| *stop) => {}
            }
        });
    }
    let (leave, leaving) = watch::channel(false);
    let facts = Facts {
        secrets: assembly.keepers.clone().into_iter().collect(),
        stopping: leaving,
        sessions: Handle::current(),
    };
    admin.serve(config.limits.admin_connections, facts)?;
    while signals.next().await == Signal::Reload {
        assembly.keepers.values().for_each(keeper::Handle::refresh);
    }
    leave.send_replace(true);
    drain(&config, &sessions, &mut signals).await;
    // The receivers may all be gone, and then nobody has to stop.
    let _ = stop.send(true);
    sessions.close();
    let _ = timeout(LAST_WORDS, sessions.wait()).await;
    info!("stopped");
    Ok(())
}

/// Clients that are served, clients that are being let in, and cancel requests.
fn places(config: &Config) -> usize {
    let Limits {
        clients,
        startups,
        cancels,
        ..
    } = config.limits;
    [clients, startups, cancels]
        .iter()
        .map(|limit| *limit as usize)
        .sum()
}

/// Waits for the clients to leave. New ones are still served: the application may be stopping as well, and
/// needs its database until it is done.
async fn drain(config: &Config, sessions: &TaskTracker, signals: &mut Signals) {
    info!(sessions = sessions.len(), limit = ?config.drain, "stopping: waiting for clients to leave");
    sessions.close();
    let again = async { while signals.next().await != Signal::Terminate {} };
    tokio::select! {
        () = sessions.wait() => {}
        () = again => warn!(sessions = sessions.len(), "second signal: stopping now"),
        () = tokio::time::sleep(config.drain) => {
            warn!(sessions = sessions.len(), "clients are still connected after the drain time");
        }
    }
}
