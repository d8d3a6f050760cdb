//! What people read: the audit trail, one line an event, and the lines that say what it means.

use tracing::{info, warn};

use crate::credentials::{Credential, Event, Page, Position, Verdict};
use crate::names::{Endpoint, SecretName};

/// `before` and `after` are the pages around the change that the event belongs to.
pub(super) fn record(secret: &SecretName, event: &Event, before: &Page, after: &Page) {
    match event {
        Event::Seen(credential) => {
            audit("credential.seen", secret, credential, None);
            if before.leader().is_some() {
                let (version, position) = (&credential.version, credential.position);
                info!(%secret, %version, %position, "credential rotation detected");
            }
        }
        Event::Proven(credential, endpoint) => {
            audit("credential.proven", secret, credential, Some(endpoint));
        }
        Event::Refused(credential, endpoint, refusal) => {
            audit("credential.refused", secret, credential, Some(endpoint));
            if is_first_refusal(after, credential, endpoint) {
                let (version, position) = (&credential.version, credential.position);
                let sqlstate = refusal.sqlstate();
                let consequence = consequence(credential, endpoint, after);
                warn!(%secret, %version, %position, %endpoint, sqlstate, "a credential was refused: {consequence}");
            }
        }
        Event::Leading { credential, before } => {
            audit("credential.leading", secret, credential, None);
            announce(secret, credential, before.as_ref(), after);
        }
        Event::Retired(credential) => audit("credential.retired", secret, credential, None),
    }
}

fn audit(event: &'static str, secret: &SecretName, credential: &Credential, endpoint: Option<&Endpoint>) {
    let (version, position) = (&credential.version, credential.position);
    match endpoint {
        Some(endpoint) => info!(target: "audit", event, %secret, %version, %position, %endpoint),
        None => info!(target: "audit", event, %secret, %version, %position),
    }
}

fn announce(secret: &SecretName, credential: &Credential, before: Option<&Credential>, page: &Page) {
    let (version, position) = (&credential.version, credential.position);
    match before {
        Some(before) => {
            let replaced = &before.version;
            info!(%secret, %version, %position, %replaced, "now using rotated credentials");
        }
        None => info!(%secret, %version, %position, "first proven credential"),
    }
    let current_is_listed =
        (page.entries().iter()).any(|entry| entry.listed && entry.credential.position == Position::Current);
    if current_is_listed && position != Position::Current {
        warn!(
            %secret, %version, %position,
            "the store's current credential does not work and this one does: the rotation is unfinished or has failed"
        );
    }
}

fn is_first_refusal(page: &Page, credential: &Credential, endpoint: &Endpoint) -> bool {
    let entry = page.entry(credential);
    matches!(
        entry.and_then(|entry| entry.verdict(endpoint)),
        Some(Verdict::Refused { times: 1, .. })
    )
}

fn consequence(refused: &Credential, endpoint: &Endpoint, page: &Page) -> &'static str {
    let works_elsewhere = (page.known())
        .any(|entry| !entry.credential.is_same_login(refused) && entry.proven_since(endpoint).is_some());
    if works_elsewhere {
        "logins go on with the last good one"
    } else {
        "nothing is known to work on this endpoint, logins try the others and wait"
    }
}
