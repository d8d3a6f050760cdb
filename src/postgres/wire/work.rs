//! What statements in flight may have done, for the case that nobody hears how they ended.
//!
//! Their first words are enough: what matters is whether they begin or end a transaction. In doubt they may have
//! done anything.

use memchr::memchr;

use super::parts::string;
use super::state_words::blanks::{skip, word};
use super::tag::{from_client, object};

/// More names of statements that begin or end transactions are not kept.
const NAMES_MAX: usize = 16;
/// A text with more semicolons may do anything.
const STATEMENTS_MAX: usize = 64;
/// So much of a text that comes in pieces shows what its first words are.
const HEAD_MIN: usize = 64;

/// One statement, by what it means for a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Changes nothing but the session.
    Harmless,
    Begin,
    Commit,
    CommitAndChain,
    Rollback,
    RollbackAndChain,
    /// Back to a savepoint: a failed transaction is open again.
    RollbackTo,
    /// May write. A SELECT is no better: it may call a function that does, and a client that is told that nothing
    /// was done will ask for it again.
    Other,
    Unknown,
}

impl Statement {
    /// Leaves a transaction that is lost anyway.
    pub fn rolls_back(self) -> bool {
        matches!(self, Self::Rollback | Self::RollbackAndChain)
    }

    /// The one that `text` begins with, if there is one before the next semicolon.
    fn of(text: &[u8]) -> Option<Self> {
        let text = skip(text);
        if matches!(text.first(), None | Some(b';' | 0)) {
            return None;
        }
        let first = word(text);
        let rest = &text[first.len()..];
        let is = |word: &str| first.eq_ignore_ascii_case(word.as_bytes());
        // Told apart by its length first: this is looked at with every statement.
        Some(match first.len() {
            3 if is("set") => Self::Harmless,
            3 if is("end") => ending(rest, Self::Commit),
            4 if is("show") => Self::Harmless,
            5 if is("begin") || is("start") => Self::Begin,
            5 if is("abort") => ending(rest, Self::Rollback),
            5 if is("reset") || is("fetch") || is("close") => Self::Harmless,
            6 if is("commit") => ending(rest, Self::Commit),
            6 if is("listen") => Self::Harmless,
            7 if is("prepare") && begins_with(rest, "transaction") => Self::Commit,
            7 if is("release") || is("discard") => Self::Harmless,
            8 if is("rollback") => ending(rest, Self::Rollback),
            8 if is("unlisten") => Self::Harmless,
            9 if is("savepoint") => Self::Harmless,
            10 if is("deallocate") => Self::Harmless,
            _ => Self::Other,
        })
    }

    /// Of a text that holds one at most, of which the end may be missing.
    fn of_one(text: &[u8], whole: bool) -> Self {
        let mut text = skip(text);
        while let Some(rest) = text.strip_prefix(b";") {
            text = skip(rest);
        }
        match whole || text.len() >= HEAD_MIN {
            true => Self::of(text).unwrap_or(Self::Harmless),
            false => Self::Unknown,
        }
    }

    const fn from(self, status: Status) -> Outcome {
        use Status::*;
        let (status, unknown) = match (self, status) {
            (Self::Harmless | Self::Begin, Loose) => (Loose, false),
            (Self::Harmless, status) => (status, false),
            (Self::Begin, Idle | Open) => (Open, false),
            (Self::Begin, Failed) => (Failed, false),
            (Self::Commit, status) => (Idle, matches!(status, Open | Loose)),
            (Self::Rollback, _) => (Idle, false),
            (Self::CommitAndChain | Self::RollbackAndChain | Self::RollbackTo, Idle) => (Idle, false),
            (Self::CommitAndChain | Self::RollbackAndChain | Self::RollbackTo, Failed) => (Open, false),
            (Self::CommitAndChain, status) => (status, true),
            (Self::RollbackAndChain | Self::RollbackTo, status) => (status, false),
            (Self::Other, status) => (status, matches!(status, Idle | Loose)),
            (Self::Unknown, Idle) => (Idle, true),
            (Self::Unknown, _) => (Loose, true),
        };
        Outcome { status, unknown }
    }
}

