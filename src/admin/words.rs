//! The sentences in status and on the page.

use super::report::{CredentialReport, Stage, UserReport};

/// A version that is longer is shortened.
const VERSION_SHOWN: usize = 12;

/// `replaced`: users that new logins do not begin with any more.
pub(super) fn of_secret(stage: Stage, credentials: &[CredentialReport], replaced: &[&UserReport]) -> String {
    let leader = credentials.iter().find(|known| known.standing == "leading");
    let leader = leader.map_or_else(|| "nothing".to_owned(), name);
    let first = || {
        let listed = credentials.iter().filter(|known| known.listed);
        let first = listed
            .filter(|known| known.standing != "leading")
            .min_by_key(|known| order(&known.position));
        first.map_or_else(|| "a new credential".to_owned(), name)
    };
    match stage {
        Stage::NothingRead => "nothing could be read from the store yet".to_owned(),
        Stage::NothingWorks => {
            "no credential is known to work: new sessions are held, and fail when patience ends".to_owned()
        }
        Stage::Seen => format!(
            "the store has {}, which the database does not take yet; new sessions use {leader}",
            first()
        ),
        Stage::Proven => format!(
            "{} works on some endpoints and not on all yet; new sessions use {leader}",
            first()
        ),
        Stage::Leading | Stage::Moving if replaced.is_empty() => format!(
            "new sessions use {leader}; on the password before there are still {}, which leave",
            left(credentials)
        ),
        Stage::Leading => format!(
            "new sessions use {leader}; {}: not safe to revoke",
            kept(replaced)
        ),
        Stage::Moving => format!(
            "new sessions use {leader}; {}: not safe to revoke yet",
            kept(replaced)
        ),
        Stage::SafeToRevoke => {
            let users: Vec<&str> = replaced.iter().map(|user| user.user.as_str()).collect();
            let as_of = replaced.iter().filter_map(|user| user.as_of.as_deref()).min();
            let as_of = as_of.map_or_else(String::new, |at| format!(", as of the store's state at {at}"));
            format!(
                "safe to revoke: nothing here uses {} any more{as_of}",
                users.join(", ")
            )
        }
        Stage::Steady => {
            let left = left(credentials);
            match left.starts_with("0 ") {
                true => format!("new sessions use {leader}; nothing here is on another user"),
                false => format!(
                    "new sessions use {leader}; {left} began with a password before it and need it no more"
                ),
            }
        }
    }
}

/// On what was replaced.
fn left(credentials: &[CredentialReport]) -> String {
    let retired = || credentials.iter().filter(|known| known.standing == "retired");
    let (sessions, links) = retired().fold((0, 0), |(sessions, links), known| {
        (sessions + known.sessions, links + known.links)
    });
    let pinned: usize = retired().map(|known| known.pinned.len()).sum();
    on(sessions, links, pinned as u64)
}

fn on(sessions: u64, links: u64, pinned: u64) -> String {
    let pinned = match pinned {
        0 => String::new(),
        pinned => format!(" ({pinned} pinned)"),
    };
    match sessions {
        0 => many(links, "connection"),
        sessions => many(sessions, "session") + &pinned,
    }
}

/// Who needs the users that were replaced.
fn kept(replaced: &[&UserReport]) -> String {
    let used = replaced.iter().filter(|user| !user.unused);
    let each = used.map(|user| {
        let name = &user.user;
        if user.links > 0 {
            let on = on(user.sessions, user.links, user.pinned);
            return format!("on {name} there are still {on}");
        }
        match (user.wanted_by.as_slice(), user.unread.as_slice()) {
            ([], unread) => format!("whether {} needs {name} is not known", unread.join(", ")),
            (wanted_by, _) => format!("new sessions of {} use {name}", wanted_by.join(", ")),
        }
    });
    let each: Vec<String> = each.collect();
    match each.as_slice() {
        [] => "links leave what it replaced".to_owned(),
        each => each.join("; "),
    }
}

/// Of a secret that the configuration does not have any more.
pub(super) fn of_removed(credentials: &[CredentialReport]) -> String {
    format!(
        "removed from the configuration; still on it: {}",
        left(credentials)
    )
}

/// `same_user`: as the one that leads. `works`: some credential of the secret is known to.
pub(super) fn of_credential(known: &CredentialReport, same_user: bool, works: bool) -> String {
    let refused = known.endpoints.iter().any(|endpoint| endpoint.refused.is_some());
    let proven = known.endpoints.iter().any(|endpoint| endpoint.proven);
    let session = || many(known.sessions, "session");
    match known.standing.as_str() {
        "leading" if works => "new sessions use it".to_owned(),
        "leading" if refused => {
            "refused by the database, and nothing else works: new sessions are held".to_owned()
        }
        "leading" => "not known to work now: new sessions are held".to_owned(),
        "retired" if known.links == 0 && known.safe_to_revoke => {
            format!("safe to revoke: nothing here uses {}", known.user)
        }
        "retired" if known.links == 0 && same_user => {
            "its password was replaced, and nothing here is on it any more".to_owned()
        }
        "retired" if known.links == 0 && !works => {
            "nothing here is on it, and it may be tried while nothing works: not safe to revoke".to_owned()
        }
        "retired" if known.links == 0 => {
            "replaced; its user is still needed here: not safe to revoke".to_owned()
        }
        "retired" if same_user && known.sessions == 0 => {
            let links = many(known.links, "connection");
            format!("{links} left from before the password changed")
        }
        "retired" if known.sessions == 0 => {
            format!("{} left: not safe to revoke yet", many(known.links, "connection"))
        }
        "retired" if same_user => {
            format!(
                "{} left from before the password changed: they need it no more to go on",
                session()
            )
        }
        "retired" => format!("{} left: not safe to revoke", session()),
        _ if proven => "works, and is next in line".to_owned(),
        _ if refused => "refused by the database".to_owned(),
        _ => "not tried".to_owned(),
    }
}

fn name(known: &CredentialReport) -> String {
    let version = &known.version;
    if version.chars().count() <= VERSION_SHOWN {
        return format!("{} (version {version})", known.user);
    }
    let beginning: String = version.chars().take(VERSION_SHOWN - 4).collect();
    format!("{} (version {beginning}…)", known.user)
}

fn many(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

/// Of positions, as the store puts them.
fn order(position: &str) -> (u8, u16) {
    match position {
        "current" => (0, 0),
        "next" => (1, 0),
        "previous" => (2, 0),
        index => (3, index.parse().unwrap_or(u16::MAX)),
    }
}
