//! `pgswivel status --unused USER`: whether an upstream user may go, as far as this process is concerned.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use super::super::ask::{self, AskError};
use super::super::exit::Exit;
use crate::admin::report::UserReport;

/// A little longer than the stores have to be read in.
const FRESH_TIME: Duration = Duration::from_secs(35);

#[derive(Deserialize)]
struct Refused {
    error: String,
}

pub(super) fn run(address: SocketAddr, user: &str, fresh: bool, as_json: bool) -> Exit {
    let path = format!("/unused?user={}", escaped(user));
    let answer = match fresh {
        true => ask::post(address, &path, FRESH_TIME),
        false => ask::get(address, &path),
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            eprintln!("{error}");
            return Exit::Unreachable;
        }
    };
    if answer.status != 200 {
        match serde_json::from_str::<Refused>(&answer.body) {
            Ok(refused) => eprintln!("{user}: not known to be unused: {}", refused.error),
            Err(_) => eprintln!("{}", AskError::Stranger(address)),
        }
        return Exit::Failed;
    }
    let report = serde_json::from_str::<UserReport>(&answer.body).ok();
    let Some(report) = report.filter(|report| report.user == user) else {
        eprintln!("{}", AskError::Stranger(address));
        return Exit::Failed;
    };
    match as_json {
        true => print!("{}", answer.body),
        false => println!("{}", words(&report)),
    }
    if report.unused { Exit::Fine } else { Exit::Failed }
}

/// Every byte that could mean something in a query.
fn escaped(user: &str) -> String {
    let mut out = String::new();
    for byte in user.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.') {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a String never fails");
        }
    }
    out
}

fn words(report: &UserReport) -> String {
    let user = &report.user;
    if report.unused {
        let as_of = report.as_of.as_deref().unwrap_or("their beginning");
        return format!("{user}: unused here, as of the stores' state at {as_of}");
    }
    let mut why = Vec::new();
    if report.links > 0 {
        let through = (report.links_by_secret.iter()).filter(|(_, links)| **links > 0);
        let through: Vec<_> = through.map(|(secret, _)| secret.as_str()).collect();
        let (links, sessions) = (report.links, report.sessions);
        let pinned = match report.pinned {
            0 => String::new(),
            pinned => format!(", {pinned} of them pinned"),
        };
        why.push(format!(
            "connections on it: {links}, with sessions: {sessions}{pinned} (through {})",
            through.join(", ")
        ));
    }
    if !report.wanted_by.is_empty() {
        why.push(format!("new logins of {} use it", report.wanted_by.join(", ")));
    }
    if !report.unread.is_empty() {
        why.push(format!("not read yet: {}", report.unread.join(", ")));
    }
    format!("{user}: not to be revoked: {}", why.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_arrives_as_it_was_typed() {
        assert_eq!(escaped("orders_v1"), "orders_v1");
        assert_eq!(escaped("a b&c%é"), "a%20b%26c%25%C3%A9");
    }

    #[test]
    fn what_keeps_a_user_is_named() {
        let report = UserReport {
            user: "orders_a".into(),
            unused: false,
            as_of: None,
            links: 3,
            sessions: 2,
            pinned: 1,
            links_by_secret: [("orders".to_owned(), 3), ("shared".to_owned(), 0)].into(),
            wanted_by: vec!["shared".into()],
            unread: Vec::new(),
        };
        assert_eq!(
            words(&report),
            "orders_a: not to be revoked: connections on it: 3, with sessions: 2, 1 of them pinned (through orders); \
             new logins of shared use it"
        );
    }
}
