//! What the book publishes, for everybody who logs in: the order of tries, and what is known of each credential.
//! It is only read. How it came about, the book alone knows.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use super::{Credential, Refusal};
use crate::names::Endpoint;

/// What was read so short a time ago is not worth waiting for another read.
const NEWS_FOR: Duration = Duration::from_secs(1);

/// What the book publishes: the order of credentials to try, and what is known of each per endpoint.
///
/// `generation` grows by one whenever the leader or the order of credentials changes, and never for
/// a verdict or a new label alone: two pages of one generation try the same logins in the same order on an
/// endpoint that nobody has judged yet.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub generation: u64,
    /// Reads of the store that were over, well or badly, when this page was written.
    pub reads: u64,
    /// When the last of them was over.
    pub(super) read_at: Option<Instant>,
    /// The leader first, then what the store lists, then what led before.
    pub(super) entries: Vec<Entry>,
    /// No more tries, but links may still be open with them.
    pub(super) remembered: Vec<Entry>,
    pub(super) leader: Option<Leader>,
    /// Since when nothing is known to work anywhere. None: something is, or nothing was ever read.
    pub(super) unproven_since: Option<Instant>,
}

#[derive(Clone, Debug)]
pub(super) struct Leader {
    pub(super) credential: Credential,
    pub(super) since: Instant,
}

/// One login and all that is known of it. Its identity is (user, password); version and position are
/// labels that the store may change.
#[derive(Clone, Debug)]
pub struct Entry {
    pub credential: Credential,
    /// Whether the last good reading held it.
    pub listed: bool,
    pub first_seen: Instant,
    /// When the last good reading that held it was made.
    pub seen: Instant,
    /// When the store takes the user away, and with it its sessions.
    pub lease_ends: Option<Instant>,
    /// When the password stops opening new sessions.
    pub logins_end: Option<Instant>,
    /// Since when links should leave it; None: it may be used.
    pub retired: Option<Instant>,
    /// Whether it has ever logged in: a link may be open with it.
    pub worked: bool,
    pub(super) promoted: bool,
    pub(super) verdicts: Vec<(Endpoint, Verdict)>,
}

/// What one endpoint has said about one credential. Nothing said is no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Proven {
        since: Instant,
    },
    Refused {
        refusal: Refusal,
        at: Instant,
        /// Not sent again before this.
        until: Instant,
        /// In a row.
        times: u32,
    },
    /// A proof was attempted and got no answer about the credential: the endpoint was down or full.
    Untested,
}

/// A credential to log in with, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    pub credential: Credential,
    /// Not proven on this endpoint.
    pub doubtful: bool,
}

/// What became of a credential that links may have been opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retirement {
    pub since: Instant,
    pub change: Change,
    /// When the store takes the user away.
    pub lease_ends: Option<Instant>,
}

/// How the credential that leads differs from a retired one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The same user has a new password; Postgres lets its sessions be.
    Password,
    User,
}

impl Entry {
    pub fn verdict(&self, endpoint: &Endpoint) -> Option<&Verdict> {
        self.verdicts
            .iter()
            .find(|(judge, _)| judge == endpoint)
            .map(|(_, verdict)| verdict)
    }

    pub fn verdicts(&self) -> impl Iterator<Item = (&Endpoint, &Verdict)> {
        self.verdicts
            .iter()
            .map(|(endpoint, verdict)| (endpoint, verdict))
    }

    pub fn proven_since(&self, endpoint: &Endpoint) -> Option<Instant> {
        match self.verdict(endpoint) {
            Some(Verdict::Proven { since }) => Some(*since),
            _ => None,
        }
    }

    pub fn is_proven_somewhere(&self) -> bool {
        self.verdicts
            .iter()
            .any(|(_, verdict)| matches!(verdict, Verdict::Proven { .. }))
    }

    pub fn blocked_until(&self, endpoint: &Endpoint) -> Option<Instant> {
        match self.verdict(endpoint) {
            Some(Verdict::Refused { until, .. }) => Some(*until),
            _ => None,
        }
    }

    fn refused_at(&self, endpoint: &Endpoint) -> Option<Instant> {
        match self.verdict(endpoint) {
            Some(Verdict::Refused { at, .. }) => Some(*at),
            _ => None,
        }
    }

