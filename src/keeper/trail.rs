//! What people read: the audit trail, one line an event, and the lines that say what it means.

use std::time::SystemTime;

use tracing::{info, warn};

use crate::credentials::{Credential, Event, Page, Position, Refusal, Verdict};
use crate::journal::{Event as Audited, Journal};
use crate::names::{Endpoint, SecretName};

/// `before` and `after` are the pages around the change that the event belongs to.
pub(super) fn record(secret: &SecretName, event: &Event, before: &Page, after: &Page, journal: &Journal) {
    let audit = |event, credential: &Credential, endpoint: Option<&Endpoint>| {
        journal.record(event, secret, credential, endpoint, SystemTime::now());
    };
    match event {
        Event::Seen(credential) => {
            audit(Audited::Seen, credential, None);
            if before.leader().is_some() {
                let (version, position) = (&credential.version, credential.position);
                info!(%secret, %version, %position, "credential rotation detected");
            }
        }
        Event::Proven(credential, endpoint) => {
            audit(Audited::Proven, credential, Some(endpoint));
        }
        Event::Refused(credential, endpoint, refusal) => {
            audit(Audited::Refused, credential, Some(endpoint));
            if is_first_refusal(after, credential, endpoint) {
                let (version, position) = (&credential.version, credential.position);
                let sqlstate = refusal.sqlstate();
                let consequence = consequence(credential, endpoint, after);
                let besides = besides(*refusal);
                warn!(
                    %secret, %version, %position, %endpoint, sqlstate,
                    "a credential was refused: {consequence}{besides}"
                );
            }
        }
        Event::Leading { credential, before } => {
            audit(Audited::Leading, credential, None);
            announce(secret, credential, before.as_ref(), after);
        }
        Event::Retired(credential) => audit(Audited::Retired, credential, None),
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

/// What else than the password it may be.
fn besides(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::BadPassword => "",
        Refusal::NotAllowed => "; it may be pg_hba.conf, NOLOGIN or missing TLS: see pgswivel check",
    }
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
