//! What a changed configuration changes, in the words of the file.

use std::collections::BTreeMap;
use std::fmt::Display;

use crate::config::Config;

/// Nothing: they mean the same.
pub fn between(before: &Config, after: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let mut section = |name: &str, is_same: bool| {
        if !is_same {
            found.push(name.to_owned());
        }
    };
    section("drain", before.drain == after.drain);
    section("listen", before.listen == after.listen);
    section("login", before.login == after.login);
    section("limits", before.limits == after.limits);
    section("admin", before.admin == after.admin);
    section("log", before.log == after.log);
    named("role", &before.roles, &after.roles, &mut found);
    named("upstream", &before.upstreams, &after.upstreams, &mut found);
    named("secret", &before.secrets, &after.secrets, &mut found);
    found
}

/// Keys that were changed and are read at the start alone.
pub fn that_need_a_restart(before: &Config, after: &Config) -> Vec<&'static str> {
    let keys = [
        ("admin.address", before.admin.address == after.admin.address),
        ("log.format", before.log.format == after.log.format),
        ("log.audit", before.log.audit == after.log.audit),
    ];
    let changed = keys.into_iter().filter(|(_, is_same)| !is_same);
    changed.map(|(key, _)| key).collect()
}

fn named<N: Ord + Display, T: PartialEq>(
    kind: &str,
    before: &BTreeMap<N, T>,
    after: &BTreeMap<N, T>,
    found: &mut Vec<String>,
) {
    for (name, value) in after {
        match before.get(name) {
            None => found.push(format!("{kind}.{name} added")),
            Some(old) if old != value => found.push(format!("{kind}.{name}")),
            Some(_) => {}
        }
    }
    let removed = before.keys().filter(|name| !after.contains_key(*name));
    found.extend(removed.map(|name| format!("{kind}.{name} removed")));
}
