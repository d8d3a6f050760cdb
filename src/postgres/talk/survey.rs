//! Asks Postgres what state a session holds: one round trip at a safe point, which leaves everything as it was.
//!
//! * One transaction that reads only, at an isolation level that never waits, ended by COMMIT. What is set in it is
//!   local to it, and back in place before Postgres would tell the client.
//! * One named statement at a time and the unnamed portal: the client's unnamed statement survives.
//! * Every name is qualified, because the client's search path may lead anywhere. Functions are asked rather than
//!   the views over them: nothing to lock, less to plan.
//! * Text comes as `bytea` in the database's encoding: the client's may not have every character of it.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::exchange::{Aside, Broken, Exchange, Script, SqlState};
use super::stream::MessageStream;
use crate::postgres::state::ledger::{Draft, LACKS_QUERY, Lacks, Ledger, Pin, watched_names};
use crate::postgres::wire::extended::{BYTEA, BYTEA_ARRAY, INT4, TEXT_ARRAY, bytea_array, text_array};
use crate::postgres::wire::read::{Malformed, row};

/// As Postgres cuts it when a user logs in.
const USER_NAME_MAX: usize = 63;

macro_rules! raw {
    ($text:literal) => {
        concat!(
            "pg_catalog.convert_to(",
            $text,
            ", pg_catalog.getdatabaseencoding())"
        )
    };
}

/// Not serializable, which could wait for others, and never refused: not by a standby, not by a default.
pub const BEGIN: &str = "/* pgswivel */ BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY, NOT DEFERRABLE";
pub const COMMIT: &str = "/* pgswivel */ COMMIT";

/// What the session has set; of the rest, what came with the login; and the limits that we are about to replace.
/// Values in milliseconds with their unit, so that both ways to learn a timeout give the same.
const SETTINGS: &str = concat!(
    "/* pgswivel */ SELECT CASE WHEN s.source OPERATOR(pg_catalog.=) 'session' THEN 'setting' ELSE 'login' \
     END::pg_catalog.text, ",
    raw!("s.name"),
    ", ",
    raw!(
        "CASE WHEN s.source OPERATOR(pg_catalog.<>) 'session' THEN '' \
         WHEN s.unit OPERATOR(pg_catalog.=) 'ms' THEN pg_catalog.current_setting(s.name) \
         WHEN pg_catalog.octet_length(s.setting) OPERATOR(pg_catalog.<=) $1 THEN s.setting END"
    ),
    ", NULL::pg_catalog.text FROM pg_catalog.pg_show_all_settings() AS s \
     WHERE s.source OPERATOR(pg_catalog.<>) 'default' AND s.source OPERATOR(pg_catalog.<>) 'configuration file' \
     AND s.source OPERATOR(pg_catalog.<>) 'override' AND s.source OPERATOR(pg_catalog.<>) 'command line' \
     AND s.source OPERATOR(pg_catalog.<>) 'environment variable' \
     UNION ALL SELECT 'limit', ",
    raw!("l.name"),
    ", ",
    raw!("pg_catalog.current_setting(l.name, true)"),
    ", NULL FROM pg_catalog.unnest('{statement_timeout,lock_timeout,transaction_timeout}'::pg_catalog.text[]) AS l(name) \
     WHERE pg_catalog.current_setting(l.name, true) IS NOT NULL",
);

/// The one that a survey may die of, as it was: as little as possible happens before it is gone.
const TIMEOUT_BEFORE: &str = concat!(
    "/* pgswivel */ SELECT 'replaced'::pg_catalog.text, ",
    raw!("'statement_timeout'"),
    ", ",
    raw!("pg_catalog.current_setting('statement_timeout')"),
    ", NULL::pg_catalog.text",
);
pub const TIMEOUT: &str = "/* pgswivel */ SET LOCAL statement_timeout = '2s'";

/// What else [`OUR_LIMITS`] changes, as it was.
const LIMITS_BEFORE: &str = concat!(
    "/* pgswivel */ SELECT 'replaced'::pg_catalog.text, ",
    raw!("s.name"),
    ", ",
    raw!("pg_catalog.current_setting(s.name, true)"),
    ", NULL::pg_catalog.text FROM pg_catalog.unnest('{lock_timeout,transaction_timeout}'\
     ::pg_catalog.text[]) AS s(name) WHERE pg_catalog.current_setting(s.name, true) IS NOT NULL",
);

