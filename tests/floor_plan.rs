//! The floor plan, enforced: imports point down only, between rooms and between the inner floors of the Postgres room;
//! files do not import each other in a circle; the ground floor is pure, nothing is static or unsafe. What is looked at is
//! the text of the sources, tests at their foot left out.

#![allow(
    clippy::unwrap_used,
    reason = "a test that can't read the sources stops there"
)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

/// Every room, from the roof down. A room may import what is below it in this list and nothing else.
const ROOMS: [&str; 24] = [
    "main",
    "fuzzing",
    "cli",
    "server",
    "admin",
    "rotate",
    "keeper",
    "postgres",
    "access",
    "stores",
    "net",
    "journal",
    "supervise",
    "metrics",
    "backoff",
    "complaint",
    "limit",
    "lock",
    "lookout",
    "random",
    "fleet",
    "config",
    "credentials",
    "names",
];

/// On the ground floor: slices and `now` in, values out.
const PURE: [&str; 5] = ["fleet", "config", "credentials", "postgres::wire", "names"];

/// What decides and does nothing: it is told what time it is, and waits for nobody.
const DECISIONS: [&str; 3] = ["access::leave", "postgres::session::departure", "rotate::plan"];

/// The floors of the Postgres room, from the top down. Whoever is on a floor may import what is on a lower one. Its door,
/// `postgres` itself, may name them all.
const INNER_FLOORS: [&[&str]; 7] = [
    &["session"],
    &["client", "prove"],
    &["service"],
    &["link"],
    &["relay", "talk"],
    &["state"],
    &["wire"],
];

/// What a session holds is found out by others: the floor of state opens no socket, waits for nobody, starts nothing.
const NOT_FOR_STATE: [&[&str]; 8] = [
    &["crate", "net"],
    &["crate", "supervise"],
    &["tokio", "io"],
    &["tokio", "net"],
    &["tokio", "spawn"],
    &["tokio", "task"],
    &["tokio", "time", "sleep"],
    &["tokio", "time", "timeout"],
];

/// Below each other, and yet strangers.
const STRANGERS: [(&str, &str); 5] = [
    ("keeper", "postgres"),
    ("keeper", "access"),
    ("postgres", "stores"),
    ("access", "stores"),
    ("access", "net"),
];

/// What no file of the ground floor may name, as the beginning of a path.
const IMPURE: [&[&str]; 11] = [
    &["tokio"],
    &["tokio_util"],
    &["socket2"],
    &["rustix"],
    &["std", "fs"],
    &["std", "env"],
    &["std", "process"],
    &["std", "thread"],
    &["std", "os", "unix", "net"],
    &["Instant", "now"],
    &["SystemTime", "now"],
];

/// What the ground floor may name of `std::net`: addresses are values.
const ADDRESSES: [&str; 9] = [
    "SocketAddr",
    "SocketAddrV4",
    "SocketAddrV6",
    "IpAddr",
    "Ipv4Addr",
    "Ipv6Addr",
    "AddrParseError",
    "Ipv6MulticastScope",
    "self",
];

#[test]
fn every_source_keeps_to_the_floor_plan() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let sources = sources(&root);
    assert!(sources.len() > 10, "found only {} sources", sources.len());
    let complaints: Vec<String> = sources
        .iter()
        .flat_map(|path| {
            let module = module_of(path.strip_prefix(&root).unwrap());
            let text = fs::read_to_string(path).unwrap();
            complaints(&module, &text)
                .into_iter()
                .map(|complaint| format!("{}: {complaint}", path.display()))
        })
        .collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let texts: Vec<(String, String)> = sources(&root)
        .iter()
        .map(|path| {
            let module = module_of(path.strip_prefix(&root).unwrap());
            (module, fs::read_to_string(path).unwrap())
        })
        .collect();
    let circles = circles(&texts);
    assert!(circles.is_empty(), "\n{}", circles.join("\n"));
}

