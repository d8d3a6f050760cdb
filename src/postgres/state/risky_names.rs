//! What is known of a database beyond any one session: which of its functions, views and tables change what a session
//! holds, and the names of custom settings. How that is learned, `learn` knows.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::lock::lock;
use crate::postgres::wire::state_words::{Learned, Vocabulary};

/// Custom settings whose names are kept. An application has a handful.
const SETTINGS_MAX: usize = 4096;
/// Definitions that somebody else makes all the time are not learned each time.
const BEHIND_PAUSE: Duration = Duration::from_secs(5);

/// Of every definition that there is: with the same one, the same would be learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    pub count: i64,
    pub marks: i64,
}

/// Of one database of one upstream.
pub struct RiskyNames {
    vocabulary: watch::Sender<Arc<Vocabulary>>,
    /// What definitions came to, by the server's counters, before the vocabulary was learned. 0: nothing was.
    defined: watch::Sender<u64>,
    /// When definitions were last found to be other ones.
    behind_at: Mutex<Option<Instant>>,
    settings: Mutex<BTreeSet<String>>,
    /// Somebody asks what sequences gave.
    asks_sequences: AtomicBool,
    doubted: Notify,
    /// Of what was learned.
    digest: Mutex<Option<Digest>>,
    learning: tokio::sync::Mutex<()>,
    /// Nobody was in the database when it would have been learned again.
    is_stale: AtomicBool,
}

impl RiskyNames {
    /// Until something is learned, any statement may change anything.
    pub fn unlearned() -> Self {
        Self {
            vocabulary: watch::Sender::new(Arc::new(Vocabulary::unlearned())),
            defined: watch::Sender::default(),
            behind_at: Mutex::default(),
            settings: Mutex::default(),
            asks_sequences: AtomicBool::new(false),
            doubted: Notify::new(),
            digest: Mutex::default(),
            learning: tokio::sync::Mutex::default(),
            is_stale: AtomicBool::new(false),
        }
    }

    /// Of a database without anything that runs out of sight.
    #[cfg(any(test, fuzzing))]
    pub fn plain() -> Self {
        let risky = Self::unlearned();
        risky.vocabulary.send_replace(Arc::default());
        risky
    }

    pub fn vocabulary(&self) -> watch::Receiver<Arc<Vocabulary>> {
        self.vocabulary.subscribe()
    }

    /// Custom settings that somebody may have set.
    pub fn settings(&self) -> BTreeSet<String> {
        let mut names = self.names().clone();
        names.extend(self.vocabulary.borrow().settings().map(str::to_owned));
        names
    }

    /// Whether everybody asks for this one.
    pub fn knows(&self, name: &str) -> bool {
        self.names().contains(name)
    }

    /// Has everybody ask for this one. False: there is no room for it.
    pub fn share(&self, name: &str) -> bool {
        let mut names = self.names();
        names.len() < SETTINGS_MAX && names.insert(name.to_owned())
    }

    /// Whether some session there asks what sequences gave to it: others will as well.
    pub fn asks_sequences(&self) -> bool {
        self.asks_sequences.load(Ordering::Relaxed)
    }

    pub fn sequences_asked(&self) {
        self.asks_sequences.store(true, Ordering::Relaxed);
    }

    /// What there was to know when it was learned. To be asked before the vocabulary is. 0: nothing is yet.
    pub fn learned(&self) -> u64 {
        *self.defined.borrow()
    }

    /// None: something was learned already.
    pub fn until_learned(&self) -> Option<impl Future<Output = ()> + use<>> {
        let mut defined = self.defined.subscribe();
        let is_unlearned = *defined.borrow_and_update() == 0;
        is_unlearned.then_some(async move {
            let _ = defined.wait_for(|defined| *defined != 0).await;
        })
    }

    /// Whether a session would have been seen to call what leaves something behind, if all that it said was read when
    /// so much was learned: what is defined now was known then, or nothing of it would.
    pub fn knew_all(&self, learned: u64, defined: u64) -> bool {
        if self.learned() != defined {
            self.fell_behind();
            return false;
        }
        learned == defined || learned == 0 && self.vocabulary.borrow().leaves_nothing_unseen()
    }

    fn fell_behind(&self) {
        let now = Instant::now();
        let mut behind_at = lock(&self.behind_at);
        if behind_at.is_none_or(|at| at + BEHIND_PAUSE <= now) {
            *behind_at = Some(now);
            self.doubt();
        }
    }

    /// A definition may have changed.
    pub fn doubt(&self) {
        self.doubted.notify_one();
    }

    fn names(&self) -> MutexGuard<'_, BTreeSet<String>> {
        lock(&self.settings)
    }

    pub fn is_learned(&self) -> bool {
        self.vocabulary.borrow().is_learned()
    }

    /// Whose turn it is to learn anew.
    pub async fn turn_to_learn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.learning.lock().await
    }

    /// Whether this is what was learned.
    pub fn is_as_of(&self, digest: Digest) -> bool {
        *lock(&self.digest) == Some(digest)
    }

    pub fn take_as_of(&self, digest: Digest, learned: Learned) {
        *lock(&self.digest) = Some(digest);
        self.take(learned);
    }

    /// What is as it was is no news.
    pub fn take(&self, learned: Learned) {
        if self.vocabulary.borrow().is_taught(&learned) {
            return;
        }
        let vocabulary = Vocabulary::taught(Arc::new(learned));
        self.vocabulary.send_replace(Arc::new(vocabulary));
    }

    /// What definitions came to before what was taken was asked. To be told behind it: whoever sees this sees that.
    pub fn learned_as_of(&self, defined: u64) {
        self.defined.send_replace(defined);
    }

    pub async fn doubted(&self) {
        self.doubted.notified().await;
    }

    /// Nobody is in the database: it is not learned again before somebody comes.
    pub fn grows_stale(&self) {
        self.is_stale.store(true, Ordering::Relaxed);
    }

    /// Somebody comes.
    pub fn is_wanted(&self) {
        if self.is_stale.swap(false, Ordering::Relaxed) {
            self.doubt();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::wire::state_words::{Definition, learn};

    fn taught(risky: &RiskyNames, body: &str, defined: u64) {
        risky.take(learn([Definition {
            name: "f",
            language: "sql",
            body: Some(body),
        }]));
        risky.defined.send_replace(defined);
    }

    #[test]
    fn who_was_judged_by_less_than_there_is_may_have_left_anything() {
        let risky = RiskyNames::unlearned();
        assert!(!risky.knew_all(0, 5), "nothing is known");
        taught(&risky, "SELECT 1", 5);
        assert!(risky.knew_all(5, 5));
        assert!(risky.knew_all(0, 5), "whatever it called leaves nothing");
        assert!(!risky.knew_all(4, 5), "what it called may be gone");
        assert!(!risky.knew_all(5, 6), "there is something new");
        for body in [
            "SELECT setseed(0.5)",
            "SELECT set_config(name, '1', false) FROM t",
        ] {
            taught(&risky, body, 6);
            assert!(risky.knew_all(6, 6) && !risky.knew_all(0, 6), "{body}");
        }
        taught(&risky, "SELECT set_config('a.b', '1', false)", 7);
        assert!(risky.knew_all(0, 7), "whether it was set is asked");
    }
}