/// What stands behind COMMIT, END, ROLLBACK or ABORT decides what it is.
fn ending(rest: &[u8], plain: Statement) -> Statement {
    let mut rest = skip(rest);
    for noise in ["work", "transaction"] {
        if begins_with(rest, noise) {
            rest = skip(&rest[noise.len()..]);
        }
    }
    if begins_with(rest, "to") {
        return Statement::RollbackTo;
    }
    // COMMIT PREPARED is no end of a transaction, it writes.
    if begins_with(rest, "prepared") {
        return Statement::Other;
    }
    if !begins_with(rest, "and") || begins_with(&rest[3..], "no") {
        return plain;
    }
    match plain {
        Statement::Commit => Statement::CommitAndChain,
        _ => Statement::RollbackAndChain,
    }
}

fn begins_with(text: &[u8], wanted: &str) -> bool {
    word(skip(text)).eq_ignore_ascii_case(wanted.as_bytes())
}

/// Where a session stands, as far as it can be told from what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Idle,
    Open,
    Failed,
    /// In a transaction, unless the statement that was to begin it failed, or one that may have ended it did.
    Loose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub status: Status,
    /// Something may have been made permanent.
    pub unknown: bool,
}

impl Outcome {
    const fn certain(status: Status) -> Self {
        Self {
            status,
            unknown: false,
        }
    }
}

/// How many statements a stretch has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    Nothing,
    One(Statement),
    Many,
}

/// A stretch of statements that fail together: what it does from wherever it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    outcomes: [Outcome; 4],
    extent: Extent,
    names_begin: bool,
}

const STATUSES: [Status; 4] = [Status::Idle, Status::Open, Status::Failed, Status::Loose];

impl Work {
    pub const NOTHING: Self = Self {
        outcomes: [
            Outcome::certain(Status::Idle),
            Outcome::certain(Status::Open),
            Outcome::certain(Status::Failed),
            Outcome::certain(Status::Loose),
        ],
        extent: Extent::Nothing,
        names_begin: false,
    };

    /// In the order of the statements: looked up with everything that is executed.
    const OF_EACH: [Self; 9] = {
        use Statement::*;
        [
            Self::only(Harmless),
            Self::only(Begin),
            Self::only(Commit),
            Self::only(CommitAndChain),
            Self::only(Rollback),
            Self::only(RollbackAndChain),
            Self::only(RollbackTo),
            Self::only(Other),
            Self::only(Unknown),
        ]
    };

    pub fn of(statement: Statement) -> Self {
        Self::OF_EACH[statement as usize]
    }

    const fn only(statement: Statement) -> Self {
        let [idle, open, failed, loose] = STATUSES;
        Self {
            outcomes: [
                statement.from(idle),
                statement.from(open),
                statement.from(failed),
                statement.from(loose),
            ],
            extent: Extent::One(statement),
            names_begin: false,
        }
    }

    /// A Parse or a Bind, which do nothing yet.
    fn naming(statement: Statement) -> Self {
        Self {
            names_begin: statement == Statement::Begin,
            ..Self::NOTHING
        }
    }

    pub fn from(&self, status: Status) -> Outcome {
        self.outcomes[status as usize]
    }

    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// Something that begins a transaction was about to be executed.
    pub fn names_begin(&self) -> bool {
        self.names_begin
    }

    /// What is done then, and is skipped if this fails.
    pub fn add(&mut self, next: Self) {
        self.names_begin |= next.names_begin;
        match (self.extent, next.extent) {
            // A Bind or a Describe, of which there is one or more for each statement: it does nothing yet.
            (_, Extent::Nothing) => {}
            (Extent::Nothing, only) => (self.outcomes, self.extent) = (next.outcomes, only),
            _ => {
                self.extent = Extent::Many;
                for before in &mut self.outcomes {
                    let after = next.from(before.status);
                    *before = Outcome {
                        status: after.status,
                        unknown: before.unknown || after.unknown,
                    };
                }
            }
        }
    }

    /// Of the text of a Query.
    fn of_text(text: &[u8]) -> Self {
        let is_end = |byte: u8| matches!(byte, b';' | b' ' | b'\t' | b'\r' | b'\n' | 0);
        let last = text.iter().rposition(|byte| !is_end(*byte));
        let text = &text[..last.map_or(0, |last| last + 1)];
        let first = Statement::of(text);
        if memchr(b';', text).is_none() {
            return first.map_or(Self::NOTHING, Self::of);
        }
        // Whatever follows a semicolon is taken for a statement, inside of literals and comments too: that makes
        // it less certain what was done, never more.
        let mut semicolons = 0;
        let others = text.iter().enumerate().filter(|(_, byte)| **byte == b';');
        let others = others
            .inspect(|_| semicolons += 1)
            .take(STATEMENTS_MAX)
            .filter_map(|(at, _)| Statement::of(&text[at + 1..]));
        let mut all = first.into_iter().chain(others);
        let work = match (all.next(), all.next()) {
            (None, _) => Self::NOTHING,
            (Some(only), None) => Self::of(only),
            (Some(first), Some(second)) => Self::of_many([first, second].into_iter().chain(all)),
        };
        match semicolons {
            ..STATEMENTS_MAX => work,
            _ => Self::of(Statement::Unknown),
        }
    }

