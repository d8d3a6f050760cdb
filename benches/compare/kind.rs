//! Who is compared.

use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Direct,
    Haproxy,
    Pgbouncer,
    /// Another build of pgswivel.
    Other,
    Pgswivel,
}

impl Kind {
    /// In the order that they are reported in.
    pub const ALL: [Self; 5] = [
        Self::Direct,
        Self::Haproxy,
        Self::Pgbouncer,
        Self::Other,
        Self::Pgswivel,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Haproxy => "haproxy",
            Self::Pgbouncer => "pgbouncer",
            Self::Other => "other",
            Self::Pgswivel => "pgswivel",
        }
    }

    /// Passes bytes on and never looks at them, so the client itself encrypts.
    pub fn is_transparent(self) -> bool {
        matches!(self, Self::Direct | Self::Haproxy)
    }
}