#[test]
fn a_circle_is_seen_however_long_it_is_and_wherever_the_name_comes_from() {
    let seen = |texts: &[(&str, &str)]| {
        let texts: Vec<(String, String)> = texts
            .iter()
            .map(|(module, text)| ((*module).to_owned(), (*text).to_owned()))
            .collect();
        circles(&texts)
    };
    let (pool, obtain, learn) = (
        "postgres::link::pool",
        "postgres::link::obtain",
        "postgres::link::learn",
    );
    let down = (obtain, "use super::pool::{Idle, Pool};");
    assert_eq!(
        seen(&[down, (pool, "use crate::postgres::state::x::Y;")]),
        [""; 0]
    );
    let two = seen(&[down, (pool, "fn f(_: super::obtain::Checkout) {}")]);
    assert_eq!(
        two,
        ["postgres::link::obtain → postgres::link::pool → postgres::link::obtain"]
    );
    let three = seen(&[
        down,
        (pool, "use super::learn::PerDatabase;"),
        (learn, "use crate::postgres::link::obtain::obtain;"),
    ]);
    assert_eq!(three.len(), 1, "{three:?}");
    let by_child = seen(&[
        (pool, "mod look;"),
        (
            "postgres::link::pool::look",
            "use super::Idle; use super::super::obtain::obtain;",
        ),
        (obtain, "use super::pool::look::Look;"),
    ]);
    assert_eq!(by_child.len(), 1, "{by_child:?}");
    let family = [
        (pool, "use look::Look;"),
        ("postgres::link::pool::look", "use super::Idle;"),
    ];
    assert_eq!(seen(&family), [""; 0], "a parent and its child");
    let tested = (pool, "#[cfg(test)]\nmod tests;\nuse super::obtain::Checkout;");
    assert_eq!(
        seen(&[down, tested]).len(),
        1,
        "tests that stand elsewhere hide nothing"
    );
}

#[test]
fn the_plan_is_broken_by_each_of_these() {
    let broken = [
        ("config::resolve", "use crate::stores::Store;"),
        ("keeper", "use crate::postgres::prove;"),
        ("keeper", "use crate::postgres::wire::Frame;"),
        (
            "postgres::link::login",
            "use crate::{config::Config, stores::Store};",
        ),
        (
            "postgres::link::login",
            "fn f() { crate::keeper::Keeper::new(); }",
        ),
        (
            "postgres::link::login",
            "use super::super::super::keeper::Keeper;",
        ),
        ("postgres::wire::frame", "use crate::postgres::session::Session;"),
        ("postgres::wire::frame", "use super::super::session::Session;"),
        // Imports that there once were.
        ("access::roster", "use crate::postgres::state::ledger::Pin;"),
        (
            "postgres::state::notes",
            "use crate::postgres::link::learn::PerDatabase;",
        ),
        (
            "postgres::link::login",
            "use crate::postgres::client::auth::fresh_nonce;",
        ),
        (
            "postgres::link::obtain",
            "use super::super::client::refusal::TurnedAway;",
        ),
        (
            "postgres::link::pool",
            "use crate::postgres::session::moving::leave;",
        ),
        (
            "postgres::client::refusal",
            "use crate::postgres::session::crossing::Failed;",
        ),
        // And others.
        ("postgres::service", "use super::client::refusal::TurnedAway;"),
        ("postgres::talk::survey", "use crate::postgres::relay::End;"),
        (
            "postgres::relay::lane",
            "use crate::postgres::talk::stream::Talk;",
        ),
        ("postgres::wire::say", "use crate::postgres::state::ledger::Pin;"),
        (
            "postgres::state::ledger",
            "use crate::postgres::talk::exchange::Script;",
        ),
        ("postgres::state::notes", "use crate::net::Stream;"),
        (
            "postgres::state::risky_names",
            "use tokio::time::{Instant, timeout};",
        ),
        ("names", "use crate::config;"),
        ("stores::file", "use crate::attic::Thing;"),
        ("config", "use tokio::time::sleep;"),
        ("config", "use std::{fs, path::PathBuf};"),
        ("config", "fn f() { std::env::var(\"x\"); }"),
        ("config", "use std::net::{SocketAddr, TcpStream};"),
        ("credentials::book", "fn f() { let now = Instant::now(); }"),
        ("credentials::book", "fn f() { std::time::Instant::now(); }"),
        ("postgres::session::departure", "use tokio::time::Instant;"),
        ("access::leave", "fn f() { let now = Instant::now(); }"),
        ("server", "static COUNT: AtomicU32 = AtomicU32::new(0);"),
        (
            "server",
            "fn f() { static ONCE: OnceLock<u8> = OnceLock::new(); }",
        ),
        ("server", "thread_local! { }"),
        ("net", "fn f() { unsafe { g() } }"),
    ];
    for (module, text) in broken {
        assert!(!complaints(module, text).is_empty(), "{module} may not: {text}");
    }
}

