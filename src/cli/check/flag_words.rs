//! Advice in the words of whoever used flags: there is no file in which the keys of the other words could be written.

use super::findings::{Findings, Trouble};
use crate::config;

/// What flags and variables describe is called so.
const PREFIX: &str = "upstream.default.";

/// `place`: the flag or variable that describes the upstream.
pub(super) fn speak_of(place: &str, findings: &mut Findings) {
    let endpoints = findings.endpoints.iter_mut();
    let of_endpoints =
        endpoints.flat_map(|endpoint| endpoint.trouble.iter_mut().chain(&mut endpoint.warnings));
    let of_logins = findings.logins.iter_mut().flat_map(|login| {
        let set_roles = login.set_roles.iter_mut().filter_map(|set| set.trouble.as_mut());
        login.trouble.iter_mut().chain(set_roles)
    });
    let of_roles = findings.roles.iter_mut().filter_map(|role| role.trouble.as_mut());
    let troubles: Vec<&mut Trouble> = of_endpoints.chain(of_logins).chain(of_roles).collect();
    for trouble in troubles {
        trouble.advice = told(&trouble.advice, place);
    }
}

fn told(advice: &str, place: &str) -> String {
    let mut out = String::new();
    let mut rest = advice;
    while let Some((before, after)) = rest.split_once(PREFIX) {
        out += before;
        let is_of_key = |c: char| !(c.is_ascii_lowercase() || matches!(c, '_' | '.'));
        let end = after.find(is_of_key).unwrap_or(after.len());
        let key = after[..end].trim_end_matches('.');
        rest = &after[key.len()..];
        let Some(parameter) = parameter(key) else {
            out += PREFIX;
            out += key;
            continue;
        };
        out += parameter;
        if let Some((value, after)) = rest.strip_prefix(" = \"").and_then(|value| value.split_once('"')) {
            out += &format!("={value}");
            rest = after;
        }
        out += &format!(" in {place}");
    }
    out + rest
}

fn parameter(key: &str) -> Option<&'static str> {
    match key {
        "hosts" => Some("the host"),
        "database" => Some("the database"),
        key => config::url_parameter(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_used_a_flag_is_told_what_to_write_into_it() {
        for (advice, expected) in [
            (
                "set upstream.default.tls.mode = \"verify-full\"; or see upstream.default.tls.ca",
                "set sslmode=verify-full in --upstream; or see sslrootcert in --upstream",
            ),
            (
                "correct the name in upstream.default.hosts, or this machine's name resolution",
                "correct the name in the host in --upstream, or this machine's name resolution",
            ),
            (
                "lower upstream.default.connections_max.",
                "lower connections_max in --upstream.",
            ),
            (
                "set upstream.default.keepalive.idle",
                "set keepalives_idle in --upstream",
            ),
            ("see upstream.orders.tls.ca", "see upstream.orders.tls.ca"),
        ] {
            assert_eq!(told(advice, "--upstream"), expected);
        }
    }
}
