//! The last minutes, a sample a second, for the page.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Facts;
use crate::lock::lock;
use crate::metrics::{Metrics, Move, Rescue};
use crate::names::SecretName;

pub const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// What the page shows.
pub const WINDOW: Duration = Duration::from_secs(300);
const SAMPLES_MAX: usize = 301;

#[derive(Default)]
pub struct History(Mutex<KeptSamples>);

#[derive(Default)]
struct KeptSamples {
    samples: VecDeque<Arc<Sample>>,
    /// Credentials in the order of their appearance, so that each keeps its colour.
    shades: BTreeMap<SecretName, Vec<Arc<str>>>,
}

#[derive(Clone, Debug)]
pub struct Sample {
    pub at: Instant,
    pub held: u64,
    pub secrets: BTreeMap<SecretName, SecretSample>,
}

#[derive(Clone, Debug, Default)]
pub struct SecretSample {
    /// By credential, in the order of appearance. Empty ones are left out.
    pub sessions: Vec<Share>,
    /// Since the process began.
    pub moves: u64,
    pub rescues: u64,
    pub lost: u64,
}

#[derive(Clone, Debug)]
pub struct Share {
    pub version: Arc<str>,
    /// Counts credentials of the secret from 0.
    pub shade: usize,
    pub sessions: u64,
}

impl History {
    pub fn take_sample(&self, facts: &Facts, now: Instant) {
        let active = facts.active.borrow().clone();
        let metrics = &facts.records.metrics;
        let mut kept = lock(&self.0);
        let secrets = active
            .keepers
            .iter()
            .map(|(name, keeper)| {
                let known = kept.shades.entry(name.clone()).or_default();
                let page = keeper.page.borrow().clone();
                let mut sessions: Vec<Share> = facts
                    .roster
                    .aboard(name)
                    .iter()
                    .map(|aboard| {
                        // A version may get another label in the store while links are on it.
                        let entry = page.entry(&aboard.credential);
                        let credential = entry.map_or(&aboard.credential, |entry| &entry.credential);
                        Share {
                            version: Arc::clone(&credential.version),
                            shade: shade(known, &credential.version),
                            sessions: u64::try_from(aboard.sessions).unwrap_or(u64::MAX),
                        }
                    })
                    .filter(|share| share.sessions > 0)
                    .collect();
                sessions.sort_by_key(|share| share.shade);
                (name.clone(), sampled(metrics, name, sessions))
            })
            .collect();
        if kept.samples.len() == SAMPLES_MAX {
            kept.samples.pop_front();
        }
        let sample = Sample {
            at: now,
            held: metrics.held_now(),
            secrets,
        };
        kept.samples.push_back(Arc::new(sample));
    }

    /// Oldest first.
    pub fn samples(&self) -> Vec<Arc<Sample>> {
        let kept = lock(&self.0);
        kept.samples.iter().cloned().collect()
    }

    /// The colour of a credential, if any session was ever seen on it.
    pub fn shade(&self, secret: &SecretName, version: &str) -> Option<usize> {
        let kept = lock(&self.0);
        let known = kept.shades.get(secret)?;
        known.iter().position(|known| **known == *version)
    }
}

/// A process that lives through very many rotations forgets them all at once, and colours begin anew.
const SHADES_MAX: usize = 4096;

fn shade(known: &mut Vec<Arc<str>>, version: &Arc<str>) -> usize {
    if let Some(at) = known.iter().position(|known| known == version) {
        return at;
    }
    if known.len() == SHADES_MAX {
        known.clear();
    }
    known.push(Arc::clone(version));
    known.len() - 1
}

fn sampled(metrics: &Metrics, secret: &SecretName, sessions: Vec<Share>) -> SecretSample {
    let rescued = |result| metrics.rescues(secret, result);
    SecretSample {
        sessions,
        moves: metrics.moves(secret, Move::Moved),
        rescues: rescued(Rescue::Unnoticed) + rescued(Rescue::Interrupted),
        lost: rescued(Rescue::Lost),
    }
}
