//! How old credentials are, and how long ago the store changed, by the store's own dates where it has some.
//! It reads nothing: it is told what was read, and when.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::credentials::{Credential, KNOWN_MAX, Offer, Page};
use crate::stores::Made;

/// How old credentials are, as far as the store says so, and how long ago it changed.
#[derive(Default)]
pub(super) struct Ages {
    pub(super) max_age: Option<Duration>,
    made: Vec<Made>,
    /// Logins that the store changed to while this keeper ran and that have not been made yet.
    changes: Vec<(Credential, Instant)>,
    last_good_read: Option<Instant>,
}

/// A credential that should have been rotated by now.
pub(super) struct TooOld {
    pub(super) version: Arc<str>,
    pub(super) age: Duration,
    pub(super) max_age: Duration,
}

impl Ages {
    pub(super) fn new(max_age: Option<Duration>) -> Self {
        Self {
            max_age,
            ..Self::default()
        }
    }

    /// A good reading, before the book has it.
    pub(super) fn read(&mut self, offer: &Offer, made: Vec<Made>, page: &Page, now: Instant) {
        for made in made {
            self.made.retain(|known| known.version != made.version);
            self.made.push(made);
        }
        let forgotten = self.made.len().saturating_sub(KNOWN_MAX);
        self.made.drain(..forgotten);
        if let Some(last) = self.last_good_read.replace(now) {
            let fresh = (offer.credentials.iter()).filter(|credential| page.entry(credential).is_none());
            for credential in fresh.take(KNOWN_MAX) {
                let age = self.made_ago(&credential.version);
                let made = age.and_then(|age| now.checked_sub(age)).unwrap_or(now);
                // It is in this reading and was not in the last, whatever clocks say.
                self.changes.push((credential.clone(), made.clamp(last, now)));
            }
            let forgotten = self.changes.len().saturating_sub(KNOWN_MAX);
            self.changes.drain(..forgotten);
        }
    }

    /// How long ago the store changed to this credential, if this is the first login with it.
    pub(super) fn first_login(&mut self, credential: &Credential, now: Instant) -> Option<Duration> {
        let at = (self.changes.iter()).position(|(changed, _)| changed.is_same_login(credential))?;
        let (_, changed) = self.changes.swap_remove(at);
        Some(now.saturating_duration_since(changed))
    }

    pub(super) fn made_ago(&self, version: &Arc<str>) -> Option<Duration> {
        let made = self.made.iter().find(|made| made.version == *version)?;
        SystemTime::now().duration_since(made.at).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::{Password, Position};

    const SECOND: Duration = Duration::from_secs(1);

    fn offer(versions: &[&str]) -> Offer {
        let credential = |version: &&str| Credential {
            user: "app".into(),
            password: Password::new(*version),
            version: (*version).into(),
            position: Position::Current,
        };
        Offer {
            credentials: versions.iter().map(credential).collect(),
            ..Offer::default()
        }
    }

    fn made(version: &str, ago: Duration) -> Vec<Made> {
        let at = SystemTime::now() - ago;
        vec![Made {
            version: version.into(),
            at,
        }]
    }

    fn changed_ago(made_ago: Option<Duration>) -> u64 {
        let (mut ages, page, start) = (Ages::default(), Page::default(), Instant::now());
        ages.read(&offer(&["1"]), Vec::new(), &page, start);
        let made = made_ago.map(|ago| made("2", ago)).unwrap_or_default();
        let read = start + SECOND * 60;
        ages.read(&offer(&["2"]), made, &page, read);
        let credential = &offer(&["2"]).credentials[0];
        let took = ages.first_login(credential, read + SECOND).unwrap();
        assert_eq!(ages.first_login(credential, read + SECOND), None);
        took.as_secs_f64().round() as u64
    }

    #[test]
    fn a_change_is_dated_by_the_store_between_the_reads_around_it() {
        assert_eq!(changed_ago(None), 1);
        assert_eq!(changed_ago(Some(SECOND * 20)), 21);
        assert_eq!(changed_ago(Some(SECOND * 10_000)), 61);
    }

    #[test]
    fn what_is_there_at_the_start_is_no_change() {
        let (mut ages, page) = (Ages::default(), Page::default());
        ages.read(&offer(&["1"]), Vec::new(), &page, Instant::now());
        let credential = &offer(&["1"]).credentials[0];
        assert_eq!(ages.first_login(credential, Instant::now()), None);
    }
}
