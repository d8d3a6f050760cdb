use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::BitOr;

use super::blanks::{is_name_byte, trim_start};
use super::{Spotted, Unseen, Vocabulary};

/// Tells what a database has that runs out of a client's sight: one row a [`Definition`], in its order.
///
/// It reads catalogs only, takes no lock on a table, needs no privilege, and does not depend on search_path.
pub const LEARN_QUERY: &str = include_str!("learn.sql");

/// As many rows as [`LEARN_QUERY`] returns at most: with so many, some may be missing.
pub const DEFINITIONS_MAX: usize = 20_000;

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
    pub blind: bool,
    pub unseen: Unseen,
}

impl BitOr for Risk {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self {
            blind: self.blind | other.blind,
            unseen: self.unseen | other.unseen,
        }
    }
}

/// What the definitions of one database come down to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learned {
    /// Names whose use may change what a session holds.
    pub risky: BTreeMap<String, Risk>,
    /// Custom settings that definitions name, in lower case.
    pub settings: BTreeSet<String>,
    /// There may be more than was told.
    pub complete: bool,
}

/// Which names are risky: their definition is, or uses one that is.
pub fn learn<'a>(definitions: impl IntoIterator<Item = Definition<'a>>) -> Learned {
    let definitions: Vec<Definition<'a>> = definitions.into_iter().collect();
    let vocabulary = Vocabulary::of_functions();
    let mut settings = BTreeSet::new();
    let mut risks = Vec::with_capacity(definitions.len());
    for definition in &definitions {
        let spotted = read(&vocabulary, definition);
        risks.push(spotted.signalled.then_some(Risk {
            blind: spotted.blind,
            unseen: spotted.unseen,
        }));
        settings.extend(spotted.settings);
    }
    spread(&mut risks, &users(&definitions));
    let mut risky: BTreeMap<String, Risk> = BTreeMap::new();
    for (definition, risk) in definitions.iter().zip(risks) {
        if let Some(risk) = risk {
            let all = risky.entry(definition.name.to_owned()).or_default();
            *all = *all | risk;
        }
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
            blind: true,
            ..Spotted::default()
        };
    };
    let mut spotted = vocabulary.read(body.as_bytes());
    if !matches!(definition.language, "" | "sql" | "plpgsql") {
        // How other languages run a statement is not looked into.
        spotted.signalled = true;
        let shares = names_in(body).any(|name| matches!(name.text, "GD" | "_SHARED"));
        if shares {
            spotted.unseen |= Unseen::INTERPRETER;
        }
    }
    spotted
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
                called: after.starts_with(b"(") || before.ends_with(b"."),
            }
        })
}

/// Where the name ends whose first word this is, if it is one that needs its quotes.
fn in_quotes(text: &str, begin: usize, end: usize) -> Option<(usize, usize)> {
    const NAME_MAX: usize = 128;
    let bytes = text.as_bytes();
    let opened = begin > 0 && bytes[begin - 1] == b'"';
    let rest = &bytes[end..bytes.len().min(begin + NAME_MAX)];
    let close = rest.iter().position(|byte| *byte == b'"').filter(|_| opened)?;
    (close > 0).then_some((begin, end + close))
}
