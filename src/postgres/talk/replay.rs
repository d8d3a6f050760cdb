//! Makes a fresh link what a ledger says: one round trip, right after its login with the session's own startup
//! parameters. Then, for a session that listens, the overlap of the old link and the new:
//!
//! 1. [`listen_for`] the marker on the old link
//! 2. [`overlap`] on the new: LISTEN on every channel and on the marker, and NOTIFY the marker, in one transaction
//! 3. [`drain_until_marker`](super::exchange::drain_until_marker) on both
//!
//! Every session of a database sees the same notifications in the same order. What comes before the marker reaches
//! the client over the old link and is dropped on the new; what comes after it, the other way round. A move that is
//! given up calls [`forget`] on the old link, and the new link does when it has seen the marker.

use tokio::io::{AsyncRead, AsyncWrite};

use super::exchange::{Aside, Broken, Exchange, Marker, Script, SqlState};
use super::stream::MessageStream;
use super::survey::{BEGIN, COMMIT, TIMEOUT, limit};
use crate::postgres::state::known::{Again, Parsed};
use crate::postgres::state::ledger::{LIMITS, Lacks, Ledger, Origin, Pin, Setting, Statement, Text};
use crate::postgres::wire::described::Shape;
use crate::postgres::wire::extended::{BOOL, TEXT, TEXT_ARRAY, identifier, text_array};

/// In the order of the arrays, which is all that counts the rows.
const SET: &str = "/* pgswivel */ SELECT pg_catalog.count(pg_catalog.set_config(s.name, s.value, $3)) \
     FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS s(name, value)";

const SET_ONE: &str = "/* pgswivel */ SELECT pg_catalog.set_config($1, $2, false)";
/// With the value that it has, if it has one.
const TOUCH: &str = "/* pgswivel */ SELECT pg_catalog.set_config($1, \
     COALESCE(pg_catalog.current_setting($1, true), ''), false)";

/// Whether what the login gives comes from its role, its database or its client: it can't be the same value, read anew
/// from the server's files.
macro_rules! unless_it_follows {
    () => {
        "CASE WHEN k.follows OPERATOR(pg_catalog.=) 't' THEN EXISTS (SELECT FROM pg_catalog.pg_show_all_settings() AS s \
         WHERE s.name OPERATOR(pg_catalog.=) k.name AND s.source OPERATOR(pg_catalog.<>) 'default' \
         AND s.source OPERATOR(pg_catalog.<>) 'configuration file' AND s.source OPERATOR(pg_catalog.<>) 'command line' \
         AND s.source OPERATOR(pg_catalog.<>) 'environment variable') ELSE true END"
    };
}

/// What was in force without having been set, where the login gives another value.
const KEEP: &str = concat!(
    "/* pgswivel */ SELECT pg_catalog.count(pg_catalog.set_config(k.name, k.value, false)) \
     FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS k(name, value, follows) \
     WHERE pg_catalog.current_setting(k.name, true) OPERATOR(pg_catalog.<>) k.value AND ",
    unless_it_follows!()
);

/// The same of what has our own values until the end.
const KEEP_LATE: &str = concat!(
    "/* pgswivel */ SELECT pg_catalog.count(pg_catalog.set_config(k.name, k.value, false)) \
     FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS k(name, value, follows) \
     WHERE CASE WHEN pg_catalog.current_setting(k.name, true) IS NOT NULL \
     THEN pg_catalog.set_config(k.name, NULL, true) OPERATOR(pg_catalog.<>) k.value END AND ",
    unless_it_follows!()
);

/// The role that the session acts as by default, where the login gives another one. See
/// [`keeps_role`](crate::postgres::state::ledger::Identity::keeps_role).
const KEEP_ROLE: &str = "/* pgswivel */ SELECT pg_catalog.set_config('role', $1, false) \
     WHERE pg_catalog.current_setting('role') OPERATOR(pg_catalog.<>) $1 \
     AND ($1 OPERATOR(pg_catalog.<>) 'none' OR pg_catalog.current_setting('session_authorization') \
     OPERATOR(pg_catalog.=) $2)";

const CLIENT_ENCODING: &[u8] = b"client_encoding";

