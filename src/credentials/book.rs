//! Decides which credential of a secret leads and which ones are tried, from what the store held and what Postgres said.
//! It knows neither stores nor sockets, and is told the time.

mod proofs;
mod settle;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::proofs::Unfinished;
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
    /// When the store takes these users away, and with them their sessions.
    pub lease_ends: Option<Instant>,
    /// When these passwords stop opening new sessions.
    pub logins_end: Option<Instant>,
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

    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Takes in a good reading. An empty one is not a reading of credentials and changes nothing.
    pub fn offer(&mut self, offer: Offer, now: Instant) {
        let Offer {
            mut credentials,
            lease_ends,
            logins_end,
        } = offer;
        credentials.sort_by_key(|credential| credential.position);
        credentials.truncate(LISTED_MAX);
        if !credentials.is_empty() {
            for entry in &mut self.entries {
                entry.listed = false;
            }
        }
        for credential in credentials {
            if let Some(index) = self.list(credential, now) {
                self.entries[index].lease_ends = lease_ends;
                self.entries[index].logins_end = logins_end;
            }
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
        self.end_held_retries(endpoint);
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

    /// For refusals to come.
    pub fn set_refused_retry(&mut self, refused_retry: Duration) {
        self.refused_retry = refused_retry;
    }

    /// The configuration has changed which endpoints use the secret.
    pub fn set_endpoints(&mut self, endpoints: Vec<Endpoint>, now: Instant) {
        for entry in &mut self.entries {
            entry.verdicts.retain(|(judge, _)| endpoints.contains(judge));
        }
        self.endpoints = endpoints;
        self.settle(self.page.reads, now);
    }

    /// None: the same login at a second position; the first one counts.
    fn list(&mut self, credential: Credential, now: Instant) -> Option<usize> {
        let Some(index) = self.index_of(&credential) else {
            self.events.push(Event::Seen(credential.clone()));
            self.entries.push(Entry {
                credential,
                listed: true,
                first_seen: now,
                seen: now,
                lease_ends: None,
                logins_end: None,
                retired: None,
                worked: false,
                promoted: false,
                verdicts: Vec::new(),
            });
            return Some(self.entries.len() - 1);
        };
        let entry = &mut self.entries[index];
        if entry.listed {
            return None;
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
        Some(index)
    }

    /// Something works there now: the others are back to `refused_retry`.
    fn end_held_retries(&mut self, endpoint: &Endpoint) {
        let verdicts = self.entries.iter_mut().flat_map(|entry| &mut entry.verdicts);
        for (_, verdict) in verdicts.filter(|(judge, _)| judge == endpoint) {
            if let Verdict::Refused { at, until, .. } = verdict {
                *until = (*until).max(*at + self.refused_retry);
            }
        }
    }

    fn void_verdicts(&mut self, endpoint: &Endpoint, proven_until: Instant) {
        for entry in &mut self.entries {
            entry.verdicts.retain(|(judge, verdict)| {
                let stands = matches!(verdict, Verdict::Proven { since } if *since > proven_until);
                judge != endpoint || stands
            });
        }
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

fn held_retry(times: u32) -> Duration {
    let doublings = times.saturating_sub(1).min(8);
    (HELD_RETRY_FIRST * 2_u32.pow(doublings)).min(HELD_RETRY_CAP)
}

#[cfg(test)]
mod tests;
