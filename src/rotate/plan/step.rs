//! One step, and how it is said.

use std::fmt;

use super::super::database::{Setting, identifier};
use crate::names::Endpoint;

/// Small enough to be looked at before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A role that can't log in yet.
    Create {
        role: String,
        like: String,
        on: Endpoint,
    },
    Grant {
        group: String,
        role: String,
        on: Endpoint,
    },
    Set {
        role: String,
        setting: Setting,
        on: Endpoint,
    },
    /// What comes next is made and put into the store beside what is current.
    Stage {
        user: String,
    },
    /// What comes next is made, and nobody keeps it yet.
    Mint {
        user: String,
    },
    /// Every pgswivel has read the store.
    Seen,
    /// A server is told the verifier of a password.
    Password {
        user: String,
        which: Which,
        login: bool,
        on: Endpoint,
    },
    /// It logs in everywhere.
    Prove {
        user: String,
        which: Which,
    },
    /// It becomes what is current in the store.
    Promote {
        user: String,
    },
    /// What comes next is taken out of the store.
    Withdraw {
        user: String,
    },
    /// Every pgswivel has read what is current now.
    Followed,
    /// Nobody is on a user any more.
    Left {
        user: String,
    },
    Soak {
        user: String,
    },
    /// A user can't log in any more.
    Close {
        user: String,
        on: Endpoint,
    },
    /// Whoever is left is ended.
    End {
        user: String,
    },
    /// The old credential is refused everywhere.
    Refused {
        user: String,
    },
    /// The one after the new one waits in the store.
    KeepNext {
        user: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Current,
    Next,
}

impl Step {
    /// A stable word.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Grant { .. } => "grant",
            Self::Set { .. } => "set",
            Self::Stage { .. } => "stage",
            Self::Mint { .. } => "make",
            Self::Seen => "seen",
            Self::Password { .. } => "password",
            Self::Prove { .. } => "prove",
            Self::Promote { .. } => "promote",
            Self::Withdraw { .. } => "withdraw",
            Self::Followed => "followed",
            Self::Left { .. } => "left",
            Self::Soak { .. } => "soak",
            Self::Close { .. } => "close",
            Self::End { .. } => "end",
            Self::Refused { .. } => "refused",
            Self::KeepNext { .. } => "keep-next",
        }
    }

    /// Where, if it is one server.
    pub fn on(&self) -> Option<&Endpoint> {
        match self {
            Self::Create { on, .. }
            | Self::Grant { on, .. }
            | Self::Set { on, .. }
            | Self::Password { on, .. }
            | Self::Close { on, .. } => Some(on),
            _ => None,
        }
    }

    /// Store or servers are not what they were after it.
    pub fn changes(&self) -> bool {
        !matches!(
            self,
            Self::Mint { .. }
                | Self::Seen
                | Self::Prove { .. }
                | Self::Followed
                | Self::Left { .. }
                | Self::Soak { .. }
                | Self::Refused { .. }
        )
    }
}

/// As a plan says it; what is secret is `***`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = identifier;
        match self {
            Self::Create { role, like, on } => {
                write!(
                    f,
                    "on {on}: CREATE ROLE {} NOLOGIN, otherwise as {like}",
                    quoted(role)
                )
            }
            Self::Grant { group, role, on } => {
                write!(f, "on {on}: GRANT {} TO {}", quoted(group), quoted(role))
            }
            Self::Set { role, setting, on } => {
                let place = match setting.database.as_str() {
                    "" => String::new(),
                    database => format!(" IN DATABASE {}", quoted(database)),
                };
                write!(
                    f,
                    "on {on}: ALTER ROLE {}{place} SET {}",
                    quoted(role),
                    setting.name
                )
            }
            Self::Stage { user } => write!(
                f,
                "store: put a new password *** of {user} where what comes next waits"
            ),
            Self::Mint { user } => write!(f, "make a new password *** of {user}"),
            Self::Seen => f.write_str("sidecars: each has read what comes next"),
            Self::Password {
                user,
                which,
                login,
                on,
            } => {
                let login = if *login { " LOGIN" } else { "" };
                let back = match which {
                    Which::Next => "",
                    Which::Current => " (the store's current one)",
                };
                write!(
                    f,
                    "on {on}: ALTER ROLE {}{login} PASSWORD ***{back}",
                    quoted(user)
                )
            }
            Self::Prove { user, which } => {
                let which = match which {
                    Which::Next => "what comes next",
                    Which::Current => "what is current",
                };
                write!(f, "every server: {user} logs in with {which}")
            }
            Self::Promote { user } => write!(f, "store: what comes next, of {user}, becomes current"),
            Self::Withdraw { user } => write!(f, "store: take back what comes next, of {user}"),
            Self::Followed => f.write_str("sidecars: each has read what is current now"),
            Self::Left { user } => write!(
                f,
                "wait until nobody is on {user}, by store, sidecars and servers"
            ),
            Self::Soak { user } => write!(f, "wait `soak`, and look again that nobody is on {user}"),
            Self::Close { user, on } => write!(f, "on {on}: ALTER ROLE {} NOLOGIN", quoted(user)),
            Self::End { user } => write!(f, "every server: name and end what is left of {user}"),
            Self::Refused { user } => write!(f, "every server: the old credential of {user} is refused"),
            Self::KeepNext { user } => write!(
                f,
                "store: put the password *** after it, of {user}, where what comes next waits"
            ),
        }
    }
}