/// Our own limits in place of the client's: a survey neither dies of those nor waits for long.
const OUR_LIMITS: &str = "/* pgswivel */ SELECT 'none' \
     WHERE pg_catalog.set_config('statement_timeout', '2s', true) IS NULL \
     OR pg_catalog.set_config('lock_timeout', '1s', true) IS NULL \
     OR CASE WHEN pg_catalog.current_setting('server_version_num')::pg_catalog.int4 \
     OPERATOR(pg_catalog.>=) 170000 THEN pg_catalog.set_config('transaction_timeout', '0', true) IS NULL END";

const HELD: &str = concat!(
    "/* pgswivel */ SELECT CASE WHEN p.from_sql THEN 'prepare' ELSE 'parse' END, ",
    raw!("p.name"),
    ", ",
    raw!("CASE WHEN pg_catalog.octet_length(p.statement) OPERATOR(pg_catalog.<=) $1 THEN p.statement END"),
    ", p.parameter_types::pg_catalog.oid[]::pg_catalog.text FROM pg_catalog.pg_prepared_statement() AS p \
     UNION ALL SELECT 'listen', ",
    raw!("l.name"),
    ", NULL, NULL FROM pg_catalog.pg_listening_channels() AS l(name) \
     UNION ALL SELECT 'custom', ",
    raw!("c.name"),
    ", ",
    raw!("CASE WHEN pg_catalog.octet_length(c.value) OPERATOR(pg_catalog.<=) $1 THEN c.value END"),
    ", NULL FROM (SELECT n.name, pg_catalog.current_setting(n.name, true) AS value \
     FROM (SELECT pg_catalog.convert_from(b.name, pg_catalog.getdatabaseencoding()) AS name \
     FROM pg_catalog.unnest($2) AS b(name)) AS n) AS c WHERE c.value IS NOT NULL \
     UNION ALL SELECT 'reported', ",
    raw!("r.name"),
    ", ",
    raw!("r.value"),
    ", NULL FROM (SELECT n.name, pg_catalog.current_setting(n.name, true) AS value \
     FROM pg_catalog.unnest($3) AS n(name)) AS r WHERE r.value IS NOT NULL \
     UNION ALL SELECT 'role', ",
    raw!("pg_catalog.current_setting('role')"),
    ", NULL, NULL UNION ALL SELECT 'session user', ",
    raw!("pg_catalog.current_setting('session_authorization')"),
    ", NULL, CASE WHEN ",
    raw!("pg_catalog.current_setting('session_authorization')"),
    " OPERATOR(pg_catalog.<>) $4 THEN 'changed' END \
     UNION ALL SELECT 'pin', 'temporary_objects', NULL, NULL WHERE EXISTS (SELECT FROM pg_catalog.pg_depend AS d \
     WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass \
     AND d.refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())",
);

/// What else is held, if it may be asked.
const HELD_TOO: [(Pin, &str); 3] = [
    (
        Pin::AdvisoryLocks,
        " UNION ALL SELECT 'pin', 'advisory_locks', NULL, NULL WHERE EXISTS (SELECT FROM pg_catalog.pg_lock_status() AS l \
         WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' \
         AND l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() AND l.granted)",
    ),
    (
        Pin::HeldCursors,
        " UNION ALL SELECT 'pin', 'held_cursors', NULL, NULL WHERE EXISTS (SELECT FROM pg_catalog.pg_cursor() AS c \
         WHERE c.is_holdable)",
    ),
    (
        Pin::ReplicationSlots,
        " UNION ALL SELECT 'pin', 'replication_slots', NULL, NULL WHERE EXISTS (SELECT FROM \
         pg_catalog.pg_get_replication_slots() AS s \
         WHERE s.temporary AND s.active_pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())",
    ),
];

/// The role that the session goes back to, asked last: for the rest of the transaction it is that role.
const DEFAULT_ROLE: &str = concat!(
    "/* pgswivel */ SELECT 'default role'::pg_catalog.text, ",
    raw!("pg_catalog.set_config('role', NULL, true)"),
    ", NULL::pg_catalog.text, NULL::pg_catalog.text",
);

