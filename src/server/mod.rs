//! The running proxy: listeners, keepers, signals, live change, and the way out.

mod changes;
mod differences;
mod doors;
mod fleet;
mod keepers;
mod limits;
mod loaded;
mod revocable;
mod running;
mod signals;
mod sources;
mod story;
mod systemd;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep, timeout};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{info, warn};

use crate::admin::{Active, Admin, AdminError, Facts, History, Readiness};
use crate::config::{Config, Problem, Problems};
use crate::journal::Journal;
use crate::keeper::Records;
use crate::metrics::{Metrics, Task};
use crate::net::listen::{BindError, Passed};
use crate::postgres::Shared;
use crate::supervise::supervise;
use changes::Changes;
pub use changes::SetLog;
pub use loaded::{Loaded, OpenSecret};
use running::Running;
use signals::Signal;
pub use signals::Signals;
pub use sources::Sources;
pub use systemd::Systemd;

/// How long sessions that were told to end may take to say so to their clients.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// For the audit file.
const LAST_LINES: Duration = Duration::from_secs(1);
/// How often it is looked whether limits still turn clients away.
const LIMITS_LOOKED_AT_EVERY: Duration = Duration::from_secs(10);

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Bind(#[from] BindError),
    #[error("{0}")]
    Configuration(#[from] Problems),
    #[error("{0}")]
    Admin(#[from] AdminError),
}

/// What the process lends its server.
pub struct Given {
    pub signals: Signals,
    pub sources: Sources,
    pub passed: Passed,
    pub systemd: Systemd,
    pub set_log: SetLog,
    /// Log lines that nobody will read, so far.
    pub log_dropped: Arc<AtomicU64>,
}

/// Serves until a signal says otherwise.
pub async fn run(config: Config, given: Given) -> Result<(), Failure> {
    let Given {
        mut signals,
        sources,
        passed,
        systemd,
        set_log,
        log_dropped,
    } = given;
    let (stop, stopping) = watch::channel(false);
    let records = Records {
        metrics: Metrics::new(),
        journal: open_journal(&config)?,
    };
    let shared = Shared::new(&config.limits, stopping, Arc::clone(&records.metrics));
    let admin = Admin::bind(config.admin.address, sources.admin_file().as_deref())?;
    let sessions = TaskTracker::new();
    let running = Running::open(config, shared.clone(), &records, passed, sessions.clone()).await?;
    let (leave, leaving) = watch::channel(false);
    let facts = Facts {
        active: running.active(),
        roster: Arc::clone(shared.roster()),
        records: records.clone(),
        history: History::default(),
        readiness: Readiness::default(),
        started: Instant::now(),
        stopping: leaving.clone(),
        sessions: Handle::current(),
        quit: signals.quit(),
        log_dropped,
    };
    admin.serve(facts)?;
    let (asked, systemd) = (Arc::new(Notify::new()), Arc::new(systemd));
    let (refused, problems) = watch::channel(None);
    let state = State {
        active: running.active(),
        sessions: sessions.clone(),
        leaving,
        problems,
    };
    let active = running.active();
    let changes = Changes {
        running,
        sources: Arc::new(sources),
        asked: Arc::clone(&asked),
        systemd: Arc::clone(&systemd),
        set_log,
        refused,
    };
    let beside = Beside::begin(&records, changes, &systemd, state, shared);
    // The listeners are bound: whoever comes is served, or held until there is a credential. To wait for the
    // database here would have systemd give up on a service that waits for its database.
    systemd.ready();
    while signals.next().await == Signal::Reload {
        asked.notify_one();
    }
    leave.send_replace(true);
    systemd.stopping();
    let limit = active.borrow().config.drain;
    drain(limit, &sessions, &mut signals, &asked).await;
    beside.end().await;
    // The receivers may all be gone, and then nobody has to stop.
    let _ = stop.send(true);
    sessions.close();
    let _ = timeout(LAST_WORDS, sessions.wait()).await;
    info!("stopped");
    records.journal.flush(LAST_LINES);
    Ok(())
}

/// What is done beside the sessions for as long as they are served.
struct Beside {
    /// Holds the doors.
    changing: JoinHandle<()>,
    _others: [AbortOnDropHandle<()>; 3],
}

impl Beside {
    fn begin(
        records: &Records,
        mut changes: Changes,
        systemd: &Arc<Systemd>,
        state: State,
        shared: Shared,
    ) -> Self {
        let metrics = || Arc::clone(&records.metrics);
        let systemd = Arc::clone(systemd);
        let revocable = supervise(Task::Revocable, metrics(), {
            let (active, roster) = (state.active.clone(), Arc::clone(shared.roster()));
            let journal = Arc::clone(&records.journal);
            async move || revocable::watch(active.clone(), Arc::clone(&roster), Arc::clone(&journal)).await
        });
        let following = supervise(Task::Configuration, metrics(), async move || {
            changes.follow().await;
        });
        let telling = supervise(Task::Systemd, metrics(), async move || {
            tell(&systemd, &state).await;
        });
        let looking = supervise(Task::Limits, metrics(), async move || {
            look_at_limits(&shared).await;
        });
        Self {
            changing: tokio::spawn(following),
            _others: [
                AbortOnDropHandle::new(tokio::spawn(telling)),
                AbortOnDropHandle::new(tokio::spawn(looking)),
                AbortOnDropHandle::new(tokio::spawn(revocable)),
            ],
        }
    }

    /// The doors are closed once it is over.
    async fn end(self) {
        self.changing.abort();
        // That it was cancelled is what was asked for.
        let _ = self.changing.await;
    }
}

fn open_journal(config: &Config) -> Result<Arc<Journal>, Problems> {
    Journal::open(config.log.audit.as_deref()).map_err(|error| {
        let path = "log.audit".to_owned();
        let message = format!("can't be appended to: {error}");
        Problems::from(vec![Problem { path, message }])
    })
}

/// Waits for the clients to leave. New ones are still served: the application may be stopping as well, and
/// needs its database until it is done.
async fn drain(limit: Duration, sessions: &TaskTracker, signals: &mut Signals, asked: &Notify) {
    info!(
        sessions = sessions.len(),
        ?limit,
        "stopping: waiting for clients to leave"
    );
    sessions.close();
    let again = async {
        while signals.next().await != Signal::Terminate {
            asked.notify_one();
        }
    };
    tokio::select! {
        () = sessions.wait() => {}
        () = again => warn!(sessions = sessions.len(), "second signal: stopping now"),
        () = sleep(limit) => {
            warn!(sessions = sessions.len(), "clients are still connected after the drain time");
        }
    }
}

async fn look_at_limits(shared: &Shared) {
    let mut ticks = interval(LIMITS_LOOKED_AT_EVERY);
    loop {
        ticks.tick().await;
        shared.say_what_is_over();
    }
}

/// How things are, in one line.
struct State {
    active: watch::Receiver<Arc<Active>>,
    sessions: TaskTracker,
    leaving: watch::Receiver<bool>,
    problems: watch::Receiver<Option<Problems>>,
}

impl State {
    fn line(&self) -> String {
        let clients = self.sessions.len();
        if *self.leaving.borrow() {
            return format!("stopping: {clients} clients left");
        }
        let active = self.active.borrow().clone();
        let unproven = (active.keepers.iter()).filter(|(_, keeper)| !keeper.page.borrow().has_proof());
        let unproven: Vec<&str> = unproven.map(|(name, _)| name.as_str()).collect();
        let mut line = if unproven.is_empty() {
            format!("serving {clients} clients")
        } else {
            format!("no credential is known to work for {}", unproven.join(", "))
        };
        if let Some(problems) = &*self.problems.borrow() {
            let count = problems.iter().count();
            line += &format!("; the changed configuration is not valid ({count} problems) and is ignored");
        }
        line
    }
}

async fn tell(systemd: &Systemd, state: &State) {
    systemd.keep_telling(|| state.line()).await;
}
