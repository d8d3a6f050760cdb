//! The kinds of state that no survey can see. What makes such state is not known here.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// State that a statement may have made and that no survey can see: a set of kinds.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Unseen(u8);

const KINDS: [(Unseen, &str); 7] = [
    (Unseen::SEED, "a seed for random()"),
    (Unseen::DBLINK, "a dblink connection"),
    (Unseen::ORIGIN, "a replication origin"),
    (Unseen::BACKUP, "a base backup under way"),
    (Unseen::EXTENSION, "state that an extension holds"),
    (Unseen::INTERPRETER, "data kept inside a procedural language"),
    (Unseen::LIBRARY, "a loaded library"),
];

impl Unseen {
    pub const NONE: Self = Self(0);
    /// `setseed` survives even DISCARD ALL.
    pub const SEED: Self = Self(1);
    pub const DBLINK: Self = Self(2);
    pub const ORIGIN: Self = Self(4);
    pub const BACKUP: Self = Self(8);
    pub const EXTENSION: Self = Self(16);
    /// PL/Python's `GD`, PL/Perl's `%_SHARED`.
    pub const INTERPRETER: Self = Self(32);
    /// A library that was loaded and whose name is not known.
    pub const LIBRARY: Self = Self(64);

    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// What to call each kind that is in the set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let held = KINDS.into_iter().filter(move |(kind, _)| self.contains(*kind));
        held.map(|(_, name)| name)
    }
}

impl BitOr for Unseen {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Unseen {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

impl fmt::Debug for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}