/// What a step of a replay is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayStep {
    Frame,
    Settings,
    Identity,
    Statement,
    Unnamed,
    Listen,
    /// What the client said.
    Said,
}

/// A replay under way, or another exchange of the same kind. Its future may be dropped and asked for again.
pub struct Replay(Exchange<ReplayStep>);

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("the replay was cut off: {0}")]
    Lost(Broken<ReplayStep>),
    /// The link is at rest.
    #[error("the server refused the replay of {at:?} with {state}")]
    Refused { at: ReplayStep, state: SqlState },
}

impl ReplayError {
    /// What the session can't take along, if it will not do so later either.
    pub fn pin(&self) -> Option<Pin> {
        let Self::Refused { at, state } = self else {
            return None;
        };
        // The connection, resources, an operator, a conflict, the system.
        if matches!(state.class(), b"08" | b"53" | b"57" | b"40" | b"55" | b"58") {
            return None;
        }
        match at {
            ReplayStep::Frame => None,
            ReplayStep::Settings | ReplayStep::Said => Some(Pin::UnreplayableSetting),
            ReplayStep::Identity => Some(Pin::UnreplayableRole),
            ReplayStep::Statement | ReplayStep::Unnamed => Some(Pin::UnreplayableStatement),
            ReplayStep::Listen => Some(Pin::UnreplayableChannel),
        }
    }
}

impl Replay {
    /// Everything but the channels and the unnamed statement. `parsed`: named statements that Postgres did not list
    /// when it was asked.
    pub fn new(ledger: &Ledger, parsed: &[Parsed]) -> Self {
        let mut script = Script::new();
        begin(&mut script, ledger);
        // Would end the replay itself if they were set before its end.
        let is_late = |name: &[u8]| LIMITS.contains(&name) || name == CLIENT_ENCODING;
        let settings = ledger.settings().iter().filter(|s| !is_late(&s.name));
        let settings: Vec<(&[u8], &[u8])> = settings.chain(ledger.custom()).map(pair).collect();
        let (late, early): (Vec<_>, Vec<_>) = ledger.unset().partition(|(name, ..)| is_late(name));
        // A superuser who acts as somebody else set them before; somebody else who acts as a superuser, after.
        let is_superuser = ledger.reported(b"is_superuser") == Some(b"on");
        if is_superuser {
            identity(&mut script, ledger);
        }
        keep(&mut script, ledger, KEEP, &early);
        set(&mut script, ledger, ReplayStep::Settings, &settings, Until::Reset);
        if !is_superuser {
            identity(&mut script, ledger);
        }
        let mut reading = Reading::as_in(ledger);
        for statement in ledger.statements() {
            reading.change(&mut script, ledger.read_under(statement));
            prepare(&mut script, statement);
        }
        if !parsed.is_empty() {
            clients_encoding(&mut script, ledger);
        }
        for parsed in parsed {
            reading.change(&mut script, ledger.parsed_under(&parsed.under));
            script.prepare_body(ReplayStep::Statement, &parsed.body);
        }
        reading.change(&mut script, Vec::new());
        keep(&mut script, ledger, KEEP_LATE, &late);
        let last = ledger.settings().iter().filter(|s| is_late(&s.name));
        let last: Vec<(&[u8], &[u8])> = last.map(pair).collect();
        set(&mut script, ledger, ReplayStep::Settings, &last, Until::Reset);
        script.run(ReplayStep::Frame, COMMIT);
        Self(script.finish(ReplayStep::Frame))
    }

    /// The unnamed statement, and then what these statements take and give. In a flight of its own: one that is
    /// refused has made nothing, and taken nothing with it.
    pub fn last<'a>(
        ledger: &Ledger,
        unnamed: Option<&Parsed>,
        described: impl Iterator<Item = &'a [u8]>,
    ) -> Self {
        let mut script = Script::new();
        begin(&mut script, ledger);
        if let Some(parsed) = unnamed {
            clients_encoding(&mut script, ledger);
            Reading::as_in(ledger).change(&mut script, ledger.parsed_under(&parsed.under));
            script.prepare_body(ReplayStep::Unnamed, &parsed.body);
        }
        for name in described {
            script.describe(ReplayStep::Statement, name);
        }
        script.run(ReplayStep::Frame, COMMIT);
        Self(script.finish(ReplayStep::Frame))
    }

    /// What the server said of each statement that it was asked about, in that order.
    pub fn take_described(&mut self) -> Vec<Shape> {
        self.0.take_described()
    }

    pub async fn run<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        talk: &mut MessageStream<S>,
        aside: &mut Aside,
    ) -> Result<(), ReplayError> {
        self.0.run(talk, aside).await.map_err(|broken| match broken {
            Broken::Refused { at, state } => ReplayError::Refused { at, state },
            broken => ReplayError::Lost(broken),
        })
    }
}

