//! What is written into the store.

use super::StepError;
use crate::rotate::facts::Facts;
use crate::rotate::password;
use crate::rotate::plan::Goal;
use crate::rotate::run::{Run, on_store};
use crate::stores::{self, Change, Login};

impl Run<'_> {
    /// A password that was brought, that of the previous user when it goes back to that, or a new one.
    fn new_login(&mut self, user: &str, facts: &Facts) -> Login {
        let previous = facts.holding.previous.as_ref();
        if let (Goal::Back, Some(previous)) = (
            &self.wish.goal,
            previous.filter(|previous| *previous.user == *user),
        ) {
            self.done.goes_back = true;
            return previous.clone();
        }
        let brought = self.wish.password.take();
        Login {
            user: user.into(),
            password: brought.unwrap_or_else(|| password::generate(self.opened.rotation.recipe)),
        }
    }

    pub(super) fn mint(&mut self, user: &str, facts: &Facts) -> Result<String, StepError> {
        self.done.minted = Some(self.new_login(user, facts));
        Ok("kept in memory".to_owned())
    }

    pub(super) async fn stage(&mut self, user: &str, facts: &Facts) -> Result<String, StepError> {
        let login = self.new_login(user, facts);
        let said = self.write(&Change::Stage(login), facts).await?;
        self.done.staged = true;
        Ok(said)
    }

    pub(super) async fn promote(&mut self, facts: &Facts) -> Result<String, StepError> {
        let change = match (&facts.holding.next, &facts.minted) {
            (Some(next), _) => Change::Promote(next.clone()),
            (None, Some(minted)) => Change::Replace(minted.clone()),
            (None, None) => return Err(StepError::Failed("nothing is there to become current".to_owned())),
        };
        let said = self.write(&change, facts).await?;
        self.done.minted = None;
        self.done.promoted = Some(facts.holding.current.clone());
        Ok(said)
    }

    pub(super) async fn withdraw(&mut self, facts: &Facts) -> Result<String, StepError> {
        let Some(next) = facts.holding.next.clone() else {
            return Ok("it is not there".to_owned());
        };
        let said = self.write(&Change::Withdraw(next), facts).await?;
        self.done.withdrawn = true;
        Ok(said)
    }

    pub(super) async fn keep_next(&mut self, user: &str, facts: &Facts) -> Result<String, StepError> {
        let login = Login {
            user: user.into(),
            password: password::generate(self.opened.rotation.recipe),
        };
        let said = self.write(&Change::Stage(login), facts).await?;
        self.done.kept_next = true;
        Ok(said)
    }

    async fn write(&mut self, change: &Change, facts: &Facts) -> Result<String, StepError> {
        let written = stores::write(&mut *self.store, change, &facts.holding).await;
        let holding = written.map_err(on_store)?;
        let words = format!("the store is at {}", holding.revision);
        self.expect(holding.revision);
        Ok(words)
    }
}