#[test]
fn the_plan_is_kept_by_each_of_these() {
    let kept = [
        ("main", "use crate::cli::Command;"),
        ("server", "use crate::{keeper::Keeper, postgres, names::*};"),
        (
            "postgres::link::login",
            "use crate::postgres::wire::frame::HEADER; use super::target::Target; use crate::access::log_in::Access;",
        ),
        ("postgres", "pub use session::begin::begin; use self::wire::say;"),
        (
            "postgres::session::moving",
            "use crate::postgres::talk::stream::Talk; use crate::postgres::client::admit::close_heard;",
        ),
        (
            "postgres::state::risky_names",
            "use tokio::sync::watch; use tokio::time::Instant;",
        ),
        (
            "config",
            "use std::net::{IpAddr, SocketAddr}; use crate::credentials::Password;",
        ),
        (
            "config",
            "// use tokio::time;\n/* crate::server */ const A: &str = \"crate::server std::fs\";",
        ),
        (
            "config",
            "const Q: char = '\"'; fn f<'a>(x: &'static str) {} const R: &str = r#\"unsafe \" static\"#;",
        ),
        (
            "credentials",
            "fn f(now: Instant) {}\n#[cfg(test)]\nmod tests { use tokio::test; static X: u8 = 0; }",
        ),
    ];
    for (module, text) in kept {
        assert_eq!(complaints(module, text), [""; 0], "{module}: {text}");
    }
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if is_source(&path) {
            found.push(path);
        }
    }
    found
}

/// Tests that stand in files of their own are none.
fn is_source(path: &Path) -> bool {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let is_test = matches!(name, "tests.rs" | "bounds.rs") || path.iter().any(|part| part == "tests");
    name.ends_with(".rs") && !is_test
}

/// `postgres/wire/frame.rs` is `postgres::wire::frame`; `lib.rs` is the crate itself.
fn module_of(path: &Path) -> String {
    let path = path.with_extension("");
    let mut segments: Vec<&str> = path.iter().map(|segment| segment.to_str().unwrap()).collect();
    if segments.last().is_some_and(|last| matches!(*last, "mod" | "lib")) {
        segments.pop();
    }
    segments.join("::")
}

/// Everything in which `text`, the source of `module`, breaks the plan.
fn complaints(module: &str, text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let mut complaints = Vec::new();
    for token in &tokens {
        if matches!(token.as_str(), "static" | "thread_local" | "lazy_static") {
            complaints.push(format!("{token}: nothing is static"));
        }
        if token == "unsafe" {
            complaints.push("nothing is unsafe".to_owned());
        }
    }
    for path in paths(&tokens) {
        complaints.extend(wrong_way(module, &path));
        if is_in_any(module, &["postgres::state"]) {
            complaints.extend(too_much_for_state(&path));
        }
        if is_in_any(module, &PURE) || is_in_any(module, &DECISIONS) {
            complaints.extend(impurity(&path));
        }
    }
    complaints.sort();
    complaints.dedup();
    complaints
}

