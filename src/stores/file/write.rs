//! Writes a file, or a directory of files, by putting a new one in its place. Owner and mode stay, and what was there
//! before stays beside it.
//!
//! The two change places in one step where the system can do that: only then is what came out known for certain, and put
//! back if it is not what was seen.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use zeroize::Zeroizing;

use super::{Bytes, Contents, FilePlace, on_a_blocking_thread, without_line_end};
use crate::config::{FieldPair, Fields};
use crate::credentials::{Password, Position};
use crate::stores::payload::change::{self, Found, Values};
use crate::stores::write::in_payload::{InPayload, Whole};
use crate::stores::write::{Change, Holding, Login, NextPlace, Revision, WritableStore, WriteError, foreign};
use crate::stores::{DigestKey, Said, StoreError, StoreFuture};

/// What was there before the last write.
const BEFORE: &str = ".before";
/// What is about to be put in its place.
const BESIDE: &str = ".pgswivel-new";

/// A file that holds a payload, or a directory with a file for each value.
pub fn writable(path: PathBuf, fields: Option<Fields>, digests: DigestKey) -> Box<dyn WritableStore> {
    let place = FilePlace {
        path,
        fields: fields.clone(),
        digests,
    };
    match place.path.is_dir() {
        true => Box::new(Directory { place }),
        false => Box::new(InPayload {
            whole: OneFile { place },
            fields,
        }),
    }
}

struct OneFile {
    place: FilePlace,
}

impl Whole for OneFile {
    fn fetch(&mut self) -> StoreFuture<'_, Result<(Bytes, Revision), StoreError>> {
        let place = self.place.clone();
        Box::pin(on_a_blocking_thread(move || {
            match place.look()? {
                contents @ Contents::Pairs(_) => drop(contents),
                Contents::One(bytes) => {
                    let revision = Revision::new(place.digests.name(&[&bytes]));
                    return Ok((bytes, revision));
                }
            }
            Err(StoreError::Unsettled)
        }))
    }

    fn replace<'a>(
        &'a mut self,
        payload: &'a Bytes,
        since: &'a Revision,
    ) -> StoreFuture<'a, Result<(), WriteError>> {
        let (place, payload, since) = (self.place.clone(), payload.clone(), since.clone());
        Box::pin(async move {
            let write = move || Ok(replace_file(&place, &payload, &since));
            on_a_blocking_thread(write).await?
        })
    }
}

fn replace_file(place: &FilePlace, payload: &Bytes, since: &Revision) -> Result<(), WriteError> {
    let failed = |error: io::Error| WriteError::from(place.failure(&error));
    let real = fs::canonicalize(&place.path).map_err(failed)?;
    refuse_mounts(place, &real)?;
    let beside = with_suffix(&real, BESIDE);
    let was = fs::metadata(&real).map_err(failed)?;
    write_new(&beside, payload, &was).map_err(failed)?;
    if is_current_kept(place, payload).unwrap_or(false) {
        keep_time(&beside, &was).map_err(failed)?;
    }
    let is_as_seen = |path: &Path| -> Result<bool, WriteError> {
        let bytes = super::read_bounded(path).map_err(|error| place.read_failure(error))?;
        Ok(*place.digests.name(&[&bytes]) == *since.as_str())
    };
    put_in_place(&real, &beside, is_as_seen).map_err(|error| match error {
        Misplaced::Io(error) => failed(error),
        Misplaced::Foreign => WriteError::Foreign(Said::new("the file is not what it was")),
        Misplaced::Other(error) => error,
    })
}

fn is_current_kept(place: &FilePlace, payload: &Bytes) -> Result<bool, StoreError> {
    let Contents::One(was) = place.look()? else {
        return Ok(false);
    };
    let current = |bytes: &Bytes| change::find(bytes, place.fields.as_ref()).map(|found| found.current);
    Ok(current(&was)? == current(payload)?)
}

/// What is current is as old as it was: how old, the time of the file says.
fn keep_time(path: &Path, was: &Metadata) -> io::Result<()> {
    File::open(path)?.set_modified(was.modified()?)
}

enum Misplaced {
    Io(io::Error),
    /// What came out is not what was seen. It is back in its place.
    Foreign,
    Other(WriteError),
}