/// Has the old link look at its statements. One whose result has changed since it was prepared is refused there, as it
/// would be to the client, while another link would make it anew: with columns that the client was never told of.
pub fn recall(ledger: &Ledger) -> Replay {
    let mut script = Script::new();
    begin(&mut script, ledger);
    for statement in ledger.statements() {
        script.describe(ReplayStep::Statement, &statement.name);
    }
    script.run(ReplayStep::Frame, COMMIT);
    Replay(script.finish(ReplayStep::Frame))
}

/// The same of the unnamed statement, if there is one: else it is refused.
pub fn recall_unnamed() -> Replay {
    let mut script = Script::new();
    script.describe(ReplayStep::Unnamed, b"");
    Replay(script.finish(ReplayStep::Unnamed))
}

/// Lets the old link hear the marker.
pub fn listen_for(marker: &Marker) -> Replay {
    alone(&[b"LISTEN ", &*identifier(marker.channel())].concat())
}

/// Lets a link forget the marker again.
pub fn forget(marker: &Marker) -> Replay {
    alone(&[b"UNLISTEN ", &*identifier(marker.channel())].concat())
}

/// Lets the new link hear what the session listens to, and with a marker both links hear where that begins. Without
/// one, there is no old link any more.
pub fn overlap(ledger: &Ledger, marker: Option<&Marker>) -> Replay {
    let mut script = Script::new();
    begin(&mut script, ledger);
    for channel in ledger.channels().chain(marker.map(Marker::channel)) {
        script.run(ReplayStep::Listen, [b"LISTEN ", &*identifier(channel)].concat());
    }
    if let Some(marker) = marker {
        script.run(
            ReplayStep::Listen,
            [b"NOTIFY ", &*identifier(marker.channel())].concat(),
        );
    }
    script.run(ReplayStep::Frame, COMMIT);
    Replay(script.finish(ReplayStep::Frame))
}

/// One unit of what a client said, outside of a transaction, as it was said.
pub fn say_again(said: &[Again], lacks: Lacks) -> Replay {
    let mut script = Script::new();
    for again in said {
        match again {
            Again::Text(text) | Again::Alone(text) => script.run(ReplayStep::Said, text),
            Again::SetConfig { name, value } if lacks.set_config() => {
                script.run(ReplayStep::Said, statement(name, value, Until::Reset));
            }
            Again::SetConfig { name, value } => {
                script.ask(
                    ReplayStep::Said,
                    SET_ONE,
                    &[TEXT, TEXT],
                    &[Some(name), Some(value)],
                );
            }
            // It could not be set by a function, and what was set and reset is there.
            Again::Touch(_) if lacks.set_config() => {}
            Again::Touch(name) => script.ask(ReplayStep::Said, TOUCH, &[TEXT], &[Some(name)]),
            Again::Parse(body) => script.prepare_body(ReplayStep::Statement, body),
        }
    }
    Replay(script.finish(ReplayStep::Frame))
}

/// Gives settings the values that they should have, and do not.
pub fn put_right(ledger: &Ledger, settings: &[(&[u8], &[u8])]) -> Replay {
    let mut script = Script::new();
    begin(&mut script, ledger);
    set(&mut script, ledger, ReplayStep::Settings, settings, Until::Reset);
    script.run(ReplayStep::Frame, COMMIT);
    Replay(script.finish(ReplayStep::Frame))
}

fn alone(sql: &[u8]) -> Replay {
    let mut script = Script::new();
    script.run(ReplayStep::Listen, sql);
    Replay(script.finish(ReplayStep::Listen))
}

