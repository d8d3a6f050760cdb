//! Has proven what the book wants proven, and tells it what came of that.
//! It knows no Postgres: it is handed a way to prove.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::shared::Shared;
use super::{ProofError, Prove, now};
use crate::backoff::Backoff;
use crate::complaint::{Complaint, Over};
use crate::credentials::{Credential, Unfinished};
use crate::names::Endpoint;

/// A proof that takes longer says nothing.
const PROOF_TIME_MAX: Duration = Duration::from_secs(30);
const PROOFS_AT_ONCE: usize = 8;
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// Proves what the book wants proven: at once after a reading that changed it, after a login's verdict, and
/// ever more rarely while something is left.
pub(super) async fn run(shared: Arc<Shared>, prove: Prove) {
    let mut backoff = Backoff::starting_at(RETRY_FIRST);
    let mut due: Option<Instant> = None;
    let mut complaints = Complaints::default();
    loop {
        round(&shared, &prove, &mut complaints).await;
        due = match shared.unfinished() {
            None => {
                backoff.reset();
                None
            }
            Some(unfinished) => Some(
                due.filter(|due| *due > Instant::now())
                    .unwrap_or_else(|| Instant::now() + backoff.next(retry_cap(unfinished))),
            ),
        };
        tokio::select! {
            () = shared.offered.notified() => {
                backoff.reset();
                due = None;
            }
            () = shared.judged.notified() => {}
            () = sleep_until_due(due) => {}
        }
    }
}

async fn sleep_until_due(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// An endpoint that is down hurts nobody when asked; one that refuses may count.
fn retry_cap(unfinished: Unfinished) -> Duration {
    Duration::from_secs(match unfinished {
        Unfinished::Unanswered => 15,
        Unfinished::NothingWorks => 60,
        Unfinished::FirstRefused => 900,
    })
}

/// Tries each credential on each endpoint at most once, one at a time per endpoint.
async fn round(shared: &Arc<Shared>, prove: &Prove, complaints: &mut Complaints) {
    let mut tried: Vec<(Credential, Endpoint)> = Vec::new();
    loop {
        let mut proofs = JoinSet::new();
        let mut busy: Vec<Endpoint> = Vec::new();
        for (credential, endpoint) in shared.unproven() {
            let was_tried = (tried.iter()).any(|(c, e)| *e == endpoint && c.is_same_login(&credential));
            if was_tried || busy.contains(&endpoint) || busy.len() == PROOFS_AT_ONCE {
                continue;
            }
            busy.push(endpoint.clone());
            tried.push((credential.clone(), endpoint.clone()));
            let proof = prove(credential.clone(), endpoint.clone(), shared.clone());
            let proof = timeout(PROOF_TIME_MAX, proof);
            proofs.spawn(async move {
                let result = proof
                    .await
                    .unwrap_or_else(|late| Err(ProofError::Unreachable(Arc::new(late))));
                (credential, endpoint, result)
            });
        }
        if proofs.is_empty() {
            return;
        }
        while let Some(proof) = proofs.join_next().await {
            // A proof that panicked said nothing; the panic has been reported where it happened.
            let Ok((credential, endpoint, result)) = proof else {
                continue;
            };
            complaints.hear(&endpoint, &result);
            shared.proof(&credential, &endpoint, &result);
        }
    }
}

/// What is said of endpoints that can't be asked.
#[derive(Default)]
struct Complaints(BTreeMap<Endpoint, Complaint>);

impl Complaints {
    fn hear(&mut self, endpoint: &Endpoint, proof: &Result<(), ProofError>) {
        let complaint = self.0.entry(endpoint.clone()).or_default();
        match proof {
            Err(error @ (ProofError::Unreachable(_) | ProofError::Unrelated(_))) => {
                if let Some(failures) = complaint.failed(now()) {
                    warn!(%endpoint, failures, %error, "no credential can be proven here");
                }
            }
            Ok(()) | Err(ProofError::Refused(_)) => {
                if let Some(Over { failures, lasted }) = complaint.ended(now()) {
                    info!(%endpoint, failures, ?lasted, "credentials can be proven here again");
                }
            }
            Err(ProofError::LeftToOthers) => {}
        }
    }
}
