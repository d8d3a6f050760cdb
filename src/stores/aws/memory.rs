//! What a Secrets Manager store remembers between two reads, so that a poll costs one cheap call.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::stages::{Stage, Stages};
use crate::credentials::Credential;
use crate::stores::payload::Payload;
use crate::stores::{Made, StoreError};

/// What the last complete read left behind.
#[derive(Clone, Default)]
pub(super) struct Memory {
    /// None when `DescribeSecret` is denied.
    pub(super) stages: Option<Stages>,
    pub(super) cannot_describe: bool,
    pub(super) values: Vec<Arc<Value>>,
    /// The versions of stages that stand on several, as the store itself resolved them.
    pub(super) resolved: Vec<(Stage, Arc<str>)>,
    pub(super) pending: Option<Pending>,
}

/// The value of one version.
pub(super) struct Value {
    pub(super) version: Arc<str>,
    pub(super) payload: Result<Payload, StoreError>,
    pub(super) made: Option<SystemTime>,
}

/// What is known of a pending version.
#[derive(Clone)]
pub(super) struct Pending {
    pub(super) version: Arc<str>,
    pub(super) since: Instant,
    pub(super) valueless: Option<Valueless>,
}

/// A rotation labels a version before it has a value.
#[derive(Clone)]
pub(super) struct Valueless {
    pub(super) tried_at: Instant,
    pub(super) changed_at: Option<i64>,
}

/// The first wait before a version without a value is asked for again, if nothing says that it changed.
const VALUELESS_RETRY_MIN: Duration = Duration::from_secs(4);

impl Memory {
    /// What stays true under a new description.
    pub(super) fn after(&self, described: Option<Stages>) -> Self {
        let same_places = match (&self.stages, &described) {
            (Some(before), Some(now)) => now.are_placed_like(before),
            _ => false,
        };
        Self {
            cannot_describe: described.is_none(),
            // Without a description nothing says that a value is still at its stage.
            values: if described.is_some() {
                self.values.clone()
            } else {
                Vec::new()
            },
            resolved: if same_places {
                self.resolved.clone()
            } else {
                Vec::new()
            },
            pending: self.pending.clone(),
            stages: described,
        }
    }

    pub(super) fn resolved(&self, stage: Stage) -> Option<&Arc<str>> {
        let found = self.resolved.iter().find(|(resolved, _)| *resolved == stage);
        found.map(|(_, version)| version)
    }

    pub(super) fn value(&self, version: &str) -> Option<Arc<Value>> {
        self.values
            .iter()
            .find(|value| *value.version == *version)
            .cloned()
    }

    pub(super) fn notice_pending(&mut self, version: &Arc<str>) -> &mut Pending {
        if self
            .pending
            .as_ref()
            .is_none_or(|pending| pending.version != *version)
        {
            self.pending = None;
        }
        self.pending.get_or_insert_with(|| Pending {
            version: Arc::clone(version),
            since: Instant::now(),
            valueless: None,
        })
    }
}

impl Pending {
    /// Whether asking for the value of a version that had none may be worth a call.
    pub(super) fn may_have_a_value(&self, changed_at: Option<i64>) -> bool {
        let Some(valueless) = &self.valueless else {
            return true;
        };
        let wait = valueless
            .tried_at
            .duration_since(self.since)
            .max(VALUELESS_RETRY_MIN);
        valueless.changed_at != changed_at || valueless.tried_at.elapsed() >= wait
    }
}

impl Value {
    pub(super) fn made(&self) -> Option<Made> {
        let version = Arc::clone(&self.version);
        self.made.map(|at| Made { version, at })
    }

    /// The one credential that a version beside the current one stands for.
    pub(super) fn leading(&self, stage: Stage) -> Option<Credential> {
        let mut pair = self.payload.as_ref().ok()?.pairs.first()?.clone();
        pair.position = stage.position();
        Some(pair.versioned(&self.version))
    }
}
