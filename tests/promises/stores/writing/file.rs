use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use pgswivel::config::{FieldPair, Fields, Source};
use pgswivel::stores::{self, Change, DigestKey, Surroundings, WritableStore, WriteError, writable_file};
use tempfile::TempDir;

use super::{Place, keeps_everything, login, look, positions};
use crate::stores::contract::{CANARY, assert_whole};
use crate::stores::secret;

struct OneFile(TempDir);

impl OneFile {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("orders.json")
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path(), text).unwrap();
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Place for OneFile {
    fn open(&self) -> Box<dyn WritableStore> {
        writable_file(self.path(), None, DigestKey::random())
    }

    async fn put(&self, text: &str) {
        let beside = self.0.path().join("theirs");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, self.path()).unwrap();
    }

    async fn text(&self) -> String {
        std::fs::read_to_string(self.path()).unwrap()
    }
}

const PLAIN: &str = r#"{"username":"app_a","password":"canary-7f3a-1"}"#;

#[tokio::test]
async fn a_file_keeps_the_contract_of_writing() {
    keeps_everything(&OneFile::new()).await;
}

#[tokio::test]
async fn a_file_keeps_its_mode_and_what_was_there_stays_beside_it() {
    let file = OneFile::new();
    file.write(PLAIN);
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o640)).unwrap();
    let was = std::fs::metadata(file.path()).unwrap();
    let mut store = file.open();
    let seen = look(&mut *store).await;
    let change = Change::Replace(login("app_b", 2));
    stores::write(&mut *store, &change, &seen).await.unwrap();
    let now = std::fs::metadata(file.path()).unwrap();
    assert_eq!(
        (now.mode(), now.uid(), now.gid()),
        (was.mode(), was.uid(), was.gid())
    );
    assert_ne!(
        now.ino(),
        was.ino(),
        "a reader has the old or the new one, never a half"
    );
    assert_eq!(file.names(), ["orders.json", "orders.json.before"]);
    let before = file.0.path().join("orders.json.before");
    assert_eq!(std::fs::metadata(&before).unwrap().ino(), was.ino());
    assert_eq!(std::fs::read_to_string(before).unwrap(), PLAIN);
}

#[tokio::test]
async fn a_link_stays_a_link_to_what_is_written() {
    let file = OneFile::new();
    let real = file.0.path().join("real.env");
    std::fs::write(&real, "export U=app_a\nP='1' # x\n").unwrap();
    let link = file.0.path().join("link");
    symlink("real.env", &link).unwrap();
    let pair = FieldPair {
        user: "U".to_owned(),
        password: "P".to_owned(),
    };
    let fields = Fields {
        current: pair,
        next: None,
        previous: None,
    };
    let mut store = writable_file(link.clone(), Some(fields), DigestKey::random());
    let seen = look(&mut *store).await;
    let change = Change::Replace(login("app_b", 2));
    stores::write(&mut *store, &change, &seen).await.unwrap();
    assert!(link.is_symlink());
    let text = std::fs::read_to_string(&real).unwrap();
    assert_eq!(text, format!("export U=app_b\nP='{CANARY}-2' # x\n"));
}

/// Or a rotation that failed would hide that the password is old.
#[tokio::test]
async fn what_is_current_grows_no_younger_by_what_waits_beside_it() {
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let file = OneFile::new();
    file.write(&positions("app", 1));
    let values = Values::new(&[("username", "app"), ("password", &format!("{CANARY}-1"))]);
    for (path, fields) in [(file.path(), None), (values.path(), Some(with_next()))] {
        std::fs::File::open(&path)
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
        let age = || path.metadata().unwrap().modified().unwrap();
        let mut store = writable_file(path.clone(), fields, DigestKey::random());
        let next = login("app", 2);
        let mut seen = look(&mut *store).await;
        for change in [
            Change::Stage(next.clone()),
            Change::Withdraw(next.clone()),
            Change::Stage(next.clone()),
        ] {
            seen = stores::write(&mut *store, &change, &seen).await.unwrap();
            assert_eq!(age(), long_ago, "{}", path.display());
        }
        stores::write(&mut *store, &Change::Promote(next), &seen)
            .await
            .unwrap();
        assert!(age() > long_ago, "{}", path.display());
    }
}

/// A process that was killed in the middle of a write leaves something behind.
#[tokio::test]
async fn what_a_killed_write_left_behind_stops_nobody() {
    let file = OneFile::new();
    file.write(PLAIN);
    std::fs::write(file.0.path().join("orders.json.pgswivel-new"), "half").unwrap();
    let mut store = file.open();
    let seen = look(&mut *store).await;
    let change = Change::Replace(login("app_b", 2));
    stores::write(&mut *store, &change, &seen).await.unwrap();
    assert_eq!(file.names(), ["orders.json", "orders.json.before"]);
}

