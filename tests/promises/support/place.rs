//! Where things are: the cache that `tests/setup` fills, free ports, temporary directories.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::statvfs::statvfs;
use nix::unistd::{Group, Uid, User};
use tempfile::TempDir;

/// A major version of PostgreSQL.
pub type Version = u16;

/// The directory that `tests/setup` installs into.
pub fn cache() -> PathBuf {
    if let Some(cache) = std::env::var_os("PGSWIVEL_CACHE") {
        return cache.into();
    }
    if Uid::effective().is_root() {
        return "/var/cache/pgswivel".into();
    }
    let home = std::env::home_dir().expect("a user who is not root has a home");
    home.join(".cache/pgswivel")
}

/// Where one PostgreSQL is installed.
pub fn postgres_home(version: Version) -> PathBuf {
    let home = cache().join(format!("postgres/{version}"));
    assert!(
        home.join("bin/postgres").exists(),
        "PostgreSQL {version} is not in {}: run `tests/setup` (with PG_MATRIX=all for every version)",
        home.display()
    );
    home
}

/// The user that servers run as when the tests run as root, which Postgres refuses to do.
pub fn unprivileged() -> Option<(Uid, nix::unistd::Gid)> {
    Uid::effective().is_root().then(|| {
        let user = User::from_name("nobody")
            .unwrap()
            .expect("a system has a user nobody");
        let group = Group::from_name("nogroup")
            .unwrap()
            .map_or(user.gid, |group| group.gid);
        (user.uid, group)
    })
}

/// Makes `path` belong to the user that servers run as.
pub fn hand_over(path: &Path) {
    if let Some((uid, gid)) = unprivileged() {
        chown(path, Some(uid.as_raw()), Some(gid.as_raw())).unwrap();
    }
}

/// A temporary directory with a short name, since a socket's path may have no more than 107 bytes.
pub fn temporary_directory() -> TempDir {
    let directory = tempfile::Builder::new().prefix("pgswivel-").tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    directory
}

/// One for the files of a server: a thousand small ones, which are copied far sooner in memory, where there is room.
pub fn server_directory() -> TempDir {
    const MEMORY: &str = "/dev/shm";
    const ROOM_MIN: u64 = 2 << 30;

    let room = statvfs(MEMORY).map_or(0, |memory| memory.blocks_available() * memory.fragment_size());
    if room < ROOM_MIN {
        return temporary_directory();
    }
    let prefix = "pgswivel-of-";
    remove_left(MEMORY, prefix);
    let prefix = format!("{prefix}{}-", std::process::id());
    let Ok(directory) = tempfile::Builder::new().prefix(&prefix).tempdir_in(MEMORY) else {
        return temporary_directory();
    };
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    directory
}

/// Those whose process was killed, and could not remove them.
fn remove_left(place: &str, prefix: &str) {
    for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name
            .to_str()
            .and_then(|name| name.strip_prefix(prefix)?.split_once('-'));
        if process.is_some_and(|(process, _)| !Path::new("/proc").join(process).exists()) {
            // Another test may have been faster.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A TCP port that no other test holds, whichever process it runs in, until this is dropped.
///
/// Taken from below the range that the kernel hands out for outgoing connections, so that none of
/// those can sit on it between our look and the server's bind.
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    pub fn free() -> Self {
        const FIRST: u16 = 15_000;
        const COUNT: u16 = 17_000;
        let locks = std::env::temp_dir().join("pgswivel-ports");
        std::fs::create_dir_all(&locks).unwrap();
        let _ = std::fs::set_permissions(&locks, PermissionsExt::from_mode(0o1777));
        // Tests start looking at different places, so that few of them meet.
        let start = RandomState::new().hash_one(()) % u64::from(COUNT);
        for step in 0..COUNT {
            let number = FIRST + (start as u16 + step) % COUNT;
            let path = locks.join(number.to_string());
            let Ok(lock) = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(path)
            else {
                continue;
            };
            if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Self { number, _lock: lock };
            }
        }
        panic!("no free port from {FIRST} to {}", FIRST + COUNT);
    }

    pub fn number(&self) -> u16 {
        self.number
    }
}

/// Lets this process, and those it starts, have as many open files as the system allows.
pub fn raise_open_files() -> u64 {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    hard
}

/// With `PGSWIVEL_LONG` in the environment: as often, and for as long, as it takes to be sure.
pub fn is_long() -> bool {
    std::env::var_os("PGSWIVEL_LONG").is_some()
}
