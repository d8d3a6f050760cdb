//! The consequences of a change: who leads, what is retired or forgotten, and the next page.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Instant;

use super::{Book, Event, KNOWN_MAX, rank};
use crate::credentials::page::Leader;
use crate::credentials::{Credential, Entry, Page, Position, Refusal, Verdict};
use crate::names::Endpoint;

impl Book {
    /// Draws the consequences of a change and publishes them.
    pub(super) fn settle(&mut self, reads: u64, now: Instant) {
        self.elect(now);
        self.lapse();
        self.retire(now);
        self.forget();
        self.publish(reads, now);
    }

    fn elect(&mut self, now: Instant) {
        let leader = self.leader_index();
        let stands = leader.filter(|&index| self.entries[index].is_proven_somewhere());
        let full = self.best(|entry| self.is_fully_proven(entry));
        let elected = match (stands, full) {
            (Some(leader), Some(full)) => {
                let outranks = rank(&self.entries[full]) < rank(&self.entries[leader]);
                let is_better = outranks || !self.is_fully_proven(&self.entries[leader]);
                (is_better && self.entries[full].listed).then_some(full)
            }
            (Some(_), None) => None,
            (None, full) => full.or_else(|| self.best(Entry::is_proven_somewhere)),
        };
        let Some(elected) = elected.filter(|&index| Some(index) != leader) else {
            return;
        };
        let credential = self.entries[elected].credential.clone();
        let before = self.leader.take().map(|leader| leader.credential);
        self.fallback.clone_from(&before);
        self.leader = Some(Leader {
            credential: credential.clone(),
            since: now,
        });
        self.events.push(Event::Leading { credential, before });
    }

    /// One last good credential per endpoint: a proof older than the leader's is history.
    fn lapse(&mut self) {
        let Some(leader) = self.leader_index() else {
            return;
        };
        let proofs: Vec<_> = (self.endpoints.iter())
            .filter_map(|endpoint| Some((endpoint.clone(), self.entries[leader].proven_since(endpoint)?)))
            .collect();
        let is_history = |judge: &Endpoint, verdict: &Verdict| {
            let Verdict::Proven { since } = verdict else {
                return false;
            };
            (proofs.iter()).any(|(endpoint, proof)| endpoint == judge && since < proof)
        };
        for (index, entry) in self.entries.iter_mut().enumerate() {
            if index != leader {
                entry
                    .verdicts
                    .retain(|(judge, verdict)| !is_history(judge, verdict));
            }
        }
    }

    fn retire(&mut self, now: Instant) {
        let Some(leader) = self.leader_index() else {
            return;
        };
        let retires: Vec<bool> = (self.entries.iter().enumerate())
            .map(|(index, entry)| index != leader && entry.worked && !self.serves(entry))
            .collect();
        for (entry, retires) in self.entries.iter_mut().zip(retires) {
            if retires && entry.retired.is_none() {
                self.events.push(Event::Retired(entry.credential.clone()));
            }
            entry.retired = retires.then(|| entry.retired.unwrap_or(now));
        }
    }

    /// Whether links may stay on a credential that does not lead: the store lists it as good for use and
    /// Postgres does not contradict, or it is the last good one where the leader is not proven.
    fn serves(&self, entry: &Entry) -> bool {
        let is_offered = entry.listed && entry.credential.position != Position::Previous;
        let leader = self.leader_index().map(|index| &self.entries[index]);
        let leads_at = |endpoint| leader.is_some_and(|leader| leader.proven_since(endpoint).is_some());
        (is_offered && !has_bad_password(entry))
            || (self.endpoints.iter())
                .any(|endpoint| !leads_at(endpoint) && entry.proven_since(endpoint).is_some())
    }

    fn forget(&mut self) {
        while self.entries.len() > KNOWN_MAX {
            let oldest = (self.entries.iter().enumerate())
                .filter(|(_, entry)| !entry.listed && !self.leads(entry) && !self.falls_back_on(entry))
                .min_by_key(|(_, entry)| (entry.is_proven_somewhere(), entry.worked, entry.seen))
                .map(|(index, _)| index);
            let Some(oldest) = oldest else {
                return;
            };
            self.entries.remove(oldest);
        }
    }

    fn publish(&mut self, reads: u64, now: Instant) {
        let is_tried = |entry: &&Entry| {
            entry.listed || self.leads(entry) || self.falls_back_on(entry) || entry.is_proven_somewhere()
        };
        let (mut entries, remembered): (Vec<_>, Vec<_>) = self.entries.iter().partition(is_tried);
        entries.sort_by_key(|entry| (!self.leads(entry), rank(entry), Reverse(entry.seen)));
        let leader = self
            .leader_index()
            .zip(self.leader.as_ref())
            .map(|(index, leader)| Leader {
                credential: self.entries[index].credential.clone(),
                since: leader.since,
            });
        let mut page = Page {
            generation: self.page.generation,
            reads,
            read_at: if reads > self.page.reads {
                Some(now)
            } else {
                self.page.read_at
            },
            entries: entries.into_iter().cloned().collect(),
            remembered: remembered.into_iter().cloned().collect(),
            leader,
            unproven_since: None,
        };
        if !page.has_proof() {
            page.unproven_since = self.page.unproven_since.or(Some(now));
        }
        if !is_same_order(&self.page, &page) {
            page.generation += 1;
        }
        self.page = Arc::new(page);
    }

    fn best(&self, holds: impl Fn(&Entry) -> bool) -> Option<usize> {
        (self.entries.iter().enumerate())
            .filter(|(_, entry)| holds(entry))
            .min_by_key(|(_, entry)| rank(entry))
            .map(|(index, _)| index)
    }

    fn is_fully_proven(&self, entry: &Entry) -> bool {
        entry.is_proven_somewhere()
            && (self.endpoints.iter()).all(|endpoint| {
                matches!(
                    entry.verdict(endpoint),
                    Some(Verdict::Proven { .. } | Verdict::Untested)
                )
            })
    }
}

fn has_bad_password(entry: &Entry) -> bool {
    entry.verdicts().any(|(_, verdict)| {
        matches!(
            verdict,
            Verdict::Refused {
                refusal: Refusal::BadPassword,
                ..
            }
        )
    })
}

fn is_same_order(before: &Page, after: &Page) -> bool {
    let is_same = |a: &Credential, b: &Credential| a.is_same_login(b);
    let same_leader = match (before.leader(), after.leader()) {
        (None, None) => true,
        (Some(before), Some(after)) => is_same(before, after),
        _ => false,
    };
    same_leader
        && before.entries.len() == after.entries.len()
        && (before.entries.iter().zip(&after.entries)).all(|(a, b)| is_same(&a.credential, &b.credential))
}
