//! Whether something may have changed that the notes do not tell, and whether a rollback would undo it.

/// That something may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Changed {
    #[default]
    Nothing,
    /// In what is under way, or in the transaction that is open.
    Present,
    /// For good.
    Settled,
}

/// That a rollback leaves something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Lasting {
    #[default]
    Nothing,
    /// Of what is under way, and it may not have come to that.
    Sent,
    /// Of the open transaction, or it was answered in what is under way.
    Done,
}

/// What becomes of a transaction with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transaction {
    Over,
    GoesOn,
}

/// Since Postgres was last asked.
#[derive(Debug, Default)]
pub struct Changes {
    changed: Changed,
    lasting: Lasting,
}

impl Changes {
    pub fn may_change(&mut self) {
        self.changed = self.changed.max(Changed::Present);
    }

    /// What is under way may do what a rollback would not undo.
    pub fn may_last(&mut self) {
        self.lasting = self.lasting.max(Lasting::Sent);
    }

    pub fn may_do_anything(&mut self) {
        self.may_change();
        self.may_last();
    }

    /// It was run long ago.
    pub fn may_have_settled(&mut self) {
        self.changed = Changed::Settled;
    }

    /// The server has answered something of what is under way.
    #[inline]
    pub fn answered(&mut self) {
        if self.lasting == Lasting::Sent {
            self.lasting = Lasting::Done;
        }
    }

    /// The unit is over.
    #[inline]
    pub fn ready(&mut self, transaction: Transaction) {
        match transaction {
            Transaction::Over => {
                if self.changed == Changed::Present {
                    self.changed = Changed::Settled;
                }
                self.lasting = Lasting::Nothing;
            }
            Transaction::GoesOn => self.answered(),
        }
    }

    /// What was under way is lost, and its transaction with it.
    pub fn undone(&mut self) {
        if self.changed == Changed::Present {
            self.changed = Changed::Nothing;
        }
        self.lasting = Lasting::Nothing;
    }

    /// Postgres was asked about all that was known to have to be asked about.
    pub fn surveyed(&mut self) {
        *self = Self::default();
    }

    /// It was, and there is more to ask about than was asked.
    pub fn surveyed_in_part(&mut self) {
        self.undone();
    }

    #[inline]
    pub fn are_possible(&self) -> bool {
        self.changed != Changed::Nothing
    }

    /// Whether nothing is left once what is under way is undone.
    pub fn would_be_undone(&self) -> bool {
        self.changed != Changed::Settled && self.lasting != Lasting::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(steps: &[fn(&mut Changes)]) -> Changes {
        let mut changes = Changes::default();
        steps.iter().for_each(|step| step(&mut changes));
        changes
    }

    fn commits(changes: &mut Changes) {
        changes.ready(Transaction::Over);
    }

    fn goes_on(changes: &mut Changes) {
        changes.ready(Transaction::GoesOn);
    }

    #[test]
    fn what_changes_in_a_transaction_is_for_good_when_that_is_over_and_nothing_when_it_is_lost() {
        let changes = after(&[Changes::may_change, goes_on]);
        assert!(changes.are_possible() && changes.would_be_undone());
        let changes = after(&[Changes::may_change, goes_on, commits]);
        assert!(changes.are_possible() && !changes.would_be_undone());
        let changes = after(&[Changes::may_change, goes_on, Changes::undone]);
        assert!(!changes.are_possible() && changes.would_be_undone());
        let changes = after(&[Changes::may_change, commits, Changes::undone]);
        assert!(changes.are_possible() && !changes.would_be_undone());
    }

    #[test]
    fn what_outlasts_a_rollback_counts_once_something_of_it_was_answered() {
        assert!(after(&[Changes::may_last]).would_be_undone());
        assert!(!after(&[Changes::may_last, Changes::answered]).would_be_undone());
        assert!(!after(&[Changes::may_last, goes_on]).would_be_undone());
        assert!(after(&[Changes::may_last, goes_on, commits]).would_be_undone());
        assert!(after(&[Changes::answered, Changes::may_last]).would_be_undone());
    }

    #[test]
    fn a_survey_tells_of_all_that_it_asked_about() {
        let settled: [fn(&mut Changes); 2] = [Changes::may_do_anything, commits];
        let mut changes = after(&settled);
        changes.surveyed();
        assert!(!changes.are_possible());
        let mut changes = after(&settled);
        changes.surveyed_in_part();
        assert!(changes.are_possible() && !changes.would_be_undone());
    }
}
