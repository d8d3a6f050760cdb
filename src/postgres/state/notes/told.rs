//! What a client was told that its prepared statements take and give.

use std::collections::{BTreeMap, BTreeSet};

use crate::postgres::wire::described::{Described, Shape, digest};

/// More statements than this are not kept in mind.
const STATEMENTS_MAX: usize = 1024;

/// By the digest of their names.
#[derive(Default)]
pub(super) struct Told {
    statements: BTreeMap<u64, Shape>,
    /// There was no room for one of them.
    pub is_too_much: bool,
    under_way: Option<(Whose, Described)>,
}

/// Of which statement a description is.
#[derive(Clone, Copy)]
enum Whose {
    Unnamed,
    /// By the digest of its name.
    Named(u64),
}

impl Told {
    /// What a statement takes; what it gives comes next.
    pub fn takes(&mut self, name: &[u8], parameters: &[u8]) {
        let whose = match name {
            b"" => Whose::Unnamed,
            name => Whose::Named(digest(name)),
        };
        self.under_way = Some((whose, Described::taking(parameters)));
    }

    /// What a portal of the statement gives comes next. By the digest of its name.
    pub fn portal_of(&mut self, name: u64) {
        self.under_way = Some((Whose::Named(name), Described::taking_anything()));
    }

    pub fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// The columns, piece by piece. At the end the description of the statement without a name, if it is that one's.
    pub fn gives(&mut self, columns: &[u8], last: bool) -> Option<Shape> {
        self.under_way.as_mut()?.1.read(columns);
        let (whose, described) = self.under_way.take_if(|_| last)?;
        let told = described.finish();
        let Whose::Named(name) = whose else {
            return Some(told);
        };
        if self.statements.len() < STATEMENTS_MAX || self.statements.contains_key(&name) {
            self.statements.insert(name, told);
        } else {
            self.is_too_much = true;
        }
        None
    }

    /// By the digest of its name: it is no more, or made anew.
    pub fn forget(&mut self, name: u64) {
        if !self.statements.is_empty() {
            self.statements.remove(&name);
        }
    }

    pub fn of(&self, name: &[u8]) -> Option<Shape> {
        self.statements.get(&digest(name)).copied()
    }

    /// By the digest of its name.
    pub fn knows(&self, name: u64) -> bool {
        self.statements.contains_key(&name)
    }

    /// These are there, by the digests of their names.
    pub fn surveyed(&mut self, are_there: &BTreeSet<u64>) {
        self.statements.retain(|name, _| are_there.contains(name));
        // None of the rest can be one that there was no room for.
        self.is_too_much &= self.statements.len() < are_there.len();
    }
}
