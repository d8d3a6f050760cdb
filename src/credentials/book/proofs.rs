//! What is worth a login to find out.

use std::time::Instant;

use super::{Book, rank};
use crate::credentials::{Credential, Entry, Position, Verdict};
use crate::names::Endpoint;

/// Why somebody should come back later to prove a credential, the most urgent reason first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unfinished {
    /// An endpoint has not answered yet.
    Unanswered,
    /// An endpoint refuses everything.
    NothingWorks,
    /// What the store puts first is refused where something else works.
    FirstRefused,
}

impl Book {
    /// Per endpoint in the order to try: anything where nothing works; elsewhere only what the store puts
    /// first, and what works on another endpoint. A next or previous credential is never tried for
    /// curiosity: it may be dead, and a refusal may be counted against us. Where the last good one has just
    /// been refused, nothing is tried before the store was read again.
    pub fn unproven(&self, now: Instant) -> Vec<(Credential, Endpoint)> {
        let mut unproven = Vec::new();
        let first = self.first();
        for endpoint in self
            .endpoints
            .iter()
            .filter(|endpoint| !self.page.is_behind(endpoint))
        {
            let works = self.works_at(endpoint);
            let is_worth_it = |entry: &Entry| {
                let is_candidate = Some(rank(entry)) == first || entry.is_proven_somewhere();
                entry.proven_since(endpoint).is_none() && (!works || (entry.listed && is_candidate))
            };
            for candidate in self.page.tries(endpoint, now) {
                if self.entry(&candidate.credential).is_some_and(is_worth_it) {
                    unproven.push((candidate.credential, endpoint.clone()));
                }
            }
        }
        unproven
    }

    pub fn unfinished(&self) -> Option<Unfinished> {
        let first = self.first()?;
        let first = self.entries.iter().find(|entry| rank(entry) == first)?;
        let at = |endpoint: &Endpoint| {
            let is_refused = |entry: &Entry| matches!(entry.verdict(endpoint), Some(Verdict::Refused { .. }));
            match (self.works_at(endpoint), first.verdict(endpoint)) {
                (true, Some(Verdict::Proven { .. })) => None,
                (true, Some(Verdict::Refused { .. })) => Some(Unfinished::FirstRefused),
                (false, _) if self.entries.iter().any(is_refused) => Some(Unfinished::NothingWorks),
                _ => Some(Unfinished::Unanswered),
            }
        };
        self.endpoints.iter().filter_map(at).min()
    }

    fn works_at(&self, endpoint: &Endpoint) -> bool {
        (self.entries.iter()).any(|entry| entry.proven_since(endpoint).is_some())
    }

    /// The best place in the store's order that is taken.
    fn first(&self) -> Option<(bool, Position)> {
        (self.entries.iter()).filter(|entry| entry.listed).map(rank).min()
    }
}