    /// Of statements that may or may not be ones.
    fn of_many(statements: impl Iterator<Item = Statement>) -> Self {
        let (mut begins, mut commits, mut rolls_back, mut reopens, mut writes) = Default::default();
        for statement in statements {
            match statement {
                Statement::Harmless => {}
                Statement::Begin => begins = true,
                Statement::Commit | Statement::CommitAndChain => commits = true,
                Statement::Rollback | Statement::RollbackAndChain => rolls_back = true,
                Statement::RollbackTo => reopens = true,
                Statement::Other | Statement::Unknown => writes = true,
            }
        }
        let ends = commits || rolls_back;
        let outcomes = STATUSES.map(|status| match status {
            Status::Idle => Outcome {
                status: if begins { Status::Loose } else { Status::Idle },
                unknown: writes,
            },
            Status::Open | Status::Failed => Outcome {
                status: match (ends, reopens) {
                    (true, _) => Status::Loose,
                    (false, true) => Status::Open,
                    (false, false) => status,
                },
                unknown: commits || rolls_back && writes,
            },
            Status::Loose => Outcome {
                status: Status::Loose,
                unknown: commits || writes,
            },
        });
        Self {
            outcomes,
            extent: Extent::Many,
            names_begin: false,
        }
    }
}

/// What one message of a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub work: Work,
    /// The one that the message holds or names.
    pub statement: Statement,
}

impl Asked {
    fn only(work: Work) -> Self {
        let statement = match work.extent {
            Extent::One(statement) => statement,
            _ => Statement::Other,
        };
        Self { work, statement }
    }

    fn named(statement: Statement) -> Self {
        Self {
            work: Work::naming(statement),
            statement,
        }
    }
}

/// What the statements and portals of a client would do.
#[derive(Debug)]
pub struct Statements {
    /// The few that begin or end transactions.
    named: Vec<(Box<[u8]>, Statement)>,
    /// Others are not kept: what has a name may be one of them.
    forgotten: bool,
    unnamed: Statement,
    portal: Statement,
    /// Any portal that has a name.
    named_portals: Statement,
}

impl Default for Statements {
    fn default() -> Self {
        Self {
            named: Vec::new(),
            forgotten: false,
            unnamed: Statement::Unknown,
            portal: Statement::Unknown,
            named_portals: Statement::Other,
        }
    }
}

impl Statements {
    /// A message from the client passes, `whole` or with the beginning of its body.
    #[inline]
    pub fn read(&mut self, tag: u8, body: &[u8], whole: bool) -> Asked {
        match tag {
            from_client::QUERY if whole => Asked::only(Work::of_text(body)),
            from_client::QUERY => Asked::only(Work::of(Statement::Unknown)),
            from_client::PARSE => Asked::named(self.parse(body, whole)),
            from_client::BIND => Asked::named(self.bind(body)),
            from_client::EXECUTE if body.first() == Some(&0) => Asked::only(Work::of(self.portal)),
            from_client::EXECUTE => Asked::only(Work::of(self.named_portals)),
            from_client::FUNCTION_CALL => Asked::only(Work::of(Statement::Other)),
            from_client::CLOSE => {
                self.close(body);
                Asked::named(Statement::Other)
            }
            _ => Asked::named(Statement::Other),
        }
    }

    /// The server refused something: the last Parse may be what it refused, or skipped.
    pub fn doubt(&mut self) {
        self.unnamed = Statement::Unknown;
    }

    fn parse(&mut self, body: &[u8], whole: bool) -> Statement {
        let Some((name, text)) = string(body) else {
            self.forgotten = true;
            self.unnamed = Statement::Unknown;
            return Statement::Unknown;
        };
        let statement = Statement::of_one(text, whole);
        if name.is_empty() {
            self.unnamed = statement;
        } else if let Some((_, known)) = self.named.iter_mut().find(|(known, _)| **known == *name) {
            // Which of the two the name stands for depends on what the server made of both.
            if *known != statement {
                *known = Statement::Unknown;
            }
        } else if !matches!(statement, Statement::Harmless | Statement::Other) {
            if self.named.len() < NAMES_MAX {
                self.named.push((name.into(), statement));
            } else {
                self.forgotten = true;
            }
        }
        statement
    }

