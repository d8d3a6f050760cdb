//! `NAME=value` text as shells and dotenv files write it. Nothing is expanded: a `$` is a `$`.

use std::ops::Range;

use zeroize::Zeroizing;

use super::PayloadError;
use super::outline::Edits;

pub(super) struct DotEnv(Vec<Variable>);

struct Variable {
    name: String,
    value: Zeroizing<String>,
    /// Where the value stands, with its quotes.
    span: Range<usize>,
}

impl DotEnv {
    pub(super) fn parse(text: &str) -> Result<Self, PayloadError> {
        let mut lines = Lines {
            rest: text,
            number: 0,
        };
        let mut variables: Vec<Variable> = Vec::new();
        while let Some(line) = lines.next() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let started_at = lines.number;
            let not_env = PayloadError::NotDotEnv { line: started_at };
            let line = strip_export(line);
            let (name, value) = line.split_once('=').ok_or(not_env)?;
            let name = name.trim_end();
            if !is_name(name) {
                return Err(not_env);
            }
            if variables.iter().any(|known| known.name == name) {
                return Err(PayloadError::DuplicateKey { line: started_at });
            }
            let written = value.trim_start();
            let (value, rest) = parse_value(written, &mut lines)?;
            variables.push(Variable {
                name: name.to_owned(),
                value,
                span: place(text, written)..place(text, rest),
            });
        }
        Ok(Self(variables))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|known| known.name == name);
        found.map(|known| known.value.as_str())
    }

    /// The text that this was parsed from, with another value for a name, or with a line for it at its end.
    pub(super) fn with(&self, text: &str, name: &str, value: &str) -> Zeroizing<String> {
        let mut edits = Edits::default();
        match self.0.iter().find(|known| known.name == name) {
            Some(known) => {
                let was = text[known.span.clone()].chars().next();
                let mut by = written(value, was);
                if text[known.span.end..].starts_with('#') {
                    by.push(' ');
                }
                edits.replace(known.span.clone(), by);
            }
            None => {
                let line_end = if text.contains("\r\n") { "\r\n" } else { "\n" };
                let before = if text.is_empty() || text.ends_with('\n') {
                    ""
                } else {
                    line_end
                };
                let line = format!("{before}{name}={}{line_end}", *written(value, None));
                edits.replace(text.len()..text.len(), Zeroizing::new(line));
            }
        }
        edits.apply(text)
    }
}

/// Where a part of a text begins in it.
fn place(text: &str, part: &str) -> usize {
    part.as_ptr() as usize - text.as_ptr() as usize
}

/// A value as it is read back, with the quote that was there before if it can hold it. Shells read it as well: nothing
/// in it is theirs to expand.
fn written(value: &str, was: Option<char>) -> Zeroizing<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.,:/@%+=~^".contains(c);
    let single = || !value.contains(['\'', '\r', '\n']);
    let mut written = String::with_capacity(2 * value.len() + 2);
    match was {
        Some('\'') if single() => written.extend(["'", value, "'"]),
        Some('"') => quote(value, &mut written),
        _ if value.chars().all(is_plain) => written.push_str(value),
        _ if single() => written.extend(["'", value, "'"]),
        _ => quote(value, &mut written),
    }
    Zeroizing::new(written)
}

fn quote(value: &str, written: &mut String) {
    written.push('"');
    for character in value.chars() {
        match character {
            '\n' => written.push_str("\\n"),
            '\r' => written.push_str("\\r"),
            '"' | '\\' | '$' | '`' => written.extend(['\\', character]),
            other => written.push(other),
        }
    }
    written.push('"');
}

/// Lines without their ends, be they LF or CRLF.
struct Lines<'a> {
    rest: &'a str,
    number: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.number += 1;
        Some(line.strip_suffix('\r').unwrap_or(line))
    }
}

fn strip_export(line: &str) -> &str {
    match line.strip_prefix("export") {
        Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
        _ => line,
    }
}

fn is_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// The value, and what stands behind it in its last line.
fn parse_value<'a>(
    value: &'a str,
    lines: &mut Lines<'a>,
) -> Result<(Zeroizing<String>, &'a str), PayloadError> {
    match value.chars().next() {
        Some(quote @ ('\'' | '"')) => parse_quoted(&value[1..], quote, lines),
        _ => {
            let bare = bare_value(value);
            Ok((Zeroizing::new(bare.to_owned()), &value[bare.len()..]))
        }
    }
}

/// Up to a comment, which starts with a `#` after a blank.
fn bare_value(value: &str) -> &str {
    let mut after_blank = true;
    for (at, character) in value.char_indices() {
        if character == '#' && after_blank {
            return value[..at].trim_end();
        }
        after_blank = character.is_whitespace();
    }
    value.trim_end()
}

