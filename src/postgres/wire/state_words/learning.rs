//! Condenses what a database tells of its functions, views and triggers to names, and what the use of each may do.
//! It asks nobody: rows in, risks out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::BitOr;

use super::blanks::{is_name_byte, trim_start};
use super::execute::{Runs, runs, runs_at, runs_foreign};
use super::{Spotted, Unseen, Vocabulary};

/// Tells what a database has that runs out of a client's sight: one row a [`Definition`], in its order.
///
/// It needs no privilege, reads catalogs only, and asks the same under every search_path and setting. Only for
/// a view or rule that itself calls set_config and the like does it lock what that names, in ACCESS SHARE mode.
/// What fires an event trigger has a tag that signals, or begins with a word of its own; but for SELECT INTO.
pub const LEARN_QUERY: &str = include_str!("learn.sql");

/// What that would tell of, in an expression: another text when any of it may have changed.
pub const DEFINED: &str = include_str!("defined.sql");

/// Of the text that [`DEFINED`] gives. Never 0.
pub fn counted(defined: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    defined.hash(&mut hasher);
    hasher.finish().max(1)
}

/// As many rows as [`LEARN_QUERY`] returns at most: with so many, some may be missing.
pub const DEFINITIONS_MAX: usize = 200_000;

/// In so many EXECUTEs of one body the variable is looked up.
const EXECUTES_MAX: usize = 64;

/// What runs a text in PL/Python, PL/Perl, PL/Tcl and PL/v8.
const FOREIGN_EXECUTES: [&str; 7] = [
    "execute",
    "prepare",
    "spi_exec_query",
    "spi_query",
    "spi_prepare",
    "spi_exec",
    "cursor",
];

/// More names of settings make whatever sets one blind.
const SETTINGS_MAX: usize = 1024;

/// Something that a statement may use by its name, and what happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition<'a> {
    pub name: &'a str,
    /// Empty: not a function, but a table or view that uses functions.
    pub language: &'a str,
    /// None: too long to be read.
    pub body: Option<&'a str>,
}

/// What the use of a name may do beyond changing state that a survey sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Risk {
    /// It may change what the session holds.
    pub signals: bool,
    pub blind: bool,
    /// A rollback does not undo it.
    pub lasting: bool,
    pub unseen: Unseen,
    /// It asks what a sequence gave to this session, and did not have it give that itself.
    pub asks: bool,
}

impl BitOr for Risk {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self {
            signals: self.signals | other.signals,
            blind: self.blind | other.blind,
            lasting: self.lasting | other.lasting,
            unseen: self.unseen | other.unseen,
            asks: self.asks | other.asks,
        }
    }
}

/// What the definitions of one database come down to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learned {
    /// Names whose use may change what a session holds, or asks for what it holds.
    pub risky: BTreeMap<String, Risk>,
    /// Custom settings that definitions name, in lower case.
    pub settings: BTreeSet<String>,
    /// There may be more than was told.
    pub complete: bool,
}

/// What is known to be risky now, and was not, or less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    /// The worst of it.
    pub risk: Risk,
    /// Settings are named that nobody has asked for yet.
    pub names: bool,
}

impl News {
    /// Whether a survey shows what it has done, even one that did not know of it.
    pub fn shows(&self) -> bool {
        !self.names && !self.risk.blind && self.risk.unseen.is_empty()
    }
}

impl Learned {
    pub(super) fn news(&self, before: &Self) -> Option<News> {
        let is_news = |(name, risk): &(&String, &Risk)| before.risky.get(*name) != Some(*risk);
        let risks = self.risky.iter().filter(is_news).map(|(_, risk)| *risk);
        let risks = risks.filter(|risk| risk.signals);
        let risk = risks.reduce(Risk::bitor);
        let names = !self.settings.is_subset(&before.settings);
        (risk.is_some() || names).then(|| News {
            risk: risk.unwrap_or_default(),
            names,
        })
    }
}

