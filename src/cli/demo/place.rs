//! The directory that everything of the demo is in, and who owns it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::geteuid;

use super::failure::{Failure, io};
use crate::random;

/// Who runs Postgres, which refuses to be run by root.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// A temporary directory, gone when this is.
pub(super) struct DemoPlace {
    path: PathBuf,
    /// None: ourselves.
    account: Option<Account>,
}

/// On systems that do not list `nobody` it is this one by convention.
const NOBODY: Account = Account {
    uid: 65534,
    gid: 65534,
};

/// A process that was just killed may still be writing.
const REMOVE_TRIES: u32 = 50;
const REMOVE_PAUSE: Duration = Duration::from_millis(20);

impl DemoPlace {
    pub(super) fn new() -> Result<Self, Failure> {
        let account = geteuid().is_root().then(nobody);
        let path = std::env::temp_dir().join(format!("pgswivel-demo-{}", random_word()));
        let make = || {
            DirBuilder::new().mode(0o700).create(&path)?;
            let place = Self {
                path: path.clone(),
                account,
            };
            place.hand_over(&place.path)?;
            Ok(place)
        };
        make().map_err(io("make a temporary directory"))
    }

    pub(super) fn account(&self) -> Option<Account> {
        self.account
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A file for whoever runs Postgres.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let path = self.file(name);
        let write = || {
            fs::write(&path, text)?;
            self.hand_over(&path)
        };
        write().map_err(io("write into the temporary directory"))?;
        Ok(path)
    }

    fn hand_over(&self, path: &Path) -> io::Result<()> {
        match self.account {
            Some(account) => chown(path, Some(account.uid), Some(account.gid)),
            None => Ok(()),
        }
    }
}

impl Drop for DemoPlace {
    fn drop(&mut self) {
        for _ in 0..REMOVE_TRIES {
            match fs::remove_dir_all(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => std::thread::sleep(REMOVE_PAUSE),
                _ => return,
            }
        }
        eprintln!("pgswivel: {} is left behind", self.path.display());
    }
}

/// Names and passwords of the demo.
pub(super) fn random_word() -> String {
    let bytes: [u8; 12] = random::bytes();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn nobody() -> Account {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    users.lines().find_map(nobody_in).unwrap_or(NOBODY)
}

/// `nobody:x:65534:65534:…`
fn nobody_in(line: &str) -> Option<Account> {
    let mut fields = line.strip_prefix("nobody:")?.split(':').skip(1);
    Some(Account {
        uid: fields.next()?.parse().ok()?,
        gid: fields.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_found_among_the_users() {
        let found =
            nobody_in("nobody:x:99:98:Nobody:/:/sbin/nologin").map(|account| (account.uid, account.gid));
        assert_eq!(found, Some((99, 98)));
        assert!(nobody_in("nobody2:x:1:1::/:/bin/sh").is_none());
    }

    #[test]
    fn a_place_is_gone_with_what_was_in_it() {
        let place = DemoPlace::new().expect("a place");
        let path = place.path().to_owned();
        place.write("file", "text").expect("a file");
        assert!(path.join("file").exists());
        drop(place);
        assert!(!path.exists());
    }
}