/// The same in two steps, without set_config.
const DEFAULT_ROLE_SET: &str = "/* pgswivel */ SET LOCAL \"role\" TO DEFAULT";
const DEFAULT_ROLE_ASKED: &str = concat!(
    "/* pgswivel */ SELECT 'default role'::pg_catalog.text, ",
    raw!("pg_catalog.current_setting('role')"),
    ", NULL::pg_catalog.text, NULL::pg_catalog.text",
);

/// A right is missing.
pub const FORBIDDEN: &[u8; 5] = b"42501";

/// With a timeout of a millisecond, even that may take more than one.
const ATTEMPTS_MAX: u32 = 5;

/// The server gave up on a statement, or on a lock.
const TIMED_OUT: [&[u8; 5]; 2] = [b"57014", b"55P03"];

/// What to ask about.
#[derive(Clone)]
pub struct Question {
    /// Who logged in.
    user: Vec<u8>,
    /// `bytea[]`
    custom: Vec<u8>,
    bytes_max: u32,
    lacks: Lacks,
}

impl Question {
    /// Where not everything may be asked, as it turned out before.
    pub fn knowing(self, lacks: Lacks) -> Self {
        Self { lacks, ..self }
    }

    /// The same of a link that another user logged in on.
    pub fn of(self, user: &[u8]) -> Self {
        Self {
            user: user[..user.len().min(USER_NAME_MAX)].to_vec(),
            ..self
        }
    }

    /// `custom`: names of custom settings, in the encoding of the database. `bytes_max`: of the ledger.
    pub fn new<'a>(user: &[u8], custom: impl Iterator<Item = &'a [u8]>, bytes_max: u32) -> Self {
        // No setting has such a name, and a server refuses to look for one.
        let custom: Vec<&[u8]> = custom.filter(|name| !name.contains(&0)).collect();
        Self {
            user: user[..user.len().min(USER_NAME_MAX)].to_vec(),
            custom: bytea_array(custom.into_iter()).to_vec(),
            bytes_max: bytes_max.min(i32::MAX as u32),
            lacks: Lacks::default(),
        }
    }
}

/// What a step of a survey is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SurveyStep {
    Begin,
    Settings,
    Held,
    Commit,
}

#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    #[error("the survey was cut off: {0}")]
    Lost(Broken<SurveyStep>),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The link is as it was before.
    #[error("the server refused a survey at {at:?} with {state}")]
    Refused { at: SurveyStep, state: SqlState },
}

impl SurveyError {
    /// Of the server, if it ended the link.
    pub fn last_words(&self) -> Option<&Bytes> {
        match self {
            Self::Lost(broken) => broken.last_words(),
            _ => None,
        }
    }

    /// Whether the session can go on over the same link.
    pub fn leaves_the_link(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

/// A survey under way. The future of [`Survey::run`] may be dropped and asked for again.
pub struct Survey {
    question: Question,
    exchange: Exchange<SurveyStep>,
    draft: Draft,
    attempts: u32,
    /// What was refused, while the server is asked what it would not refuse.
    forbidden: Option<(SurveyStep, SqlState)>,
    order: Order,
}

/// Which comes first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// The client's settings as they are. Its own timeouts are in force meanwhile.
    Settings,
    /// Our limits; then where the settings that they change came from is not known any more.
    Limits,
}

impl Survey {
    pub fn new(question: Question) -> Self {
        let (exchange, draft) = ask(&question, Order::Settings);
        Self {
            question,
            exchange,
            draft,
            attempts: 1,
            forbidden: None,
            order: Order::Settings,
        }
    }

    /// The link is at rest before and, unless it is lost, after. What comes for the client meanwhile is in `aside`.
    pub async fn run<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        talk: &mut MessageStream<S>,
        aside: &mut Aside,
    ) -> Result<Ledger, SurveyError> {
        loop {
            match self.exchange.next_row(talk, aside).await {
                Ok(Some(message)) if self.forbidden.is_some() => {
                    let [signature] = row::<1>(message.body())?;
                    self.question.lacks.insert(signature.unwrap_or_default());
                }
                Ok(Some(row)) => self.draft.row(row.body())?,
                Ok(None) => match self.forbidden.take() {
                    // It is something else.
                    Some((at, state)) if self.question.lacks.is_empty() => {
                        return Err(SurveyError::Refused { at, state });
                    }
                    Some(_) => (self.exchange, self.draft) = ask(&self.question, self.order),
                    None => {
                        let ledger = std::mem::take(&mut self.draft).finish();
                        return Ok(ledger.of_a_server_that(self.question.lacks));
                    }
                },
                Err(Broken::Refused { state, .. })
                    if self.attempts < ATTEMPTS_MAX && TIMED_OUT.contains(&state.as_bytes()) =>
                {
                    self.attempts += 1;
                    self.order = Order::Limits;
                    self.forbidden = None;
                    (self.exchange, self.draft) = ask(&self.question, self.order);
                }
                Err(Broken::Refused { at, state })
                    if state.as_bytes() == FORBIDDEN
                        && self.forbidden.is_none()
                        && self.question.lacks.is_empty() =>
                {
                    self.forbidden = Some((at, state));
                    self.exchange = what_is_lacking();
                }
                Err(Broken::Refused { at, state }) => return Err(SurveyError::Refused { at, state }),
                Err(broken) => return Err(SurveyError::Lost(broken)),
            }
        }
    }
}

