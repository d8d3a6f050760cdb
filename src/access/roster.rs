//! Who is logged in with what: the links there are by the credential that opened them, and what keeps sessions on
//! them. A credential that no link uses can be revoked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;
use tokio::time::Instant;

use super::pin::Pin;
use crate::credentials::Credential;
use crate::lock::lock;
use crate::names::{SecretName, UpstreamName};

/// Every link, from before its login to its end.
pub struct Roster {
    secrets: Mutex<BTreeMap<SecretName, Vec<Group>>>,
    changes: watch::Sender<()>,
}

struct Group {
    credential: Credential,
    links: BTreeMap<UpstreamName, usize>,
    /// Of these, links that end soon.
    ending: BTreeMap<UpstreamName, usize>,
    sessions: BTreeMap<u64, Option<Pinned>>,
}

/// Why a session can't leave its link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    pub reasons: Vec<Pin>,
    pub since: Instant,
    /// When it is ended nevertheless.
    pub until: Option<Instant>,
}

/// One credential, and who is on it.
#[derive(Clone, Debug)]
pub struct Aboard {
    pub credential: Credential,
    /// Links that are being opened, open, or kept ready.
    pub links: usize,
    /// Clients whose session is on one of them.
    pub sessions: usize,
    /// By the number that names the session in the log.
    pub pinned: BTreeMap<u64, Pinned>,
}

/// Who is on one upstream user, whatever the secret and the password.
#[derive(Clone, Debug, Default)]
pub struct OnUser {
    /// By the secret that each came through, as it was called then.
    pub links: BTreeMap<SecretName, usize>,
    pub sessions: usize,
    pub pinned: usize,
}

impl Roster {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            secrets: Mutex::default(),
            changes: watch::Sender::new(()),
        })
    }

    /// Before the login, so that a credential is never taken for unused while a link with it is on its way.
    pub fn enter(
        self: &Arc<Self>,
        secret: &SecretName,
        upstream: &UpstreamName,
        credential: &Credential,
    ) -> Registration {
        let mut secrets = self.lock();
        let groups = secrets.entry(secret.clone()).or_default();
        let at = groups.iter().position(|group| group.is_of(credential));
        let at = at.unwrap_or_else(|| {
            groups.push(Group {
                credential: credential.clone(),
                links: BTreeMap::new(),
                ending: BTreeMap::new(),
                sessions: BTreeMap::new(),
            });
            groups.len() - 1
        });
        *groups[at].links.entry(upstream.clone()).or_default() += 1;
        Registration {
            roster: Arc::clone(self),
            secret: secret.clone(),
            upstream: upstream.clone(),
            credential: credential.clone(),
            session: None,
            ends_soon: false,
        }
    }

    /// Whether some backend is about to make room for another, without anybody's doing.
    pub fn awaits_an_end(&self, upstream: &UpstreamName) -> bool {
        let secrets = self.lock();
        let mut groups = secrets.values().flatten();
        groups.any(|group| group.ending.contains_key(upstream))
    }

    pub fn aboard(&self, secret: &SecretName) -> Vec<Aboard> {
        let secrets = self.lock();
        let groups = secrets.get(secret).map(Vec::as_slice).unwrap_or_default();
        groups.iter().map(Group::aboard).collect()
    }

    /// Every secret that some link was opened with, whatever became of it since.
    pub fn secrets(&self) -> Vec<SecretName> {
        let secrets = self.lock();
        let used = secrets.iter().filter(|(_, groups)| !groups.is_empty());
        used.map(|(name, _)| name.clone()).collect()
    }

    /// Links by upstream. One that has none is left out.
    pub fn links(&self) -> BTreeMap<UpstreamName, usize> {
        let mut all = BTreeMap::new();
        for group in self.lock().values().flatten() {
            for (upstream, links) in &group.links {
                *all.entry(upstream.clone()).or_default() += links;
            }
        }
        all
    }

    /// By user, those that some link is on. A link counts whatever became of its role or its secret since.
    pub fn users(&self) -> BTreeMap<Arc<str>, OnUser> {
        let mut users: BTreeMap<Arc<str>, OnUser> = BTreeMap::new();
        for (secret, groups) in self.lock().iter() {
            for group in groups {
                let on = users.entry(group.credential.user.clone()).or_default();
                *on.links.entry(secret.clone()).or_default() += group.links.values().sum::<usize>();
                on.sessions += group.sessions.len();
                on.pinned += group.sessions.values().flatten().count();
            }
        }
        users
    }

    /// Whether any client's session is on a link.
    pub fn has_sessions(&self) -> bool {
        let secrets = self.lock();
        let mut groups = secrets.values().flatten();
        groups.any(|group| !group.sessions.is_empty())
    }

    pub fn uses(&self, secret: &SecretName, credential: &Credential) -> bool {
        let secrets = self.lock();
        let mut groups = secrets.get(secret).into_iter().flatten();
        groups.any(|group| group.is_of(credential))
    }

    /// Wakes when the last link of some credential is gone.
    pub fn departures(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SecretName, Vec<Group>>> {
        lock(&self.secrets)
    }

    fn change(&self, registration: &Registration, change: impl FnOnce(&mut Group)) {
        let mut secrets = self.lock();
        let Some(groups) = secrets.get_mut(&registration.secret) else {
            return;
        };
        let Some(at) = groups
            .iter()
            .position(|group| group.is_of(&registration.credential))
        else {
            return;
        };
        change(&mut groups[at]);
        if groups[at].links.is_empty() {
            groups.swap_remove(at);
            self.changes.send_replace(());
        }
    }
}

