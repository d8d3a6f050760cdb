mod mount;
mod watch;
mod write;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use zeroize::Zeroizing;

pub use self::write::writable as writable_file;
use super::payload::Pair;
use super::{
    Calls, DigestKey, Made, Operation, PAYLOAD_BYTES_MAX, Reading, Said, Store, StoreError, StoreFuture,
    Warning,
};
use crate::config::{FieldPair, Fields};
use crate::credentials::Position;

/// A file, or a directory with one file a value, as Kubernetes, Docker and the Vault agent mount them.
pub struct FileStore {
    place: FilePlace,
    /// What the last read saw: None for nothing readable.
    seen: Option<Arc<str>>,
    /// When what the last good read gave came to be.
    made: Vec<Made>,
    calls: Arc<Calls>,
}

/// Everything that a read needs, to be carried to a thread that may block.
#[derive(Clone)]
struct FilePlace {
    path: PathBuf,
    fields: Option<Fields>,
    digests: DigestKey,
}

/// A value that keeps changing under this many looks is given up until the next read.
const LOOKS_MAX: usize = 5;

/// What the kubelet points at the directory that holds the values of one moment.
const KUBELET_LINK: &str = "..data";

pub(super) type Bytes = Zeroizing<Vec<u8>>;

/// The bytes of one moment.
#[derive(PartialEq)]
enum Contents {
    One(Bytes),
    /// User and password files, by position.
    Pairs(Vec<(Position, Bytes, Bytes)>),
}

impl FileStore {
    pub fn new(path: PathBuf, fields: Option<Fields>, digests: DigestKey) -> Self {
        Self {
            place: FilePlace {
                path,
                fields,
                digests,
            },
            seen: None,
            made: Vec::new(),
            calls: Arc::default(),
        }
    }

    async fn take(&mut self) -> Result<Reading, StoreError> {
        self.calls.count(Operation::ReadFile);
        let place = self.place.clone();
        let look = move || Ok((place.look(), place.changed_at()));
        let (contents, changed_at) = on_a_blocking_thread(look).await?;
        self.seen = contents.as_ref().ok().map(|contents| self.place.name(contents));
        let mut reading = self.place.understand(contents?)?.made_at(changed_at);
        // The time of a file is that of all that is in it: who touches it, or adds a next one, makes nothing new of what
        // was there before.
        for made in &mut reading.made {
            if let Some(known) = self.made.iter().find(|known| known.version == made.version) {
                made.at = known.at.min(made.at);
            }
        }
        self.made.clone_from(&reading.made);
        Ok(reading)
    }
}

impl Store for FileStore {
    fn read(&mut self) -> StoreFuture<'_, Result<Reading, StoreError>> {
        Box::pin(self.take())
    }

    fn changed(&mut self) -> StoreFuture<'_, ()> {
        Box::pin(watch::until_different(&self.place, self.seen.as_deref()))
    }

    fn warning(&self) -> Option<Warning> {
        mount::is_mounted_alone(&self.place.path).then_some(Warning::MountedAlone)
    }

    fn calls(&self) -> Arc<Calls> {
        Arc::clone(&self.calls)
    }
}

impl FilePlace {
    /// Looks until two looks in a row saw the same, so that no value is half old and half new, and nothing
    /// counts as missing because its directory was swapped in between.
    fn look(&self) -> Result<Contents, StoreError> {
        let mut before = self.glance();
        for _ in 1..LOOKS_MAX {
            let now = self.glance();
            if now == before {
                return now.1;
            }
            before = now;
        }
        Err(StoreError::Unsettled)
    }

    /// One look, with the real path that was looked at.
    fn glance(&self) -> (PathBuf, Result<Contents, StoreError>) {
        let real = match self.real_path() {
            Ok(real) => real,
            Err(error) => {
                let link = std::fs::read_link(self.path.join(KUBELET_LINK));
                return (
                    link.unwrap_or_else(|_| self.path.clone()),
                    Err(self.failure(&error)),
                );
            }
        };
        let contents = match real.is_dir() {
            true => self.read_pairs(&real).map(Contents::Pairs),
            false => read_bounded(&real)
                .map(Contents::One)
                .map_err(|error| self.read_failure(error)),
        };
        (real, contents)
    }

    /// The file, or the directory that holds the values of one moment.
    fn real_path(&self) -> io::Result<PathBuf> {
        let real = std::fs::canonicalize(&self.path)?;
        let link = real.join(KUBELET_LINK);
        match link.symlink_metadata() {
            Ok(_) => std::fs::canonicalize(link),
            Err(_) => Ok(real),
        }
    }

    fn changed_at(&self) -> Option<SystemTime> {
        self.real_path().ok()?.metadata().ok()?.modified().ok()
    }

