//! What a keeper holds, in the form in which it is shown. It decides nothing, and shows nothing secret.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::ages::Ages;
use crate::credentials::{Credential, Entry, Page, Position, Refusal, Verdict};
use crate::names::{Endpoint, SecretName};
use crate::stores::{Calls, Operation, StoreError, Warning};

/// What a keeper holds, for people. Nothing secret.
#[derive(Clone, Debug)]
pub struct Status {
    pub secret: SecretName,
    pub generation: u64,
    /// Whether some credential is known to work.
    pub proven: bool,
    /// In the order of tries, then those that only old links may still use.
    pub credentials: Vec<CredentialStatus>,
    pub reads: Reads,
    /// Since the last good read.
    pub last_success: Option<Duration>,
    /// Since the last failed read.
    pub last_failure: Option<Duration>,
    /// Since the last good read began: what changed in the store after that is not known here.
    pub as_of_ago: Option<Duration>,
    /// When that was, by the clock as it is set now.
    pub as_of_time: Option<SystemTime>,
    pub calls: Vec<(Operation, u64)>,
}

#[derive(Clone, Debug)]
pub struct CredentialStatus {
    pub user: Arc<str>,
    pub version: Arc<str>,
    pub position: Position,
    pub standing: Standing,
    /// Whether the store still lists it.
    pub listed: bool,
    /// Since the store says that it was made, else since it was first seen.
    pub age: Duration,
    pub lease_left: Option<Duration>,
    pub endpoints: Vec<EndpointStatus>,
    login: Credential,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Leading,
    /// It may be tried, and links may stay on it.
    Waiting,
    Retired {
        ago: Duration,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointStatus {
    pub endpoint: Endpoint,
    pub proven: bool,
    pub refused: Option<Refusal>,
    pub blocked_for: Option<Duration>,
}

/// How reading went.
#[derive(Clone, Debug, Default)]
pub struct Reads {
    pub succeeded: u64,
    pub failed: u64,
    /// Until a read succeeds.
    pub error: Option<StoreError>,
    pub warning: Option<Warning>,
    last_success: Option<Instant>,
    last_failure: Option<Instant>,
    /// When the last good read began.
    as_of: Option<Moment>,
}

/// By both clocks: the steady one stands still while the machine sleeps, the other one is set by whoever likes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    steady: Instant,
    clock: SystemTime,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self {
            steady: super::now(),
            clock: SystemTime::now(),
        }
    }

    /// How long ago it was, by the clock that says longer: whoever asks as of when something is known is never told a
    /// time that is too late.
    fn ago(self, now: Self) -> Duration {
        let steady = now.steady.saturating_duration_since(self.steady);
        let by_clock = now.clock.duration_since(self.clock).unwrap_or_default();
        steady.max(by_clock)
    }
}

impl Reads {
    pub(super) fn succeeded(&mut self, began: Moment, now: Instant) {
        self.as_of = Some(began);
        self.succeeded += 1;
        self.error = None;
        self.last_success = Some(now);
    }

    pub(super) fn failed(&mut self, error: StoreError, now: Instant) {
        self.failed += 1;
        self.error = Some(error);
        self.last_failure = Some(now);
    }
}

impl Status {
    pub(super) fn new(secret: &SecretName, page: &Page, reads: Reads, calls: &Calls, moment: Moment) -> Self {
        let now = moment.steady;
        let as_of_ago = reads.as_of.map(|as_of| as_of.ago(moment));
        let ago = |then: Option<Instant>| then.map(|then| now.saturating_duration_since(then));
        Self {
            secret: secret.clone(),
            generation: page.generation,
            proven: page.has_proof(),
            credentials: page
                .known()
                .map(|entry| CredentialStatus::new(entry, page, now))
                .collect(),
            last_success: ago(reads.last_success),
            last_failure: ago(reads.last_failure),
            as_of_ago,
            as_of_time: as_of_ago.map(|ago| moment.clock - ago),
            reads,
            calls: calls.made().collect(),
        }
    }

    /// When the last good read began.
    pub fn as_of(&self) -> Option<Instant> {
        self.reads.as_of.map(|as_of| as_of.steady)
    }

    /// When the last failed read was over.
    pub fn failed_at(&self) -> Option<Instant> {
        self.reads.last_failure
    }

    pub(super) fn aged(mut self, ages: &Ages) -> Self {
        for credential in &mut self.credentials {
            if let Some(age) = ages.made_ago(&credential.version) {
                credential.age = age;
            }
        }
        self
    }
}

impl CredentialStatus {
    pub fn is_of(&self, credential: &Credential) -> bool {
        self.login.is_same_login(credential)
    }

    fn new(entry: &Entry, page: &Page, now: Instant) -> Self {
        let credential = &entry.credential;
        let leads = page
            .leader()
            .is_some_and(|leader| leader.is_same_login(credential));
        let standing = match entry.retired {
            Some(since) => Standing::Retired {
                ago: now.saturating_duration_since(since),
            },
            None if leads => Standing::Leading,
            None => Standing::Waiting,
        };
        Self {
            login: credential.clone(),
            user: credential.user.clone(),
            version: credential.version.clone(),
            position: credential.position,
            standing,
            listed: entry.listed,
            age: now.saturating_duration_since(entry.first_seen),
            lease_left: entry.lease_ends.map(|end| end.saturating_duration_since(now)),
            endpoints: entry
                .verdicts()
                .map(|(endpoint, verdict)| EndpointStatus::new(endpoint, verdict, now))
                .collect(),
        }
    }
}

impl EndpointStatus {
    fn new(endpoint: &Endpoint, verdict: &Verdict, now: Instant) -> Self {
        let (proven, refused, blocked_for) = match verdict {
            Verdict::Proven { .. } => (true, None, None),
            Verdict::Untested => (false, None, None),
            Verdict::Refused { refusal, until, .. } => {
                (false, Some(*refusal), until.checked_duration_since(now))
            }
        };
        Self {
            endpoint: endpoint.clone(),
            proven,
            refused,
            blocked_for,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn no_clock_that_sleeps_or_is_set_makes_a_read_later_than_it_was() {
        let read = Moment::now();
        let later = |steady: Duration, clock: SystemTime| {
            let now = Moment {
                steady: read.steady + steady,
                clock,
            };
            now.clock - read.ago(now)
        };
        assert_eq!(later(MINUTE, read.clock + MINUTE), read.clock);
        // The machine slept for an hour, in which the store may have changed.
        assert_eq!(later(MINUTE, read.clock + 61 * MINUTE), read.clock);
        // The clock was ahead by an hour when the store was read, and what it says now is right.
        let set_back = read.clock - 59 * MINUTE;
        assert_eq!(later(MINUTE, set_back), set_back - MINUTE);
    }
}
