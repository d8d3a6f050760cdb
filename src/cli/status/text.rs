use std::fmt::Write;
use std::time::Duration;

use super::super::table::{Table, printable, rough};
use crate::admin::report::{CredentialReport, PinReport, Report, SecretReport, Stage};

/// None: as wide as it comes.
pub(super) fn write(report: &Report, width: Option<usize>) -> String {
    let mut out = String::new();
    let state = match (report.ready, report.stopping) {
        (_, true) => "stopping".to_owned(),
        (true, false) => "ready".to_owned(),
        (false, false) => format!("not ready ({})", report.reasons.join("; ")),
    };
    let up = rough(Duration::from_secs(report.uptime_seconds));
    let (version, clients, held) = (&report.version, report.clients, report.held);
    put(
        &mut out,
        &format!("pgswivel {version}, up {up}: {state}; {clients} clients, {held} logins held"),
    );
    for upstream in &report.upstreams {
        put(
            &mut out,
            &format!(
                "{}: {} of {} connections to {}",
                upstream.upstream,
                upstream.links,
                upstream.connections_max,
                upstream.endpoints.join(", ")
            ),
        );
    }
    for secret in &report.secrets {
        write_secret(secret, report, width, &mut out);
    }
    for removed in &report.removed_secrets {
        put(&mut out, "");
        put(&mut out, &format!("Secret {}: {}", removed.secret, removed.words));
        write_credentials(&removed.credentials, width, &mut out);
    }
    out
}

fn write_secret(secret: &SecretReport, report: &Report, width: Option<usize>, out: &mut String) {
    let roles = report.roles.iter().filter(|role| role.secret == secret.secret);
    let roles: Vec<&str> = roles.map(|role| role.role.as_str()).collect();
    let (name, store) = (&secret.secret, &secret.store);
    put(out, "");
    put(
        out,
        &format!(
            "Secret {name} ({store}), for {}: {}",
            roles.join(", "),
            secret.words
        ),
    );
    write_credentials(&secret.credentials, width, out);
    for line in remarks(secret, report) {
        put(out, &format!("  {line}"));
    }
}

fn write_credentials(credentials: &[CredentialReport], width: Option<usize>, out: &mut String) {
    let mut table = Table::new([
        "user",
        "version",
        "position",
        "state",
        "age",
        "sessions",
        "pinned",
        "connections",
        "lease",
    ]);
    for known in credentials {
        table.add(row(known), notes(known));
    }
    table.write(width, out);
}

fn row(known: &CredentialReport) -> [String; 9] {
    let pinned = match known.pinned.len() {
        0 => String::new(),
        pinned => pinned.to_string(),
    };
    [
        known.user.clone(),
        known.version.clone(),
        if known.listed {
            known.position.clone()
        } else {
            "gone".to_owned()
        },
        known.standing.clone(),
        ago(known.age_seconds),
        known.sessions.to_string(),
        pinned,
        known.links.to_string(),
        ago(known.lease_left_seconds),
    ]
}

fn notes(known: &CredentialReport) -> Vec<String> {
    let mut notes = vec![known.words.clone()];
    for endpoint in &known.endpoints {
        if let Some(sqlstate) = &endpoint.refused {
            let again = ago(endpoint.blocked_seconds);
            let again = match again.as_str() {
                "" => String::new(),
                again => format!(", not tried again for {again}"),
            };
            notes.push(format!("{} refused it with {sqlstate}{again}", endpoint.endpoint));
        }
    }
    notes.extend(known.pinned.iter().map(pin));
    notes
}

fn pin(pin: &PinReport) -> String {
    let reasons = pin.reasons.join(", ").replace('_', " ");
    let end = match pin.left_seconds {
        Some(left) => format!(", ends in {}", ago(Some(left))),
        None => String::new(),
    };
    let since = ago(Some(pin.since_seconds));
    format!(
        "session {} stays because of {reasons}, since {since}{end}",
        pin.session
    )
}

/// What is not as it should be, and what was done so far.
fn remarks(secret: &SecretReport, report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    let reads = &secret.reads;
    let last = match reads.last_success_seconds_ago {
        Some(last) => format!("last read {} ago", ago(Some(last))),
        None => "never read".to_owned(),
    };
    let calls: u64 = reads.calls.iter().map(|calls| calls.count).sum();
    lines.push(format!(
        "store: {last}; {} reads, {} failed, {calls} calls",
        reads.ok + reads.failed,
        reads.failed
    ));
    if let Some(error) = &reads.error {
        lines.push(format!("store fails: {error}"));
    }
    let (moves, rescues) = (&secret.moves, &secret.rescues);
    lines.push(format!(
        "sessions: {} moved, {} cut; {} rescued, {} lost",
        moves.moved,
        moves.cut,
        rescues.unnoticed + rescues.interrupted,
        rescues.lost
    ));
    if let (Some(age), Some(max_age)) = (secret.age_seconds, secret.max_age_seconds) {
        let (age, max_age) = (Duration::from_secs(age), Duration::from_secs(max_age));
        let verdict = if secret.max_age_exceeded {
            "TOO OLD: it should have been rotated"
        } else {
            "within max_age"
        };
        lines.push(format!(
            "age: {} of at most {}: {verdict}",
            rough(age),
            rough(max_age)
        ));
    }
    lines.push(format!("safe to revoke: {}", revocable(secret, report)));
    lines
}

/// Which users, and as of when.
fn revocable(secret: &SecretReport, report: &Report) -> String {
    let replaced = secret.replaced_users.join(", ");
    match secret.stage {
        Stage::SafeToRevoke => {
            let users = report.users.iter();
            let of_it = users.filter(|user| secret.replaced_users.contains(&user.user));
            let as_of = of_it.filter_map(|user| user.as_of.as_deref()).min();
            format!(
                "{replaced}, as of the store's state at {}",
                as_of.unwrap_or("its beginning")
            )
        }
        Stage::Steady => "nothing: no other user was in use here".to_owned(),
        _ if replaced.is_empty() => "nothing".to_owned(),
        _ => format!("not {replaced} yet"),
    }
}

fn ago(seconds: Option<f64>) -> String {
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.map(rough).unwrap_or_default()
}

fn put(out: &mut String, line: &str) {
    let written = writeln!(out, "{}", printable(line));
    written.expect("writing to a String never fails");
}