/// A directory with a place for the next password.
fn with_next() -> Fields {
    let pair = |password: &str| FieldPair {
        user: "username".to_owned(),
        password: password.to_owned(),
    };
    Fields {
        current: pair("password"),
        next: Some(pair("next-password")),
        previous: None,
    }
}

struct Values(TempDir);

impl Values {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("orders");
        std::fs::create_dir(&path).unwrap();
        for (name, value) in files {
            std::fs::write(path.join(name), value).unwrap();
        }
        Self(directory)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("orders")
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap()
    }
}

#[tokio::test]
async fn a_directory_is_replaced_at_once_and_nobody_sees_a_user_with_another_ones_password() {
    let values = Values::new(&[
        ("username", "app_1\n"),
        ("password", &format!("{CANARY}-1")),
        ("ca.crt", "x"),
    ]);
    let stopped = AtomicBool::new(false);
    let source = Source::File { path: values.path() };
    let reads = async {
        let around = Surroundings {
            endpoints: &[],
            digests: &DigestKey::random(),
        };
        let mut store = stores::open(&secret(source, None), around).unwrap();
        let mut reads = 0;
        while !stopped.load(Ordering::Relaxed) || reads == 0 {
            match stores::read(&mut *store).await {
                Ok(reading) => assert_whole(&reading),
                Err(error) => assert_eq!(error.label(), "unsettled", "{error}"),
            }
            reads += 1;
        }
    };
    let writes = async {
        let mut store = writable_file(values.path(), None, DigestKey::random());
        let mut seen = look(&mut *store).await;
        for number in 2..40 {
            let change = Change::Replace(login(&format!("app_{number}"), number));
            seen = stores::write(&mut *store, &change, &seen).await.unwrap();
        }
        stopped.store(true, Ordering::Relaxed);
    };
    tokio::join!(reads, writes);
    assert_eq!(values.read("username"), "app_39\n", "a line end stays");
    assert_eq!(values.read("password"), format!("{CANARY}-39"));
    assert_eq!(values.read("ca.crt"), "x");
    let before = values.0.path().join("orders.before/username");
    assert_eq!(std::fs::read_to_string(before).unwrap(), "app_38\n");
}

#[tokio::test]
async fn a_directory_with_a_place_for_the_next_password_is_rotated_in_steps() {
    let values = Values::new(&[("username", "app"), ("password", "one"), ("other", "kept")]);
    let mut store = writable_file(values.path(), Some(with_next()), DigestKey::random());
    let seen = look(&mut *store).await;
    let next = login("app", 2);
    let staged = stores::write(&mut *store, &Change::Stage(next.clone()), &seen)
        .await
        .unwrap();
    assert_eq!(values.read("next-password"), format!("{CANARY}-2"));
    std::fs::write(values.path().join("password"), "theirs").unwrap();
    let promote = Change::Promote(next.clone());
    let error = stores::write(&mut *store, &promote, &staged).await.unwrap_err();
    assert!(matches!(error, WriteError::Foreign(_)), "{error}");
    assert_eq!(values.read("password"), "theirs");
    let seen = look(&mut *store).await;
    let promoted = stores::write(&mut *store, &promote, &seen).await.unwrap();
    assert_eq!((&promoted.current, &promoted.next), (&next, &None));
    assert_eq!(values.read("password"), format!("{CANARY}-2"));
}

#[tokio::test]
async fn what_kubernetes_mounts_is_refused_with_the_way_to_change_it() {
    let directory = tempfile::tempdir().unwrap();
    let moment = directory.path().join("..2026");
    std::fs::create_dir(&moment).unwrap();
    std::fs::write(moment.join("username"), "app").unwrap();
    std::fs::write(moment.join("password"), "one").unwrap();
    std::fs::write(moment.join("orders.json"), PLAIN).unwrap();
    symlink("..2026", directory.path().join("..data")).unwrap();
    symlink("..data/orders.json", directory.path().join("orders.json")).unwrap();
    for path in [directory.path().to_owned(), directory.path().join("orders.json")] {
        let mut store = writable_file(path, None, DigestKey::random());
        let seen = look(&mut *store).await;
        let change = Change::Replace(login("app", 2));
        let error = stores::write(&mut *store, &change, &seen).await.unwrap_err();
        assert!(error.to_string().contains("change the Secret"), "{error}");
    }
}
