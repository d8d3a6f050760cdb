//! A session leaves its link, or is kept there.

use tokio::time::Instant;
use tracing::debug;

use super::departure::{Haste, User};
use super::ending::Over;
use super::run::Session;
use crate::access;
use crate::access::leave::Departure;
use crate::access::roster::Pinned;
use crate::credentials::Change;
use crate::metrics::{Limit, Move};
use crate::postgres::state::ledger::Pin;
use crate::postgres::state::notes::Notes;

impl Session {
    /// Tries to move, and plans what comes next.
    pub async fn leave(&mut self, haste: Haste) -> Result<(), Over> {
        if haste == Haste::Flight {
            // They are gone with the user.
            self.relay.notes_mut().into_iter().for_each(Notes::lose_sequences);
        }
        let moved = self.move_on().await?;
        let now = Instant::now().into_std();
        if haste == Haste::Planned {
            self.plan.hear(self.relay.turns(), now);
        }
        if !moved {
            self.plan.put_off(haste, self.way.policy.grace, now);
        }
        Ok(())
    }

    /// A survey that is not urgent. It may find that nothing keeps the session any more.
    pub async fn survey_at_rest(&mut self) -> Result<(), Over> {
        let was_pinned = self.pinned.is_some();
        self.survey().await?;
        if was_pinned && self.pins().next().is_none() {
            self.plan.unpinned(Instant::now().into_std());
        }
        Ok(())
    }

    /// By the page there is now.
    pub fn replan(&mut self) {
        let now = Instant::now().into_std();
        self.follow();
        let page = self.page.borrow_and_update().clone();
        let credential = self.held.registration.credential();
        let departure = self.way.policy.departure(&page, credential, self.chance, now);
        let user = match page.retirement(credential) {
            Some(retirement) if retirement.change == Change::User => User::Replaced,
            _ => User::Same,
        };
        match departure {
            Departure::Leave(leave) if self.relay.notes().is_none() => {
                self.plan.heed_in_vain(leave, user);
                self.pin(vec![Pin::Replication]);
            }
            departure => self.plan.heed(departure, user, self.relay.turns(), now),
        }
        if departure == Departure::Stay {
            self.unpin();
        }
    }

    /// A configuration that changed meanwhile may map the role to the same database and secret in another way.
    pub fn follow(&mut self) {
        if let Some(way) = self.service.shared.successor(&self.way) {
            self.page = way.access.page.clone();
            self.way = way;
        }
    }

    /// What keeps the session on its link, as far as it is known.
    pub fn pins(&self) -> impl Iterator<Item = Pin> {
        let surveyed = self.held.ledger.iter().flat_map(|ledger| ledger.pins());
        let notes = self.relay.notes();
        let noted = notes.into_iter().flat_map(Notes::pins);
        let is_known = notes.is_some_and(Notes::is_all_there_is);
        let refused = (self.plan.was_refused() && !is_known).then_some(Pin::SurveyRefused);
        surveyed.chain(noted).chain(refused)
    }

    pub fn pin(&mut self, mut reasons: Vec<Pin>) {
        reasons.sort_unstable();
        reasons.dedup();
        let before = self.pinned.as_ref();
        let labels: Vec<_> = reasons.iter().copied().map(access::pin::Pin::from).collect();
        if before.is_some_and(|pinned| pinned.reasons == labels) {
            return;
        }
        let until = self.plan.cut_at().map(Instant::from_std);
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
        self.pinned = Some(pinned);
    }

    pub fn unpin(&mut self) {
        if self.pinned.take().is_some() {
            self.held.registration.pin(None);
        }
    }
}
