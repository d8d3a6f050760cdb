use std::path::PathBuf;
use std::time::Duration;

use pgswivel::stores::{self, Change, DigestKey, WritableStore, WriteError, writable_command};
use tempfile::TempDir;

use super::{Place, keeps_everything, login, look};
use crate::stores::contract::CANARY;

/// `cat` prints a file; a script puts its input in its place.
struct Programs(TempDir);

impl Programs {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn value(&self) -> PathBuf {
        self.0.path().join("value")
    }

    fn that_writes(&self, script: &str) -> Box<dyn WritableStore> {
        let words = |argv: &[&str]| argv.iter().map(|word| (*word).to_owned()).collect();
        let value = self.value();
        let value = value.to_str().unwrap();
        writable_command(
            words(&["/bin/cat", value]),
            words(&["/bin/sh", "-c", script, "sh", value]),
            Duration::from_secs(5),
            None,
            &DigestKey::random(),
        )
        .unwrap()
    }
}

impl Place for Programs {
    fn open(&self) -> Box<dyn WritableStore> {
        self.that_writes("cat >\"$1.new\" && mv \"$1.new\" \"$1\"")
    }

    async fn put(&self, text: &str) {
        std::fs::write(self.value(), text).unwrap();
    }

    async fn text(&self) -> String {
        std::fs::read_to_string(self.value()).unwrap()
    }
}

#[tokio::test]
async fn a_command_keeps_the_contract_of_writing() {
    keeps_everything(&Programs::new()).await;
}

#[tokio::test]
async fn a_command_that_fails_or_only_says_that_it_wrote_has_not_written() {
    let programs = Programs::new();
    programs.put(&super::positions("app_a", 1)).await;
    for (script, wanted) in [
        ("exit 3", "store"),
        ("exit 0", "not there"),
        ("cat >/dev/null", "not there"),
    ] {
        let mut store = programs.that_writes(script);
        let seen = look(&mut *store).await;
        let change = Change::Stage(login("app_a", 2));
        let error = stores::write(&mut *store, &change, &seen).await.unwrap_err();
        match wanted {
            "store" => assert!(matches!(error, WriteError::Store(_)), "{error}"),
            _ => assert_eq!(error, WriteError::NotThere),
        }
        assert!(!format!("{error} {error:?}").contains(CANARY));
    }
}

/// The program did what it was asked for, and then something else went wrong.
#[tokio::test]
async fn a_write_that_was_made_counts_although_its_answer_was_a_failure() {
    let programs = Programs::new();
    programs.put(&super::positions("app_a", 1)).await;
    let mut store = programs.that_writes("cat >\"$1\"; exit 1");
    let seen = look(&mut *store).await;
    let next = login("app_a", 2);
    let staged = stores::write(&mut *store, &Change::Stage(next.clone()), &seen)
        .await
        .unwrap();
    assert_eq!(staged.next, Some(next));
}