/// Which names are risky: their definition is, or uses one that is.
pub fn learn<'a>(definitions: impl IntoIterator<Item = Definition<'a>>) -> Learned {
    let definitions: Vec<Definition<'a>> = definitions.into_iter().collect();
    let vocabulary = Vocabulary::of_functions();
    let mut settings = BTreeSet::new();
    let mut risks = Vec::with_capacity(definitions.len());
    let mut writers = Vec::new();
    for (index, definition) in definitions.iter().enumerate() {
        let mut spotted = read(&vocabulary, definition);
        match executed(definition) {
            Runs::Shown => {}
            Runs::Writes => writers.push(index),
            Runs::Queries => {
                spotted.signalled = true;
                writers.push(index);
            }
            Runs::Anything => {
                spotted.signalled = true;
                spotted.lasting = true;
                spotted.blind = true;
            }
        }
        let is_risky = spotted.signalled || spotted.asks;
        risks.push(is_risky.then_some(Risk {
            signals: spotted.signalled,
            blind: spotted.blind,
            lasting: spotted.lasting,
            unseen: spotted.unseen,
            asks: spotted.asks,
        }));
        settings.extend(spotted.settings);
    }
    let users = users(&definitions);
    spread(&mut risks, &users);
    let tables = definitions
        .iter()
        .zip(&risks)
        .filter(|(table, _)| table.language.is_empty());
    if let Some(risk) = tables.filter_map(|(_, risk)| *risk).reduce(Risk::bitor) {
        for writer in writers {
            risks[writer] = Some(risks[writer].unwrap_or_default() | risk);
        }
        spread(&mut risks, &users);
    }
    let mut risky: BTreeMap<String, Risk> = BTreeMap::new();
    for (definition, risk) in definitions.iter().zip(risks) {
        if let Some(risk) = risk {
            let all = risky.entry(definition.name.to_owned()).or_default();
            *all = *all | risk;
        }
    }
    if settings.len() > SETTINGS_MAX {
        risky.values_mut().for_each(|risk| risk.blind = true);
        settings.clear();
    }
    Learned {
        risky,
        settings,
        complete: definitions.len() < DEFINITIONS_MAX,
    }
}

/// What a definition does by itself.
fn read(vocabulary: &Vocabulary, definition: &Definition<'_>) -> Spotted {
    let Some(body) = definition.body else {
        return Spotted {
            signalled: true,
            lasting: true,
            blind: true,
            ..Spotted::default()
        };
    };
    let mut spotted = vocabulary.read(body.as_bytes());
    spotted.asks = spotted.asks && !draws_first(body);
    if is_foreign(definition.language) {
        // How other languages run a statement is not looked into.
        spotted.signalled = true;
        spotted.lasting = true;
        let shares = names_in(body).any(|name| matches!(name.text, "GD" | "SD" | "_SHARED"));
        if shares {
            spotted.unseen |= Unseen::INTERPRETER;
        }
    }
    spotted
}

/// Whether it has sequences give something before it asks for it.
fn draws_first(body: &str) -> bool {
    let draws = |name: Name<'_>| {
        let is_one_of = |words: [&str; 2]| words.iter().any(|word| name.text.eq_ignore_ascii_case(word));
        let draws = is_one_of(["insert", "nextval"]);
        (draws || is_one_of(["currval", "lastval"])).then_some(draws)
    };
    names_in(body).find_map(draws).unwrap_or_default()
}

fn is_foreign(language: &str) -> bool {
    !matches!(language, "" | "sql" | "plpgsql")
}

