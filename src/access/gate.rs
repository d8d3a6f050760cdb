//! What stands between many logins and one endpoint, so that nobody is locked out or overrun.
//!
//! * One scout per credential: whoever arrives while a login with it is under way waits for its verdict, and
//!   follows only if it was taken. So a stale password costs one refused login, however many arrive.
//! * Refused logins are counted, and doubtful credentials are not tried once a minute has had its share.
//! * Logins at once are limited.

mod governor;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio::time::Instant;

use self::governor::Governor;
use crate::config::Limits;
use crate::credentials::Credential;
use crate::limit::{Limit, Permit};
use crate::lock::lock;
use crate::metrics::{self, Metrics};
use crate::names::Endpoint;

/// One gate an endpoint, for the whole process: endpoints do not care which secret or role logs in.
#[derive(Debug)]
pub struct Gates {
    row: Mutex<Row>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Row {
    logins_at_once: u32,
    refused_per_minute: u32,
    each: HashMap<Endpoint, Arc<Gate>>,
}

#[derive(Debug)]
pub struct Gate {
    endpoint: Endpoint,
    metrics: Arc<Metrics>,
    permits: Arc<Limit>,
    governor: Mutex<Governor>,
    scouts: Mutex<Vec<Scout>>,
}

#[derive(Debug)]
struct Scout {
    credential: Credential,
    verdict: watch::Receiver<Option<ScoutVerdict>>,
}

/// What a scout has to say to those who wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoutVerdict {
    Taken,
    Refused,
    /// The endpoint can't be asked now.
    NotYet,
    /// Nothing about the credential or the endpoint; the next one has to find out.
    Unknown,
}

/// How to go on with one credential.
pub enum Pass<'a> {
    Scout(ScoutPass<'a>),
    Follow(watch::Receiver<Option<ScoutVerdict>>),
}

/// Held by the scout. Dropped without a word, it says that nothing is known.
pub struct ScoutPass<'a> {
    gate: &'a Gate,
    credential: Credential,
    verdict: watch::Sender<Option<ScoutVerdict>>,
}

impl Gates {
    pub fn new(limits: &Limits, metrics: Arc<Metrics>) -> Self {
        let row = Row {
            logins_at_once: limits.logins_per_endpoint,
            refused_per_minute: limits.refused_logins_per_minute,
            each: HashMap::new(),
        };
        Self {
            row: Mutex::new(row),
            metrics,
        }
    }

    pub fn set_limits(&self, limits: &Limits) {
        let mut row = lock(&self.row);
        row.logins_at_once = limits.logins_per_endpoint;
        row.refused_per_minute = limits.refused_logins_per_minute;
        for gate in row.each.values() {
            gate.permits.set(limits.logins_per_endpoint);
            lock(&gate.governor).set_limit(limits.refused_logins_per_minute);
        }
    }

    pub fn at(&self, endpoint: &Endpoint) -> Arc<Gate> {
        let mut row = lock(&self.row);
        if let Some(gate) = row.each.get(endpoint) {
            return gate.clone();
        }
        self.metrics.begin_endpoint(endpoint);
        let gate = Arc::new(Gate {
            endpoint: endpoint.clone(),
            metrics: Arc::clone(&self.metrics),
            permits: Limit::new(row.logins_at_once),
            governor: Mutex::new(Governor::new(row.refused_per_minute)),
            scouts: Mutex::default(),
        });
        row.each.insert(endpoint.clone(), gate.clone());
        gate
    }
}

impl Gate {
    pub fn enter(&self, credential: &Credential) -> Pass<'_> {
        let mut scouts = lock(&self.scouts);
        let scout = scouts
            .iter()
            .find(|scout| scout.credential.is_same_login(credential));
        if let Some(scout) = scout {
            return Pass::Follow(scout.verdict.clone());
        }
        let (sender, verdict) = watch::channel(None);
        scouts.push(Scout {
            credential: credential.clone(),
            verdict,
        });
        Pass::Scout(ScoutPass {
            gate: self,
            credential: credential.clone(),
            verdict: sender,
        })
    }

    pub async fn permit(&self) -> Permit {
        let hit = || self.metrics.hit(metrics::Limit::LoginsPerEndpoint);
        self.permits.take_or_wait(hit).await
    }

    /// A login that nobody could be sure of was refused.
    pub fn count_refusal(&self, credential: &Credential) {
        lock(&self.governor).count(credential, Instant::now());
    }

    /// Whether the endpoint has refused its share of the last minute.
    pub fn is_governed(&self, credential: &Credential) -> bool {
        let is_governed = lock(&self.governor).holds_back(credential, Instant::now());
        if is_governed {
            self.metrics.governed(&self.endpoint);
        }
        is_governed
    }
}

impl ScoutPass<'_> {
    pub fn report(self, verdict: ScoutVerdict) {
        self.verdict.send_replace(Some(verdict));
    }
}

impl Drop for ScoutPass<'_> {
    fn drop(&mut self) {
        lock(&self.gate.scouts).retain(|scout| !scout.credential.is_same_login(&self.credential));
    }
}

pub async fn follow(mut verdict: watch::Receiver<Option<ScoutVerdict>>) -> ScoutVerdict {
    match verdict.wait_for(Option::is_some).await {
        Ok(said) => said.unwrap_or(ScoutVerdict::Unknown),
        Err(_) => ScoutVerdict::Unknown,
    }
}
