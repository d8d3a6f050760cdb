//! Says when a credential can be revoked: it was replaced, and the last link that was opened with it is gone.

use std::sync::{Arc, Weak};
use std::time::SystemTime;

use tokio::sync::watch;
use tracing::info;

use crate::credentials::{Credential, Page};
use crate::journal::{Event, Journal};
use crate::names::SecretName;
use crate::postgres::Roster;

/// Watches one secret for as long as its keeper publishes pages.
pub fn watch(
    name: &SecretName,
    page: watch::Receiver<Arc<Page>>,
    roster: &Arc<Roster>,
    journal: &Arc<Journal>,
) {
    let watch = Watch {
        secret: name.clone(),
        roster: Arc::downgrade(roster),
        journal: Arc::clone(journal),
        said: Vec::new(),
    };
    tokio::spawn(watch.run(page, roster.departures()));
}

struct Watch {
    secret: SecretName,
    roster: Weak<Roster>,
    journal: Arc<Journal>,
    /// What it was said of already, and is still so.
    said: Vec<Credential>,
}

impl Watch {
    async fn run(mut self, mut page: watch::Receiver<Arc<Page>>, mut departures: watch::Receiver<()>) {
        loop {
            let now = page.borrow_and_update().clone();
            departures.mark_unchanged();
            if self.look(&now).is_none() {
                return;
            }
            let goes_on = tokio::select! {
                changed = page.changed() => changed.is_ok(),
                changed = departures.changed() => changed.is_ok(),
            };
            if !goes_on {
                return;
            }
        }
    }

    fn look(&mut self, page: &Page) -> Option<()> {
        let roster = self.roster.upgrade()?;
        let is_free = |credential: &Credential| !roster.uses(&self.secret, credential);
        let free: Vec<Credential> = page
            .known()
            .filter(|entry| entry.retired.is_some())
            .map(|entry| entry.credential.clone())
            .filter(is_free)
            .collect();
        for credential in &free {
            if self.said.iter().any(|said| said.is_same_login(credential)) {
                continue;
            }
            let (secret, version, position) = (&self.secret, &credential.version, credential.position);
            self.journal
                .record(Event::SafeToRevoke, secret, credential, None, SystemTime::now());
            info!(%secret, %version, %position, "old connections closed: the credential is safe to revoke");
        }
        self.said = free;
        Some(())
    }
}
