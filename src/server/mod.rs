//! The running proxy: listeners, keepers, signals, and the way out.

mod assemble;
mod limits;
mod listen;
mod parts;
mod revocable;
mod signals;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::admin::{Admin, AdminError, Facts, History, Scene};
use crate::config::{Config, Limits, Problem, Problems};
use crate::journal::Journal;
use crate::keeper::{self, Records};
use crate::metrics::Metrics;
use crate::net::listen::{BindError, bind};
use crate::postgres::Lobby;
use crate::stores::DigestKey;
use listen::Door;
pub use parts::{OpenSecret, Parts};
use signals::{Signal, Signals};

/// How long sessions that were told to end may take to say so to their clients.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// For the audit file.
const LAST_LINES: Duration = Duration::from_secs(1);

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
    let quit = Arc::new(Notify::new());
    let mut signals = Signals::new(Arc::clone(&quit)).map_err(Failure::Signals)?;
    limits::raise_open_files(&config);
    let (stop, stopping) = watch::channel(false);
    let config = Arc::new(config);
    let records = Records {
        metrics: Metrics::new(),
        journal: open_journal(&config)?,
    };
    let lobby = Lobby::new(&config.limits, stopping.clone(), Arc::clone(&records.metrics));
    let roster = Arc::clone(lobby.roster());
    let parts = Parts::load(&config, &DigestKey::random())?;
    let assembly = assemble::assemble(&config, parts, lobby, &records);
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
    for (name, keeper) in &assembly.keepers {
        revocable::watch(name, keeper.page.clone(), &roster, &records.journal);
    }
    let (_scenes, scene) = watch::channel(Arc::new(Scene {
        config: Arc::clone(&config),
        keepers: assembly.keepers.clone(),
    }));
    let facts = Facts {
        scene,
        roster,
        records: records.clone(),
        history: History::default(),
        started: Instant::now(),
        stopping: leaving,
        sessions: Handle::current(),
        quit,
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
    records.journal.flush(LAST_LINES);
    Ok(())
}

fn open_journal(config: &Config) -> Result<Arc<Journal>, Problems> {
    Journal::open(config.log.audit.as_deref()).map_err(|error| {
        let path = "log.audit".to_owned();
        let message = format!("can't be appended to: {error}");
        Problems::from(vec![Problem { path, message }])
    })
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
