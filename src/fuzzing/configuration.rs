//! A configuration file, and the flags beside it.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use crate::config::{self, Flags, Surroundings};

/// What no message may quote.
const PASSWORD: &str = "HUNTER2-never-in-a-message";

struct OneFile<'a>(&'a [u8]);

impl Surroundings for OneFile<'_> {
    fn variable(&self, name: &str) -> Option<OsString> {
        (name == "PGSWIVEL_PASSWORD").then(|| PASSWORD.into())
    }

    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Ok(self.0.to_vec())
    }
}

/// However it is written, it is read or refused, with every problem said and no password in it.
pub fn configuration(data: &[u8]) {
    let (url, file) = match data.iter().position(|byte| *byte == 0) {
        Some(end) => (str::from_utf8(&data[..end]).ok(), &data[end + 1..]),
        None => (None, data),
    };
    let flags = Flags {
        config: Some("/pgswivel.toml".into()),
        upstream: url.map(str::to_owned),
        secret: url.map(str::to_owned),
        ..Flags::default()
    };
    let said = match config::load(&flags, &OneFile(file)) {
        Ok(config) => format!("{config:?}"),
        Err(problems) => {
            let said = problems.to_string();
            assert!(!said.is_empty(), "refused without a word");
            said
        }
    };
    assert!(!said.contains(PASSWORD), "a password is shown");
}
