//! What a client is told when the server that owed it answers is gone, so that it can go on with another one.
//!
//! The client gets what a server would have said that failed at everything in flight: an ERROR and ReadyForQuery
//! for each Query and FunctionCall, one ERROR for the extended messages before a Sync and ReadyForQuery for the
//! Sync. Statements of which nobody knows whether they were carried out are never said to have failed: their
//! error is `transaction_resolution_unknown`.
//!
//! A transaction stays what the client takes it for: lost, it is a failed one, and the next link has to be put into
//! a failed transaction ([`Aftermath::transaction_failed`]). There Postgres itself does the rest: ROLLBACK works
//! and nothing else does. Otherwise what a client has sent ahead, believing itself in a transaction, would be
//! carried out on its own.

#[cfg(test)]
mod tests;

use bytes::{BufMut, Bytes, BytesMut};

use super::frame::Fate;
use super::read::error_field;
use super::say;
use super::tracker::{Copy, Owed, Tracker, Transaction};
use super::work::{Asked, Extent, Outcome, Statement, Status, Work};

/// A lost link that left no word is as good as one that an administrator ended.
const ADMIN_SHUTDOWN: &[u8] = b"57P01";
const RESOLUTION_UNKNOWN: &[u8] = b"08007";

/// What was lost with a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFlight {
    Nothing,
    /// A transaction that waited for its next statement.
    OpenTransaction,
    /// One that had failed before.
    FailedTransaction,
    Autocommit,
    Transaction,
    /// The end of a transaction may have been in flight.
    Commit,
    CopyIn,
    CopyOut,
}

impl InFlight {
    /// For logs and metrics; does not change.
    pub fn label(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::OpenTransaction => "open_transaction",
            Self::FailedTransaction => "failed_transaction",
            Self::Autocommit => "autocommit",
            Self::Transaction => "transaction",
            Self::Commit => "commit",
            Self::CopyIn => "copy_in",
            Self::CopyOut => "copy_out",
        }
    }
}

/// Why a client can't be answered: its session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswerable {
    #[error("a message to the client was cut in the middle")]
    CutOff,
    #[error("replication was under way")]
    Replication,
    #[error("it is not known what the client waits for")]
    Unclear,
}

/// How a client's session goes on, worked out before anything is said or changed.
#[derive(Debug)]
pub struct Aftermath {
    pub in_flight: InFlight,
    /// Whether everything in flight is known to have left no trace.
    pub outcome_known: bool,
    /// The next link has to be in a failed transaction before the client is heard again.
    pub transaction_failed: bool,
    /// What the client gets now.
    pub answer: BytesMut,
    /// Messages of the client are ignored up to its Sync, and no server knows.
    skipping: bool,
    still: Still,
}

impl Aftermath {
    /// `more`: the client has sent more than the tracker was shown. `fatal`: the body of the last words of the
    /// server, if it had any.
    pub fn of(tracker: &Tracker, more: bool, fatal: Option<&[u8]>) -> Result<Self, Unanswerable> {
        if tracker.copy() == Copy::Both {
            return Err(Unanswerable::Replication);
        }
        if !tracker.is_certain() {
            return Err(Unanswerable::Unclear);
        }
        let course = walk(tracker, more, |_| {});
        let in_flight = course.in_flight(tracker);
        let error = course.error(tracker.transaction(), fatal);
        let mut answer = BytesMut::new();
        walk(tracker, more, |step| match step {
            Step::Fails => answer.put_slice(&error),
            Step::RolledBack => say::command_complete(&mut answer, "ROLLBACK"),
            Step::Ready(transaction) => ready(&mut answer, transaction),
        });
        let still = if course.skipping {
            Still::Skips
        } else if course.news {
            let error = error.freeze();
            Still::Waits {
                error,
                in_unit: tracker.unit().begun,
            }
        } else if matches!(tracker.copy(), Copy::In { open: true, .. }) {
            Still::Copies
        } else {
            Still::Nothing
        };
        Ok(Self {
            in_flight,
            outcome_known: !course.unknown,
            transaction_failed: transaction(course.status) == Transaction::Failed,
            answer,
            skipping: course.skipping,
            still,
        })
    }

    /// Everything that was in flight counts as answered, and `still` says what is left to do.
    pub fn settle(self, tracker: &mut Tracker, still: &mut Still) {
        let transaction = match self.transaction_failed {
            true => Transaction::Failed,
            false => Transaction::Idle,
        };
        tracker.settle(transaction, self.skipping);
        match (&*still, self.still) {
            // The link was lost again before the client could be told of the first time.
            (Still::Waits { .. }, Still::Nothing) | (Still::Copies, Still::Nothing) => {}
            (_, new) => *still = new,
        }
    }
}

enum Step {
    Fails,
    RolledBack,
    Ready(Transaction),
}

/// What comes of walking through what is owed.
#[derive(Debug)]
struct Course {
    status: Status,
    unknown: bool,
    /// The client gets an error.
    says: bool,
    skipping: bool,
    /// The client waits for nothing, and has to learn with its next request that something is lost.
    news: bool,
}

