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
    section("workers", before.workers == after.workers);
    section("version_key", before.version_key == after.version_key);
    section("listen", before.listen == after.listen);
    section("login", before.login == after.login);
    section("limits", before.limits == after.limits);
    section("fleet", before.fleet == after.fleet);
    section("admin", before.admin == after.admin);
    section("log", before.log == after.log);
    named("role", &before.roles, &after.roles, &mut found);
    named("upstream", &before.upstreams, &after.upstreams, &mut found);
    named("secret", &before.secrets, &after.secrets, &mut found);
    named("rotation", &before.rotations, &after.rotations, &mut found);
    found
}

/// Keys that were changed and are read at the start alone.
pub fn that_need_a_restart(before: &Config, after: &Config) -> Vec<&'static str> {
    let keys = [
        ("workers", before.workers == after.workers),
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

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::io;
    use std::path::Path;

    use super::*;
    use crate::config::{self, Flags, Surroundings};

    struct Text(String);

    impl Surroundings for Text {
        fn variable(&self, _: &str) -> Option<OsString> {
            None
        }

        fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
            Ok(self.0.clone().into_bytes())
        }
    }

    fn config(more: &str) -> Config {
        let text = format!(
            "{more}\n[role.app]\npassword = 'local'\n[upstream.orders]\nhosts = 'db'\n[secret.orders]\nstore = 'file'\nid = '/s'\n"
        );
        let flags = Flags {
            config: Some("pgswivel.toml".into()),
            ..Flags::default()
        };
        config::load(&flags, &Text(text)).unwrap_or_else(|problems| panic!("{problems}"))
    }

    #[test]
    fn each_change_is_named_as_it_is_written() {
        let before = config("");
        assert_eq!(between(&before, &before), [""; 0]);
        let after = config(
            "drain = '1s'\n[listen]\naddress = '127.0.0.1:1'\n[limits]\nclients = 1\n[log]\nlevel = 'debug'\n",
        );
        assert_eq!(between(&before, &after), ["drain", "listen", "limits", "log"]);
        assert_eq!(that_need_a_restart(&before, &after), [""; 0]);
        let role = "[role.more]\npassword = 'x'\nupstream = 'orders'\nsecret = 'orders'\n";
        let after = config(role);
        assert_eq!(between(&before, &after), ["role.more added"]);
        let other = config(&role.replace("'x'", "'y'"));
        assert_eq!(between(&after, &other), ["role.more"]);
        assert_eq!(between(&after, &before), ["role.more removed"]);
    }

    #[test]
    fn what_is_read_at_the_start_alone_needs_a_restart() {
        let after =
            config("workers = 2\n[admin]\naddress = '127.0.0.1:1'\n[log]\nformat = 'text'\naudit = '/a'\n");
        let keys = that_need_a_restart(&config(""), &after);
        assert_eq!(keys, ["workers", "admin.address", "log.format", "log.audit"]);
    }
}
