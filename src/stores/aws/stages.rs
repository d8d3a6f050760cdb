//! Which version holds which stage, as `DescribeSecret` tells it. Pure.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_secretsmanager::operation::describe_secret::DescribeSecretOutput;

use crate::credentials::Position;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Current,
    Pending,
    Previous,
}

impl Stage {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Current => "AWSCURRENT",
            Self::Pending => "AWSPENDING",
            Self::Previous => "AWSPREVIOUS",
        }
    }

    pub(super) fn position(self) -> Position {
        match self {
            Self::Current => Position::Current,
            Self::Pending => Position::Next,
            Self::Previous => Position::Previous,
        }
    }
}

/// Versions by stage. A stage should be on one version; some stores have it on two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stages {
    current: Vec<Arc<str>>,
    pending: Vec<Arc<str>>,
    previous: Vec<Arc<str>>,
    /// When the secret was last modified in any way, in milliseconds.
    pub(super) changed_at: Option<i64>,
    pub(super) is_deleted: bool,
}

impl Stages {
    pub(super) fn from_description(description: &DescribeSecretOutput) -> Self {
        let mut stages = Self {
            changed_at: description
                .last_changed_date()
                .and_then(|date| date.to_millis().ok()),
            is_deleted: description.deleted_date().is_some(),
            ..Self::default()
        };
        for (version, names) in description.version_ids_to_stages().into_iter().flatten() {
            for stage in [Stage::Current, Stage::Pending, Stage::Previous] {
                if names.iter().any(|name| name == stage.name()) {
                    stages.versions_mut(stage).push(version.as_str().into());
                }
            }
        }
        for stage in [Stage::Current, Stage::Pending, Stage::Previous] {
            stages.versions_mut(stage).sort_unstable();
        }
        stages
    }

    pub(super) fn versions(&self, stage: Stage) -> &[Arc<str>] {
        match stage {
            Stage::Current => &self.current,
            Stage::Pending => &self.pending,
            Stage::Previous => &self.previous,
        }
    }

    fn versions_mut(&mut self, stage: Stage) -> &mut Vec<Arc<str>> {
        match stage {
            Stage::Current => &mut self.current,
            Stage::Pending => &mut self.pending,
            Stage::Previous => &mut self.previous,
        }
    }

    /// The same versions on the same stages, whatever else was modified.
    pub(super) fn are_placed_like(&self, other: &Self) -> bool {
        (&self.current, &self.pending, &self.previous) == (&other.current, &other.pending, &other.previous)
    }
}

/// How soon to look again while a pending version exists: at once while it is young, since a rotation lasts
/// a minute; ever more rarely when it is the leftover of a rotation that failed.
pub(super) fn look_again_in(pending_for: Duration) -> Duration {
    const SOONEST: Duration = Duration::from_secs(2);
    SOONEST.max(pending_for / 10)
}

#[cfg(test)]
mod tests {
    use aws_sdk_secretsmanager::primitives::DateTime;

    use super::*;

    fn described(versions: &[(&str, &[&str])]) -> Stages {
        let mut description = DescribeSecretOutput::builder().last_changed_date(DateTime::from_secs(7));
        for (version, stages) in versions {
            let stages = stages.iter().map(|stage| (*stage).to_owned()).collect();
            description = description.version_ids_to_stages(*version, stages);
        }
        Stages::from_description(&description.build())
    }

    #[test]
    fn a_version_may_hold_several_stages_and_a_stage_several_versions() {
        let stages = described(&[
            ("v2", &["AWSCURRENT", "AWSPENDING", "mine"]),
            ("v1", &["AWSPREVIOUS"]),
            ("v0", &["AWSPENDING"]),
        ]);
        assert_eq!(stages.versions(Stage::Current), [Arc::from("v2")]);
        assert_eq!(
            stages.versions(Stage::Pending),
            [Arc::from("v0"), Arc::from("v2")]
        );
        assert_eq!(stages.versions(Stage::Previous), [Arc::from("v1")]);
        assert_eq!(stages.changed_at, Some(7000));
        assert!(!stages.are_placed_like(&described(&[("v2", &["AWSCURRENT"])])));
    }

    #[test]
    fn a_dead_leftover_is_looked_at_ever_more_rarely() {
        assert_eq!(look_again_in(Duration::ZERO), Duration::from_secs(2));
        assert_eq!(look_again_in(Duration::from_secs(20)), Duration::from_secs(2));
        assert_eq!(look_again_in(Duration::from_secs(600)), Duration::from_secs(60));
    }
}
