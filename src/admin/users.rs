//! Whether an upstream user may go, as far as this process is concerned: asked by name, over all secrets, and as of a
//! read of the stores whose time is said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::time::{sleep, timeout};

use super::report::UserReport;
use super::{Active, Facts};
use crate::access::roster::{OnUser, Roster};
use crate::credentials::{Page, Position};
use crate::journal::rfc3339;
use crate::keeper::{self, Status};
use crate::names::SecretName;

/// For every store to be read, when somebody asks for a fresh answer.
const FRESH_TIME: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What one secret says of users.
struct Wants {
    secret: SecretName,
    /// Every user that it is known to have had.
    users: Vec<String>,
    /// Those that new logins begin with, or will, or may.
    wanted: Vec<String>,
    read_at: Option<SystemTime>,
}

impl Wants {
    fn of(secret: &SecretName, page: &Page, status: &Status) -> Self {
        let announced = (page.entries().iter())
            .filter(|entry| entry.listed && entry.credential.position == Position::Next)
            .map(|entry| &entry.credential);
        // While nothing works, everything that is known is tried.
        let tried = (page.entries().iter())
            .filter(|_| !page.has_proof())
            .map(|entry| &entry.credential);
        let wanted = page
            .leader()
            .into_iter()
            .chain(page.first_choice())
            .chain(announced)
            .chain(tried);
        Self {
            secret: secret.clone(),
            users: page
                .known()
                .map(|entry| entry.credential.user.to_string())
                .collect(),
            wanted: wanted.map(|credential| credential.user.to_string()).collect(),
            read_at: status.as_of_time,
        }
    }
}

fn wants(active: &Active) -> Vec<Wants> {
    let of = |(name, keeper): (&SecretName, &keeper::Handle)| {
        Wants::of(name, &keeper.page.borrow(), &keeper.status())
    };
    active.keepers.iter().map(of).collect()
}

/// Every user that some secret has, or some link is on.
pub fn all(active: &Active, roster: &Roster) -> Vec<UserReport> {
    let wants = wants(active);
    // After the pages: a login that goes by an older page is on the roster before it begins.
    let on = roster.users();
    let known = wants.iter().flat_map(|wants| &wants.users);
    let users: BTreeSet<&str> = (known.map(String::as_str))
        .chain(on.keys().map(|user| &**user))
        .collect();
    users.into_iter().map(|user| report(user, &wants, &on)).collect()
}

/// This one, whether anybody here has heard of it or not.
pub fn of(user: &str, active: &Active, roster: &Roster) -> UserReport {
    report(user, &wants(active), &roster.users())
}

fn report(user: &str, wants: &[Wants], on: &BTreeMap<Arc<str>, OnUser>) -> UserReport {
    let nobody = OnUser::default();
    let on = on.get(user).unwrap_or(&nobody);
    let is_of = |users: &[String]| users.iter().any(|known| known == user);
    let names = |wants: &mut dyn Iterator<Item = &Wants>| -> Vec<String> {
        wants.map(|wants| wants.secret.to_string()).collect()
    };
    let wanted_by = names(&mut wants.iter().filter(|wants| is_of(&wants.wanted)));
    let unread = names(&mut wants.iter().filter(|wants| wants.read_at.is_none()));
    let mut links_by_secret: BTreeMap<String, u64> = (wants.iter())
        .filter(|wants| is_of(&wants.users))
        .map(|wants| (wants.secret.to_string(), 0))
        .collect();
    for (secret, links) in &on.links {
        links_by_secret.insert(secret.to_string(), *links as u64);
    }
    let links = links_by_secret.values().sum();
    let oldest = wants.iter().filter_map(|wants| wants.read_at).min();
    UserReport {
        user: user.to_owned(),
        unused: links == 0 && wanted_by.is_empty() && unread.is_empty(),
        as_of: oldest.filter(|_| unread.is_empty()).map(rfc3339),
        links,
        sessions: on.sessions as u64,
        pinned: on.pinned as u64,
        links_by_secret,
        wanted_by,
        unread,
    }
}

/// Has every store read, and waits for it. The secrets whose read failed or is not over in time.
pub async fn refresh(facts: &Facts) -> Vec<String> {
    let asked = tokio::time::Instant::now().into_std();
    let keepers = facts.active.borrow().keepers.clone();
    keepers.values().for_each(keeper::Handle::refresh);
    let is_behind = |keeper: &keeper::Handle| keeper.status().as_of().is_none_or(|as_of| as_of < asked);
    let until_read = async {
        while keepers
            .values()
            .any(|keeper| is_behind(keeper) && !has_failed_since(keeper, asked))
        {
            sleep(LOOK_EVERY).await;
        }
    };
    // Who is late is behind.
    let _ = timeout(FRESH_TIME, until_read).await;
    let behind = keepers.iter().filter(|(_, keeper)| is_behind(keeper));
    behind.map(|(name, _)| name.to_string()).collect()
}

fn has_failed_since(keeper: &keeper::Handle, then: Instant) -> bool {
    keeper.status().failed_at().is_some_and(|at| at >= then)
}