    fn has_ended(&self, now: Instant) -> bool {
        [self.lease_ends, self.logins_end]
            .iter()
            .flatten()
            .any(|end| *end <= now)
    }
}

impl Page {
    /// The credential that new logins start with.
    pub fn leader(&self) -> Option<&Credential> {
        self.leader.as_ref().map(|leader| &leader.credential)
    }

    /// What the store puts first, whether it works or not.
    pub fn first_choice(&self) -> Option<&Credential> {
        (self.entries.iter())
            .filter(|entry| entry.listed)
            .map(|entry| &entry.credential)
            .min_by_key(|credential| credential.position)
    }

    /// The credentials that may be tried, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Every credential that a link may have been opened with, and every one that may be tried.
    pub fn known(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().chain(&self.remembered)
    }

    /// Whether some credential is known to work somewhere.
    pub fn has_proof(&self) -> bool {
        self.entries.iter().any(Entry::is_proven_somewhere)
    }

    /// Since when nothing is known to work. None: something is, or the store was not asked yet.
    pub fn unproven_since(&self) -> Option<Instant> {
        self.unproven_since
    }

    /// The order of tries on one endpoint: what is proven there, the leader before the others and then
    /// the latest proof first; then what is not judged there, in the page's order. A refused credential is
    /// left out until its time has come and then comes after those, the one that has waited longest
    /// first. One whose time is over comes last.
    pub fn tries(&self, endpoint: &Endpoint, now: Instant) -> impl Iterator<Item = Try> + use<> {
        let mut ranked: Vec<_> = self
            .entries
            .iter()
            .filter(|entry| entry.blocked_until(endpoint).is_none_or(|until| until <= now))
            .map(|entry| {
                let proven = entry.proven_since(endpoint).filter(|_| !entry.has_ended(now));
                let refused = entry.refused_at(endpoint);
                let rank = match proven {
                    Some(_) if self.leads(&entry.credential) => (0, None, None),
                    Some(since) => (1, Some(Reverse(since)), None),
                    None if entry.has_ended(now) => (3, None, refused),
                    None => (2, None, refused),
                };
                let credential = entry.credential.clone();
                (
                    rank,
                    Try {
                        credential,
                        doubtful: proven.is_none(),
                    },
                )
            })
            .collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, candidate)| candidate)
    }

    /// Whether something that worked was refused on this endpoint, and the store was not read since nor right
    /// before: it may know by now what to try instead.
    pub fn is_behind(&self, endpoint: &Endpoint) -> bool {
        self.known().any(|entry| {
            let refused_at = entry.refused_at(endpoint).filter(|_| entry.worked);
            refused_at.is_some_and(|at| self.read_at.is_none_or(|read_at| read_at + NEWS_FOR <= at))
        })
    }

    /// When the next refused credential may be tried on this endpoint.
    pub fn next_try(&self, endpoint: &Endpoint, now: Instant) -> Option<Instant> {
        self.entries
            .iter()
            .filter_map(|entry| entry.blocked_until(endpoint))
            .filter(|until| *until > now)
            .min()
    }

    /// Whether links opened with it may stay as far as the book is concerned.
    pub fn is_live(&self, credential: &Credential) -> bool {
        self.retirement(credential).is_none()
    }

    /// None while the credential is in use. One that was forgotten was retired before the leader led.
    pub fn retirement(&self, credential: &Credential) -> Option<Retirement> {
        let leader = self.leader.as_ref()?;
        let entry = self.entry(credential);
        let since = match entry {
            Some(entry) => entry.retired?,
            None => leader.since,
        };
        let change = if credential.user == leader.credential.user {
            Change::Password
        } else {
            Change::User
        };
        let lease_ends = entry.and_then(|entry| entry.lease_ends);
        Some(Retirement {
            since,
            change,
            lease_ends,
        })
    }

    /// When the store takes this user away. Sessions must have left it by then, whoever leads.
    pub fn lease_ends(&self, credential: &Credential) -> Option<Instant> {
        self.entry(credential)?.lease_ends
    }

    pub fn entry(&self, credential: &Credential) -> Option<&Entry> {
        self.known()
            .find(|entry| entry.credential.is_same_login(credential))
    }

    fn leads(&self, credential: &Credential) -> bool {
        self.leader()
            .is_some_and(|leader| leader.is_same_login(credential))
    }
}
