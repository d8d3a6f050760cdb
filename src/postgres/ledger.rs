//! What a session holds, as Postgres tells it. Pure.

mod draft;

use std::collections::BTreeSet;
use std::fmt;

use bytes::BytesMut;

use super::wire::say;
use super::wire::state_words::Unseen;
pub use draft::Draft;

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
        }
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
    /// [`LIMITS`] are among them whoever set them.
    limits_listed: bool,
    /// Custom settings that were asked for and exist.
    custom: Vec<Setting>,
    statements: Vec<Statement>,
    channels: BTreeSet<Text>,
    identity: Identity,
    /// What a server tells clients about, whoever set it.
    reported: Vec<Setting>,
    pins: BTreeSet<Pin>,
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
    /// Who did not change anything is whoever the new login makes it.
    fn difference(&self, replayed: &Self) -> Option<Difference> {
        let session_differs = if self.session_changed {
            self.session_user != replayed.session_user
        } else {
            replayed.session_changed
        };
        let role_differs = if self.role_changed {
            self.role != replayed.role
        } else {
            replayed.role_changed
        };
        if session_differs {
            Some(Difference::SessionAuthorization)
        } else {
            role_differs.then_some(Difference::Role)
        }
    }
}

/// What two ledgers that should be equal differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    Settings,
    CustomSettings,
    Statements,
    Channels,
    SessionAuthorization,
    Role,
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

    /// The value of a setting that a server tells clients about.
    pub fn reported(&self, name: &[u8]) -> Option<&[u8]> {
        find(&self.reported, name)
    }

    /// Custom settings to ask a link for, so that its ledger can be compared with this one.
    pub fn names_to_verify(&self) -> impl Iterator<Item = &[u8]> {
        let custom = self.custom.iter().chain(&self.settings);
        custom
            .map(|setting| &*setting.name)
            .filter(|name| is_custom(name))
    }

    /// How a ledger of the link that this one was replayed on differs, if it does. What else its user has by
    /// default is its own affair.
    pub fn difference(&self, replayed: &Self) -> Option<Difference> {
        let unsure = self.limits_listed || replayed.limits_listed;
        let compared = |setting: &&Setting| {
            let apart = is_custom(&setting.name) || unsure && LIMITS.contains(&&*setting.name);
            !apart
        };
        let settings_equal = self
            .settings
            .iter()
            .filter(compared)
            .eq(replayed.settings.iter().filter(compared))
            && LIMITS.iter().all(|name| {
                let limits = find(&self.settings, name).zip(find(&replayed.settings, name));
                limits.is_none_or(|(before, after)| before == after)
            });
        // A library that is loaded on one link only makes the same setting a custom one there.
        let custom_equal = self
            .names_to_verify()
            .all(|name| self.custom_value(name) == replayed.custom_value(name));
        if !settings_equal {
            Some(Difference::Settings)
        } else if !custom_equal {
            Some(Difference::CustomSettings)
        } else if self.statements != replayed.statements {
            Some(Difference::Statements)
        } else if self.channels != replayed.channels {
            Some(Difference::Channels)
        } else {
            self.identity.difference(&replayed.identity)
        }
    }

    /// ParameterStatus messages for what the client has to know about the link that it changes to.
    pub fn status_changes(&self, replayed: &Self) -> BytesMut {
        let mut out = BytesMut::new();
        let version = replayed
            .reported(b"server_version_num")
            .and_then(number)
            .unwrap_or(0);
        for Setting { name, value } in &replayed.reported {
            let told = REPORTED
                .iter()
                .any(|(known, since)| known.as_bytes() == &**name && *since <= version);
            if told && self.reported(name) != Some(value) {
                say::parameter_status(&mut out, name, value);
            }
        }
        out
    }

    fn custom_value(&self, name: &[u8]) -> Option<&[u8]> {
        find(&self.custom, name).or_else(|| find(&self.settings, name))
    }
}

/// A survey, and a replay, may have to put them aside to get anywhere.
pub const LIMITS: [&[u8]; 3] = [b"statement_timeout", b"lock_timeout", b"transaction_timeout"];

/// What servers tell clients about, with the version that began to.
const REPORTED: [(&str, u32); 16] = [
    ("application_name", 0),
    ("client_encoding", 0),
    ("DateStyle", 0),
    ("default_transaction_read_only", 14_00_00),
    ("in_hot_standby", 14_00_00),
    ("integer_datetimes", 0),
    ("IntervalStyle", 0),
    ("is_superuser", 0),
    ("scram_iterations", 16_00_00),
    ("search_path", 18_00_00),
    ("server_encoding", 0),
    ("server_version", 0),
    ("session_authorization", 0),
    ("standard_conforming_strings", 0),
    ("TimeZone", 0),
    // Told to nobody, but it says which of the others are.
    ("server_version_num", u32::MAX),
];

/// What to ask for, so that [`Ledger::status_changes`] can tell.
pub fn reported_names() -> impl ExactSizeIterator<Item = &'static [u8]> {
    REPORTED.iter().map(|(name, _)| name.as_bytes())
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
