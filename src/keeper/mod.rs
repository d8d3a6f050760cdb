//! The keeper of one secret: reads its store, offers what it finds to the book, proves it by a real login,
//! and publishes the page. It knows no Postgres: whoever starts it says how to prove.
//!
//! Two tasks have what is in [`shared`] in common: the reader, which is the only one to touch the store, and the prover, so
//! that a slow store does not hold up a proof nor a slow endpoint a read. Logins report there
//! as well. A failed read, a bad value and a failed proof change nothing that works.

mod ages;
mod pace;
mod prover;
mod reader;
mod shared;
mod status;
mod trail;
mod turns;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use self::reader::Reader;
use self::shared::Shared;
pub use self::status::{CredentialStatus, EndpointStatus, Reads, Standing, Status};
pub use self::turns::Turns;
use crate::config::Secret;
use crate::credentials::{Credential, Page, Refusal, Verdicts};
use crate::journal::Journal;
use crate::lock::lock;
use crate::metrics::{Metrics, Task};
use crate::names::Endpoint;
use crate::stores::Store;
use crate::supervise::supervise;

/// One real login to one endpoint, and out again. It may report to the verdicts itself, before others who
/// wait for this login go on; being told twice does no harm.
pub type Prove = Arc<dyn Fn(Credential, Endpoint, Arc<dyn Verdicts>) -> ProofFuture + Send + Sync>;

pub type ProofFuture = Pin<Box<dyn Future<Output = Result<(), ProofError>> + Send>>;

/// Why a proof failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProofError {
    #[error("refused with {}", .0.sqlstate())]
    Refused(Refusal),
    #[error("unreachable: {0}")]
    Unreachable(Reason),
    /// An answer that says nothing about the credential: no such database, too many clients, TLS.
    #[error("failed for another reason than the credential: {0}")]
    Unrelated(Reason),
    #[error("left to another login")]
    LeftToOthers,
}

/// What happened, in the words of whoever proves.
pub type Reason = Arc<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Debug)]
pub struct Policy {
    /// Every endpoint that the secret is used on.
    pub endpoints: Vec<Endpoint>,
    pub refused_retry: Duration,
    /// Of all the keepers of this process.
    pub turns: Arc<Turns>,
}

/// A running keeper. It ends when the last clone goes, and the last of those who report to it.
#[derive(Clone)]
pub struct Handle {
    /// Before the first value: a page of generation 0 with nothing to try.
    pub page: watch::Receiver<Arc<Page>>,
    pub verdicts: Arc<dyn Verdicts>,
    running: Arc<Running>,
}

struct Running {
    shared: Arc<Shared>,
    reader: Mutex<AbortOnDropHandle<()>>,
    _prover: AbortOnDropHandle<()>,
    metrics: Arc<Metrics>,
}

/// Where a keeper leaves word of what happens.
#[derive(Clone, Debug)]
pub struct Records {
    pub metrics: Arc<Metrics>,
    pub journal: Arc<Journal>,
}

/// Starts to read at once.
pub fn start(
    secret: &Arc<Secret>,
    store: Box<dyn Store>,
    prove: Prove,
    policy: Policy,
    records: Records,
) -> Handle {
    let metrics = Arc::clone(&records.metrics);
    let (shared, page) = Shared::new(secret, policy, store.calls(), records);
    let reader = Reader::new(secret, store, shared.clone());
    let proving = supervise(Task::Prover, Arc::clone(&metrics), {
        let shared = shared.clone();
        async move || prover::run(shared.clone(), Arc::clone(&prove)).await
    });
    let running = Arc::new(Running {
        reader: Mutex::new(read(reader, Arc::clone(&metrics))),
        _prover: AbortOnDropHandle::new(tokio::spawn(proving)),
        metrics,
        shared,
    });
    Handle {
        page,
        verdicts: running.clone(),
        running,
    }
}

fn read(mut reader: Reader, metrics: Arc<Metrics>) -> AbortOnDropHandle<()> {
    let reading = supervise(Task::Reader, metrics, async move || reader.run().await);
    AbortOnDropHandle::new(tokio::spawn(reading))
}

impl Handle {
    /// Reads the store now, whatever the poll interval, and whatever pause the store asked for.
    pub fn refresh(&self) {
        self.running.shared.refresh();
    }

    pub fn status(&self) -> Status {
        self.running.shared.status()
    }

    /// A changed configuration uses the secret elsewhere, or otherwise. Whoever follows the page hears of it.
    pub fn change(&self, policy: Policy, secret: &Secret) {
        self.running.shared.change(policy, secret);
    }

    /// The secret is kept elsewhere now. What is known of its credentials stays known, and what works stays in
    /// use until something from there is proven.
    pub fn read_from(&self, secret: &Secret, store: Box<dyn Store>) {
        let shared = &self.running.shared;
        shared.count_calls(store.calls());
        let reader = Reader::new(secret, store, shared.clone());
        let reader = read(reader, Arc::clone(&self.running.metrics));
        let mut place = lock(&self.running.reader);
        *place = reader;
    }
}

/// Whoever may report has the keeper run on.
impl Verdicts for Running {
    fn proven(&self, credential: &Credential, endpoint: &Endpoint) {
        self.shared.proven(credential, endpoint);
    }

    fn refused(&self, credential: &Credential, endpoint: &Endpoint, refusal: Refusal) {
        self.shared.refused(credential, endpoint, refusal);
    }

    fn refresh_wanted(&self) {
        self.shared.refresh_wanted();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("page", &self.page)
            .finish_non_exhaustive()
    }
}

/// The clock of timers, as the book wants it.
fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;
