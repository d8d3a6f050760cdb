//! `NAME=value` text as shells and dotenv files write it. Nothing is expanded: a `$` is a `$`.

use zeroize::Zeroizing;

use super::PayloadError;

pub(super) struct DotEnv(Vec<(String, Zeroizing<String>)>);

impl DotEnv {
    pub(super) fn parse(text: &str) -> Result<Self, PayloadError> {
        let mut lines = Lines {
            rest: text,
            number: 0,
        };
        let mut variables: Vec<(String, Zeroizing<String>)> = Vec::new();
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
            if variables.iter().any(|(known, _)| known == name) {
                return Err(PayloadError::DuplicateKey { line: started_at });
            }
            let value = parse_value(value.trim_start(), &mut lines)?;
            variables.push((name.to_owned(), value));
        }
        Ok(Self(variables))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
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

fn parse_value(value: &str, lines: &mut Lines<'_>) -> Result<Zeroizing<String>, PayloadError> {
    match value.chars().next() {
        Some(quote @ ('\'' | '"')) => parse_quoted(&value[1..], quote, lines),
        _ => Ok(Zeroizing::new(bare_value(value).to_owned())),
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
fn parse_quoted(first: &str, quote: char, lines: &mut Lines<'_>) -> Result<Zeroizing<String>, PayloadError> {
    let started_at = lines.number;
    let mut value = Zeroizing::new(String::new());
    let mut line = first;
    loop {
        let mut characters = line.chars();
        while let Some(character) = characters.next() {
            if character == quote {
                let rest = characters.as_str().trim_start();
                return match rest.is_empty() || rest.starts_with('#') {
                    true => Ok(value),
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
