//! Leaves word when a credential can be revoked: it was replaced, and the last link that was opened with it is gone.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;

use crate::credentials::{Credential, Page};
use crate::journal::{Event, Journal};
use crate::names::SecretName;
use crate::postgres::Roster;

/// Watches one secret for as long as its keeper publishes pages.
pub async fn watch(
    secret: SecretName,
    mut page: watch::Receiver<Arc<Page>>,
    roster: Arc<Roster>,
    journal: Arc<Journal>,
) {
    let mut departures = roster.departures();
    let mut watch = Watch {
        secret,
        roster,
        journal,
        said: Vec::new(),
    };
    loop {
        let now = page.borrow_and_update().clone();
        departures.mark_unchanged();
        watch.look(&now);
        let goes_on = tokio::select! {
            changed = page.changed() => changed.is_ok(),
            changed = departures.changed() => changed.is_ok(),
        };
        if !goes_on {
            return;
        }
    }
}

struct Watch {
    secret: SecretName,
    roster: Arc<Roster>,
    journal: Arc<Journal>,
    /// What it was said of already, and is still so.
    said: Vec<Credential>,
}

impl Watch {
    fn look(&mut self, page: &Page) {
        let is_free = |credential: &Credential| !self.roster.uses(&self.secret, credential);
        let free: Vec<Credential> = page
            .known()
            .filter(|entry| entry.retired.is_some())
            .map(|entry| entry.credential.clone())
            .filter(is_free)
            .collect();
        for credential in &free {
            if !self.said.iter().any(|said| said.is_same_login(credential)) {
                let secret = &self.secret;
                self.journal
                    .record(Event::SafeToRevoke, secret, credential, None, SystemTime::now());
            }
        }
        self.said = free;
    }
}
