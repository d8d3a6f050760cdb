//! The way of a server through a client's messages that fails at all of them: what it would say, and where it ends.

use super::super::tracker::{Copy, Owed, Tracker, Transaction};
use super::super::work::{Extent, Outcome, Statement, Status, Work};
use super::transaction;

/// What the client hears on the way.
pub(super) enum Step {
    Fails,
    RolledBack,
    Ready(Transaction),
}

/// What comes of walking through what is owed.
#[derive(Debug)]
pub(super) struct Walked {
    pub status: Status,
    pub unknown: bool,
    /// The client gets an error.
    pub says: bool,
    pub skipping: bool,
    /// The client waits for nothing, and has to learn with its next request that something is lost.
    pub news: bool,
}

/// The server's way through the client's messages, had it failed at all of them.
pub(super) fn walk(tracker: &Tracker, more: bool, mut say: impl FnMut(Step)) -> Walked {
    let unit = tracker.unit();
    let mut walk = Walk {
        status: status(tracker.transaction()),
        unknown: false,
        says: false,
        work: unit.done,
        begun: unit.begun,
        told: unit.told,
        // An error that the server told says how its unit ended.
        judged: unit.told,
        undone: matches!(tracker.copy(), Copy::In { open: true, .. }),
        lost: tracker.transaction() == Transaction::Open && !unit.told,
        skipping: false,
    };
    let mut owed = tracker.owed().peekable();
    while let Some(next) = owed.next() {
        let last = owed.peek().is_none() && !more;
        match next {
            Owed::Extended(_, work) => {
                walk.fail(&mut say);
                walk.work.add(work);
                walk.skipping = true;
            }
            Owed::Query(_, work) if walk.skipping => walk.work.add(work),
            Owed::Function(_) if walk.skipping => {}
            Owed::Query(count, work) => walk.answer(count, work, last, &mut say),
            Owed::Function(count) => walk.answer(count, Work::of(Statement::Other), last, &mut say),
            Owed::Sync(count) => {
                for left in (0..count).rev() {
                    if walk.begun || walk.lost {
                        walk.fail(&mut say);
                    }
                    walk.end(last && left == 0, &mut say);
                }
            }
            Owed::CopyEnd(_) | Owed::Perhaps(_) => {}
        }
    }
    let skipping = walk.skipping || tracker.is_skipping();
    // What it acknowledged in the unit that the client is in the middle of.
    let news = !skipping && (walk.begun || walk.lost);
    walk.settle(false);
    // Its Execute will be ignored, and what the client sends behind its Sync is meant for a transaction.
    if walk.work.names_begin() && walk.status == Status::Idle {
        walk.status = Status::Loose;
    }
    Walked {
        status: walk.status,
        unknown: walk.unknown,
        says: walk.says,
        skipping,
        news,
    }
}

struct Walk {
    status: Status,
    unknown: bool,
    says: bool,
    /// Of the unit: what ends with the next ReadyForQuery.
    work: Work,
    begun: bool,
    told: bool,
    judged: bool,
    /// The server waits for the end of a COPY that it never gets.
    undone: bool,
    /// There was a transaction, and the client does not know yet.
    lost: bool,
    skipping: bool,
}

impl Walk {
    fn fail(&mut self, say: &mut impl FnMut(Step)) {
        if !self.told {
            say(Step::Fails);
            self.says = true;
        }
        self.told = true;
        self.lost = false;
    }

    fn answer(&mut self, count: u32, work: Work, last: bool, say: &mut impl FnMut(Step)) {
        for left in (0..count).rev() {
            // What it asks for has been done.
            if !self.told && work.extent() == Extent::One(Statement::Rollback) {
                say(Step::RolledBack);
                self.lost = false;
            } else {
                self.fail(say);
            }
            self.work.add(work);
            self.end(last && left == 0, say);
        }
    }

    fn end(&mut self, last: bool, say: &mut impl FnMut(Step)) {
        self.settle(last);
        say(Step::Ready(transaction(self.status)));
        self.work = Work::NOTHING;
        self.begun = false;
        self.told = false;
        self.judged = false;
        self.undone = false;
        self.skipping = false;
    }

    /// Where the unit leaves the transaction. `last`: the client has sent nothing behind it.
    fn settle(&mut self, last: bool) {
        let before = self.status;
        let Outcome { status, unknown } = self.work.from(before);
        let extent = self.work.extent();
        let undone = self.undone && matches!(extent, Extent::One(_));
        self.unknown |= unknown && !self.judged && !undone;
        self.status = match (before, status) {
            // A transaction that did not begin is none, if the client has waited for its beginning. Many clients do
            // not roll back then.
            (Status::Idle, Status::Open) if last && extent == Extent::One(Statement::Begin) => Status::Idle,
            (Status::Idle | Status::Loose, Status::Open) => Status::Loose,
            (_, status) => status,
        };
    }
}

fn status(transaction: Transaction) -> Status {
    match transaction {
        Transaction::Idle => Status::Idle,
        Transaction::Open => Status::Open,
        Transaction::Failed => Status::Failed,
    }
}