    #[inline]
    fn bind(&mut self, body: &[u8]) -> Statement {
        match body {
            // Most portals have no name.
            [0, statement @ ..] => {
                self.portal = self.statement_here(statement);
                self.portal
            }
            body => self.bind_named(body),
        }
    }

    #[inline(never)]
    fn bind_named(&mut self, body: &[u8]) -> Statement {
        let Some((_, statement)) = string(body) else {
            self.portal = Statement::Unknown;
            self.named_portals = Statement::Unknown;
            return Statement::Unknown;
        };
        let statement = self.statement_here(statement);
        if !matches!(statement, Statement::Harmless | Statement::Other) {
            self.named_portals = Statement::Unknown;
        }
        statement
    }

    /// The one whose name `text` begins with.
    #[inline]
    fn statement_here(&self, text: &[u8]) -> Statement {
        if text.first().is_none_or(|first| *first == 0) {
            return self.unnamed;
        }
        let is_named = |name: &[u8]| {
            text.strip_prefix(name)
                .is_some_and(|rest| rest.first() == Some(&0))
        };
        match self.named.iter().find(|(known, _)| is_named(known)) {
            Some((_, statement)) => *statement,
            None if self.forgotten => Statement::Unknown,
            None => Statement::Other,
        }
    }

    fn close(&mut self, body: &[u8]) {
        if let Some((&object::STATEMENT, rest)) = body.split_first()
            && let Some((name, _)) = string(rest)
        {
            self.named.retain(|(known, _)| **known != *name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Work {
        let body = [text.as_bytes(), b"\0"].concat();
        Statements::default().read(b'Q', &body, true).work
    }

    #[test]
    fn first_words_tell_what_ends_a_transaction() {
        use Statement::*;
        for (text, expected) in [
            ("begin", Begin),
            ("START TRANSACTION ISOLATION LEVEL SERIALIZABLE", Begin),
            ("commit", Commit),
            (" -- done\n Commit Work;", Commit),
            ("/* a /* b */ */ END TRANSACTION ; ;", Commit),
            (";; commit", Commit),
            ("COMMIT AND NO CHAIN", Commit),
            ("COMMIT TRANSACTION AND CHAIN", CommitAndChain),
            ("PREPARE TRANSACTION 'x'", Commit),
            ("COMMIT PREPARED 'x'", Other),
            ("ROLLBACK PREPARED 'x'", Other),
            ("PREPARE s AS SELECT 1", Other),
            ("rollback", Rollback),
            ("ABORT", Rollback),
            ("ROLLBACK WORK AND CHAIN", RollbackAndChain),
            ("ROLLBACK TO a", RollbackTo),
            ("rollback/**/transaction to savepoint a", RollbackTo),
            ("SHOW x", Harmless),
            ("SET x = 1", Harmless),
            ("SELECT 1", Other),
            ("(SELECT 1)", Other),
            ("committed", Other),
            ("\"commit\"", Other),
        ] {
            assert_eq!(query(text), Work::of(expected), "{text}");
            let body = [b"\0", text.as_bytes(), b"\0\0\0"].concat();
            let parsed = Statements::default().read(b'P', &body, true);
            assert_eq!(parsed.statement, expected, "{text}");
            assert_eq!(parsed.work, Work::naming(expected));
        }
        for text in ["", " ", ";", " ; -- nothing", "/* ; */"] {
            assert!(
                matches!(query(text).from(Status::Open), Outcome { unknown: false, .. }),
                "{text}"
            );
        }
    }

    #[test]
    fn a_commit_is_found_wherever_a_text_hides_it() {
        for text in [
            "INSERT INTO t VALUES (1); COMMIT",
            "SELECT 1;/* x; */commit;SELECT 2",
            "SELECT '; /* '; COMMIT",
            "SELECT 1 -- ;\n; end",
            "/* a; b */ END TRANSACTION",
            "SELECT 1; PREPARE TRANSACTION 'x'",
            "ROLLBACK; INSERT INTO t VALUES (1)",
            &format!("{} COMMIT", ";".repeat(1000)),
        ] {
            let Outcome { status, unknown } = query(text).from(Status::Open);
            assert!(unknown, "{text}");
            assert_ne!(status, Status::Idle, "{text}");
        }
        for text in [
            "SELECT 1; SELECT 2",
            "SELECT 1; ROLLBACK TO a; SELECT 2",
            "SELECT '; x'",
        ] {
            assert!(!query(text).from(Status::Open).unknown, "{text}");
            assert!(query(text).from(Status::Idle).unknown, "{text}");
        }
        assert!(!query("SHOW x; SET y = 1").from(Status::Idle).unknown);
    }

    #[test]
    fn what_comes_in_pieces_is_known_by_its_beginning_if_it_is_one_statement() {
        let text = [b"INSERT INTO t VALUES ".as_slice(), &[b'x'; 100]].concat();
        let mut statements = Statements::default();
        let parsed = statements.read(b'P', &[b"name\0", &text[..]].concat(), false);
        assert_eq!(parsed.statement, Statement::Other);
        for beginning in [&b"name\0COM"[..], b"name\0", b"nam", b""] {
            let mut statements = Statements::default();
            assert_eq!(
                statements.read(b'P', beginning, false).statement,
                Statement::Unknown
            );
            assert_eq!(
                bound(&mut statements, "name"),
                Statement::Unknown,
                "{beginning:?}"
            );
        }
        assert!(
            statements
                .read(b'Q', &text, false)
                .work
                .from(Status::Open)
                .unknown
        );
    }

    fn parse(statements: &mut Statements, name: &str, text: &str) {
        let body = [name.as_bytes(), b"\0", text.as_bytes(), b"\0\0\0"].concat();
        statements.read(b'P', &body, true);
    }

    fn bound(statements: &mut Statements, name: &str) -> Statement {
        let body = [b"\0", name.as_bytes(), b"\0\0\0\0\0\0\0"].concat();
        statements.read(b'B', &body, true).statement
    }

    #[test]
    fn an_execute_does_what_its_portal_was_bound_to() {
        let mut statements = Statements::default();
        parse(&mut statements, "c", "COMMIT");
        parse(&mut statements, "i", "INSERT INTO t VALUES (1)");
        parse(&mut statements, "", "ROLLBACK");
        for (name, expected) in [
            ("c", Statement::Commit),
            ("i", Statement::Other),
            ("", Statement::Rollback),
        ] {
            assert_eq!(bound(&mut statements, name), expected);
            let executed = statements.read(b'E', b"\0\0\0\0\0", true);
            assert_eq!(executed.work, Work::of(expected));
        }
        let named = |statements: &mut Statements| statements.read(b'E', b"portal\0\0\0\0\0", true).work;
        statements.read(b'B', b"portal\0i\0\0\0\0\0\0\0", true);
        assert_eq!(named(&mut statements), Work::of(Statement::Other));
        statements.read(b'B', b"portal\0c\0\0\0\0\0\0\0", true);
        assert_eq!(named(&mut statements), Work::of(Statement::Unknown));
        statements.doubt();
        assert_eq!(bound(&mut statements, ""), Statement::Unknown);
    }

    #[test]
    fn a_name_that_stood_for_two_things_may_stand_for_either() {
        let mut statements = Statements::default();
        parse(&mut statements, "s", "COMMIT");
        parse(&mut statements, "s", "SELECT 1");
        assert_eq!(bound(&mut statements, "s"), Statement::Unknown);
        statements.read(b'C', b"Ss\0", true);
        parse(&mut statements, "s", "SELECT 1");
        assert_eq!(bound(&mut statements, "s"), Statement::Other);
    }

    #[test]
    fn names_beyond_the_limit_are_not_taken_for_harmless() {
        let mut statements = Statements::default();
        for number in 0..=NAMES_MAX {
            parse(&mut statements, &number.to_string(), "COMMIT");
        }
        assert_eq!(statements.named.len(), NAMES_MAX);
        assert_eq!(bound(&mut statements, "0"), Statement::Commit);
        assert_eq!(bound(&mut statements, &NAMES_MAX.to_string()), Statement::Unknown);
    }

    #[test]
    fn arbitrary_messages_never_panic() {
        use proptest::prelude::*;
        proptest!(|(tag in any::<u8>(), body in prop::collection::vec(any::<u8>(), 0..64), whole in any::<bool>())| {
            let _ = Statements::default().read(tag, &body, whole);
        });
    }
}
