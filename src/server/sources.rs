//! Where the configuration comes from: flags, variables, and files that may change while it is in use.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::pending;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::config::{self, Config, Flags, Problems, Surroundings};
use crate::lock::lock;
use crate::lookout::{Lookout, SETTLE};

/// What each file held, by a digest that nobody can foresee; None: it could not be read.
type Seen = BTreeMap<PathBuf, Option<u64>>;

pub struct Sources {
    flags: Flags,
    surroundings: Box<dyn Surroundings + Send + Sync>,
    digests: RandomState,
    /// By the last reading.
    seen: Mutex<Seen>,
    /// One reads at a time: a file system that does not answer costs one thread, however often it is asked.
    turn: Arc<Semaphore>,
}

/// One reading of the configuration.
pub struct Loaded {
    pub config: Result<Config, Problems>,
    /// Files that are not what they were at the reading before.
    pub changed: Vec<PathBuf>,
}

impl Sources {
    pub fn new(flags: Flags, surroundings: impl Surroundings + Send + Sync + 'static) -> Self {
        Self {
            flags,
            surroundings: Box::new(surroundings),
            digests: RandomState::new(),
            seen: Mutex::default(),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Reads files, so it blocks.
    pub fn load(&self) -> Loaded {
        let witness = Witness {
            sources: self,
            is_first: self.seen().is_empty(),
            seen: RefCell::default(),
        };
        let config = config::load(&self.flags, &witness);
        let seen = witness.seen.into_inner();
        let before = std::mem::replace(&mut *self.seen(), seen.clone());
        let differs = |(path, digest): &(PathBuf, Option<u64>)| before.get(path) != Some(digest);
        let changed = seen.into_iter().filter(differs).map(|(path, _)| path);
        Loaded {
            config,
            changed: changed.collect(),
        }
    }

    /// The same for whoever must not block.
    pub async fn load_again(self: &Arc<Self>) -> Loaded {
        self.in_turn(Self::load).await
    }

    async fn in_turn<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> T {
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let turn = turn.expect("nobody closes it");
        let sources = Arc::clone(self);
        let reading = spawn_blocking(move || {
            let _turn = turn;
            read(&sources)
        });
        reading
            .await
            .expect("reading files does not panic, and nobody cancels it")
    }

    /// The file that says where the admin server is, if one does.
    pub fn admin_file(&self) -> Option<PathBuf> {
        config::admin_file(&self.flags, &*self.surroundings)
    }

    /// Resolves when some file that the last reading looked at is not what it was then, and rests.
    pub async fn changed(self: &Arc<Self>) {
        let seen = self.seen().clone();
        if seen.is_empty() {
            return pending().await;
        }
        let lookout = Lookout::new();
        let mut before = None;
        loop {
            seen.keys().for_each(|path| lookout.cover(path));
            let now = self.look(&seen).await;
            if now == seen {
                before = None;
                lookout.pause().await;
            } else if before.as_ref() == Some(&now) {
                return;
            } else {
                before = Some(now);
                sleep(SETTLE).await;
            }
        }
    }

    async fn look(self: &Arc<Self>, seen: &Seen) -> Seen {
        let seen = seen.clone();
        let look = move |sources: &Self| {
            let digest = |(path, before): (PathBuf, Option<u64>)| {
                let now = match is_pipe(&path) {
                    // Its end is for whoever reads it, once.
                    true => before,
                    false => sources.digest(&sources.surroundings.read(&path)),
                };
                (path, now)
            };
            seen.into_iter().map(digest).collect()
        };
        self.in_turn(look).await
    }

    fn digest(&self, read: &io::Result<Vec<u8>>) -> Option<u64> {
        read.as_ref().ok().map(|bytes| self.digests.hash_one(bytes))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }
}

fn is_pipe(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo())
}

/// Remembers what a reading looked at, as it was then.
struct Witness<'a> {
    sources: &'a Sources,
    is_first: bool,
    seen: RefCell<Seen>,
}

impl Surroundings for Witness<'_> {
    fn variable(&self, name: &str) -> Option<OsString> {
        self.sources.surroundings.variable(name)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        // At the start it may be what a shell has written to a pipe; who reads that again waits for ever.
        let read = match !self.is_first && is_pipe(path) {
            true => Err(io::Error::other("a pipe can't be read again")),
            false => self.sources.surroundings.read(path),
        };
        let digest = self.sources.digest(&read);
        self.seen.borrow_mut().insert(path.to_owned(), digest);
        read
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    struct Disk;

    impl Surroundings for Disk {
        fn variable(&self, _: &str) -> Option<OsString> {
            None
        }

        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            fs::read(path)
        }
    }

    #[tokio::test]
    async fn every_file_that_a_configuration_is_made_of_is_watched() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let file = format!(
            "[role.app]\npassword = {{ file = '{}' }}\n[upstream.orders]\nhosts = 'db'\ntls = {{ mode = 'verify-ca', ca = '{}' }}\n[secret.orders]\nstore = 'file'\nid = '/s'\n",
            path("password").display(),
            path("ca").display()
        );
        fs::write(path("toml"), file).unwrap();
        fs::write(path("password"), "one").unwrap();
        let flags = Flags {
            config: Some(path("toml")),
            ..Flags::default()
        };
        let sources = Arc::new(Sources::new(flags, Disk));
        let loaded = sources.load();
        assert!(loaded.config.is_err(), "there is no ca yet");
        assert_eq!(loaded.changed.len(), 3);
        for (name, is_sound) in [("ca", true), ("password", true), ("toml", false)] {
            let change = async { fs::write(path(name), "two").unwrap() };
            let noticed = timeout(Duration::from_secs(10), async {
                tokio::join!(sources.changed(), change);
            });
            assert!(noticed.await.is_ok(), "{name} changed and nobody saw it");
            let loaded = sources.load();
            assert_eq!(loaded.changed, [path(name)]);
            assert_eq!(loaded.config.is_ok(), is_sound, "{name}");
        }
        let quiet = timeout(Duration::from_millis(200), sources.changed()).await;
        assert!(
            quiet.is_err(),
            "an invalid file is one change, not one for each look"
        );
    }

    #[tokio::test]
    async fn a_pipe_in_the_place_of_a_file_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("toml");
        let text = "[role.app]\nauth = 'trust'\n[upstream.orders]\nhosts = 'db'\n[secret.orders]\nstore = 'file'\nid = '/s'\n";
        fs::write(&path, text).unwrap();
        let flags = Flags {
            config: Some(path.clone()),
            ..Flags::default()
        };
        let sources = Arc::new(Sources::new(flags, Disk));
        assert!(sources.load().config.is_ok());
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let quiet = timeout(Duration::from_millis(300), sources.changed()).await;
        assert!(quiet.is_err(), "nothing is known of a pipe");
        let loaded = timeout(Duration::from_secs(10), sources.load_again()).await;
        assert!(loaded.expect("it does not wait for a writer").config.is_err());
        fs::remove_file(&path).unwrap();
        fs::write(&path, text).unwrap();
        assert!(sources.load_again().await.config.is_ok());
    }
}
