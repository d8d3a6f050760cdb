//! What a session holds, as Postgres tells it. Pure.

mod draft;
mod lacks;
mod reading;
mod watched;

use std::collections::BTreeSet;
use std::fmt;

use bytes::BytesMut;

use crate::access;
use crate::postgres::wire::say;
use crate::postgres::wire::state_words::Unseen;
pub use draft::Draft;
pub use lacks::{LACKS_QUERY, Lacks};
pub use reading::{BySql, Since, Under, may_depend, may_set_untold};
pub use watched::{LIMITS, Values, is_told_and_kept, is_told_for_reading, told_for_reading, watched_names};
use watched::{Names, is_told, kept_names};

/// A piece of state that can't be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pin {
    TemporaryObjects,
    AdvisoryLocks,
    HeldCursors,
    /// A prepared statement whose text can't make it again.
    UnreplayableStatement,
    /// A setting, a role or an identity that a new link is not allowed to take on.
    UnreplayableSetting,
    UnreplayableRole,
    UnreplayableChannel,
    /// More than `limits.statement_bytes`.
    TooLarge,
    ReplicationSlots,
    /// Tables that come to be without a word about it are temporary.
    TemporarySearchPath,
    /// The connection speaks the replication protocol.
    Replication,
    /// Postgres does not list it: a statement said so.
    ForeignConnections,
    ReplicationOrigin,
    LoadedLibrary,
    RandomSeed,
    Backup,
    ExtensionState,
    InterpreterData,
    /// A custom setting whose name is not known.
    UnknownSettings,
    /// The server does not say what the session holds.
    SurveyRefused,
}

impl Pin {
    /// What no survey can see, of what a statement's text gave away.
    pub fn of_unseen(unseen: Unseen) -> impl Iterator<Item = Self> {
        let kinds = [
            (Unseen::SEED, Self::RandomSeed),
            (Unseen::DBLINK, Self::ForeignConnections),
            (Unseen::ORIGIN, Self::ReplicationOrigin),
            (Unseen::BACKUP, Self::Backup),
            (Unseen::EXTENSION, Self::ExtensionState),
            (Unseen::INTERPRETER, Self::InterpreterData),
            (Unseen::LIBRARY, Self::LoadedLibrary),
        ];
        let held = kinds.into_iter().filter(move |(kind, _)| unseen.contains(*kind));
        held.map(|(_, pin)| pin)
    }

    /// For logs and metrics; does not change.
    pub fn label(self) -> &'static str {
        match self {
            Self::TemporaryObjects => "temporary_objects",
            Self::AdvisoryLocks => "advisory_locks",
            Self::HeldCursors => "held_cursors",
            Self::UnreplayableStatement => "unreplayable_statement",
            Self::UnreplayableSetting => "unreplayable_setting",
            Self::UnreplayableRole => "unreplayable_role",
            Self::UnreplayableChannel => "unreplayable_channel",
            Self::TooLarge => "too_large",
            Self::ForeignConnections => "foreign_connections",
            Self::ReplicationOrigin => "replication_origin",
            Self::ReplicationSlots => "replication_slots",
            Self::TemporarySearchPath => "temporary_search_path",
            Self::Replication => "replication",
            Self::LoadedLibrary => "loaded_library",
            Self::RandomSeed => "random_seed",
            Self::Backup => "backup",
            Self::ExtensionState => "extension_state",
            Self::InterpreterData => "interpreter_data",
            Self::UnknownSettings => "unknown_settings",
            Self::SurveyRefused => "survey_refused",
        }
    }
}

impl From<Pin> for access::pin::Pin {
    fn from(pin: Pin) -> Self {
        Self(pin.label())
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Bytes in the encoding of the database.
pub type Text = Box<[u8]>;

#[derive(Clone, PartialEq, Eq)]
pub struct Setting {
    pub name: Text,
    pub value: Text,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Statement {
    pub name: Text,
    pub text: Text,
    pub parameters: Box<[u32]>,
    pub origin: Origin,
    pub under: Under,
}

impl Statement {
    fn is_same(&self, other: &Self) -> bool {
        (&self.text, &self.parameters, self.origin) == (&other.text, &other.parameters, other.origin)
    }
}

/// What made a prepared statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A Parse message, whose text is the statement.
    Parse,
    /// `PREPARE`, which the text begins with.
    Sql,
}

#[derive(Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Set in the session, and listed by Postgres.
    settings: Vec<Setting>,
    /// Custom settings that were asked for and exist.
    custom: Vec<Setting>,
    statements: Vec<Statement>,
    channels: BTreeSet<Text>,
    identity: Identity,
    /// What was in force, whoever set it.
    values: Values,
    /// What came with the login: from the role, the database, or the client.
    from_login: Names,
    /// What was in force may not be any more: a server reads some of it anew from its files.
    is_dated: bool,
    pins: BTreeSet<Pin>,
    lacks: Lacks,
}

/// Who the session acts as.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Identity {
    pub session_user: Text,
    /// It is not who logged in.
    pub session_changed: bool,
    pub role: Text,
    /// It is not what the login gave.
    pub role_changed: bool,
}