/// The worst that a function executes.
fn executed(definition: &Definition<'_>) -> Runs {
    let body = definition.body.unwrap_or_default();
    let is_foreign = is_foreign(definition.language);
    let runs_text = |name: &Name<'_>| match is_foreign {
        true => FOREIGN_EXECUTES.contains(&name.text),
        false => name.text.eq_ignore_ascii_case("execute"),
    };
    let executes = names_in(body).filter(runs_text);
    let mut worst = Runs::Shown;
    for (count, name) in executes.enumerate() {
        worst = worst.max(match count {
            _ if is_foreign => runs_foreign(&body.as_bytes()[name.end..]),
            0..EXECUTES_MAX => runs_at(body.as_bytes(), name.end),
            _ => runs(&body.as_bytes()[name.end..]),
        });
        if worst == Runs::Anything {
            break;
        }
    }
    worst
}

/// By definition: the ones that use it.
fn users(definitions: &[Definition<'_>]) -> Vec<Vec<usize>> {
    let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, definition) in definitions.iter().enumerate() {
        let name = definition.name.to_ascii_lowercase();
        by_name.entry(name).or_default().push(index);
    }
    let mut users = vec![Vec::new(); definitions.len()];
    for (index, definition) in definitions.iter().enumerate() {
        let mut used: Vec<usize> = names_in(definition.body.unwrap_or_default())
            .filter_map(|name| {
                let named = by_name.get(&name.text.to_ascii_lowercase())?;
                Some(named.iter().copied().filter(move |used| {
                    let is_function = !definitions[*used].language.is_empty();
                    !is_function || name.called
                }))
            })
            .flatten()
            .collect();
        used.sort_unstable();
        used.dedup();
        for used in used {
            users[used].push(index);
        }
    }
    users
}

/// Hands every risk on to the users, until nobody learns anything new.
fn spread(risks: &mut [Option<Risk>], users: &[Vec<usize>]) {
    let mut news: Vec<usize> = (0..risks.len()).filter(|index| risks[*index].is_some()).collect();
    while let Some(index) = news.pop() {
        for user in &users[index] {
            let risk = risks[index].unwrap_or_default() | risks[*user].unwrap_or_default();
            if risks[*user] != Some(risk) {
                risks[*user] = Some(risk);
                news.push(*user);
            }
        }
    }
}

/// A name in a text, with or without quotes.
struct Name<'a> {
    text: &'a str,
    /// Where it ends.
    end: usize,
    /// The name of a column or variable is followed by something else.
    called: bool,
}

/// Every word, because text may be SQL inside a literal, and every name that is written in quotes.
fn names_in(text: &str) -> impl Iterator<Item = Name<'_>> {
    let mut at = 0;
    let words = std::iter::from_fn(move || {
        let rest = &text.as_bytes()[at..];
        let begin = at + rest.iter().position(|byte| is_name_byte(*byte))?;
        let rest = &text.as_bytes()[begin..];
        let end = rest.iter().position(|byte| !is_name_byte(*byte) && *byte != b'$');
        at = begin + end.unwrap_or(rest.len());
        Some((begin, at))
    });
    words
        .flat_map(move |(begin, end)| [Some((begin, end)), in_quotes(text, begin, end)])
        .flatten()
        .map(move |(begin, end)| {
            let after = &text.as_bytes()[end..];
            let after = trim_start(after.strip_prefix(b"\"").unwrap_or(after));
            let before = &text.as_bytes()[..begin];
            let before = before.strip_suffix(b"\"").unwrap_or(before);
            Name {
                text: &text[begin..end],
                end,
                called: after.starts_with(b"(") || before.ends_with(b"."),
            }
        })
}

