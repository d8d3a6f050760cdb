//! The admin server: whether it lives and is ready, its metrics and its state, for programs and for people, and ways
//! to ask for fresh secrets and for an end. It has a thread of its own, so that whoever asks much of it slows no
//! session, and it never dials a database.

mod answers;
mod exposition;
mod history;
mod names;
mod page;
mod readiness;
pub mod report;
pub mod room;
mod status;
pub mod users;
pub mod whereabouts;
mod words;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::runtime::{self, Handle};
use tokio::sync::{Notify, watch};
use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, timeout};
use tracing::{debug, info, warn};

use self::answers::Asker;
pub use self::history::History;
use self::history::SAMPLE_EVERY;
pub use self::readiness::Readiness;
use self::room::{Entered, Rooms};
use crate::access::roster::Roster;
use crate::complaint::{Complaint, Over};
use crate::config::Config;
use crate::keeper::{self, Records};
use crate::limit::Limit;
use crate::metrics::Task;
use crate::names::SecretName;
use crate::supervise::supervise;

/// A client that takes longer to ask is no health check.
const HEADER_TIME: Duration = Duration::from_secs(2);
/// For everything that one connection wants.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// Pages that are written at once, beside the thread that answers probes.
const WRITERS: u32 = 1;
/// As small as the library lets it be.
const BUFFER_MAX: usize = 8 * 1024;

/// What there is to be told, and who is to be told of wishes.
pub struct Facts {
    pub active: watch::Receiver<Arc<Active>>,
    pub roster: Arc<Roster>,
    pub records: Records,
    pub history: History,
    pub readiness: Readiness,
    pub started: Instant,
    /// True: no more clients are expected.
    pub stopping: watch::Receiver<bool>,
    /// Where the sessions run.
    pub sessions: Handle,
    /// Somebody asked for an end.
    pub quit: Arc<Notify>,
    /// Log lines that nobody will read, so far.
    pub log_dropped: Arc<AtomicU64>,
}

/// What is configured now, and runs.
pub struct Active {
    pub config: Arc<Config>,
    /// Of the secrets that some role uses.
    pub keepers: BTreeMap<SecretName, keeper::Handle>,
    /// Asks every process of the fleet to read its stores. None: there is no fleet.
    pub tell_fleet: Option<Arc<Notify>>,
}

#[derive(Debug, thiserror::Error)]
#[error("admin.address: can't serve on {address}: {source}")]
pub struct AdminError {
    address: SocketAddr,
    source: std::io::Error,
}

/// A bound address. Whoever connects is answered once it serves.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    listener: TcpListener,
    /// By which commands find the address.
    name: Option<UnixListener>,
}

impl Admin {
    /// `file`: the configuration that says the address; whoever knows the file will find it.
    pub fn bind(address: SocketAddr, file: Option<&Path>) -> Result<Self, AdminError> {
        let failed = |source| AdminError { address, source };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let name = file.and_then(|file| match whereabouts::claim(file) {
            Ok(name) => Some(name),
            Err(error) => {
                debug!(file = %file.display(), %error, "commands find this process only by what the file says");
                None
            }
        });
        Ok(Self {
            address,
            listener,
            name,
        })
    }

    /// Serves from now on, for as long as the process runs.
    pub fn serve(self, facts: Facts) -> Result<(), AdminError> {
        let Self {
            address,
            listener,
            name,
        } = self;
        let failed = |source| AdminError { address, source };
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(failed)?
        };
        let thread = std::thread::Builder::new().name("admin".to_owned());
        let run = move || {
            runtime.block_on(async {
                if let Some(name) = name {
                    tokio::spawn(whereabouts::tell(name, address));
                }
                serve_and_sample(&listener, &Server::of(facts)).await;
            });
        };
        thread.spawn(run).map_err(failed)?;
        info!(%address, "admin server listening");
        Ok(())
    }
}

/// Remembers the last minutes.
async fn sample(facts: &Facts) {
    let mut due = tokio::time::interval(SAMPLE_EVERY);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = due.tick().await;
        facts.history.take_sample(facts, now.into_std());
        // What was so once is remembered whether anybody asked then or not.
        let _ = (readiness::started(facts), readiness::ready(facts));
    }
}

/// What all connections share.
#[derive(Clone)]
struct Server {
    facts: Arc<Facts>,
    rooms: Arc<Rooms>,
    writers: Arc<Limit>,
}

impl Server {
    fn of(facts: Facts) -> Self {
        let rooms = Rooms::new(Arc::clone(&facts.records.metrics));
        Self {
            facts: Arc::new(facts),
            rooms,
            writers: Limit::new(WRITERS),
        }
    }

    fn connections_max(&self) -> u32 {
        self.facts.active.borrow().config.limits.admin_connections
    }
}

async fn serve_and_sample(listener: &tokio::net::TcpListener, server: &Server) {
    let metrics = || Arc::clone(&server.facts.records.metrics);
    let sampling = supervise(Task::Samples, metrics(), async || sample(&server.facts).await);
    let serving = supervise(Task::Admin, metrics(), async || serve(listener, server).await);
    tokio::join!(sampling, serving);
}

async fn serve(listener: &tokio::net::TcpListener, server: &Server) {
    let mut complaint = Complaint::default();
    loop {
        server.rooms.there_is_room(|| server.connections_max()).await;
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(failures) = complaint.failed(Instant::now()) {
                    warn!(failures, %error, "can't accept on the admin address");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if let Some(Over { failures, lasted }) = complaint.ended(Instant::now()) {
            info!(failures, ?lasted, "the admin address accepts again");
        }
        let entered = server.rooms.enter(peer.ip(), server.connections_max());
        tokio::spawn(answer(stream, peer, entered, server.clone()));
        // What it has asked already is heard before others come.
        yield_now().await;
    }
}

/// One connection, for one request: whoever has another comes again, and nobody stays for nothing.
async fn answer(stream: TcpStream, peer: SocketAddr, entered: Entered, server: Server) {
    let Ok(local) = stream.local_addr() else {
        return;
    };
    let (entered, server) = (&entered, &server);
    let service = service_fn(|request| async move {
        let asker = Asker {
            peer: peer.ip(),
            local: local.ip(),
        };
        let answer = answers::to(&request, asker, entered, server).await;
        debug!(%peer, method = %request.method(), path = request.uri().path(), status = answer.status().as_u16(), "asked");
        Ok::<_, Infallible>(answer)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(BUFFER_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        answered = timeout(CONNECTION_TIME, connection) => {
            if let Ok(Err(error)) = answered {
                debug!(%peer, %error, "admin connection failed");
            }
        }
        () = entered.has_to_go() => debug!(%peer, "admin connection dropped: there is no room for it"),
    }
}
