use std::sync::Arc;
use std::time::{Duration, Instant};

use super::page::Leader;
use super::{Credential, Entry, Page, Position, Refusal, Verdict};
use crate::names::Endpoint;

/// Credentials of one reading that are looked at.
pub const LISTED_MAX: usize = 16;
/// Credentials remembered, listed ones included.
pub const KNOWN_MAX: usize = 32;
/// While nothing works on an endpoint a refused credential is tried again after this, then after twice as
/// long, and so on to the cap. `refused_retry` is for endpoints where something else works.
const HELD_RETRY_FIRST: Duration = Duration::from_secs(1);
const HELD_RETRY_CAP: Duration = Duration::from_secs(15);

/// The truth about one secret's credentials: what is known, proven, refused, and until when.
///
/// Invariants:
/// * What is known is known of a login (user, password), not of a version or a position. A new label changes
///   nothing, except that a login which the store promotes to current earns one new try.
/// * Nothing leads before Postgres took it: on every endpoint, if something else leads and works. An
///   endpoint that can't be asked (`untested`) has no vote, but at least one must have said yes.
/// * The leader is replaced by a proven credential or not at all. No reading, refusal or passage of time
///   removes it, and no reading removes what is proven somewhere.
/// * The refusal of a login that worked says that the endpoint has changed: refusals and older proofs that it
///   gave to the others are void.
/// * What was replaced is retired. The last of them stays the last thing to try until its password is refused.
#[derive(Debug)]
pub struct Book {
    refused_retry: Duration,
    endpoints: Vec<Endpoint>,
    entries: Vec<Entry>,
    leader: Option<Leader>,
    fallback: Option<Credential>,
    page: Arc<Page>,
    events: Vec<Event>,
}

/// What one good reading of the store held.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    pub credentials: Vec<Credential>,
    /// When the store takes these credentials back.
    pub lease_ends: Option<Instant>,
}

/// What happened to a credential, for the audit trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Seen(Credential),
    Proven(Credential, Endpoint),
    Refused(Credential, Endpoint, Refusal),
    Leading {
        credential: Credential,
        before: Option<Credential>,
    },
    Retired(Credential),
}

impl Book {
    /// `endpoints` are all that use the secret: those that must accept a credential before it leads.
    pub fn new(endpoints: Vec<Endpoint>, refused_retry: Duration) -> Self {
        Self {
            refused_retry,
            endpoints,
            entries: Vec::new(),
            leader: None,
            fallback: None,
            page: Arc::default(),
            events: Vec::new(),
        }
    }

    pub fn page(&self) -> &Arc<Page> {
        &self.page
    }

    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Takes in a good reading. An empty one is not a reading of credentials and changes nothing.
    pub fn offer(&mut self, offer: Offer, now: Instant) {
        let mut listed = offer.credentials;
        listed.sort_by_key(|credential| credential.position);
        listed.truncate(LISTED_MAX);
        if !listed.is_empty() {
            for entry in &mut self.entries {
                entry.listed = false;
            }
        }
        for credential in listed {
            self.list(credential, offer.lease_ends, now);
        }
        self.settle(self.page.reads + 1, now);
    }

    /// A read that brought nothing: it counts as a read, and that is all.
    pub fn read_failed(&mut self, now: Instant) {
        self.settle(self.page.reads + 1, now);
    }

    /// Postgres took the login.
    pub fn confirm(&mut self, credential: &Credential, endpoint: &Endpoint, now: Instant) {
        let Some(index) = self.index_of(credential) else {
            return;
        };
        let entry = &mut self.entries[index];
        if entry.proven_since(endpoint).is_some() {
            return;
        }
        entry.worked = true;
        set(entry, endpoint, Verdict::Proven { since: now });
        self.events
            .push(Event::Proven(entry.credential.clone(), endpoint.clone()));
        self.settle(self.page.reads, now);
    }

    /// Postgres refused the login. Late answers to logins sent before the first refusal count once.
    pub fn refuse(&mut self, credential: &Credential, endpoint: &Endpoint, refusal: Refusal, now: Instant) {
        let Some(index) = self.index_of(credential) else {
            return;
        };
        let times = match self.entries[index].verdict(endpoint) {
            Some(Verdict::Refused { until, .. }) if now < *until => return,
            Some(Verdict::Refused { times, .. }) => times.saturating_add(1),
            _ => 1,
        };
        if let Some(since) = self.entries[index].proven_since(endpoint) {
            self.void_verdicts(endpoint, since);
        }
        let others_work = (self.entries.iter().enumerate())
            .any(|(other, entry)| other != index && entry.proven_since(endpoint).is_some());
        let block = if others_work {
            self.refused_retry
        } else {
            held_retry(times).min(self.refused_retry)
        };
        let entry = &mut self.entries[index];
        let until = now + block;
        set(
            entry,
            endpoint,
            Verdict::Refused {
                refusal,
                at: now,
                until,
                times,
            },
        );
        let credential = entry.credential.clone();
        if refusal == Refusal::BadPassword {
            self.fallback
                .take_if(|fallback| fallback.is_same_login(&credential));
        }
        self.events
            .push(Event::Refused(credential, endpoint.clone(), refusal));
        self.settle(self.page.reads, now);
    }