impl From<io::Error> for Misplaced {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Both change places; what comes out is looked at, and goes back if it is not what it should be.
fn put_in_place(
    real: &Path,
    beside: &Path,
    is_as_seen: impl Fn(&Path) -> Result<bool, WriteError>,
) -> Result<(), Misplaced> {
    let seen = |path: &Path| is_as_seen(path).map_err(Misplaced::Other);
    if !seen(real)? {
        remove(beside);
        return Err(Misplaced::Foreign);
    }
    let exchange = || renameat_with(CWD, beside, CWD, real, RenameFlags::EXCHANGE);
    match exchange() {
        Ok(()) if seen(beside)? => {}
        Ok(()) => {
            exchange().map_err(io::Error::from)?;
            remove(beside);
            return Err(Misplaced::Foreign);
        }
        // A file system that can't exchange: what was there is copied before, and there is a moment between the look
        // and the rename.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP)
            if real.is_file() =>
        {
            let before = with_suffix(real, BEFORE);
            let was = Zeroizing::new(fs::read(real)?);
            write_new(&before, &was, &fs::metadata(real)?)?;
            fs::rename(beside, real)?;
            return sync_parent(real).map_err(Misplaced::Io);
        }
        Err(error) => {
            remove(beside);
            return Err(Misplaced::Io(error.into()));
        }
    }
    let before = with_suffix(real, BEFORE);
    remove(&before);
    fs::rename(beside, before)?;
    sync_parent(real).map_err(Misplaced::Io)
}

/// A new file with the owner and the mode of another, whole on the disk.
fn write_new(path: &Path, bytes: &[u8], like: &Metadata) -> io::Result<()> {
    remove(path);
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let filled = (|| {
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
            fchown(&file, Some(like.uid()), Some(like.gid()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(like.mode() & 0o7777))?;
        file.write_all(bytes)?;
        file.sync_all()
    })();
    if filled.is_err() {
        remove(path);
    }
    filled
}

fn remove(path: &Path) {
    // Nothing is there, most often.
    let _ = match path.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// `/run/orders.json` becomes `/run/orders.json.before`.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn refuse_mounts(place: &FilePlace, real: &Path) -> Result<(), WriteError> {
    let refuse = |why: &str| Err(WriteError::ReadOnly(Said::new(why)));
    if place.path.join(super::KUBELET_LINK).symlink_metadata().is_ok()
        || real.parent().is_some_and(|parent| {
            parent.file_name().is_some_and(|name| {
                name.to_string_lossy().starts_with("..")
                    && parent.with_file_name(super::KUBELET_LINK).exists()
            })
        })
    {
        return refuse(
            "Kubernetes mounts it, and takes no changes from here: change the Secret, with a `command` store",
        );
    }
    if super::mount::is_mounted_alone(&place.path) {
        return refuse(
            "the file is a mount of its own, so it can't be replaced: mount the directory instead",
        );
    }
    Ok(())
}

/// A directory with one file a value. All of it is replaced at once: a user and a password that belong together must
/// never be seen apart.
struct Directory {
    place: FilePlace,
}

impl WritableStore for Directory {
    fn look(&mut self) -> StoreFuture<'_, Result<Holding, StoreError>> {
        let place = self.place.clone();
        Box::pin(on_a_blocking_thread(move || hold(&place)))
    }

    fn change<'a>(
        &'a mut self,
        change: &'a Change,
        since: &'a Holding,
    ) -> StoreFuture<'a, Result<(), WriteError>> {
        let (place, change, since) = (self.place.clone(), change.clone(), since.clone());
        Box::pin(async move {
            let write = move || Ok(replace_directory(&place, &change, &since));
            on_a_blocking_thread(write).await?
        })
    }
}

fn hold(place: &FilePlace) -> Result<Holding, StoreError> {
    let contents = place.look()?;
    let revision = Revision::new(place.name(&contents));
    let Contents::Pairs(pairs) = contents else {
        return Err(StoreError::Unsettled);
    };
    let mut logins: BTreeMap<Position, Login> = BTreeMap::new();
    for (position, user, password) in pairs {
        let password = Password::new(without_line_end(&password));
        let user = std::str::from_utf8(without_line_end(&user))
            .map_err(|_| StoreError::Unparsable(crate::stores::PayloadError::NotText))?;
        if !password.is_empty() {
            let user = user.into();
            logins.insert(position, Login { user, password });
        }
    }
    let current = logins.remove(&Position::Current).ok_or(StoreError::Empty)?;
    Ok(Holding {
        current,
        next: logins.remove(&Position::Next),
        previous: logins.remove(&Position::Previous),
        next_place: change::next_place(&fields_of(place)),
        revision,
        other_writer: None,
    })
}

fn fields_of(place: &FilePlace) -> Fields {
    place.fields.clone().unwrap_or_else(|| Fields {
        current: FieldPair {
            user: "username".to_owned(),
            password: "password".to_owned(),
        },
        next: None,
        previous: None,
    })
}