impl Group {
    fn is_of(&self, credential: &Credential) -> bool {
        self.credential.is_same_login(credential)
    }

    fn aboard(&self) -> Aboard {
        let pinned = (self.sessions.iter()).filter_map(|(id, pinned)| Some((*id, pinned.clone()?)));
        Aboard {
            credential: self.credential.clone(),
            links: self.links.values().sum(),
            sessions: self.sessions.len(),
            pinned: pinned.collect(),
        }
    }
}

/// One link's place in the roster; it is given up on drop.
pub struct Registration {
    roster: Arc<Roster>,
    secret: SecretName,
    upstream: UpstreamName,
    credential: Credential,
    session: Option<u64>,
    ends_soon: bool,
}

impl Registration {
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// The link is a session's from now on.
    pub fn seat(&mut self, session: u64) {
        self.session = Some(session);
        self.roster.change(self, |group| {
            group.sessions.insert(session, None);
        });
    }

    /// The session has moved on; the link is still there.
    pub fn unseat(&mut self) {
        if let Some(session) = self.session.take() {
            self.roster.change(self, |group| {
                group.sessions.remove(&session);
            });
        }
    }

    /// No session will be on the link any more, and its backend is not needed much longer.
    pub fn ends_soon(&mut self) {
        self.unseat();
        if !std::mem::replace(&mut self.ends_soon, true) {
            self.roster.change(self, |group| {
                *group.ending.entry(self.upstream.clone()).or_default() += 1;
            });
        }
    }

    /// What keeps the session on this link, if anything does.
    pub fn pin(&self, pinned: Option<Pinned>) {
        let Some(session) = self.session else {
            return;
        };
        self.roster.change(self, |group| {
            group.sessions.insert(session, pinned);
        });
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.roster.change(self, |group| {
            one_less(&mut group.links, &self.upstream);
            if self.ends_soon {
                one_less(&mut group.ending, &self.upstream);
            }
            if let Some(session) = self.session {
                group.sessions.remove(&session);
            }
        });
    }
}

fn one_less(links: &mut BTreeMap<UpstreamName, usize>, upstream: &UpstreamName) {
    if let Some(count) = links.get_mut(upstream) {
        *count -= 1;
        if *count == 0 {
            links.remove(upstream);
        }
    }
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registration")
            .field("secret", &self.secret)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::{Password, Position};

    fn credential(user: &str) -> Credential {
        Credential {
            user: user.into(),
            password: Password::new("secret"),
            version: "1".into(),
            position: Position::Current,
        }
    }

    #[test]
    fn a_credential_is_in_use_until_its_last_link_is_gone() {
        let (roster, secret) = (Roster::new(), SecretName::from("orders"));
        let mut departures = roster.departures();
        let first = roster.enter(&secret, &"db".into(), &credential("a"));
        let second = roster.enter(&secret, &"db".into(), &credential("a"));
        drop(first);
        assert!(roster.uses(&secret, &credential("a")) && !departures.has_changed().unwrap());
        drop(second);
        assert!(!roster.uses(&secret, &credential("a")));
        assert!(departures.has_changed().unwrap());
        departures.mark_unchanged();
    }

    #[test]
    fn whoever_needs_room_is_told_of_links_that_end_by_themselves() {
        let (roster, secret, db) = (Roster::new(), SecretName::from("orders"), "db".into());
        let mut first = roster.enter(&secret, &db, &credential("a"));
        let mut second = roster.enter(&secret, &db, &credential("b"));
        first.seat(7);
        assert!(!roster.awaits_an_end(&db));
        first.ends_soon();
        second.ends_soon();
        second.ends_soon();
        assert!(roster.awaits_an_end(&db) && !roster.awaits_an_end(&"other".into()));
        assert!(!roster.has_sessions());
        drop(second);
        assert!(roster.awaits_an_end(&db));
        drop(first);
        assert!(!roster.awaits_an_end(&db));
    }

    #[test]
    fn a_session_takes_its_pin_with_it() {
        let (roster, secret) = (Roster::new(), SecretName::from("orders"));
        let mut registration = roster.enter(&secret, &"db".into(), &credential("a"));
        registration.seat(7);
        let pinned = Pinned {
            reasons: vec![Pin("held_cursors")],
            since: Instant::now(),
            until: None,
        };
        registration.pin(Some(pinned.clone()));
        let aboard = roster.aboard(&secret);
        assert_eq!((aboard[0].sessions, aboard[0].pinned.get(&7)), (1, Some(&pinned)));
        registration.unseat();
        assert_eq!(
            (
                roster.aboard(&secret)[0].sessions,
                roster.aboard(&secret)[0].links
            ),
            (0, 1)
        );
        let mut next = roster.enter(&secret, &"db".into(), &credential("b"));
        next.seat(7);
        drop(registration);
        let aboard = roster.aboard(&secret);
        assert_eq!(
            (aboard.len(), aboard[0].sessions, aboard[0].pinned.len()),
            (1, 1, 0)
        );
    }
}
