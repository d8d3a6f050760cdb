//! The findings as tables, for people.

use std::time::Duration;

use super::findings::{
    EndpointFinding, Findings, LoginFinding, Outcome, SecretFinding, SecretState, Trouble,
};
use crate::cli::table::{Table, rough};

/// None: as wide as it comes.
pub(super) fn write(findings: &Findings, width: Option<usize>) -> String {
    let mut out = String::new();
    let mut section = |title: &str, write: &dyn Fn(&mut String)| {
        out.push_str(title);
        out.push('\n');
        write(&mut out);
        out.push('\n');
    };
    section("Secrets", &|out| secrets(findings, width, out));
    section("Endpoints", &|out| endpoints(findings, width, out));
    if !findings.logins.is_empty() {
        section("Logins, each tried once", &|out| logins(findings, width, out));
    }
    section("Roles", &|out| roles(findings, width, out));
    section("Listeners", &|out| listeners(findings, width, out));
    out.push_str(match findings.result {
        Outcome::Fine => "Every role has a credential that works on every endpoint.\n",
        Outcome::Unreachable => "Not everything could be reached.\n",
        Outcome::Failed => "Not everything works.\n",
    });
    out
}

fn secrets(findings: &Findings, width: Option<usize>, out: &mut String) {
    let mut table = Table::new(["secret", "store", "position", "version", "user", "age", "ends in"]);
    for secret in &findings.secrets {
        let mut notes = secret_notes(secret);
        let named = || [secret.secret.clone(), secret.store.to_owned()];
        let mut rows = secret.credentials.iter().peekable();
        if rows.peek().is_none() {
            let [name, store] = named();
            let nothing = String::new;
            let state = match secret.state {
                SecretState::Unused => "not used",
                _ => "unread",
            };
            table.add(
                [
                    name,
                    store,
                    state.to_owned(),
                    nothing(),
                    nothing(),
                    nothing(),
                    nothing(),
                ],
                notes,
            );
            continue;
        }
        while let Some(credential) = rows.next() {
            let [name, store] = named();
            let seconds =
                |seconds: Option<u64>| seconds.map(Duration::from_secs).map_or_else(String::new, rough);
            let cells = [
                name,
                store,
                credential.position.clone(),
                credential.version.clone(),
                credential.user.clone(),
                seconds(credential.age_seconds),
                seconds(credential.left_seconds),
            ];
            // What is to be said of the secret comes below all of it.
            let notes = if rows.peek().is_none() {
                std::mem::take(&mut notes)
            } else {
                Vec::new()
            };
            table.add(cells, notes);
        }
    }
    table.write(width, out);
}

fn secret_notes(secret: &SecretFinding) -> Vec<String> {
    let warnings = secret
        .warnings
        .iter()
        .map(|trouble| format!("warning: {}", line(trouble)));
    secret.trouble.iter().map(line).chain(warnings).collect()
}

fn endpoints(findings: &Findings, width: Option<usize>, out: &mut String) {
    let mut table = Table::new(["upstream", "endpoint", "reachable", "TLS", "server"]);
    for endpoint in &findings.endpoints {
        let reachable = if endpoint.reachable { "yes" } else { "no" };
        let warnings = endpoint
            .warnings
            .iter()
            .map(|trouble| format!("warning: {}", line(trouble)));
        let notes: Vec<String> = endpoint.trouble.iter().map(line).chain(warnings).collect();
        let cells = [
            endpoint.upstream.clone(),
            endpoint.endpoint.clone(),
            reachable.to_owned(),
            tls(endpoint),
            server(endpoint),
        ];
        table.add(cells, notes);
    }
    table.write(width, out);
}

fn tls(endpoint: &EndpointFinding) -> String {
    match &endpoint.tls {
        Some(tls) if tls.verified => format!("{}, verified", tls.protocol),
        Some(tls) => format!("{}, not verified", tls.protocol),
        None if endpoint.trouble.is_none() => "none".to_owned(),
        None => String::new(),
    }
}

fn server(endpoint: &EndpointFinding) -> String {
    let standby = if endpoint.is_standby { ", standby" } else { "" };
    let version = endpoint.server_version.as_ref();
    version.map_or_else(String::new, |version| format!("{version}{standby}"))
}

fn logins(findings: &Findings, width: Option<usize>, out: &mut String) {
    let head = [
        "upstream", "endpoint", "secret", "position", "user", "database", "result", "SQLSTATE",
    ];
    let mut table = Table::new(head);
    for login in &findings.logins {
        let cells = [
            login.upstream.clone(),
            login.endpoint.clone(),
            login.secret.clone(),
            login.position.clone(),
            login.user.clone(),
            login.database.clone(),
            login.result.word().to_owned(),
            login.sqlstate.clone().unwrap_or_default(),
        ];
        table.add(cells, login_notes(login));
    }
    table.write(width, out);
}

fn login_notes(login: &LoginFinding) -> Vec<String> {
    let set_roles = login
        .set_roles
        .iter()
        .map(|set| match (&set.trouble, &set.sqlstate) {
            (None, _) => format!("SET ROLE {:?}: works", set.role),
            (Some(trouble), Some(sqlstate)) => {
                format!("SET ROLE {:?}: {sqlstate}, {}", set.role, line(trouble))
            }
            (Some(trouble), None) => format!("SET ROLE {:?}: {}", set.role, line(trouble)),
        });
    login.trouble.iter().map(line).chain(set_roles).collect()
}

fn roles(findings: &Findings, width: Option<usize>, out: &mut String) {
    let head = [
        "role",
        "clients prove",
        "upstream",
        "database",
        "secret",
        "set_role",
        "result",
    ];
    let mut table = Table::new(head);
    for role in &findings.roles {
        let proves = match role.auth {
            "trust" => "nothing (trust)",
            _ => "a password (SCRAM)",
        };
        let result = match role.result {
            Outcome::Fine => "works",
            Outcome::Unreachable => "unreachable",
            Outcome::Failed => "fails",
        };
        let cells = [
            role.role.clone(),
            proves.to_owned(),
            role.upstream.clone(),
            role.database.clone().unwrap_or_else(|| "the client's".to_owned()),
            role.secret.clone(),
            role.set_role.clone().unwrap_or_default(),
            result.to_owned(),
        ];
        table.add(cells, role.trouble.iter().chain(&role.unseen).map(line));
    }
    table.write(width, out);
}

fn listeners(findings: &Findings, width: Option<usize>, out: &mut String) {
    let mut table = Table::new(["for", "address", "TLS"]);
    for listener in &findings.listeners {
        let tls = if listener.tls { "yes" } else { "no" };
        let notes = listener.trouble.iter().map(line).chain(listener.remark.clone());
        table.add(
            [
                listener.purpose.to_owned(),
                listener.address.clone(),
                tls.to_owned(),
            ],
            notes.collect::<Vec<_>>(),
        );
    }
    table.write(width, out);
}

fn line(trouble: &Trouble) -> String {
    format!("{} -> {}", trouble.message, trouble.advice)
}
