//! Whether and when a session leaves its link, and what keeps it there.

use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use super::ending::Over;
use super::run::{SETTLE, Session};
use crate::access;
use crate::access::leave::Departure;
use crate::access::roster::Pinned;
use crate::backoff::jittered;
use crate::credentials::Change;
use crate::metrics::{Limit, Move};
use crate::postgres::state::ledger::Pin;
use crate::postgres::state::notes::Notes;

/// How often a session that is pinned, or could not move, is looked at again.
const RECHECK_MIN: Duration = Duration::from_millis(500);
const RECHECK_MAX: Duration = Duration::from_secs(30);
const RECHECK_JITTER: f64 = 0.2;
/// Whoever inserts a row and wants to know its number asks within this.
const ASKED_WITHIN: Duration = Duration::from_secs(1);

impl Session {
    /// The server has refused something, and no wonder: the link's user is about to be taken away, or has been.
    pub async fn is_disowned(&mut self) -> Result<bool, Over> {
        if !self.plan.user_changed {
            return Ok(false);
        }
        // Who is to stay leaves only what is certain to be dead.
        Ok(self.plan.leave.is_some() || self.is_user_gone().await?)
    }

    /// The time has come: now, or at the next quiet moment.
    pub async fn leave(&mut self, now: Instant) -> Result<(), Over> {
        let rests = self.relay.turns() == self.plan.turns || self.plan.is_pressing();
        self.hear();
        if !(rests && self.relay.is_safe()) {
            if !self.plan.is_pressing() {
                self.plan.leave_at = Some(now + SETTLE);
            }
            return Ok(());
        }
        if self.has_to_ask_first() {
            self.plan.leave_at = Some(now + SETTLE);
            return Ok(());
        }
        let moved = self.move_on().await?;
        self.hear();
        if !moved && self.plan.leave.is_some() {
            let grace = self.way.policy.grace / 8;
            let wait = jittered(grace.clamp(RECHECK_MIN, RECHECK_MAX), RECHECK_JITTER);
            self.plan.leave_at = Some(Instant::now() + wait);
        }
        Ok(())
    }

    /// Whether the client would be told after a move that no sequence gave it anything, and is likely to ask.
    fn has_to_ask_first(&self) -> bool {
        !self.needs_not_ask() && self.relay.notes().is_some_and(Notes::may_ask_sequences)
    }

    /// Who says nothing for long will not ask any more, and when grace is over it does not matter.
    pub fn needs_not_ask(&self) -> bool {
        let is_silent =
            self.plan.turns == self.relay.turns() && Instant::now() >= self.plan.silent_since + ASKED_WITHIN;
        is_silent || self.is_late()
    }

    pub fn is_late(&self) -> bool {
        let now = Instant::now().into_std();
        self.plan.leave.is_some_and(|leave| now >= leave.deadline)
    }

    /// By the page there is now.
    pub fn replan(&mut self) {
        let now = Instant::now();
        self.follow();
        let page = self.plan.page.borrow_and_update().clone();
        let credential = self.held.registration.credential();
        let departure = (self.way.policy).departure(&page, credential, self.plan.chance, now.into_std());
        let retirement = page.retirement(credential);
        self.plan.user_changed = retirement.is_some_and(|retirement| retirement.change == Change::User);
        match departure {
            // It never rests. What is to be cut is, all the same.
            Departure::Leave(leave) if self.relay.notes().is_none() => {
                self.plan.leave = Some(leave);
                self.pin(vec![Pin::Replication]);
            }
            Departure::Leave(leave) => {
                // A page says many things; that it says this again is no reason to start anew.
                if self.plan.leave.is_none() {
                    self.plan.leave_at = Some(leave.start.into());
                    self.hear();
                }
                self.plan.leave = Some(leave);
            }
            Departure::Stay => {
                (self.plan.leave, self.plan.leave_at) = (None, None);
                self.unpin();
            }
        }
    }

    /// A configuration that changed meanwhile may map the role to the same database and secret in another way.
    pub fn follow(&mut self) {
        if let Some(way) = self.service.shared.successor(&self.way) {
            self.plan.page = way.access.page.clone();
            self.way = way;
        }
    }

    /// What keeps the session on its link, as far as it is known.
    pub fn pins(&self) -> impl Iterator<Item = Pin> {
        let surveyed = self.held.ledger.iter().flat_map(|ledger| ledger.pins());
        let notes = self.relay.notes();
        let noted = notes.into_iter().flat_map(Notes::pins);
        let is_known = notes.is_some_and(Notes::is_all_there_is);
        let refused = self
            .plan
            .refused
            .filter(|_| !is_known)
            .map(|_| Pin::SurveyRefused);
        surveyed.chain(noted).chain(refused)
    }

    pub fn pin(&mut self, mut reasons: Vec<Pin>) {
        reasons.sort_unstable();
        reasons.dedup();
        let before = self.plan.pinned.as_ref();
        let labels: Vec<_> = reasons.iter().copied().map(access::pin::Pin::from).collect();
        if before.is_some_and(|pinned| pinned.reasons == labels) {
            return;
        }
        let until = self.plan.leave.and_then(|leave| leave.cut).map(Instant::from_std);
        debug!(
            session = self.id,
            ?reasons,
            "the session can't leave its link now"
        );
        if before.is_none() {
            self.count_move(Move::Pinned, Instant::now());
        }
        if reasons.contains(&Pin::TooLarge) {
            self.service.shared.metrics.hit(Limit::StatementBytes);
        }
        let pinned = Pinned {
            since: before.map_or_else(Instant::now, |pinned| pinned.since),
            reasons: labels,
            until,
        };
        self.held.registration.pin(Some(pinned.clone()));
        self.plan.pinned = Some(pinned);
    }

    pub fn unpin(&mut self) {
        if self.plan.pinned.take().is_some() {
            self.held.registration.pin(None);
        }
    }
}