/// A transaction in which our own limits hold, and text is in the database's encoding.
fn begin(script: &mut Script<ReplayStep>, ledger: &Ledger) {
    script.run(ReplayStep::Frame, BEGIN);
    script.run(ReplayStep::Frame, TIMEOUT);
    limit(script, ReplayStep::Frame, ledger.lacks());
    let encoding = ledger.reported(b"server_encoding").unwrap_or_default();
    set(
        script,
        ledger,
        ReplayStep::Frame,
        &[(CLIENT_ENCODING, encoding)],
        Until::Commit,
    );
}

fn identity(script: &mut Script<ReplayStep>, ledger: &Ledger) {
    let identity = ledger.identity();
    let mut settings: Vec<(&[u8], &[u8])> = Vec::new();
    if identity.session_changed {
        settings.push((b"session_authorization", &identity.session_user));
    }
    // A change of the former resets the latter.
    if identity.role_changed || identity.session_changed {
        settings.push((b"role", &identity.role));
    }
    set(script, ledger, ReplayStep::Identity, &settings, Until::Reset);
    if identity.role_changed || identity.session_changed {
        return;
    }
    if !ledger.lacks().set_config() {
        let values = [Some(&*identity.role), Some(&*identity.session_user)];
        script.ask(ReplayStep::Identity, KEEP_ROLE, &[TEXT, TEXT], &values);
    } else if &*identity.role != b"none" {
        script.run(
            ReplayStep::Identity,
            statement(b"role", &identity.role, Until::Reset),
        );
    }
}

fn prepare(script: &mut Script<ReplayStep>, statement: &Statement) {
    let Statement {
        name,
        text,
        parameters,
        origin,
        ..
    } = statement;
    match origin {
        Origin::Parse => script.prepare(ReplayStep::Statement, name, text, parameters),
        // Refused if the text has more than this one command.
        Origin::Sql => script.run(ReplayStep::Statement, text),
    }
}

/// Bytes of the client's own are in its encoding still.
fn clients_encoding(script: &mut Script<ReplayStep>, ledger: &Ledger) {
    let encoding = ledger.reported(CLIENT_ENCODING).unwrap_or_default();
    set(
        script,
        ledger,
        ReplayStep::Frame,
        &[(CLIENT_ENCODING, encoding)],
        Until::Commit,
    );
}

/// What literals are read under at this point of a script, where it is not what the session has at its end.
struct Reading<'a> {
    ledger: &'a Ledger,
    other: Vec<(&'static [u8], Text)>,
}

impl<'a> Reading<'a> {
    fn as_in(ledger: &'a Ledger) -> Self {
        Self {
            ledger,
            other: Vec::new(),
        }
    }

    fn change(&mut self, script: &mut Script<ReplayStep>, other: Vec<(&'static [u8], Text)>) {
        if self.other == other {
            return;
        }
        let is_over = |name: &[u8]| other.iter().all(|(still, _)| *still != name);
        let back = self.other.iter().filter(|(name, _)| is_over(name));
        let back = back.map(|(name, _)| (*name, self.ledger.reported(name).unwrap_or_default()));
        let settings: Vec<(&[u8], &[u8])> = back
            .chain(other.iter().map(|(name, value)| (*name, &**value)))
            .collect();
        set(script, self.ledger, ReplayStep::Frame, &settings, Until::Commit);
        self.other = other;
    }
}

fn pair(setting: &Setting) -> (&[u8], &[u8]) {
    (&setting.name, &setting.value)
}

/// How long a setting holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    Commit,
    Reset,
}

fn keep(script: &mut Script<ReplayStep>, ledger: &Ledger, sql: &str, unset: &[(&[u8], &[u8], bool)]) {
    if unset.is_empty() {
        return;
    }
    if ledger.lacks().set_config() {
        // Without a condition. What only a superuser may set stays as it is.
        let unset = unset
            .iter()
            .filter(|(name, ..)| *name != b"session_replication_role");
        let all: Vec<(&[u8], &[u8])> = unset.map(|(name, value, _)| (*name, *value)).collect();
        return set(script, ledger, ReplayStep::Settings, &all, Until::Reset);
    }
    let names = text_array(unset.iter().map(|(name, ..)| *name));
    let values = text_array(unset.iter().map(|(_, value, _)| *value));
    let follow: Vec<&[u8]> = unset
        .iter()
        .map(|(.., follows)| if *follows { &b"t"[..] } else { b"f" })
        .collect();
    let follow = text_array(follow.into_iter());
    let types = [TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY];
    script.ask(
        ReplayStep::Settings,
        sql,
        &types,
        &[Some(&names), Some(&values), Some(&follow)],
    );
}

