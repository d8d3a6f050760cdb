//! Three questions that an orchestrator asks, and no two of them are one: whether it has started, whether it serves, and
//! whether it lives. An orchestrator that takes an endpoint away ends what still works there, so a rotation that open
//! sessions survive is no reason for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::{Active, Facts};
use crate::credentials::Page;

/// An event loop that takes longer to run nothing does not answer clients either.
const ALIVE_WITHIN: Duration = Duration::from_secs(2);

/// What was once so.
#[derive(Default)]
pub struct Readiness {
    started: AtomicBool,
    ready: AtomicBool,
}

/// Why not; nothing: all is well.
pub type Reasons = Vec<String>;

pub struct Ready {
    pub reasons: Reasons,
    /// What would be reasons, if there were not sessions that work, or clients with time to wait.
    pub warnings: Vec<String>,
}

pub async fn alive(facts: &Facts) -> Reasons {
    match timeout(ALIVE_WITHIN, facts.sessions.spawn(async {})).await {
        Ok(Ok(())) => Vec::new(),
        _ => vec![format!("the event loop did not answer within {ALIVE_WITHIN:?}")],
    }
}

/// The first credential of every secret is in hand, or was once: a secret that a changed configuration adds begins
/// nothing anew.
pub fn started(facts: &Facts) -> Reasons {
    let Readiness { started, ready } = &facts.readiness;
    if started.load(Ordering::Relaxed) || ready.load(Ordering::Relaxed) {
        return Vec::new();
    }
    let active = facts.active.borrow();
    let empty = (active.keepers.iter()).filter(|(_, keeper)| keeper.page.borrow().entries().is_empty());
    let reasons: Reasons = empty
        .map(|(name, _)| format!("secret.{name}: nothing could be read yet"))
        .collect();
    if reasons.is_empty() {
        started.store(true, Ordering::Relaxed);
    }
    reasons
}

/// Clients are welcome, and some credential of every secret works. What was ready once stays ready while sessions are
/// open, which go on without a new login, and until `patience` has run out for those that wait for one. The listeners
/// are bound before this server is.
pub fn ready(facts: &Facts) -> Ready {
    let mut ready = Ready {
        reasons: Vec::new(),
        warnings: Vec::new(),
    };
    let active = facts.active.borrow().clone();
    let unproven = unproven(&active, tokio::time::Instant::now().into_std());
    let is_within_patience = unproven.iter().all(|unproven| unproven.is_within_patience);
    let complaints = unproven.into_iter().map(|unproven| unproven.words).collect();
    let was_ready = facts.readiness.ready.load(Ordering::Relaxed);
    if was_ready && (is_within_patience || facts.roster.has_sessions()) {
        ready.warnings = complaints;
    } else {
        ready.reasons = complaints;
    }
    if *facts.stopping.borrow() {
        ready.reasons.push("stopping".to_owned());
    }
    if ready.reasons.is_empty() {
        facts.readiness.ready.store(true, Ordering::Relaxed);
    }
    ready
}

struct Unproven {
    words: String,
    is_within_patience: bool,
}

fn unproven(active: &Active, now: Instant) -> Vec<Unproven> {
    let patience = active.config.login.patience;
    let of = |name: &crate::names::SecretName, page: &Page| {
        let is_over = |since: Instant| now.saturating_duration_since(since) >= patience;
        (!page.has_proof()).then(|| Unproven {
            words: format!("secret.{name}: no credential is known to work"),
            // One that has not been read at all yet is news.
            is_within_patience: !page.unproven_since().is_some_and(is_over),
        })
    };
    let keepers = active.keepers.iter();
    keepers
        .filter_map(|(name, keeper)| of(name, &keeper.page.borrow()))
        .collect()
}