/// Why `module` may not name `path`, if it may not.
fn wrong_way(module: &str, path: &[String]) -> Option<String> {
    let target = absolute(module, path)?;
    let (from, to) = (room(module), room(&target));
    let shown = || format!("{module} names crate::{target}");
    if from.is_empty() || to.is_empty() {
        return None;
    }
    if from == "postgres" && to == "postgres" {
        let (from, to) = (inner_floor(module)?, inner_floor(&target)?);
        let is_down = from < to || inner_room(module) == inner_room(&target);
        return (!is_down).then(|| format!("{}, above it or beside it", shown()));
    }
    if from == to {
        return None;
    }
    if STRANGERS.contains(&(from, to)) {
        return Some(format!("{}, a stranger", shown()));
    }
    let Some(height_to) = ROOMS.iter().position(|room| *room == to) else {
        return Some(format!("{}, a room that is not on the plan", shown()));
    };
    let from = match is_in_any(module, &["postgres::wire"]) {
        true => "credentials",
        false => from,
    };
    match ROOMS.iter().position(|room| *room == from) {
        None => Some(format!("{module} is not on the plan")),
        Some(height_from) if height_from >= height_to => Some(format!("{}, above it", shown())),
        Some(_) => None,
    }
}

/// Counted from the top. None: the door of the Postgres room, or one of its tests.
fn inner_floor(module: &str) -> Option<usize> {
    let room = inner_room(module)?;
    INNER_FLOORS.iter().position(|floor| floor.contains(&room))
}

fn inner_room(module: &str) -> Option<&str> {
    module.split("::").nth(1)
}

fn too_much_for_state(path: &[String]) -> Option<String> {
    let begins = |start: &&[&str]| path.len() >= start.len() && path[..start.len()] == **start;
    let is_too_much = NOT_FOR_STATE.iter().any(begins);
    is_too_much.then(|| format!("state does not know {}", path.join("::")))
}

/// Files that import each other in a circle, each circle once. A parent and its child may: they are one thing.
fn circles(texts: &[(String, String)]) -> Vec<String> {
    let modules: BTreeSet<&str> = texts.iter().map(|(module, _)| module.as_str()).collect();
    let imports: BTreeMap<&str, BTreeSet<&str>> = texts
        .iter()
        .map(|(module, text)| {
            let named = paths(&tokens(text));
            let targets = named.iter().filter_map(|path| absolute(module, path));
            let files = targets.filter_map(|target| file_of(&target, &modules));
            let others = files.filter(|file| !is_in_any(file, &[module]) && !is_in_any(module, &[file]));
            (module.as_str(), others.collect())
        })
        .collect();
    let mut found = Vec::new();
    let mut reported = BTreeSet::new();
    for module in &modules {
        if !reported.contains(module)
            && let Some(way_back) = way_back(module, &imports)
        {
            reported.extend(way_back.iter().copied());
            found.push(way_back.join(" → "));
        }
    }
    found
}

/// The shortest way from a file over what it imports back to itself.
fn way_back<'a>(from: &'a str, imports: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Option<Vec<&'a str>> {
    let mut ways = VecDeque::from([vec![from]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in imports.get(way.last()?).into_iter().flatten() {
            let longer = [&way[..], &[*next]].concat();
            if *next == from {
                return Some(longer);
            }
            if seen.insert(*next) {
                ways.push_back(longer);
            }
        }
    }
    None
}

/// The file that `path` leads into: the longest part of it that is one.
fn file_of<'a>(path: &str, modules: &BTreeSet<&'a str>) -> Option<&'a str> {
    let mut part = path;
    loop {
        let found = modules.iter().find(|module| **module == part);
        if found.is_some() {
            return found.copied();
        }
        part = part.rsplit_once("::")?.0;
    }
}

fn impurity(path: &[String]) -> Option<String> {
    let named = path.join("::");
    let begins = |start: &&[&str]| {
        let ends_with_it = path.len() >= start.len() && path[path.len() - start.len()..] == **start;
        path.len() >= start.len() && path[..start.len()] == **start || start[1..] == ["now"] && ends_with_it
    };
    if IMPURE.iter().any(begins) {
        return Some(format!("the ground floor does not know {named}"));
    }
    let net = path.strip_prefix(&["std".to_owned(), "net".to_owned()][..])?;
    let address = net.first().is_some_and(|name| ADDRESSES.contains(&name.as_str()));
    (!address).then(|| format!("the ground floor does not know {named}"))
}