    /// A proof got no answer about the credential. It takes the endpoint's vote away, but no verdict.
    pub fn untested(&mut self, credential: &Credential, endpoint: &Endpoint, now: Instant) {
        let Some(index) = self.index_of(credential) else {
            return;
        };
        let entry = &mut self.entries[index];
        if entry.verdict(endpoint).is_none() {
            set(entry, endpoint, Verdict::Untested);
            self.settle(self.page.reads, now);
        }
    }

    /// The configuration has changed which endpoints use the secret.
    pub fn set_endpoints(&mut self, endpoints: Vec<Endpoint>, now: Instant) {
        for entry in &mut self.entries {
            entry.verdicts.retain(|(judge, _)| endpoints.contains(judge));
        }
        self.endpoints = endpoints;
        self.settle(self.page.reads, now);
    }

    /// What is worth a login to find out, per endpoint in the order to try: anything where nothing works;
    /// elsewhere only what the store puts first, and what works on another endpoint. A next or previous
    /// credential is never tried for curiosity: it may be dead, and a refusal may be counted against us.
    pub fn unproven(&self, now: Instant) -> Vec<(Credential, Endpoint)> {
        let mut unproven = Vec::new();
        let first = self.entries.iter().filter(|entry| entry.listed).map(rank).min();
        for endpoint in &self.endpoints {
            let works = self
                .entries
                .iter()
                .any(|entry| entry.proven_since(endpoint).is_some());
            for candidate in self
                .page
                .tries(endpoint, now)
                .filter(|candidate| candidate.doubtful)
            {
                let worth_it = |entry: &Entry| {
                    entry.proven_since(endpoint).is_none()
                        && (!works
                            || (entry.listed && (Some(rank(entry)) == first || entry.is_proven_somewhere())))
                };
                if self.entry(&candidate.credential).is_some_and(worth_it) {
                    unproven.push((candidate.credential, endpoint.clone()));
                }
            }
        }
        unproven
    }

    fn list(&mut self, credential: Credential, lease_ends: Option<Instant>, now: Instant) {
        let Some(index) = self.index_of(&credential) else {
            self.events.push(Event::Seen(credential.clone()));
            self.entries.push(Entry {
                credential,
                listed: true,
                first_seen: now,
                seen: now,
                lease_ends,
                retired: None,
                worked: false,
                promoted: false,
                verdicts: Vec::new(),
            });
            return;
        };
        let entry = &mut self.entries[index];
        if entry.listed {
            // The same login at a second position: the first one counts.
            return;
        }
        let is_promotion = credential.position == Position::Current
            && entry.credential.position != Position::Current
            && !entry.promoted;
        if is_promotion {
            entry.promoted = true;
            entry
                .verdicts
                .retain(|(_, verdict)| !matches!(verdict, Verdict::Refused { .. }));
        }
        entry.credential = credential;
        entry.listed = true;
        entry.seen = now;
        entry.lease_ends = lease_ends;
    }

    fn void_verdicts(&mut self, endpoint: &Endpoint, proven_until: Instant) {
        for entry in &mut self.entries {
            entry.verdicts.retain(|(judge, verdict)| {
                let stands = matches!(verdict, Verdict::Proven { since } if *since > proven_until);
                judge != endpoint || stands
            });
        }
    }

    /// Draws the consequences of a change and publishes them.
    fn settle(&mut self, reads: u64, now: Instant) {
        self.elect(now);
        self.lapse();
        self.retire(now);
        self.forget();
        self.publish(reads);
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

    fn publish(&mut self, reads: u64) {
        let is_tried = |entry: &&Entry| {
            entry.listed || self.leads(entry) || self.falls_back_on(entry) || entry.is_proven_somewhere()
        };
        let (mut entries, remembered): (Vec<_>, Vec<_>) = self.entries.iter().partition(is_tried);
        entries.sort_by_key(|entry| (!self.leads(entry), rank(entry), std::cmp::Reverse(entry.seen)));
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
            entries: entries.into_iter().cloned().collect(),
            remembered: remembered.into_iter().cloned().collect(),
            leader,
        };
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

    fn leads(&self, entry: &Entry) -> bool {
        (self.leader.as_ref()).is_some_and(|leader| leader.credential.is_same_login(&entry.credential))
    }

    fn falls_back_on(&self, entry: &Entry) -> bool {
        (self.fallback.as_ref()).is_some_and(|fallback| fallback.is_same_login(&entry.credential))
    }

    fn leader_index(&self) -> Option<usize> {
        self.index_of(&self.leader.as_ref()?.credential)
    }

    fn index_of(&self, credential: &Credential) -> Option<usize> {
        (self.entries.iter()).position(|entry| entry.credential.is_same_login(credential))
    }

    fn entry(&self, credential: &Credential) -> Option<&Entry> {
        Some(&self.entries[self.index_of(credential)?])
    }
}

/// What the store lists, in its order, before what it does not.
fn rank(entry: &Entry) -> (bool, Position) {
    if entry.listed {
        (false, entry.credential.position)
    } else {
        (true, Position::Current)
    }
}

fn set(entry: &mut Entry, endpoint: &Endpoint, verdict: Verdict) {
    entry.verdicts.retain(|(judge, _)| judge != endpoint);
    entry.verdicts.push((endpoint.clone(), verdict));
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

fn held_retry(times: u32) -> Duration {
    let doublings = times.saturating_sub(1).min(8);
    (HELD_RETRY_FIRST * 2_u32.pow(doublings)).min(HELD_RETRY_CAP)
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
