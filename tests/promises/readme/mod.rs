//! The documents, held against the product: every command, every snippet, every error, every link.

mod commands;
mod markdown;
mod typed;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use pgswivel::config::{self, Flags, Surroundings};
use serde_json::Value;

use self::markdown::{Block, Document};
use crate::support::{Postgres, Swivel, eventually};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What a user of the product reads, and types from the root of the checkout.
const READ_BY_USERS: [&str; 9] = [
    "README.md",
    "docs/start.md",
    "docs/sessions.md",
    "docs/operate.md",
    "docs/rotating.md",
    "docs/configuration.md",
    "docs/security.md",
    "docs/speed.md",
    "docs/troubleshooting.md",
];

/// What else people read and type from.
const READ_BESIDE: [&str; 9] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "deploy/README.md",
    "deploy/ecs/README.md",
    "deploy/rotate/README.md",
    "deploy/prometheus/README.md",
    "deploy/recipes.md",
];

fn documents() -> Vec<Document> {
    let names = READ_BY_USERS.into_iter().chain(READ_BESIDE);
    names.map(Document::read).collect()
}

fn blocks() -> Vec<Block> {
    READ_BY_USERS
        .into_iter()
        .flat_map(|name| Document::read(name).blocks)
        .collect()
}

fn blocks_of(language: &str) -> Vec<Block> {
    let blocks = blocks().into_iter();
    blocks.filter(|block| block.language == language).collect()
}

/// A place with one file of configuration in it, and a stand-in for every other file.
struct Place(HashMap<PathBuf, String>);

impl Surroundings for Place {
    fn variable(&self, name: &str) -> Option<OsString> {
        (name == "PGSWIVEL_CONFIG").then(|| "pgswivel.toml".into())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let text = self.0.get(path);
        Ok(text.map_or_else(|| b"stand-in".to_vec(), |text| text.clone().into_bytes()))
    }
}

#[test]
fn every_block_says_what_it_is() {
    // Each of these but `text`, which shows what is printed, is held against something below or in `commands`.
    for block in blocks() {
        assert!(
            ["sh", "toml", "json", "sql", "dockerfile", "text"].contains(&block.language.as_str()),
            "below {:?} there is a block of {:?}, which no test knows:\n{}",
            block.heading,
            block.language,
            block.text
        );
    }
}

#[test]
fn every_configuration_that_is_shown_is_loaded() {
    let blocks = blocks_of("toml");
    assert!(!blocks.is_empty());
    for block in blocks {
        let place = Place(HashMap::from([("pgswivel.toml".into(), block.text.clone())]));
        let load = match block.text.contains("[rotation.") {
            true => config::load_for_rotation,
            false => config::load,
        };
        if let Err(problems) = load(&Flags::default(), &place) {
            panic!("{problems}\n{}", block.text);
        }
    }
}

#[tokio::test]
async fn every_statement_that_is_shown_is_taken_by_a_server() {
    let postgres = Postgres::start(18);
    postgres
        .execute("CREATE ROLE orders_a; CREATE ROLE orders_owner")
        .await;
    let blocks = blocks_of("sql");
    assert!(!blocks.is_empty());
    for block in blocks {
        postgres.execute(&block.text).await;
    }
}

#[test]
fn every_line_for_an_image_is_one_that_is_used() {
    let used = ["Dockerfile", "deploy/ecs/terraform/example/main.tf"]
        .map(|path| std::fs::read_to_string(root().join(path)).unwrap())
        .concat();
    let blocks = blocks_of("dockerfile");
    assert!(!blocks.is_empty());
    for line in blocks.iter().flat_map(|block| block.text.lines()) {
        // Its options are between the two words.
        let is_used = match line.split_once(" CMD ") {
            Some((instruction, command)) => used
                .lines()
                .any(|line| line.starts_with(instruction) && line.ends_with(command)),
            None => used
                .lines()
                .any(|used| used.trim_start_matches(['#', ' ']) == line),
        };
        assert!(is_used, "{line}");
    }
}

#[tokio::test]
async fn every_shape_of_a_secret_that_is_shown_is_understood() {
    let postgres = Postgres::start(18);
    let blocks = blocks_of("json");
    let shapes = blocks
        .iter()
        .find(|block| block.heading == "What a secret holds")
        .unwrap();
    assert_eq!(shapes.text.lines().count(), 4);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    // What was never known to work is not replaced by what does.
    drop(swivel.connect().await);
    for (turn, shape) in shapes.text.lines().enumerate() {
        let password = format!("upstream-secret-{}", turn + 2);
        postgres.change_password(Postgres::USER, &password).await;
        let (secret, beside) = (
            swivel.directory().join("secret.json"),
            swivel.directory().join("new"),
        );
        std::fs::write(&beside, shape.replace('…', &password)).unwrap();
        std::fs::rename(beside, secret).unwrap();
        eventually("it leads", async || {
            swivel.log().matches("now using rotated credentials").count() == turn + 1
        })
        .await;
        drop(swivel.connect().await);
    }
}

