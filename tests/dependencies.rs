//! What the program is built from: where each package comes from, under which licence, and what has no place in it.

#![allow(clippy::unwrap_used, reason = "a test that can't ask cargo stops there")]

use std::collections::BTreeSet;
use std::process::Command;

/// Licences that ask for nothing but their own text beside the program.
const LICENCES: [&str; 10] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Zlib",
];

/// Packages that may not come in by any path, each with the reason.
const BANNED: [(&str, &str); 5] = [
    ("openssl-sys", "TLS is rustls, and the image has no libssl"),
    ("native-tls", "TLS is rustls, and the image has no libssl"),
    (
        "ring",
        "cryptography is aws-lc-rs; two of them are twice the advisories",
    ),
    ("serde_yaml", "no longer maintained"),
    ("log4rs", "logging is tracing"),
];

#[test]
fn every_package_comes_from_the_registry() {
    for package in packages() {
        assert_eq!(package.elsewhere, None, "{}", package.named);
    }
}

#[test]
fn every_licence_is_one_of_those_that_ask_for_nothing() {
    for package in packages() {
        assert!(
            is_granted(&package.licence),
            "{}: '{}'",
            package.named,
            package.licence
        );
    }
}

#[test]
fn what_has_no_place_here_has_not_come_in() {
    for package in packages() {
        let name = package.named.split(' ').next().unwrap();
        let banned = BANNED.iter().find(|(banned, _)| *banned == name);
        assert_eq!(banned, None, "{}", package.named);
    }
}

#[test]
fn a_package_from_elsewhere_is_told_from_one_of_the_registry() {
    assert_eq!(package("serde v1.0.0|MIT").elsewhere, None);
    assert_eq!(package("serde_derive v1.0.0 (proc-macro)|MIT").elsewhere, None);
    let forked = package("serde v1.0.0 (https://host/serde#1a2b)|MIT");
    assert_eq!(forked.elsewhere.as_deref(), Some("https://host/serde#1a2b"));
    assert_eq!(forked.named, "serde v1.0.0");
}

#[test]
fn a_licence_is_granted_when_all_that_has_to_hold_may_hold() {
    for granted in [
        "MIT",
        "MIT/Apache-2.0",
        "GPL-3.0 OR MIT",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "ISC AND (Apache-2.0 OR ISC)",
        "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
    ] {
        assert!(is_granted(granted), "{granted}");
    }
    for refused in ["", "GPL-3.0", "MIT AND GPL-3.0", "(GPL-2.0 OR AGPL-3.0) AND MIT"] {
        assert!(!is_granted(refused), "{refused}");
    }
}

/// Whether an SPDX expression can be met with [`LICENCES`] alone. Every expression that is published on a registry is a
/// row of alternatives, a row of conditions, or conditions whose parts stand in parentheses.
fn is_granted(expression: &str) -> bool {
    split_outside(expression, &[" AND "]).iter().all(|condition| {
        let condition = condition
            .strip_prefix('(')
            .and_then(|rest| rest.strip_suffix(')'))
            .unwrap_or(condition);
        split_outside(condition, &[" OR ", "/"])
            .iter()
            .any(|licence| LICENCES.contains(&licence.trim()))
    })
}

/// The parts of a text between separators that stand outside of parentheses.
fn split_outside<'a>(text: &'a str, separators: &[&str]) -> Vec<&'a str> {
    let (mut parts, mut start, mut depth, mut at) = (Vec::new(), 0, 0_usize, 0);
    while at < text.len() {
        let rest = &text[at..];
        match rest.as_bytes()[0] {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        match separators.iter().find(|separator| rest.starts_with(**separator)) {
            Some(separator) if depth == 0 => {
                parts.push(&text[start..at]);
                at += separator.len();
                start = at;
            }
            _ => at += rest.chars().next().map_or(1, char::len_utf8),
        }
    }
    parts.push(&text[start..]);
    parts
}

/// One package that is compiled into the program.
struct Package {
    /// Name and version.
    named: String,
    licence: String,
    /// Where it comes from, when that is not the registry.
    elsewhere: Option<String>,
}

/// Every package that is compiled into the program on this platform, the project itself left out.
fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--edges", "normal,build"])
        .args(["--prefix", "none", "--no-dedupe", "--format", "{p}|{l}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "cargo tree: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = String::from_utf8(output.stdout).unwrap();
    let different: BTreeSet<&str> = lines.lines().skip(1).collect();
    assert!(different.len() > 100, "found only {} packages", different.len());
    different.into_iter().map(package).collect()
}

/// `serde v1.0.0|MIT`, with `(proc-macro)` or the place it comes from behind the version.
fn package(line: &str) -> Package {
    let (package, licence) = line.split_once('|').unwrap();
    let package = package.replace(" (proc-macro)", "");
    let (named, elsewhere) = match package.split_once(" (") {
        Some((named, place)) => (named.to_owned(), Some(place.trim_end_matches(')').to_owned())),
        None => (package, None),
    };
    Package {
        named,
        licence: licence.to_owned(),
        elsewhere,
    }
}
