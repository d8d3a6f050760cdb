use std::cell::RefCell;
use std::ffi::OsString;
use std::io;
use std::path::Path;

use super::problem::Problem;
use super::written::{At, Origin};
use crate::names::RoleName;

/// What a configuration may look at besides itself.
pub trait Surroundings {
    fn variable(&self, name: &str) -> Option<OsString>;
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
}

/// One reading of a configuration: its surroundings, and the problems found so far.
pub(super) struct Loading<'a> {
    surroundings: &'a dyn Surroundings,
    problems: RefCell<Vec<Problem>>,
    /// Roles whose passwords others bring; None: whoever loads it needs them.
    unseen: Option<RefCell<Vec<RoleName>>>,
}

impl<'a> Loading<'a> {
    pub(super) fn new(surroundings: &'a dyn Surroundings) -> Self {
        Self {
            surroundings,
            problems: RefCell::default(),
            unseen: None,
        }
    }

    /// Whoever loads it lets nobody in.
    pub(super) fn of_bystander(mut self) -> Self {
        self.unseen = Some(RefCell::default());
        self
    }

    /// Whether a role may be without a password here.
    pub(super) fn may_lack_password(&self, role: &str) -> bool {
        let Some(unseen) = &self.unseen else {
            return false;
        };
        unseen.borrow_mut().push(role.into());
        true
    }

    pub(super) fn unseen(&self) -> Vec<RoleName> {
        self.unseen
            .as_ref()
            .map(|unseen| unseen.borrow().clone())
            .unwrap_or_default()
    }

    pub(super) fn problem(&self, origin: &Origin, message: impl Into<String>) {
        let problem = origin.problem(message);
        let mut problems = self.problems.borrow_mut();
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    /// Exactly what the variable holds, even when that is nothing.
    pub(super) fn raw_variable(&self, name: &str) -> Option<OsString> {
        self.surroundings.variable(name)
    }

    /// Unset when empty, since `NAME=${OTHER:-}` is how orchestrators leave a variable out.
    pub(super) fn variable(&self, name: &str) -> Option<At<String>> {
        let value = self
            .surroundings
            .variable(name)
            .filter(|value| !value.is_empty())?;
        let origin = Origin::named(name);
        match value.into_string() {
            Ok(value) => Some(At { value, origin }),
            Err(_) => {
                self.problem(&origin, "is not UTF-8 text");
                None
            }
        }
    }

    pub(super) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.surroundings.read(path)
    }
}