#[test]
fn every_other_json_is_json() {
    for block in blocks_of("json") {
        for line in block.text.lines() {
            let value: Result<Value, _> = serde_json::from_str(line);
            assert!(value.is_ok(), "{line}");
        }
    }
}

#[test]
fn what_vault_is_told_is_the_same_in_the_manifest() {
    let manifest = std::fs::read_to_string(root().join("deploy/kubernetes/vault.yaml")).unwrap();
    let comments = manifest.lines().filter_map(|line| line.strip_prefix('#'));
    let comments = comments.collect::<Vec<_>>().join("\n").replace("\\\n", "");
    let comments: Vec<String> = comments
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let blocks = blocks_of("sh");
    let told = blocks.iter().flat_map(Block::commands);
    let told: Vec<String> = told
        .filter(|command| command.starts_with("vault policy") || command.contains("auth/kubernetes"))
        .collect();
    assert_eq!(told.len(), 2);
    for command in told {
        assert!(comments.contains(&command), "{command} is not in {comments:#?}");
    }
}

#[test]
fn every_make_target_that_is_named_exists() {
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    let mut named = 0;
    for document in documents() {
        let shells = document.blocks.iter().filter(|block| block.language == "sh");
        let commands = shells.flat_map(|block| block.commands());
        for command in commands.chain(document.spans()) {
            let words: Vec<&str> = command.split(' ').filter(|word| !word.contains('=')).collect();
            if let ["make", target] = words[..] {
                assert!(makefile.contains(&format!("\n{target}:")), "{command}");
                named += 1;
            }
        }
    }
    assert!(named >= 7, "only {named}");
    assert!(makefile.contains("\n\ttarget/release/pgswivel demo\n"));
}

/// The sources with every text in one piece, and as it is printed.
fn said_by_the_product() -> String {
    let mut directories = vec![root().join("src")];
    let mut said = String::new();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                said += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    let mut lines = said.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let whole = lines.fold(first, |text, line| text + line.trim_start());
    whole.replace("\\\"", "\"")
}

#[test]
fn every_error_that_is_explained_is_one_that_is_said() {
    let troubleshooting = Document::read("docs/troubleshooting.md");
    let said = said_by_the_product();
    let rows = troubleshooting.text.lines();
    let texts = rows.filter_map(|row| row.strip_prefix("| `")?.split_once('`'));
    let mut explained = 0;
    for (text, _) in texts {
        // What stands between two of these is in the product, in this order, and not far apart.
        let parts: Vec<&str> = text.split('…').filter(|part| !part.is_empty()).collect();
        let (first, rest) = parts.split_first().unwrap();
        let is_said = said.match_indices(first).any(|(at, _)| {
            let mut place = at + first.len();
            rest.iter().all(|part| {
                let end = said.floor_char_boundary(place + 60);
                let found = said[place..end].find(part);
                place += found.unwrap_or_default() + part.len();
                found.is_some()
            })
        });
        assert!(is_said, "nothing in the product says {text:?}");
        explained += 1;
    }
    assert!(explained > 40, "only {explained}");
}

#[test]
fn every_link_leads_somewhere() {
    for document in documents() {
        let here = root().join(document.name);
        let parts: Vec<&str> = document.prose.split("](").skip(1).collect();
        for link in parts.iter().filter_map(|part| Some(part.split_once(')')?.0)) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                here.clone()
            } else {
                here.parent().unwrap().join(file)
            };
            assert!(target.exists(), "{}: {link}", document.name);
            if anchor.is_empty() {
                continue;
            }
            let text = std::fs::read_to_string(target).unwrap();
            let headings = text.lines().filter(|line| line.starts_with('#'));
            let mut anchors = headings.map(|heading| {
                let words = heading.trim_start_matches('#').trim().to_lowercase();
                let letters = words
                    .chars()
                    .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
                letters.collect::<String>().replace(' ', "-")
            });
            assert!(anchors.any(|known| known == anchor), "{}: {link}", document.name);
        }
    }
}

#[test]
fn every_document_is_held_against_the_product() {
    let known: Vec<&str> = READ_BY_USERS.into_iter().chain(READ_BESIDE).collect();
    for directory in [
        "",
        "docs",
        "deploy",
        "deploy/ecs",
        "deploy/prometheus",
        "deploy/rotate",
    ] {
        for entry in std::fs::read_dir(root().join(directory)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
            let is_document = Path::new(name)
                .extension()
                .is_some_and(|extension| extension == "md");
            assert!(!is_document || known.contains(&name), "no test reads {name}");
        }
    }
}

/// What is written in backticks and looks like a path of the checkout.
#[test]
fn every_path_that_is_named_exists() {
    let mut named = 0;
    for document in documents() {
        for span in document.spans() {
            let is_path = ["src/", "tests/", "docs/", "deploy/", "config/", "benches/"]
                .iter()
                .any(|top| span.starts_with(top))
                && !span.contains([' ', '*', '<', '…']);
            if is_path {
                assert!(root().join(&span).exists(), "{}: {span}", document.name);
                named += 1;
            }
        }
    }
    assert!(named > 40, "only {named}");
}