/// A quoted value may span lines. Single quotes keep everything; in double quotes a backslash escapes.
fn parse_quoted<'a>(
    first: &'a str,
    quote: char,
    lines: &mut Lines<'a>,
) -> Result<(Zeroizing<String>, &'a str), PayloadError> {
    let started_at = lines.number;
    let mut value = Zeroizing::new(String::new());
    let mut line = first;
    loop {
        let mut characters = line.chars();
        while let Some(character) = characters.next() {
            if character == quote {
                let behind = characters.as_str();
                let rest = behind.trim_start();
                return match rest.is_empty() || rest.starts_with('#') {
                    true => Ok((value, behind)),
                    false => Err(PayloadError::NotDotEnv { line: lines.number }),
                };
            }
            if character == '\\' && quote == '"' {
                match characters.next() {
                    Some('n') => value.push('\n'),
                    Some('r') => value.push('\r'),
                    Some('t') => value.push('\t'),
                    Some(escaped @ ('"' | '\\' | '$' | '`')) => value.push(escaped),
                    Some(other) => value.extend(['\\', other]),
                    None => value.push('\\'),
                }
            } else {
                value.push(character);
            }
        }
        line = lines
            .next()
            .ok_or(PayloadError::UnclosedQuote { line: started_at })?;
        value.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_shells_and_dotenv_files_write_them() {
        let text = "# comment\r\n\
            BARE=pa#ss$word # a comment\r\n\
            export EXPORTED = spaced out  \r\n\
            SINGLE='it # is \\n $HOME'\n\
            DOUBLE=\"a\\\"b\\\\c\\n\\$d\" # more\n\
            LINES=\"one\n two\"\n\
            EMPTY=\n\
            EMPTY_QUOTED=''\n\
            ONLY_COMMENT= # nothing\n\
            EQUALS=a=b==\n\
            exporter=yes";
        let env = DotEnv::parse(text).unwrap();
        assert_eq!(env.get("BARE"), Some("pa#ss$word"));
        assert_eq!(env.get("EXPORTED"), Some("spaced out"));
        assert_eq!(env.get("SINGLE"), Some("it # is \\n $HOME"));
        assert_eq!(env.get("DOUBLE"), Some("a\"b\\c\n$d"));
        assert_eq!(env.get("LINES"), Some("one\n two"));
        assert_eq!(env.get("EMPTY"), Some(""));
        assert_eq!(env.get("EMPTY_QUOTED"), Some(""));
        assert_eq!(env.get("ONLY_COMMENT"), Some(""));
        assert_eq!(env.get("EQUALS"), Some("a=b=="));
        assert_eq!(env.get("exporter"), Some("yes"));
        assert_eq!(env.get("ABSENT"), None);
    }

    #[test]
    fn one_value_is_changed_and_everything_else_stays() {
        let text = "# comment\r\nexport DB_USER = app # who\r\nQUOTED='old' # note\r\nDOUBLE=\"a\nb\"\nEMPTY=\nLAST=x";
        let with = |name, value| {
            let changed = DotEnv::parse(text).unwrap().with(text, name, value);
            assert_eq!(
                DotEnv::parse(&changed).unwrap().get(name),
                Some(value),
                "{}",
                *changed
            );
            changed.to_string()
        };
        assert_eq!(with("DB_USER", "bob"), text.replace("= app #", "= bob #"));
        assert_eq!(with("QUOTED", "new"), text.replace("'old'", "'new'"));
        assert_eq!(with("DOUBLE", "c$\n"), text.replace("\"a\nb\"", "\"c\\$\\n\""));
        assert_eq!(with("EMPTY", "f#o o"), text.replace("EMPTY=", "EMPTY='f#o o'"));
        assert_eq!(with("LAST", "it's\n"), text.replace("=x", "=\"it's\\n\""));
        assert_eq!(with("QUOTED", ""), text.replace("'old'", "''"));
        let commented = "A= # why";
        let changed = DotEnv::parse(commented).unwrap().with(commented, "A", "x");
        assert_eq!(*changed, "A= x # why");
        assert_eq!(with("LAST", ""), text.replace("LAST=x", "LAST="));
        assert_eq!(with("NEW", "y"), format!("{text}\r\nNEW=y\r\n"));
    }

    #[test]
    fn broken_text_is_refused_with_its_line() {
        let error = |text| DotEnv::parse(text).err();
        assert_eq!(
            error("A=1\nnot a pair"),
            Some(PayloadError::NotDotEnv { line: 2 })
        );
        assert_eq!(error("A=1\nA=2"), Some(PayloadError::DuplicateKey { line: 2 }));
        assert_eq!(
            error("A=1\n\nB=\"open\n\n"),
            Some(PayloadError::UnclosedQuote { line: 3 })
        );
        assert_eq!(error("A='x'y"), Some(PayloadError::NotDotEnv { line: 1 }));
        assert_eq!(error("1A=x"), Some(PayloadError::NotDotEnv { line: 1 }));
        assert_eq!(error("=x"), Some(PayloadError::NotDotEnv { line: 1 }));
    }
}