/// The server's way through the client's messages, had it failed at all of them.
fn walk(tracker: &Tracker, more: bool, mut say: impl FnMut(Step)) -> Course {
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
                walk.work = walk.work.then(work);
                walk.skipping = true;
            }
            Owed::Query(_, work) if walk.skipping => walk.work = walk.work.then(work),
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
    Course {
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
            self.work = self.work.then(work);
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

impl Course {
    fn in_flight(&self, tracker: &Tracker) -> InFlight {
        match (tracker.copy(), tracker.transaction()) {
            (Copy::In { .. }, _) => InFlight::CopyIn,
            (Copy::Out, _) => InFlight::CopyOut,
            (_, Transaction::Open) if self.news && !tracker.unit().begun => InFlight::OpenTransaction,
            _ if !self.says && !self.news => match self.status {
                Status::Idle => InFlight::Nothing,
                _ => InFlight::FailedTransaction,
            },
            (_, Transaction::Idle) => InFlight::Autocommit,
            _ if self.unknown => InFlight::Commit,
            _ => InFlight::Transaction,
        }
    }

    fn error(&self, began: Transaction, fatal: Option<&[u8]>) -> BytesMut {
        let text: &[u8] = match (self.unknown, began) {
            (true, Transaction::Idle) => {
                b"the connection to the database was lost: whether the statement was carried out is not known"
            }
            (true, _) => {
                b"the connection to the database was lost: whether the transaction was committed is not known"
            }
            (false, Transaction::Idle) => {
                b"the connection to the database was lost: the statement was not carried out"
            }
            (false, _) => b"the connection to the database was lost: the transaction was rolled back",
        };
        let field = |code| fatal.and_then(|fatal| error_field(fatal, code));
        let state = field(b'C').filter(|state| state.len() == ADMIN_SHUTDOWN.len());
        let state = match self.unknown {
            true => RESOLUTION_UNKNOWN,
            false => state.unwrap_or(ADMIN_SHUTDOWN),
        };
        let mut body = BytesMut::new();
        for (code, value) in [
            (b'S', b"ERROR".as_slice()),
            (b'V', b"ERROR"),
            (b'C', state),
            (b'M', text),
        ] {
            put(&mut body, code, &[value]);
        }
        if let Some(said) = field(b'M') {
            put(&mut body, b'D', &[b"The server's last words were: ", said]);
        }
        put(
            &mut body,
            b'H',
            &[b"The session goes on with another connection."],
        );
        put(&mut body, b'R', &[b"pgswivel"]);
        body.put_u8(0);
        let mut message = BytesMut::new();
        say::error_body(&mut message, &body);
        message
    }
}

fn put(body: &mut BytesMut, code: u8, value: &[&[u8]]) {
    body.put_u8(code);
    value.iter().for_each(|part| body.put_slice(part));
    body.put_u8(0);
}

fn ready(out: &mut BytesMut, transaction: Transaction) {
    say::ready(
        out,
        if transaction == Transaction::Idle {
            b'I'
        } else {
            b'E'
        },
    );
}

fn status(transaction: Transaction) -> Status {
    match transaction {
        Transaction::Idle => Status::Idle,
        Transaction::Open => Status::Open,
        Transaction::Failed => Status::Failed,
    }
}

fn transaction(status: Status) -> Transaction {
    match status {
        Status::Idle => Transaction::Idle,
        _ => Transaction::Failed,
    }
}

/// What a client that was answered is still to be told or kept from, on its next link.
#[derive(Debug, Default)]
pub enum Still {
    #[default]
    Nothing,
    /// This error is the answer to its next request, whatever it is: it has sent nothing since it was told that
    /// all was well. Only a ROLLBACK asks for nothing that is lost, unless it comes in the middle of a unit of the
    /// extended protocol, of which the client takes more for done than a transaction undoes.
    Waits { error: Bytes, in_unit: bool },
    /// An error of the extended protocol was told: up to its Sync, the client's messages are ignored.
    Skips,
    /// It was sending the data of a COPY, and may not have noticed yet.
    Copies,
}

impl Still {
    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// A message from the client passes. What it is answered, if it is not the server that answers, is put into
    /// `out`.
    pub fn meet(&mut self, tag: u8, asked: &Asked, tracker: &mut Tracker, out: &mut BytesMut) -> Fate {
        match self {
            Self::Nothing => Fate::PassedOn,
            Self::Copies if matches!(tag, b'd' | b'c' | b'f') => Fate::Dropped,
            Self::Skips if !matches!(tag, b'S' | b'X') => Fate::Dropped,
            Self::Copies | Self::Skips => {
                *self = Self::Nothing;
                Fate::PassedOn
            }
            // They ask for nothing.
            Self::Waits { .. } if matches!(tag, b'H' | b'd' | b'c' | b'f' | b'X') => Fate::PassedOn,
            // There are clients that close what they need no more and never look at the answer. A failed
            // transaction closes it as well.
            Self::Waits { .. } if tag == b'C' || tag == b'S' && tracker.is_mid_unit() => Fate::PassedOn,
            Self::Waits { error, in_unit } => {
                let lost = tracker.transaction() != Transaction::Idle;
                if lost && !*in_unit && matches!(tag, b'Q' | b'P' | b'B') && asked.statement.rolls_back() {
                    *self = Self::Nothing;
                    return Fate::PassedOn;
                }
                out.put_slice(error);
                *self = Self::Nothing;
                match tag {
                    b'Q' | b'F' => ready(out, tracker.transaction()),
                    // The server has the ReadyForQuery that it asks for.
                    b'S' => return Fate::PassedOn,
                    _ => {
                        tracker.settle(tracker.transaction(), true);
                        *self = Self::Skips;
                    }
                }
                Fate::Dropped
            }
        }
    }
}