/// Files that are to hold something else.
struct Files<'a> {
    real: &'a Path,
    set: BTreeMap<String, Zeroizing<String>>,
}

impl Values for Files<'_> {
    fn set(&mut self, name: &str, value: &str) -> Result<(), WriteError> {
        self.set.insert(name.to_owned(), Zeroizing::new(value.to_owned()));
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        self.real.join(name).exists()
    }
}

fn replace_directory(place: &FilePlace, change: &Change, since: &Holding) -> Result<(), WriteError> {
    let failed = |error: io::Error| WriteError::from(place.failure(&error));
    let real = fs::canonicalize(&place.path).map_err(failed)?;
    refuse_mounts(place, &real)?;
    let now = hold(place)?;
    if now.revision != since.revision {
        return Err(foreign(&since.revision, &now.revision));
    }
    let found = Found {
        current: now.current,
        next: now.next,
        previous: now.previous,
        next_place: now.next_place,
    };
    change::check(&found, change)?;
    let mut files = Files {
        real: &real,
        set: BTreeMap::new(),
    };
    change::by_fields(&mut files, &fields_of(place), &found, change)?;
    let beside = with_suffix(&real, BESIDE);
    let was = fs::metadata(&real).map_err(failed)?;
    let mut copied = copy_directory(&real, &beside, &files.set);
    if matches!(change, Change::Stage(_) | Change::Withdraw(_)) {
        copied = copied.and_then(|()| keep_time(&beside, &was));
    }
    copied.map_err(|error| {
        remove(&beside);
        failed(error)
    })?;
    let is_as_seen = |path: &Path| -> Result<bool, WriteError> {
        let there = FilePlace {
            path: path.to_owned(),
            ..place.clone()
        };
        Ok(hold(&there)?.revision == since.revision)
    };
    put_in_place(&real, &beside, is_as_seen).map_err(|error| match error {
        Misplaced::Io(error) if error.kind() == io::ErrorKind::ResourceBusy => WriteError::ReadOnly(Said::new(
            "the directory is a mount of its own, so it can't be replaced: keep the secret in a directory below it",
        )),
        Misplaced::Io(error) => failed(error),
        Misplaced::Foreign => WriteError::Foreign(Said::new("the files are not what they were")),
        Misplaced::Other(error) => error,
    })
}

/// The same files, but for those that are to hold something else. A value keeps the line end that it had.
fn copy_directory(real: &Path, beside: &Path, set: &BTreeMap<String, Zeroizing<String>>) -> io::Result<()> {
    remove(beside);
    let was = fs::metadata(real)?;
    // Nobody else's until it has the mode of the other: that alone may be what keeps the files closed.
    DirBuilder::new().mode(0o700).create(beside)?;
    for entry in fs::read_dir(real)? {
        let entry = entry?;
        let is_set = entry
            .file_name()
            .to_str()
            .is_some_and(|name| set.contains_key(name));
        if is_set {
            continue;
        }
        if !entry.file_type()?.is_file() {
            let words = "the directory holds more than files, so it can't be replaced in one step";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, words));
        }
        fs::hard_link(entry.path(), beside.join(entry.file_name()))?;
    }
    for (name, value) in set {
        let there = real.join(name);
        let like = fs::metadata(&there).or_else(|_| fs::metadata(real.join(first_file(real)?)))?;
        let old = Zeroizing::new(fs::read(&there).unwrap_or_default());
        let line_end = &old[without_line_end(&old).len()..];
        let bytes = Zeroizing::new([value.as_bytes(), line_end].concat());
        write_new(&beside.join(name), &bytes, &like)?;
    }
    let own = fs::metadata(beside)?;
    let directory = File::open(beside)?;
    if (own.uid(), own.gid()) != (was.uid(), was.gid()) {
        fchown(&directory, Some(was.uid()), Some(was.gid()))?;
    }
    fs::set_permissions(beside, fs::Permissions::from_mode(was.mode() & 0o7777))?;
    directory.sync_all()
}

/// Whose owner and mode a file takes that was not there before.
fn first_file(real: &Path) -> io::Result<OsString> {
    let mut names = fs::read_dir(real)?;
    let first = names.next().ok_or(io::ErrorKind::NotFound)?;
    Ok(first?.file_name())
}

impl NextPlace {
    /// For this user.
    pub fn takes(self, user: &str, current: &str) -> bool {
        match self {
            Self::None => false,
            Self::SameUser => user == current,
            Self::AnyUser => true,
        }
    }
}
