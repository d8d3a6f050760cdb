//! What a person reads.

use super::report::{CredentialReport, Stage};

/// A version that is longer is shortened.
const VERSION_SHOWN: usize = 12;

pub(super) fn of_secret(stage: Stage, credentials: &[CredentialReport]) -> String {
    let leader = credentials.iter().find(|known| known.standing == "leading");
    let leader = leader.map_or_else(|| "nothing".to_owned(), name);
    let retired = || credentials.iter().filter(|known| known.standing == "retired");
    let left = || -> String {
        let (sessions, links) = retired().fold((0, 0), |(sessions, links), known| {
            (sessions + known.sessions, links + known.links)
        });
        let pinned: usize = retired().map(|known| known.pinned.len()).sum();
        let pinned = match pinned {
            0 => String::new(),
            pinned => format!(" ({pinned} pinned)"),
        };
        match sessions {
            0 => many(links, "connection"),
            sessions => many(sessions, "session") + &pinned,
        }
    };
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
        Stage::Leading => format!(
            "new sessions use {leader}; on what it replaced stay {}: not safe to revoke",
            left()
        ),
        Stage::Moving => format!(
            "new sessions use {leader}; on what it replaced there are still {}: not safe to revoke yet",
            left()
        ),
        Stage::SafeToRevoke => {
            let newest = retired().min_by(|a, b| {
                let ago = |known: &CredentialReport| known.retired_seconds_ago.unwrap_or(f64::MAX);
                ago(a).total_cmp(&ago(b))
            });
            let user_stays = newest.is_some_and(|newest| {
                credentials
                    .iter()
                    .any(|known| known.standing == "leading" && known.user == newest.user)
            });
            let newest = newest.map_or_else(|| "the old credential".to_owned(), name);
            if user_stays {
                // Said of a user that is in use, "unused" would cost somebody an outage.
                format!("new sessions use {leader}; nothing here is on the password of {newest} any more")
            } else {
                format!("safe to revoke: nothing here uses {newest} any more")
            }
        }
        Stage::Steady => format!("new sessions use {leader}"),
    }
}

/// `same_user`: as the one that leads.
pub(super) fn of_credential(known: &CredentialReport, same_user: bool) -> String {
    let refused = known.endpoints.iter().any(|endpoint| endpoint.refused.is_some());
    let proven = known.endpoints.iter().any(|endpoint| endpoint.proven);
    match known.standing.as_str() {
        "leading" => "new sessions use it".to_owned(),
        "retired" if known.links == 0 && same_user => {
            "its password was replaced, and nothing here is on it any more".to_owned()
        }
        "retired" if known.links == 0 => "safe to revoke: nothing here uses it".to_owned(),
        "retired" if known.sessions == 0 => {
            format!("{} left: not safe to revoke yet", many(known.links, "connection"))
        }
        "retired" if same_user => format!(
            "{} left from before the password changed: they need it no more to go on",
            many(known.sessions, "session")
        ),
        "retired" => format!("{} left: not safe to revoke", many(known.sessions, "session")),
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