impl Identity {
    /// In the session authorization, and in the role.
    fn differences(&self, replayed: &Self) -> (bool, bool) {
        // Who did not change anything is whoever the new login makes it.
        let session = if self.session_changed {
            self.session_user != replayed.session_user
        } else {
            replayed.session_changed
        };
        (
            session,
            self.keeps_role(&replayed.session_user) && self.role != replayed.role,
        )
    }

    /// Whether the session acts as its role on a link of `user`, whatever role that has by default. Who acts as no
    /// other than the user who logged in is somebody else where another one does.
    pub fn keeps_role(&self, user: &[u8]) -> bool {
        self.session_changed || self.role_changed || &*self.role != b"none" || *self.session_user == *user
    }
}

/// What two ledgers that should be equal differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    Settings,
    CustomSettings,
    Statements,
    /// What a statement takes or gives, as its client was told.
    Results,
    Channels,
    SessionAuthorization,
    Role,
}

impl Difference {
    pub fn pin(self) -> Pin {
        match self {
            Self::Settings | Self::CustomSettings => Pin::UnreplayableSetting,
            Self::Statements | Self::Results => Pin::UnreplayableStatement,
            Self::Channels => Pin::UnreplayableChannel,
            Self::SessionAuthorization | Self::Role => Pin::UnreplayableRole,
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Settings => "a setting",
            Self::CustomSettings => "a custom setting",
            Self::Statements => "a prepared statement",
            Self::Results => "what a prepared statement takes or gives",
            Self::Channels => "a channel",
            Self::SessionAuthorization => "the session authorization",
            Self::Role => "the role",
        })
    }
}

impl Ledger {
    /// One prepared statement and nothing else.
    #[cfg(test)]
    pub fn holding(name: &str, text: &str) -> Self {
        let statement = Statement {
            name: name.as_bytes().into(),
            text: text.as_bytes().into(),
            parameters: Box::default(),
            origin: Origin::Parse,
            under: Under::default(),
        };
        Self {
            statements: vec![statement],
            ..Self::default()
        }
    }

    /// What keeps the session where it is.
    pub fn pins(&self) -> impl Iterator<Item = Pin> {
        self.pins.iter().copied()
    }

    /// What its server does not let anybody ask, or do.
    pub fn lacks(&self) -> Lacks {
        self.lacks
    }

    pub fn of_a_server_that(mut self, lacks: Lacks) -> Self {
        self.lacks = lacks;
        self
    }

    /// Some statement may have made what can't be asked for.
    pub fn may_hold_more(&mut self) {
        self.pins.extend(self.lacks.unknown());
    }

    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    pub fn custom(&self) -> &[Setting] {
        &self.custom
    }

    /// Statements that are no more, or made anew since.
    pub fn without_statements(&mut self, are_gone: impl Fn(&[u8]) -> bool) {
        self.statements.retain(|statement| !are_gone(&statement.name));
    }

    /// In the order of their names.
    pub fn statements(&self) -> &[Statement] {
        &self.statements
    }

