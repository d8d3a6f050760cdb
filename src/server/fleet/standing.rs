//! Where this process stands with a secret, for others to read.

use std::sync::Arc;

use crate::access::roster::Roster;
use crate::credentials::{Page, Position};
use crate::fleet::{SecretDigest, SecretWord, Standing, of_version};
use crate::keeper;
use crate::names::SecretName;

pub(super) fn secret_word(
    secret: SecretDigest,
    name: &SecretName,
    keeper: &keeper::Handle,
    roster: &Roster,
) -> SecretWord {
    let page = keeper.page.borrow().clone();
    let leader = page.leader().map(|leader| Arc::clone(&leader.user));
    let (mut left, mut pinned) = (0, 0);
    for aboard in roster.aboard(name) {
        let is_left = page.retirement(&aboard.credential).is_some()
            && leader
                .as_ref()
                .is_none_or(|leader| *leader != aboard.credential.user);
        if is_left {
            left += aboard.sessions;
            pinned += aboard.pinned.len();
        }
    }
    let is_seen_only = page.first_choice().zip(page.leader());
    let is_seen_only = is_seen_only.is_some_and(|(first, leader)| !first.is_same_login(leader));
    let standing = match () {
        () if page.reads == 0 => Standing::Unread,
        () if !page.has_proof() => Standing::Broken,
        () if left > 0 => Standing::Moving,
        () if is_seen_only => Standing::Seen,
        () => Standing::Current,
    };
    SecretWord {
        secret,
        version: newest(&page).map_or(0, of_version),
        standing,
        left: left.try_into().unwrap_or(u32::MAX),
        pinned: pinned.try_into().unwrap_or(u32::MAX),
    }
}

/// Its version: of what the store announces, or puts first.
fn newest(page: &Page) -> Option<&str> {
    let mut listed = page.entries().iter().filter(|entry| entry.listed);
    let next = listed.find(|entry| entry.credential.position == Position::Next);
    let newest = next.map(|entry| &entry.credential).or(page.first_choice());
    newest.map(|credential| &*credential.version)
}