/// Where the name ends whose first word this is, if it is one that needs its quotes.
fn in_quotes(text: &str, begin: usize, end: usize) -> Option<(usize, usize)> {
    const NAME_MAX: usize = 128;
    let bytes = text.as_bytes();
    let opened = begin > 0 && bytes[begin - 1] == b'"';
    let rest = bytes.get(end..bytes.len().min(begin + NAME_MAX))?;
    let close = rest.iter().position(|byte| *byte == b'"').filter(|_| opened)?;
    (close > 0).then_some((begin, end + close))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn learned(definitions: &[(&str, &str, &str)]) -> Learned {
        learn(definitions.iter().map(|(name, language, body)| Definition {
            name,
            language,
            body: Some(body),
        }))
    }

    fn names(learned: &Learned) -> Vec<&str> {
        learned.risky.keys().map(String::as_str).collect()
    }

    #[test]
    fn a_function_that_changes_the_session_is_risky() {
        for body in [
            "BEGIN SET app.x = 1; END",
            "BEGIN\n  -- first\n  SET LOCAL app.x TO 1; END",
            "BEGIN IF a THEN RESET app.x; END IF; END",
            "BEGIN <<here>> SET ROLE app; END",
            "DISCARD TEMP",
            "begin listen orders; end",
            "BEGIN UNLISTEN *; END",
            "BEGIN EXECUTE 'SET app.x = 1'; END",
            "BEGIN EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT 1'; END",
            "BEGIN EXECUTE $q$ PREPARE p AS SELECT 1 $q$; END",
            "BEGIN EXECUTE q; END",
            "BEGIN LOAD 'age'; END",
            "BEGIN CREATE TEMP TABLE t (a int); END",
            "SELECT pg_advisory_lock(1)",
            "SELECT dblink_connect('a', 'b')",
        ] {
            assert_eq!(names(&learned(&[("f", "plpgsql", body)])), ["f"], "{body}");
        }
    }

    #[test]
    fn a_function_that_leaves_the_session_alone_is_not() {
        for body in [
            "BEGIN UPDATE t SET a = 1 WHERE b = 2; END",
            "BEGIN UPDATE \"t\"\n SET a = 1; END",
            "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = excluded.a",
            "BEGIN EXECUTE format('INSERT INTO %I VALUES (1)', t); END",
            "BEGIN EXECUTE 'update ' || t || ' set a = 1'; END",
            "BEGIN EXECUTE 'SELECT count(*) FROM t' INTO n; END",
            "SELECT current_setting('app.x', true)",
            "DECLARE temp int; BEGIN temp := 1; RETURN temp; END",
            "BEGIN NOTIFY orders; PERFORM pg_notify('a', 'b'); END",
            "SELECT pg_advisory_xact_lock(1)",
        ] {
            assert_eq!(names(&learned(&[("f", "plpgsql", body)])), [""; 0], "{body}");
        }
    }

    #[test]
    fn who_asks_for_what_others_had_a_sequence_give_is_known_for_it_and_changes_nothing() {
        let learned = learned(&[
            ("asks", "plpgsql", "BEGIN RETURN currval('s'); END"),
            ("wraps", "sql", "SELECT asks()"),
            (
                "adds",
                "plpgsql",
                "BEGIN INSERT INTO t VALUES (1); RETURN LastVal(); END",
            ),
            ("both", "sql", "SELECT asks(), set_config('a.b', '', false)"),
            ("column", "sql", "SELECT currvals FROM t"),
        ]);
        assert_eq!(names(&learned), ["asks", "both", "wraps"]);
        assert!(learned.risky.values().all(|risk| risk.asks));
        assert!(!learned.risky["wraps"].signals && learned.risky["both"].signals);
        let vocabulary = Vocabulary::taught(Arc::new(learned));
        let spotted = vocabulary.read(b"SELECT wraps()");
        assert!(spotted.asks && !spotted.signalled);
        assert!(vocabulary.worst().is_some_and(|risk| risk.signals));
    }

    #[test]
    fn whatever_uses_something_risky_is_risky() {
        let learned = learned(&[
            ("top", "sql", "SELECT \"Odd Name\"()"),
            (
                "Odd Name",
                "plpgsql",
                "BEGIN PERFORM app . bottom (1); PERFORM top(); END",
            ),
            (
                "bottom",
                "sql",
                "SELECT set_config('App.X', '1', false), setseed(0.1)",
            ),
            ("orders", "", "bottom("),
            ("orders_view", "", "orders"),
            ("reads", "sql", "SELECT * FROM Orders_View"),
            ("column", "sql", "SELECT bottom, top FROM t"),
            ("plain", "sql", "SELECT bottoms(1)"),
        ]);
        let expected = ["Odd Name", "bottom", "orders", "orders_view", "reads", "top"];
        assert_eq!(names(&learned), expected);
        assert!(
            learned
                .risky
                .values()
                .all(|risk| risk.unseen == Unseen::SEED && !risk.blind)
        );
        assert_eq!(learned.settings.iter().collect::<Vec<_>>(), ["app.x"]);
    }

    #[test]
    fn who_writes_to_any_table_is_as_risky_as_any_table() {
        let writer = ("writes", "plpgsql", "BEGIN EXECUTE 'DELETE FROM ' || t; END");
        assert_eq!(names(&learned(&[writer])), [""; 0]);
        let blind = ("guard", "plpgsql", "BEGIN PERFORM set_config(n, '1', false); END");
        let learned = learned(&[
            writer,
            blind,
            ("watched", "", "guard("),
            ("calls", "sql", "SELECT writes('a')"),
        ]);
        assert_eq!(names(&learned), ["calls", "guard", "watched", "writes"]);
        assert!(learned.risky["calls"].blind);
    }

    #[test]
    fn what_can_not_be_read_is_risky() {
        let huge = Definition {
            name: "huge",
            language: "sql",
            body: None,
        };
        assert!(learn([huge]).risky["huge"].blind);
        let python = learned(&[
            ("f", "plpython3u", "return 1"),
            ("g", "plpython3u", "GD['a'] = 1"),
        ]);
        assert_eq!(python.risky["f"].unseen, Unseen::NONE);
        assert_eq!(python.risky["g"].unseen, Unseen::INTERPRETER);
    }

    #[test]
    fn a_word_of_any_length_leaves_the_rest_of_a_body_to_be_read() {
        for word in [
            "x".repeat(129),
            "\"".to_owned() + &"x".repeat(127),
            "\u{4e2d}".repeat(43),
            "\"".to_owned() + &"\u{4e2d}".repeat(50) + "\"",
        ] {
            for body in [
                format!("/* {word} */ SELECT set_config('app.x', '1', false)"),
                format!("SELECT '{word}', set_config('app.x', '1', false) -- {word}"),
                format!("SELECT set_config('app.x', '1', false) || \"{word}"),
            ] {
                let learned = learned(&[("f", "sql", &body)]);
                assert_eq!(names(&learned), ["f"], "{body}");
                assert_eq!(learned.settings.iter().collect::<Vec<_>>(), ["app.x"]);
            }
        }
    }

    #[test]
    fn an_answer_as_long_as_it_may_be_is_not_complete() {
        let definition = Definition {
            name: "f",
            language: "sql",
            body: Some("SELECT 1"),
        };
        let learned = learn(std::iter::repeat_n(definition, DEFINITIONS_MAX));
        assert!(!learned.complete);
        let vocabulary = Vocabulary::taught(Arc::new(learned));
        assert!(vocabulary.read(b"select f()").signalled && !vocabulary.read(b"select 1").signalled);
    }

    #[test]
    fn a_risk_reaches_whoever_uses_the_name() {
        let learned = learned(&[("f", "sql", "SELECT set_config($1, '1', false), setseed(0.1)")]);
        let spotted = Vocabulary::taught(Arc::new(learned)).read(b"SELECT F('app.x')");
        assert!(spotted.signalled && spotted.blind && spotted.unseen == Unseen::SEED);
    }

    proptest! {
        #[test]
        fn arbitrary_definitions_never_panic(
            definitions in prop::collection::vec((".{0,8}", "(sql|)", "[a-f\"(. é]{0,60}"), 0..20),
        ) {
            learn(definitions.iter().map(|(name, language, body)| Definition {
                name,
                language,
                body: Some(body),
            }));
        }
    }
}