    /// All files from one resolved directory: a swap of the link can't mix them.
    fn read_pairs(&self, directory: &Path) -> Result<Vec<(Position, Bytes, Bytes)>, StoreError> {
        let file = |name: &str| read_bounded(&directory.join(name)).map_err(|error| self.read_failure(error));
        let plain = FieldPair {
            user: "username".to_owned(),
            password: "password".to_owned(),
        };
        let (current, next, previous) = match &self.fields {
            Some(fields) => (&fields.current, fields.next.as_ref(), fields.previous.as_ref()),
            None => (&plain, None, None),
        };
        let mut pairs = vec![(Position::Current, file(&current.user)?, file(&current.password)?)];
        for (position, names) in [(Position::Next, next), (Position::Previous, previous)] {
            let Some(names) = names else { continue };
            match file(&names.password) {
                Err(StoreError::Missing(_)) => {}
                password => pairs.push((position, file(&names.user)?, password?)),
            }
        }
        Ok(pairs)
    }

    fn understand(&self, contents: Contents) -> Result<Reading, StoreError> {
        let pairs = match contents {
            Contents::One(bytes) => return super::digested(&bytes, self.fields.as_ref(), &self.digests),
            Contents::Pairs(pairs) => pairs,
        };
        let credentials = pairs.into_iter().map(|(position, user, password)| {
            let password = without_line_end(&password);
            if password.is_empty() && position != Position::Current {
                return Ok(None);
            }
            let pair = Pair::from_bytes(position, without_line_end(&user), password)?;
            Ok(Some(pair.digested(&self.digests)))
        });
        let credentials = credentials.filter_map(Result::transpose);
        Ok(Reading::of(credentials.collect::<Result<_, StoreError>>()?))
    }

    /// A name for what was seen, to compare with what is there later.
    fn name(&self, contents: &Contents) -> Arc<str> {
        match contents {
            Contents::One(bytes) => self.digests.name(&[bytes]),
            Contents::Pairs(pairs) => {
                let parts: Vec<&[u8]> = pairs
                    .iter()
                    .flat_map(|(_, user, password)| [user.as_slice(), password.as_slice()])
                    .collect();
                self.digests.name(&parts)
            }
        }
    }

    fn read_failure(&self, error: ReadFailure) -> StoreError {
        match error {
            ReadFailure::Io(error) => self.failure(&error),
            ReadFailure::TooLarge => StoreError::TooLarge {
                limit: PAYLOAD_BYTES_MAX,
            },
        }
    }

    fn failure(&self, error: &io::Error) -> StoreError {
        let said = Said::new(format_args!("{}: {error}", self.path.display()));
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => StoreError::Missing(said),
            io::ErrorKind::PermissionDenied => StoreError::Denied(said),
            _ => StoreError::Failed(said),
        }
    }
}

enum ReadFailure {
    Io(io::Error),
    TooLarge,
}

/// Not blocking on open: a FIFO in the place of a file must not hold a thread for ever.
fn read_bounded(path: &Path) -> Result<Bytes, ReadFailure> {
    let read = || {
        let file = File::options()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
        file.take(PAYLOAD_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) if bytes.len() > PAYLOAD_BYTES_MAX => Err(ReadFailure::TooLarge),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(ReadFailure::Io(error)),
    }
}

/// Editors and `echo` end a file with a line end that is not part of its value.
fn without_line_end(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

/// A file may live on a network: nobody else waits for it.
async fn on_a_blocking_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|gone| Err(StoreError::Failed(Said::new(gone))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_has_its_kind() {
        let store = FileStore::new("/nowhere".into(), None, DigestKey::random());
        let label = |kind: io::ErrorKind| store.place.failure(&kind.into()).label();
        assert_eq!(label(io::ErrorKind::PermissionDenied), "denied");
        assert_eq!(label(io::ErrorKind::NotFound), "missing");
        assert_eq!(label(io::ErrorKind::StaleNetworkFileHandle), "failed");
    }

    #[tokio::test]
    async fn a_credential_does_not_get_younger_because_its_file_is_touched_or_announces_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("orders.json");
        let at = |seconds| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let write = |text: &str, seconds| {
            std::fs::write(&path, text).unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            file.set_modified(at(seconds)).unwrap();
        };
        let one = r#"{"current":{"username":"app","password":"one"}}"#;
        let both =
            r#"{"current":{"username":"app","password":"one"},"next":{"username":"app","password":"two"}}"#;
        let two = r#"{"current":{"username":"app","password":"two"}}"#;
        let mut store = FileStore::new(path.clone(), None, DigestKey::random());
        for (text, modified, made) in [
            (one, 1000, vec![1000]),
            (one, 2000, vec![1000]),
            (both, 3000, vec![1000, 3000]),
            (two, 4000, vec![3000]),
            (one, 5000, vec![5000]),
        ] {
            write(text, modified);
            let reading = store.read().await.unwrap();
            let found: Vec<_> = reading.made.iter().map(|made| made.at).collect();
            assert_eq!(
                found,
                made.into_iter().map(at).collect::<Vec<_>>(),
                "{text} of {modified}"
            );
        }
    }

    #[test]
    fn one_line_end_is_not_part_of_a_value() {
        assert_eq!(without_line_end(b"secret\r\n"), b"secret");
        assert_eq!(without_line_end(b"secret\n\n"), b"secret\n");
        assert_eq!(without_line_end(b"secret "), b"secret ");
    }
}
