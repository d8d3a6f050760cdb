//! The end of a rotation, for people: how many sessions a replaced credential still has, what keeps them, and that the
//! last one has gone. Its beginning is the keeper's to tell.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::info;

use crate::access::roster::{Aboard, Roster};
use crate::complaint::Complaint;
use crate::credentials::{Credential, Page};
use crate::names::SecretName;

/// How often it is seen what keeps sessions.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Whoever changed the page says so first.
const MOMENT: Duration = Duration::from_millis(100);

/// A credential that was replaced.
struct Replaced {
    credential: Credential,
    since: Instant,
    is_over: bool,
    pinned: Complaint,
}

/// For ever.
pub async fn tell(secret: SecretName, mut page: watch::Receiver<Arc<Page>>, roster: Arc<Roster>) {
    let mut departures = roster.departures();
    let mut replaced: Vec<Replaced> = Vec::new();
    loop {
        departures.mark_unchanged();
        let now = page.borrow_and_update().clone();
        look(&secret, &now, &roster.aboard(&secret), &mut replaced);
        let is_waiting = replaced.iter().any(|replaced| !replaced.is_over);
        tokio::select! {
            Ok(()) = page.changed() => {}
            Ok(()) = departures.changed() => {}
            () = sleep(LOOK_EVERY), if is_waiting => {}
        }
        sleep(MOMENT).await;
    }
}

fn look(secret: &SecretName, page: &Page, aboard: &[Aboard], replaced: &mut Vec<Replaced>) {
    replaced.retain(|replaced| is_retired(page, &replaced.credential));
    let known = page.known().map(|entry| &entry.credential);
    for credential in known.chain(aboard.iter().map(|aboard| &aboard.credential)) {
        let is_told = (replaced.iter()).any(|replaced| replaced.credential.is_same_login(credential));
        if !is_told && is_retired(page, credential) {
            let sessions = links_of(credential, aboard).map_or(0, |aboard| aboard.sessions);
            if sessions > 0 {
                info!(%secret, version = %credential.version, sessions, "sessions are on a replaced credential");
            }
            replaced.push(Replaced {
                credential: credential.clone(),
                since: Instant::now(),
                is_over: false,
                pinned: Complaint::default(),
            });
        }
    }
    for replaced in replaced.iter_mut().filter(|replaced| !replaced.is_over) {
        match links_of(&replaced.credential, aboard) {
            Some(aboard) => replaced.say_what_keeps(secret, aboard),
            None => {
                let (version, took) = (&replaced.credential.version, replaced.since.elapsed());
                info!(%secret, %version, ?took, "old connections closed");
                replaced.is_over = true;
            }
        }
    }
}

impl Replaced {
    fn say_what_keeps(&mut self, secret: &SecretName, aboard: &Aboard) {
        if aboard.pinned.is_empty() || self.pinned.failed(Instant::now().into_std()).is_none() {
            return;
        }
        let mut reasons: Vec<&str> = (aboard.pinned.values())
            .flat_map(|pinned| &pinned.reasons)
            .map(|pin| pin.label())
            .collect();
        reasons.sort_unstable();
        reasons.dedup();
        let (version, sessions, pinned) = (&aboard.credential.version, aboard.sessions, aboard.pinned.len());
        info!(%secret, %version, sessions, pinned, reasons = reasons.join(", "), "sessions can't leave a replaced credential now");
    }
}

fn is_retired(page: &Page, credential: &Credential) -> bool {
    page.retirement(credential).is_some()
}

fn links_of<'a>(credential: &Credential, aboard: &'a [Aboard]) -> Option<&'a Aboard> {
    aboard
        .iter()
        .find(|aboard| aboard.credential.is_same_login(credential))
}
