//! What `load` promises, from the outside.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::credentials::Password;
use crate::names::Endpoint;

mod file;
mod flags;
mod rotations;
mod secrets;
mod upstreams;

const FILE: &str = "/etc/pgswivel.toml";

/// Surroundings made of what a test says.
#[derive(Default)]
pub(super) struct Stage {
    flags: Flags,
    variables: HashMap<String, OsString>,
    files: HashMap<PathBuf, Vec<u8>>,
}

impl Stage {
    pub(super) fn with_file(text: &str) -> Self {
        let mut stage = Self::default().file(FILE, text);
        stage.flags.config = Some(FILE.into());
        stage
    }

    pub(super) fn file(mut self, path: &str, text: impl AsRef<[u8]>) -> Self {
        self.files.insert(path.into(), text.as_ref().to_owned());
        self
    }

    pub(super) fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.to_owned(), value.into());
        self
    }

    fn flag(mut self, set: impl FnOnce(&mut Flags)) -> Self {
        set(&mut self.flags);
        self
    }

    fn upstream(self, url: &str) -> Self {
        self.flag(|flags| flags.upstream = Some(url.to_owned()))
    }

    fn secret(self, url: &str) -> Self {
        self.flag(|flags| flags.secret = Some(url.to_owned()))
    }

    pub(super) fn load(&self) -> Result<Config, Problems> {
        super::load(&self.flags, self)
    }

    #[track_caller]
    pub(super) fn loaded(&self) -> Config {
        self.load().unwrap_or_else(|problems| panic!("{problems}"))
    }

    #[track_caller]
    fn refused(&self) -> String {
        match self.load() {
            Ok(_) => panic!("it was accepted"),
            Err(problems) => problems.to_string(),
        }
    }
}

impl Surroundings for Stage {
    fn variable(&self, name: &str) -> Option<OsString> {
        self.variables.get(name).cloned()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let found = self.files.get(path).cloned();
        found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

/// Enough flags to start.
fn flags() -> Stage {
    Stage::default()
        .upstream("postgres://db.internal/orders")
        .secret("file:/run/secrets/orders.json")
        .variable("PGSWIVEL_PASSWORD", "hunter2")
}

/// A file in which only the given lines are unusual.
fn file_with(lines: &str) -> Stage {
    Stage::with_file(&format!(
        "[role.app]\npassword = 'hunter2'\n[upstream.orders]\nhosts = 'db'\n[secret.orders]\nstore = 'file'\nid = '/s'\n{lines}"
    ))
}

fn only<K: Ord, T>(named: &std::collections::BTreeMap<K, T>) -> &T {
    assert_eq!(named.len(), 1);
    named.values().next().expect("one was counted")
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