/// Where in the crate `path` leads when `module` names it; None when it leaves the crate.
fn absolute(module: &str, path: &[String]) -> Option<String> {
    let mut here: Vec<&str> = module.split("::").filter(|segment| !segment.is_empty()).collect();
    let mut rest = path.iter().map(String::as_str).peekable();
    match *rest.peek()? {
        "crate" => {
            rest.next();
            here.clear();
        }
        "super" => {
            while rest.next_if_eq(&"super").is_some() {
                here.pop();
            }
        }
        _ => return None,
    }
    here.extend(rest);
    Some(here.join("::"))
}

fn room(module: &str) -> &str {
    module.split("::").next().unwrap_or_default()
}

fn is_in_any(module: &str, rooms: &[&str]) -> bool {
    rooms.iter().any(|room| {
        module == *room
            || module
                .strip_prefix(room)
                .is_some_and(|rest| rest.starts_with("::"))
    })
}

/// Every path with more than one segment, and every one that a `use` brings in.
fn paths(tokens: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let begins = is_name(&tokens[at]) && (at == 0 || tokens[at - 1] != "::");
        if tokens[at] == "use" {
            at += 1;
            expand(tokens, &mut at, &[], &mut found);
        } else if begins && tokens.get(at + 1).is_some_and(|next| next == "::") {
            expand(tokens, &mut at, &[], &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one use tree, or one path, that begins at `at`.
fn expand(tokens: &[String], at: &mut usize, before: &[String], found: &mut Vec<Vec<String>>) {
    let mut path = before.to_vec();
    while let Some(token) = tokens.get(*at) {
        if is_name(token) {
            path.push(token.clone());
            *at += 1;
        } else if token == "{" && path.len() >= before.len() {
            *at += 1;
            while tokens.get(*at).is_some_and(|token| token != "}") {
                let start = *at;
                expand(tokens, at, &path, found);
                while tokens.get(*at).is_some_and(|token| token != "," && token != "}") {
                    *at += 1;
                }
                if tokens.get(*at).is_some_and(|token| token == ",") || *at == start {
                    *at += 1;
                }
            }
            *at += 1;
            return;
        } else {
            break;
        }
        match tokens.get(*at) {
            Some(next) if next == "::" => *at += 1,
            _ => break,
        }
    }
    found.push(path);
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// The names and the punctuation of a source: no comments, no literals, no lifetimes, and nothing from
/// its tests on.
fn tokens(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = literal(rest) {
            length
        } else if first == '\'' {
            let lifetime = rest[1..].find(|c: char| !(c.is_alphanumeric() || c == '_'));
            lifetime.map_or(rest.len(), |end| end + 1)
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_'));
            let end = end.unwrap_or(rest.len());
            found.push(rest[..end].to_owned());
            end
        } else if rest.starts_with("::") {
            found.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() {
                found.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    found
}

/// How long the string or character is that `rest` begins with, if it begins with one.
fn literal(rest: &str) -> Option<usize> {
    let raw = rest.trim_start_matches('b');
    let prefix = rest.len() - raw.len();
    if let Some(hashes) = raw
        .strip_prefix('r')
        .map(|raw| raw.len() - raw.trim_start_matches('#').len())
    {
        let open = format!("r{}\"", "#".repeat(hashes));
        if raw.starts_with(&open) {
            let close = format!("\"{}", "#".repeat(hashes));
            let end = raw[open.len()..].find(&close)?;
            return Some(prefix + open.len() + end + close.len());
        }
    }
    let quote = raw.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    let mut escaped = false;
    for (index, character) in raw.char_indices().skip(1) {
        // A character has one character; without its end it is a lifetime.
        if quote == '\'' && index > 1 && !raw[1..].starts_with('\\') && character != '\'' {
            return None;
        }
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote && (quote == '"' || index > 1) => {
                return Some(prefix + index + character.len_utf8());
            }
            _ => {}
        }
    }
    None
}
