//! What a client was told that its prepared statements take and give.

use std::collections::BTreeMap;

use super::super::wire::described::{Described, digest};

/// More statements than this are not kept in mind.
const STATEMENTS_MAX: usize = 1024;

/// By the digest of their names.
#[derive(Default)]
pub(super) struct Told {
    statements: BTreeMap<u64, u64>,
    /// There was no room for one of them.
    pub is_too_much: bool,
    under_way: Option<(Box<[u8]>, Described)>,
}

impl Told {
    /// What a statement takes; what it gives comes next.
    pub fn takes(&mut self, name: Box<[u8]>, parameters: &[u8]) {
        self.under_way = Some((name, Described::taking(parameters)));
    }

    /// The description of the statement without a name, if it is that one's.
    pub fn gives(&mut self, columns: &[u8]) -> Option<u64> {
        let (name, described) = self.under_way.take()?;
        let told = described.giving(columns);
        if name.is_empty() {
            return Some(told);
        }
        let name = digest(&name);
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

    pub fn of(&self, name: &[u8]) -> Option<u64> {
        self.statements.get(&digest(name)).copied()
    }

    /// Those that are there, by the digests of their names.
    pub fn retain(&mut self, are_there: impl Fn(u64) -> bool) {
        self.statements.retain(|name, _| are_there(*name));
    }
}
