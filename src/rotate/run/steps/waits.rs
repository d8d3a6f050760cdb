//! What is waited for: running pgswivels that read, users that leave.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::StepError;
use crate::rotate::fleet::{self, Member};
use crate::rotate::gate::{self, Reason, gate};
use crate::rotate::plan::Goal;
use crate::rotate::run::{Event, Run};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// An emergency does not wait for a pgswivel that does not answer.
const EMERGENCY_MAX: Duration = Duration::from_secs(5);
/// For what a fleet says of itself.
const FLEET_MAX: Duration = Duration::from_secs(10);
/// Between two signs of life to whoever holds the lock.
const SIGN_EVERY: Duration = Duration::from_secs(10);

impl Run<'_> {
    /// Each has read what comes next, so that none meets a password that it does not know.
    pub(super) async fn seen(&mut self, user: &str) -> Result<String, StepError> {
        let said = self.read_by_all(user).await?;
        self.done.seen = true;
        Ok(said)
    }

    pub(super) async fn followed(&mut self, user: &str) -> Result<String, StepError> {
        let said = match self.read_by_all(user).await {
            // What was to be done is done: they read it when they can, and hold it as what comes next until then.
            Err(StepError::Failed(why)) => format!("not by all: {why}"),
            said => said?,
        };
        self.done.followed = true;
        Ok(said)
    }

    /// Their answer comes after a read that is made for it.
    async fn read_by_all(&mut self, user: &str) -> Result<String, StepError> {
        let begun = Instant::now();
        let is_emergency = matches!(self.wish.goal, Goal::Emergency { .. });
        let within = match is_emergency {
            true => EMERGENCY_MAX.min(self.wish.within),
            false => self.wish.within,
        };
        let mut told: Vec<Reason> = Vec::new();
        loop {
            let limit = within.max(LOOK_EVERY);
            let Ok(answers) = tokio::time::timeout(limit, self.opened.sidecars.ask(user)).await else {
                let words = format!("not within {} s: some sidecar does not answer", limit.as_secs());
                return self.without_them(&words);
            };
            let count = answers.len();
            let left: Vec<Reason> = answers
                .into_iter()
                .filter_map(|(name, answer)| gate::unread(name, user, answer))
                .collect();
            if left.is_empty() {
                let by_fleet = self.read_by_fleet().await;
                return Ok(match (count, by_fleet) {
                    (0, Some(words)) => words,
                    (count, None) => format!("by {count} of {count}"),
                    (count, Some(words)) => format!("by {count} of {count}; {words}"),
                });
            }
            if left != told {
                (self.tell)(Event::Waiting(&left));
                told.clone_from(&left);
            }
            if begun.elapsed() >= within {
                let shown: Vec<String> = left.iter().map(ToString::to_string).collect();
                let words = format!("not within {} s: {}", within.as_secs(), shown.join("; "));
                return self.without_them(&words);
            }
            self.sign().await?;
            sleep(LOOK_EVERY).await;
        }
    }

    fn without_them(&self, words: &str) -> Result<String, StepError> {
        let is_emergency = matches!(self.wish.goal, Goal::Emergency { .. });
        match is_emergency || self.wish.force {
            true => Ok(format!("gone on without them, {words}")),
            false => Err(StepError::Failed(words.to_owned())),
        }
    }

    /// Those that listen were told, and most often have read it in a moment. Who does not say so is named, and not waited for
    /// longer: it reads when a login is refused, and others may have said what it seems to say.
    async fn read_by_fleet(&mut self) -> Option<String> {
        let fleet = self.opened.fleet.clone()?;
        let newest = match self.opened.read_secret().await {
            Ok(reading) => fleet::newest(&reading),
            Err(error) => return Some(format!("the fleet was not told: {error}")),
        };
        let admin = match self.opened.read_admin().await {
            Ok(admin) => admin,
            Err(error) => return Some(format!("the fleet was not told: {error}")),
        };
        let begun = Instant::now();
        let limit = match self.wish.goal {
            Goal::Emergency { .. } => EMERGENCY_MAX,
            _ => FLEET_MAX,
        };
        loop {
            let mut members: Vec<Member> = Vec::new();
            for server in &self.opened.servers {
                if let Ok(session) = server.log_in(&admin).await {
                    // Replicas have no channels.
                    let _ = fleet.call(&session).await;
                    members.extend(fleet.members(&session).await.unwrap_or_default());
                }
            }
            members.sort_by(|one, other| one.instance.cmp(&other.instance));
            members.dedup_by(|one, other| one.instance == other.instance);
            let count = members.len();
            if !fleet.compares {
                return Some(format!(
                    "{count} of the fleet were told (set version_key, and it can be seen whether they have read it)"
                ));
            }
            members.retain(|member| member.said.version != newest);
            if members.is_empty() {
                return Some(format!("by {count} of {count} of the fleet"));
            }
            if begun.elapsed() > limit {
                let names: Vec<&str> = members.iter().map(|member| member.instance.as_str()).collect();
                return Some(format!("gone on without {} of the fleet", names.join(", ")));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// The lock is still held.
    async fn sign(&self) -> Result<(), StepError> {
        match &self.lock {
            Some(lock) => lock
                .is_held()
                .await
                .map_err(|error| StepError::Foreign(error.to_string())),
            None => Ok(()),
        }
    }

    pub(super) async fn left(&mut self, user: &str) -> Result<String, StepError> {
        let begun = Instant::now();
        let within = match self.wish.force {
            true => Duration::ZERO,
            false => self.wish.within,
        };
        let left = self.look_who_is_left(user, within).await?;
        if left.is_empty() {
            self.done.left.push(user.to_owned());
            let words = format!("nobody is on it, after {:.1} s", begun.elapsed().as_secs_f64());
            return Ok(words);
        }
        let shown: Vec<String> = left.iter().map(ToString::to_string).collect();
        for words in &shown {
            self.evidence.say(words);
        }
        let shown = shown.join("; ");
        if self.wish.force {
            self.done.left.push(user.to_owned());
            return Ok(format!("gone on although it is in use: {shown}"));
        }
        let words = format!("{user} is still in use after {} s: {shown}", within.as_secs());
        Err(StepError::Paused(words))
    }

    async fn look_who_is_left(&mut self, user: &str, within: Duration) -> Result<Vec<Reason>, StepError> {
        let Self { opened, tell, .. } = self;
        let users = vec![user.to_owned()];
        let outcome = gate(opened, users, within, |left| tell(Event::Waiting(left))).await;
        Ok(outcome
            .map_err(|error| StepError::Failed(error.to_string()))?
            .left)
    }

    pub(super) async fn soak(&mut self, user: &str) -> Result<String, StepError> {
        let begun = Instant::now();
        let soak = self.opened.rotation.soak;
        while begun.elapsed() < soak {
            sleep(SIGN_EVERY.min(soak.saturating_sub(begun.elapsed()))).await;
            self.sign().await?;
        }
        let left = match self.wish.force {
            true => Vec::new(),
            false => self.look_who_is_left(user, Duration::ZERO).await?,
        };
        if left.is_empty() {
            self.done.soaked.push(user.to_owned());
            return Ok(String::new());
        }
        let shown: Vec<String> = left.iter().map(ToString::to_string).collect();
        let words = format!("{user} was left, and is in use again: {}", shown.join("; "));
        Err(StepError::Paused(words))
    }
}