    pub fn channels(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.channels.iter().map(|channel| &**channel)
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The value of a setting that a survey asks for, whoever set it.
    pub fn reported(&self, name: &[u8]) -> Option<&[u8]> {
        self.values.of(name)
    }

    /// Custom settings to ask a link for, so that its ledger can be compared with this one.
    pub fn names_to_verify(&self) -> impl Iterator<Item = &[u8]> {
        let custom = self.custom.iter().chain(&self.settings);
        custom
            .map(|setting| &*setting.name)
            .filter(|name| is_custom(name))
    }

    /// How a ledger of the link that this one was replayed on differs: in nothing, it should be. `made` statements came
    /// to be since. What else its user has by default is its own affair.
    pub fn differences(&self, replayed: &Self, made: usize) -> Vec<Difference> {
        // A library that is loaded on one link only makes the same setting a custom one there.
        let custom_equal = self
            .names_to_verify()
            .all(|name| self.custom_value(name) == replayed.custom_value(name));
        let (session_differs, role_differs) = self.identity.differences(&replayed.identity);
        let all = [
            (Difference::Settings, !self.has_equal_settings(replayed)),
            (Difference::CustomSettings, !custom_equal),
            (Difference::Statements, !self.has_equal_statements(replayed, made)),
            (Difference::Channels, self.channels != replayed.channels),
            (Difference::SessionAuthorization, session_differs),
            (Difference::Role, role_differs),
        ];
        let differing = all.into_iter().filter(|(_, differs)| *differs);
        differing.map(|(difference, _)| difference).collect()
    }

    fn has_equal_settings(&self, replayed: &Self) -> bool {
        let listed = |setting: &&Setting| !is_custom(&setting.name);
        let carried = self
            .settings
            .iter()
            .filter(listed)
            .all(|setting| find(&replayed.settings, &setting.name) == Some(&setting.value));
        // What is in force without having been set was set for it where the login gives another value.
        let nothing_else = replayed.settings.iter().filter(listed).all(|setting| {
            find(&self.settings, &setting.name).is_some() || self.kept(&setting.name).is_some()
        });
        let kept = kept_names().all(|name| {
            let values = self.kept(name).zip(replayed.values.of(name));
            values.is_none_or(|(before, after)| {
                before == after || self.may_follow(name) && replayed.is_of_files(name)
            })
        });
        carried && nothing_else && kept
    }

    fn has_equal_statements(&self, replayed: &Self, made: usize) -> bool {
        let is_there = |statement: &Statement| {
            let found = replayed.statement(&statement.name);
            found.is_some_and(|found| found.is_same(statement))
        };
        let more = replayed.statements.len().checked_sub(self.statements.len());
        self.statements.iter().all(is_there) && more.is_some_and(|more| more <= made)
    }

    fn statement(&self, name: &[u8]) -> Option<&Statement> {
        let at = self
            .statements
            .binary_search_by(|statement| (*statement.name).cmp(name));
        Some(&self.statements[at.ok()?])
    }

    /// What was in force, of all that a survey asks for.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// What was in force of what an open session keeps, whatever is the default meanwhile. What it has set comes apart.
    pub fn kept(&self, name: &[u8]) -> Option<&[u8]> {
        let is_kept = kept_names().any(|kept| kept == name);
        self.values.of(name).filter(|_| is_kept)
    }

    /// What an open session keeps of what it has not set, and whether it may come from the server's files: then a
    /// value from there is no other.
    pub fn unset(&self) -> impl Iterator<Item = (&[u8], &[u8], bool)> {
        let unset = kept_names().filter(|name| find(&self.settings, name).is_none());
        unset.filter_map(|name| Some((name, self.values.of(name)?, self.may_follow(name))))
    }

    /// What else is in force than it should be, by what was before anything was said again, and by what the server
    /// told after it was said first: with the value that it should have.
    pub fn amiss<'a>(&self, before: &'a Self, told: &'a Values) -> Vec<(&'a [u8], &'a [u8])> {
        let expected = |name: &'static [u8]| {
            let was_unset = || {
                before
                    .values
                    .of(name)
                    .filter(|_| find(&before.settings, name).is_none())
            };
            let is_unset = find(&self.settings, name).is_none();
            // What was set since is what it was set to, and what was reset what it is without having been set.
            let expected = told.of(name).or_else(|| was_unset().filter(|_| is_unset))?;
            let follows = before.may_follow(name) && self.is_of_files(name);
            (self.values.of(name) != Some(expected) && !follows).then_some((name, expected))
        };
        kept_names().filter_map(expected).collect()
    }

    /// A server that reads its files anew changes it under every session.
    fn may_follow(&self, name: &[u8]) -> bool {
        self.is_dated && self.is_of_files(name)
    }

    fn is_of_files(&self, name: &[u8]) -> bool {
        !self.from_login.contains(name) && find(&self.settings, name).is_none()
    }

    /// The survey was a while ago; a server told of these since.
    pub fn is_of_before(&mut self, told: &Values) {
        self.is_dated = true;
        for (name, value) in told.iter() {
            self.values.set(name, value);
        }
    }

    /// ParameterStatus messages for what the client has to know about the link that it changes to.
    pub fn status_changes(&self, replayed: &Self) -> BytesMut {
        let mut out = BytesMut::new();
        let version = replayed
            .reported(b"server_version_num")
            .and_then(number)
            .unwrap_or(0);
        for (name, value) in replayed.values.iter() {
            if is_told(name, version) && self.reported(name) != Some(value) {
                say::parameter_status(&mut out, name, value);
            }
        }
        out
    }

    fn custom_value(&self, name: &[u8]) -> Option<&[u8]> {
        find(&self.custom, name).or_else(|| find(&self.settings, name))
    }
}

/// Settings whose names have a dot belong to extensions, or to nobody but the application.
pub fn is_custom(name: &[u8]) -> bool {
    name.contains(&b'.')
}

fn find<'a>(settings: &'a [Setting], name: &[u8]) -> Option<&'a [u8]> {
    let found = settings.iter().find(|setting| &*setting.name == name)?;
    Some(&found.value)
}

/// Sizes alone: names and values are the client's.
impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("settings", &self.settings.len())
            .field("custom", &self.custom.len())
            .field("statements", &self.statements.len())
            .field("channels", &self.channels.len())
            .field("pins", &self.pins)
            .finish_non_exhaustive()
    }
}

fn number(digits: &[u8]) -> Option<u32> {
    str::from_utf8(digits).ok()?.parse().ok()
}