/// What the user of a link may not execute.
pub async fn lacking<S>(talk: &mut MessageStream<S>, aside: &mut Aside) -> Result<Lacks, SurveyError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut exchange, mut lacks) = (what_is_lacking(), Lacks::default());
    loop {
        match exchange.next_row(talk, aside).await {
            Ok(Some(message)) => {
                let [signature] = row::<1>(message.body())?;
                lacks.insert(signature.unwrap_or_default());
            }
            Ok(None) => return Ok(lacks),
            Err(Broken::Refused { at, state }) => return Err(SurveyError::Refused { at, state }),
            Err(broken) => return Err(SurveyError::Lost(broken)),
        }
    }
}

fn what_is_lacking() -> Exchange<SurveyStep> {
    let mut script = Script::new();
    script.run(SurveyStep::Begin, BEGIN);
    script.run(SurveyStep::Held, LACKS_QUERY);
    script.run(SurveyStep::Commit, COMMIT);
    script.finish(SurveyStep::Commit)
}

/// Asks whether there is a user whose session it is.
pub fn whose_session() -> Exchange<SurveyStep> {
    let mut script = Script::new();
    script.run(SurveyStep::Held, "/* pgswivel */ SELECT session_user");
    script.finish(SurveyStep::Held)
}

/// Our own limits, until the end of the transaction.
pub fn limit<T: Copy>(script: &mut Script<T>, step: T, lacks: Lacks) {
    if !lacks.set_config() {
        return script.run(step, OUR_LIMITS);
    }
    script.run(step, TIMEOUT);
    script.run(step, "/* pgswivel */ SET LOCAL lock_timeout = '1s'");
}

fn ask(question: &Question, order: Order) -> (Exchange<SurveyStep>, Draft) {
    let mut script = Script::new();
    let max = question.bytes_max.to_be_bytes();
    let max = Some(&max[..]);
    script.run(SurveyStep::Begin, BEGIN);
    if order == Order::Limits {
        script.run(SurveyStep::Settings, TIMEOUT_BEFORE);
        script.run(SurveyStep::Begin, TIMEOUT);
        script.run(SurveyStep::Settings, LIMITS_BEFORE);
        limit(&mut script, SurveyStep::Begin, question.lacks);
    }
    script.ask(SurveyStep::Settings, SETTINGS, &[INT4], &[max]);
    if order == Order::Settings {
        limit(&mut script, SurveyStep::Begin, question.lacks);
    }
    let reported = text_array(watched_names().collect::<Vec<_>>().into_iter());
    let types = [INT4, BYTEA_ARRAY, TEXT_ARRAY, BYTEA];
    let values = [max, Some(&question.custom), Some(&reported), Some(&question.user)];
    let too = HELD_TOO.iter().filter(|(pin, _)| question.lacks.knows(*pin));
    let held: String = std::iter::once(HELD).chain(too.map(|(_, sql)| *sql)).collect();
    script.ask(SurveyStep::Held, held, &types, &values);
    if question.lacks.set_config() {
        script.run(SurveyStep::Held, DEFAULT_ROLE_SET);
        script.run(SurveyStep::Held, DEFAULT_ROLE_ASKED);
    } else {
        script.run(SurveyStep::Held, DEFAULT_ROLE);
    }
    script.run(SurveyStep::Commit, COMMIT);
    let draft = Draft::new(question.bytes_max as usize, script.name());
    (script.finish(SurveyStep::Commit), draft)
}
