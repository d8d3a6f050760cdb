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
use super::ledger::{LIMITS, Ledger, Origin, Pin, Setting};
use super::notes::Again;
use super::survey::{BEGIN, COMMIT, OUR_LIMITS, TIMEOUT};
use super::talk::Talk;
use super::wire::extended::{BOOL, TEXT, TEXT_ARRAY, identifier, text_array};

/// In the order of the arrays, which is all that counts the rows.
const SET: &str = "/* pgswivel */ SELECT pg_catalog.count(pg_catalog.set_config(s.name, s.value, $3)) \
     FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS s(name, value)";

const SET_ONE: &str = "/* pgswivel */ SELECT pg_catalog.set_config($1, $2, false)";
/// With the value that it has, if it has one.
const TOUCH: &str = "/* pgswivel */ SELECT pg_catalog.set_config($1, \
     COALESCE(pg_catalog.current_setting($1, true), ''), false)";

const CLIENT_ENCODING: &[u8] = b"client_encoding";

/// What a step of a replay is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
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
pub struct Replay(Exchange<Step>);

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("the replay was cut off: {0}")]
    Lost(Broken<Step>),
    /// The link is at rest.
    #[error("the server refused the replay of {at:?} with {state}")]
    Refused { at: Step, state: SqlState },
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
            Step::Frame => None,
            Step::Settings | Step::Said => Some(Pin::UnreplayableSetting),
            Step::Identity => Some(Pin::UnreplayableRole),
            Step::Statement | Step::Unnamed => Some(Pin::UnreplayableStatement),
            Step::Listen => Some(Pin::UnreplayableChannel),
        }
    }
}

/// Statements that Postgres does not list, or did not when it was asked: bodies of the client's own Parse messages.
#[derive(Clone, Copy, Default)]
pub struct Parses<'a> {
    pub named: &'a [Box<[u8]>],
    pub unnamed: Option<&'a [u8]>,
}

impl Replay {
    /// Everything but the channels.
    pub fn new(ledger: &Ledger, parses: Parses<'_>) -> Self {
        let mut script = Script::new();
        begin(&mut script, ledger);
        // Would end the replay itself if they were set before its end.
        let is_late = |setting: &&Setting| LIMITS.contains(&&*setting.name);
        let is_encoding = |setting: &&Setting| &*setting.name == CLIENT_ENCODING;
        let settings = ledger
            .settings()
            .iter()
            .filter(|s| !is_late(s) && !is_encoding(s));
        let settings: Vec<(&[u8], &[u8])> = settings.chain(ledger.custom()).map(pair).collect();
        // A superuser who acts as somebody else set them before; somebody else who acts as a superuser, after.
        if ledger.reported(b"is_superuser") == Some(b"on") {
            identity(&mut script, ledger);
            set(&mut script, Step::Settings, &settings, Until::Reset);
        } else {
            set(&mut script, Step::Settings, &settings, Until::Reset);
            identity(&mut script, ledger);
        }
        for statement in ledger.statements() {
            match statement.origin {
                Origin::Parse => {
                    script.prepare(
                        Step::Statement,
                        &statement.name,
                        &statement.text,
                        &statement.parameters,
                    );
                }
                // Refused if the text has more than this one command.
                Origin::Sql => script.run(Step::Statement, &statement.text),
            }
        }
        if !parses.named.is_empty() || parses.unnamed.is_some() {
            // Their bytes are still the client's.
            let encoding = ledger.reported(CLIENT_ENCODING).unwrap_or_default();
            set(
                &mut script,
                Step::Frame,
                &[(CLIENT_ENCODING, encoding)],
                Until::Commit,
            );
        }
        for body in parses.named {
            script.prepare_body(Step::Statement, body);
        }
        if let Some(body) = parses.unnamed {
            script.prepare_body(Step::Unnamed, body);
        }
        let last = ledger.settings().iter().filter(|s| is_late(s) || is_encoding(s));
        let last: Vec<(&[u8], &[u8])> = last.map(pair).collect();
        set(&mut script, Step::Settings, &last, Until::Reset);
        script.run(Step::Frame, COMMIT);
        Self(script.finish(Step::Frame))
    }

    pub async fn run<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        talk: &mut Talk<S>,
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
        script.describe(Step::Statement, &statement.name);
    }
    script.run(Step::Frame, COMMIT);
    Replay(script.finish(Step::Frame))
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
        script.run(Step::Listen, [b"LISTEN ", &*identifier(channel)].concat());
    }
    if let Some(marker) = marker {
        script.run(
            Step::Listen,
            [b"NOTIFY ", &*identifier(marker.channel())].concat(),
        );
    }
    script.run(Step::Frame, COMMIT);
    Replay(script.finish(Step::Frame))
}

/// One unit of what a client said, outside of a transaction, as it was said; then its unnamed statement.
pub fn say_again(said: &[Again], unnamed: Option<&[u8]>) -> Replay {
    let mut script = Script::new();
    for again in said {
        match again {
            Again::Text(text) | Again::Alone(text) => script.run(Step::Said, text),
            Again::SetConfig { name, value } => {
                script.ask(Step::Said, SET_ONE, &[TEXT, TEXT], &[Some(name), Some(value)]);
            }
            Again::Touch(name) => script.ask(Step::Said, TOUCH, &[TEXT], &[Some(name)]),
            Again::Parse(body) => script.prepare_body(Step::Statement, body),
        }
    }
    if let Some(body) = unnamed {
        script.prepare_body(Step::Unnamed, body);
    }
    Replay(script.finish(Step::Frame))
}

fn alone(sql: &[u8]) -> Replay {
    let mut script = Script::new();
    script.run(Step::Listen, sql);
    Replay(script.finish(Step::Listen))
}

/// A transaction in which our own limits hold, and text is in the database's encoding.
fn begin(script: &mut Script<Step>, ledger: &Ledger) {
    script.run(Step::Frame, BEGIN);
    script.run(Step::Frame, TIMEOUT);
    script.run(Step::Frame, OUR_LIMITS);
    let encoding = ledger.reported(b"server_encoding").unwrap_or_default();
    set(script, Step::Frame, &[(CLIENT_ENCODING, encoding)], Until::Commit);
}

fn identity(script: &mut Script<Step>, ledger: &Ledger) {
    let identity = ledger.identity();
    let mut settings: Vec<(&[u8], &[u8])> = Vec::new();
    if identity.session_changed {
        settings.push((b"session_authorization", &identity.session_user));
    }
    // A change of the former resets the latter.
    if identity.role_changed || identity.session_changed {
        settings.push((b"role", &identity.role));
    }
    set(script, Step::Identity, &settings, Until::Reset);
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

fn set(script: &mut Script<Step>, step: Step, settings: &[(&[u8], &[u8])], until: Until) {
    if settings.is_empty() {
        return;
    }
    let names = text_array(settings.iter().map(|(name, _)| *name));
    let values = text_array(settings.iter().map(|(_, value)| *value));
    let local = [u8::from(until == Until::Commit)];
    let types = [TEXT_ARRAY, TEXT_ARRAY, BOOL];
    script.ask(step, SET, &types, &[Some(&names), Some(&values), Some(&local)]);
}