fn set(
    script: &mut Script<ReplayStep>,
    ledger: &Ledger,
    step: ReplayStep,
    settings: &[(&[u8], &[u8])],
    until: Until,
) {
    if settings.is_empty() {
        return;
    }
    if ledger.lacks().set_config() {
        for (name, value) in settings {
            script.run(step, statement(name, value, until));
        }
        return;
    }
    let names = text_array(settings.iter().map(|(name, _)| *name));
    let values = text_array(settings.iter().map(|(_, value)| *value));
    let local = [u8::from(until == Until::Commit)];
    let types = [TEXT_ARRAY, TEXT_ARRAY, BOOL];
    script.ask(step, SET, &types, &[Some(&names), Some(&values), Some(&local)]);
}

/// SET, where set_config may not be executed. In the encodings that servers have, no other character has a quote or a
/// backslash in it.
fn statement(name: &[u8], value: &[u8], until: Until) -> Vec<u8> {
    let scope: &[u8] = match until {
        Until::Commit => b"/* pgswivel */ SET LOCAL ",
        Until::Reset => b"/* pgswivel */ SET SESSION ",
    };
    let name: Vec<Vec<u8>> = name.split(|byte| *byte == b'.').map(identifier).collect();
    let value = if LISTS.contains(&&*name.join(&b'.')) {
        list(value)
    } else {
        literal(value)
    };
    [scope, &name.join(&b'.'), b" TO ", &value].concat()
}

/// Settings that are lists of names, as SET wants them quoted.
const LISTS: [&[u8]; 4] = [
    b"\"search_path\"",
    b"\"temp_tablespaces\"",
    b"\"local_preload_libraries\"",
    b"\"session_preload_libraries\"",
];

/// Names, separated by commas and quoted where need be, each as a literal.
fn list(value: &[u8]) -> Vec<u8> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    let (mut name, mut quoted) = (Vec::new(), false);
    for byte in value {
        match byte {
            // Two of them are one: the name goes on.
            b'"' => {
                if !quoted && !name.is_empty() {
                    name.push(b'"');
                }
                quoted = !quoted;
            }
            b',' if !quoted => names.push(std::mem::take(&mut name)),
            byte if !quoted && byte.is_ascii_whitespace() => {}
            byte => name.push(*byte),
        }
    }
    names.push(name);
    let literals: Vec<Vec<u8>> = names.iter().map(|name| literal(name)).collect();
    literals.join(&b", "[..])
}

fn literal(value: &[u8]) -> Vec<u8> {
    let mut literal = if value.contains(&b'\\') {
        b"E'".to_vec()
    } else {
        b"'".to_vec()
    };
    for byte in value {
        if matches!(byte, b'\'' | b'\\') {
            literal.push(*byte);
        }
        literal.push(*byte);
    }
    literal.push(b'\'');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, value: &str) -> String {
        String::from_utf8(statement(name.as_bytes(), value.as_bytes(), Until::Reset)).unwrap()
    }

    #[test]
    fn a_setting_is_a_statement_where_there_is_no_function_for_it() {
        for (name, value, expected) in [
            ("work_mem", "5120", "\"work_mem\" TO '5120'"),
            (
                "app.tenant",
                "it's \\ me",
                "\"app\".\"tenant\" TO E'it''s \\\\ me'",
            ),
            (
                "search_path",
                "\"$user\", public",
                "\"search_path\" TO '$user', 'public'",
            ),
            (
                "search_path",
                "\"a \"\" b\",c",
                "\"search_path\" TO 'a \" b', 'c'",
            ),
            ("search_path", "", "\"search_path\" TO ''"),
        ] {
            assert_eq!(
                text(name, value),
                format!("/* pgswivel */ SET SESSION {expected}")
            );
        }
    }
}
