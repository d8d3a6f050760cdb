//! The steps themselves. Each looks whether it is so already, makes it so, and looks again.

mod servers;
mod store;
mod waits;

use super::Run;
use crate::rotate::database::Session;
use crate::rotate::facts::Facts;
use crate::rotate::plan::Step;

/// Why a step did not come to its end.
#[derive(Debug)]
pub(super) enum StepError {
    /// It may have been done: nobody heard.
    Unknown(String),
    Failed(String),
    /// Somebody else is at work.
    Foreign(String),
    /// It can go on later.
    Paused(String),
}

impl Run<'_> {
    /// Answers with what there is to say of it.
    pub(super) async fn perform(
        &mut self,
        step: &Step,
        facts: &Facts,
        sessions: &[Session],
    ) -> Result<String, StepError> {
        let said = match step {
            Step::Create { .. } | Step::Grant { .. } | Step::Set { .. } => {
                self.alike(step, facts, sessions).await
            }
            Step::Password { .. } => self.password(step, facts, sessions).await,
            Step::Close { user, on } => self.close(user, on, facts, sessions).await,
            Step::End { user } => self.end(user, facts, sessions).await,
            Step::Prove { which, .. } => self.prove(*which, facts, sessions).await,
            Step::Refused { user } => self.refused(user, facts, sessions).await,
            Step::Mint { user } => self.mint(user, facts),
            Step::Stage { user } => self.stage(user, facts).await,
            Step::Promote { .. } => self.promote(facts).await,
            Step::Withdraw { .. } => self.withdraw(facts).await,
            Step::KeepNext { user } => self.keep_next(user, facts).await,
            Step::Seen => self.seen(&facts.holding.current.user).await,
            Step::Followed => self.followed(&facts.holding.current.user).await,
            Step::Left { user } => self.left(user).await,
            Step::Soak { user } => self.soak(user).await,
        }?;
        Ok(said)
    }
}
