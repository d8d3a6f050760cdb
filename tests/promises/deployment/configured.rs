//! Every pgswivel that is configured in `config/` and `deploy/` would start.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;

use pgswivel::config::{self, Config, Flags, Problems, Surroundings};
use serde_json::Value;

use super::{repository, run};

const FILE: &str = "/etc/pgswivel/pgswivel.toml";

/// The place where somebody's configuration is read: their variables and files, and a stand-in for every file that only
/// they have, such as passwords and certificates.
#[derive(Default)]
struct Place {
    variables: HashMap<String, String>,
    files: HashMap<String, String>,
}

impl Place {
    fn with_file(text: &str) -> Self {
        let mut place = Self::default();
        place
            .variables
            .insert("PGSWIVEL_CONFIG".to_owned(), FILE.to_owned());
        place.files.insert(FILE.to_owned(), text.to_owned());
        place
    }

    fn load(&self) -> Result<Config, Problems> {
        config::load(&Flags::default(), self)
    }
}

impl Surroundings for Place {
    fn variable(&self, name: &str) -> Option<OsString> {
        self.variables.get(name).map(OsString::from)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let text = path.to_str().and_then(|path| self.files.get(path));
        Ok(text.map_or_else(|| b"stand-in".to_vec(), |text| text.clone().into_bytes()))
    }
}

/// (name, text) of every example.
fn examples() -> Vec<(String, String)> {
    let directory = std::fs::read_dir(repository().join("config")).unwrap();
    let mut examples: Vec<_> = directory
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    examples.sort();
    examples
}

/// Lines that show a default, as if they had been written: `# poll = "5m"`.
fn with_defaults_written(text: &str) -> String {
    let is_default = |line: &str| {
        let key = line.strip_prefix("# ").and_then(|line| line.split_once(" = "));
        let is_word = |key: &str| key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        key.is_some_and(|(key, _)| is_word(key)) && !line.contains("# an example")
    };
    let lines = text.lines().map(|line| match is_default(line) {
        true => &line[2..],
        false => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn loaded(name: &str, text: &str) -> Config {
    let mut place = Place::with_file(text);
    for name in ["POSTGRES_USER", "POSTGRES_PASSWORD"] {
        place.variables.insert(name.to_owned(), "stand-in".to_owned());
    }
    place
        .load()
        .unwrap_or_else(|problems| panic!("{name}: {problems}"))
}

#[test]
fn every_store_has_an_example_that_loads() {
    let mut missing: Vec<_> = config::stores()
        .map(|(example, _)| example.split(':').next().unwrap())
        .collect();
    for (name, text) in examples() {
        let config = loaded(&name, &text);
        assert_eq!(config.secrets.len(), 1, "{name}");
        let store = config.secrets.values().next().unwrap().source.store();
        missing.retain(|missing| *missing != store);
    }
    assert!(missing.is_empty(), "no example for {missing:?}");
}

#[test]
fn what_an_example_shows_as_a_default_is_the_default() {
    let mut shown = 0;
    for (name, text) in examples() {
        let written = with_defaults_written(&text);
        shown += usize::from(written != text.trim_end());
        let (as_it_is, with_defaults) = (loaded(&name, &text), loaded(&name, &written));
        assert_eq!(
            format!("{as_it_is:?}"),
            format!("{with_defaults:?}"),
            "{name}:\n{written}"
        );
    }
    assert!(shown > 3, "nearly nothing is commented out");
}

#[test]
fn the_rotation_that_is_deployed_is_configured_to_run() {
    let text = std::fs::read_to_string(repository().join("deploy/rotate/rotate.toml")).unwrap();
    let config = config::load_for_rotation(&Flags::default(), &Place::with_file(&text));
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    let rotation = config.rotations.values().next().unwrap();
    assert!(rotation.fleet.is_some() && rotation.min_interval.is_some());
}

#[test]
fn every_container_that_is_deployed_is_configured_to_start() {
    let containers = run(&["--containers"]);
    let mut count = 0;
    for line in containers.lines() {
        let container: Value = serde_json::from_str(line).unwrap();
        let texts = |key: &str| -> HashMap<String, String> {
            serde_json::from_value(container[key].clone()).unwrap()
        };
        let place = Place {
            variables: texts("environment"),
            files: texts("files"),
        };
        let config = place
            .load()
            .unwrap_or_else(|problems| panic!("{}: {problems}", container["where"]));
        for address in &config.listen.addresses {
            assert_eq!(address.to_string(), "127.0.0.1:6432", "{}", container["where"]);
        }
        count += 1;
    }
    assert!(count >= 10, "only {count} were found:\n{containers}");
}
