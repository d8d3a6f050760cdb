//! Leaves word when a credential that was replaced is on no link any more: that its user can be revoked, or that the
//! user is needed all the same (by another secret, or with another password, and then the old one has revoked itself).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::sleep;

use crate::access::roster::Roster;
use crate::admin::{Active, users};
use crate::credentials::Credential;
use crate::journal::{Event, Journal};
use crate::names::SecretName;

/// Who leaves a link says so; that a credential was replaced which no link was on is seen then.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// For ever.
pub async fn watch(mut active: watch::Receiver<Arc<Active>>, roster: Arc<Roster>, journal: Arc<Journal>) {
    let mut departures = roster.departures();
    let mut watch = Watch {
        roster,
        journal,
        said: Vec::new(),
        homeless: Vec::new(),
    };
    loop {
        let now = active.borrow_and_update().clone();
        departures.mark_unchanged();
        watch.look(&now);
        let goes_on = tokio::select! {
            changed = active.changed() => changed.is_ok(),
            changed = departures.changed() => changed.is_ok(),
            () = sleep(LOOK_EVERY) => true,
        };
        if !goes_on {
            return;
        }
    }
}

type About = (SecretName, Credential);

struct Watch {
    roster: Arc<Roster>,
    journal: Arc<Journal>,
    /// What it was said of already, and is still so.
    said: Vec<(About, Event)>,
    /// On links, of secrets that the configuration has no more.
    homeless: Vec<About>,
}

impl Watch {
    fn look(&mut self, active: &Active) {
        let before = std::mem::take(&mut self.said);
        for about in self.free(active) {
            let said = before.iter().find(|(said, _)| is_same(said, &about));
            let said = said.map(|(_, event)| *event);
            let is_unused = users::of(&about.1.user, active, &self.roster).unused;
            let event = match (said, is_unused) {
                (Some(Event::SafeToRevoke), _) | (_, true) => Event::SafeToRevoke,
                _ => Event::Unused,
            };
            if said != Some(event) {
                let (secret, credential) = &about;
                self.journal
                    .record(event, secret, credential, None, SystemTime::now());
            }
            self.said.push((about, event));
        }
    }

    /// What was replaced, and no link is on.
    fn free(&mut self, active: &Active) -> Vec<About> {
        let roster = Arc::clone(&self.roster);
        let is_free = |(secret, credential): &About| !roster.uses(secret, credential);
        let mut replaced: Vec<About> = Vec::new();
        for (secret, keeper) in &active.keepers {
            let page = keeper.page.borrow().clone();
            let retired = page.known().filter(|entry| entry.retired.is_some());
            replaced.extend(retired.map(|entry| (secret.clone(), entry.credential.clone())));
        }
        replaced.append(&mut self.homeless);
        for secret in roster.secrets() {
            if !active.keepers.contains_key(&secret) {
                let aboard = roster.aboard(&secret).into_iter();
                self.homeless
                    .extend(aboard.map(|aboard| (secret.clone(), aboard.credential)));
            }
        }
        replaced.into_iter().filter(is_free).collect()
    }
}

fn is_same(a: &About, b: &About) -> bool {
    a.0 == b.0 && a.1.is_same_login(&b.1)
}
