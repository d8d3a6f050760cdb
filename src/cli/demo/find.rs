//! Where PostgreSQL is installed.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::failure::{Failure, VARIABLE};

/// Where Debian keeps one directory a major version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// A directory with `postgres` and `initdb` in it: the one that was asked for, else the newest that
/// `tests/setup` installed, else the system's newest, else what PATH leads to.
pub(super) fn postgres() -> Result<PathBuf, Failure> {
    if let Some(asked) = variable(VARIABLE).map(PathBuf::from) {
        let found = [asked.join("bin"), asked.clone()]
            .into_iter()
            .find(|bin| is_whole(bin));
        return found.ok_or(Failure::NotAPostgres(asked));
    }
    let cached = cache().join("postgres");
    let path = || in_path("postgres").and_then(|program| Some(program.parent()?.to_owned()));
    newest(&cached)
        .or_else(|| newest(Path::new(DEBIAN)))
        .or_else(|| path().filter(|bin| is_whole(bin)))
        .ok_or(Failure::NoPostgres(cached))
}

/// A program by its name.
pub(super) fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}

/// Of directories that are named after major versions.
fn newest(versions: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(versions).ok()?;
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let major: u32 = entry.file_name().to_str()?.parse().ok()?;
            Some((major, entry.path().join("bin")))
        })
        .filter(|(_, bin)| is_whole(bin))
        .max()
        .map(|(_, bin)| bin)
}

fn is_whole(bin: &Path) -> bool {
    ["postgres", "initdb"]
        .iter()
        .all(|program| bin.join(program).is_file())
}

/// As `tests/setup` has it.
fn cache() -> PathBuf {
    if let Some(cache) = variable("PGSWIVEL_CACHE") {
        return cache.into();
    }
    if geteuid().is_root() {
        return "/var/cache/pgswivel".into();
    }
    std::env::home_dir().unwrap_or_default().join(".cache/pgswivel")
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_is_taken_and_only_a_whole_one() {
        let versions = tempfile::tempdir().expect("a temporary directory");
        for (major, programs) in [
            ("9", &["postgres", "initdb"][..]),
            ("15", &["postgres", "initdb"]),
            ("18", &["postgres"]),
            ("making-18", &["postgres", "initdb"]),
        ] {
            let bin = versions.path().join(major).join("bin");
            fs::create_dir_all(&bin).expect("a directory");
            for program in programs {
                fs::write(bin.join(program), "").expect("a file");
            }
        }
        assert_eq!(newest(versions.path()), Some(versions.path().join("15/bin")));
        assert_eq!(newest(&versions.path().join("none")), None);
    }
}
