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
    pub left: Left,
}

/// What is left to do when the client has been told all that it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    /// What it says is left out up to its Sync.
    Skipping,
    /// It waits for nothing, and has to learn with its next request that something is lost.
    News,
}

/// Whether the client has sent anything behind something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    Nothing,
    More,
}

/// Of the unit's failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    /// What the walk says.
    ByUs,
    /// How the unit ended is known by what the server said.
    ByServer,
}

/// The server's way through the client's messages, had it failed at all of them.
pub(super) fn walk(tracker: &Tracker, behind: Behind, mut say: impl FnMut(Step)) -> Walked {
    let unit = tracker.unit();
    let mut walk = Walk {
        status: status(tracker.transaction()),
        unknown: false,
        says: false,
        work: unit.done,
        begun: unit.begun,
        told: match unit.told {
            true => Told::ByServer,
            false => Told::Nothing,
        },
        undone: matches!(tracker.copy(), Copy::In { open: true, .. }),
        lost: tracker.transaction() == Transaction::Open && !unit.told,
        skipping: false,
    };
    let mut owed = tracker.owed().peekable();
    while let Some(next) = owed.next() {
        let behind = match owed.peek() {
            None => behind,
            Some(_) => Behind::More,
        };
        match next {
            Owed::Extended(_, work) => {
                walk.fail(&mut say);
                walk.work.add(work);
                walk.skipping = true;
            }
            Owed::Query(_, work) if walk.skipping => walk.work.add(work),
            Owed::Function(_) if walk.skipping => {}
            Owed::Query(count, work) => walk.answer(count, work, behind, &mut say),
            Owed::Function(count) => walk.answer(count, Work::of(Statement::Other), behind, &mut say),
            Owed::Sync(count) => {
                for left in (0..count).rev() {
                    if walk.begun || walk.lost {
                        walk.fail(&mut say);
                    }
                    walk.end(of_these(left, behind), &mut say);
                }
            }
            Owed::CopyEnd(_) | Owed::Perhaps(_) => {}
        }
    }
    let left = if walk.skipping || tracker.is_skipping() {
        Left::Skipping
    } else if walk.begun || walk.lost {
        // What it acknowledged in the unit that the client is in the middle of.
        Left::News
    } else {
        Left::Nothing
    };
    walk.settle(Behind::More);
    // Its Execute will be ignored, and what the client sends behind its Sync is meant for a transaction.
    if walk.work.names_begin() && walk.status == Status::Idle {
        walk.status = Status::Loose;
    }
    Walked {
        status: walk.status,
        unknown: walk.unknown,
        says: walk.says,
        left,
    }
}

/// Behind one of several of a kind, when so many of them are left.
fn of_these(left: u32, behind: Behind) -> Behind {
    match left {
        0 => behind,
        _ => Behind::More,
    }
}

struct Walk {
    status: Status,
    unknown: bool,
    says: bool,
    /// Of the unit: what ends with the next ReadyForQuery.
    work: Work,
    begun: bool,
    told: Told,
    /// The server waits for the end of a COPY that it never gets.
    undone: bool,
    /// There was a transaction, and the client does not know yet.
    lost: bool,
    skipping: bool,
}

impl Walk {
    fn fail(&mut self, say: &mut impl FnMut(Step)) {
        if self.told == Told::Nothing {
            say(Step::Fails);
            self.says = true;
            self.told = Told::ByUs;
        }
        self.lost = false;
    }

    fn answer(&mut self, count: u32, work: Work, behind: Behind, say: &mut impl FnMut(Step)) {
        for left in (0..count).rev() {
            // What it asks for has been done.
            if self.told == Told::Nothing && work.extent() == Extent::One(Statement::Rollback) {
                say(Step::RolledBack);
                self.lost = false;
            } else {
                self.fail(say);
            }
            self.work.add(work);
            self.end(of_these(left, behind), say);
        }
    }

    fn end(&mut self, behind: Behind, say: &mut impl FnMut(Step)) {
        self.settle(behind);
        say(Step::Ready(transaction(self.status)));
        self.work = Work::NOTHING;
        self.begun = false;
        self.told = Told::Nothing;
        self.undone = false;
        self.skipping = false;
    }

    /// Where the unit leaves the transaction.
    fn settle(&mut self, behind: Behind) {
        let before = self.status;
        let Outcome { status, unknown } = self.work.from(before);
        let extent = self.work.extent();
        let undone = self.undone && matches!(extent, Extent::One(_));
        self.unknown |= unknown && self.told != Told::ByServer && !undone;
        self.status = match (before, status) {
            // A transaction that did not begin is none, if the client has waited for its beginning. Many clients do
            // not roll back then.
            (Status::Idle, Status::Open)
                if behind == Behind::Nothing && extent == Extent::One(Statement::Begin) =>
            {
                Status::Idle
            }
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
