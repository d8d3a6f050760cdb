//! As typed by the user: every value with the place where it was written.
//!
//! Flags, environment variables and the file all lay their values into one tree of sections, so that
//! one reader types them all and each problem still names the place that somebody has to change.

use std::collections::BTreeMap;

use super::problem::Problem;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A dotted path in the file: `role.app.secret`.
    File(String),
    /// A flag or an environment variable, and which part of its value is meant.
    Named { name: String, part: Option<String> },
}

impl Origin {
    pub(super) fn root() -> Self {
        Self::File(String::new())
    }

    pub(super) fn named(name: &str) -> Self {
        Self::Named {
            name: name.to_owned(),
            part: None,
        }
    }

    pub(super) fn child(&self, key: &str) -> Self {
        match self {
            Self::File(path) if path.is_empty() => Self::File(quoted(key)),
            Self::File(path) => Self::File(format!("{path}.{}", quoted(key))),
            Self::Named { name, .. } => Self::Named {
                name: name.clone(),
                part: Some(quoted(key)),
            },
        }
    }

    /// What somebody has to look for: a path in the file, a flag or a variable.
    pub(super) fn path(&self) -> &str {
        match self {
            Self::File(path) => path,
            Self::Named { name, .. } => name,
        }
    }

    pub(super) fn problem(&self, message: impl Into<String>) -> Problem {
        let message = message.into();
        let message = match self {
            Self::Named { part: Some(part), .. } => format!("{part}: {message}"),
            _ => message,
        };
        Problem {
            path: self.path().to_owned(),
            message,
        }
    }
}

/// As TOML would want it in a dotted path, and always on one line.
fn quoted(key: &str) -> String {
    let bare = !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if bare && !key.contains('.') {
        key.to_owned()
    } else {
        format!("{key:?}")
    }
}

/// A value with its origin.
#[derive(Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) origin: Origin,
}

impl<T> At<T> {
    pub(super) fn new(value: T, origin: &Origin) -> Self {
        Self {
            value,
            origin: origin.clone(),
        }
    }
}

/// No `Debug`: any text may be a password.
#[derive(Clone)]
pub(super) enum Value {
    Text(String),
    Number(i64),
    Switch(bool),
    List(Vec<At<Value>>),
    Section(Section),
    /// A value whose problem is reported already.
    Reported,
    /// What no key here takes, by the name of its kind.
    Other(&'static str),
}

impl Value {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Number(_) => "a number",
            Self::Switch(_) => "true or false",
            Self::List(_) => "a list",
            Self::Section(_) => "a table",
            Self::Reported => "a mistake",
            Self::Other(kind) => kind,
        }
    }
}

#[derive(Clone)]
pub(super) struct Section {
    pub(super) origin: Origin,
    entries: BTreeMap<String, At<Value>>,
}

impl Section {
    pub(super) fn new(origin: Origin) -> Self {
        Self {
            origin,
            entries: BTreeMap::new(),
        }
    }

    pub(super) fn from_toml(table: toml::Table, origin: Origin) -> Self {
        let mut section = Self::new(origin);
        for (key, value) in table {
            let origin = section.origin.child(&key);
            let value = from_toml(value, &origin);
            section.entries.insert(key, At { value, origin });
        }
        section
    }

    pub(super) fn get(&self, key: &str) -> Option<&At<Value>> {
        self.entries.get(key)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &At<Value>)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The named section inside this one, or nothing when the key holds none.
    pub(super) fn section(&self, key: &str) -> Option<&Section> {
        match &self.entries.get(key)?.value {
            Value::Section(section) => Some(section),
            _ => None,
        }
    }

    /// The same, made if the key is free. A value that is no section stays, for the reader to report.
    pub(super) fn section_mut(&mut self, key: &str, origin: &Origin) -> Option<&mut Section> {
        let entry = self
            .entries
            .entry(key.to_owned())
            .or_insert_with(|| At::new(Value::Section(Section::new(origin.clone())), origin));
        match &mut entry.value {
            Value::Section(section) => Some(section),
            _ => None,
        }
    }

    /// Replaces what was there.
    pub(super) fn put(&mut self, key: &str, value: Value, origin: &Origin) -> Option<At<Value>> {
        self.entries.insert(key.to_owned(), At::new(value, origin))
    }

    /// [`Section::put`] at a dotted path of sections.
    pub(super) fn put_at(&mut self, path: &str, value: Value, origin: &Origin) -> Option<At<Value>> {
        match path.split_once('.') {
            None => self.put(path, value, origin),
            Some((key, rest)) => self.section_mut(key, origin)?.put_at(rest, value, origin),
        }
    }
}

fn from_toml(value: toml::Value, origin: &Origin) -> Value {
    match value {
        toml::Value::String(text) => Value::Text(text),
        toml::Value::Integer(number) => Value::Number(number),
        toml::Value::Boolean(switch) => Value::Switch(switch),
        toml::Value::Float(_) => Value::Other("a fraction"),
        toml::Value::Datetime(_) => Value::Other("a date"),
        toml::Value::Array(items) => Value::List(
            items
                .into_iter()
                .map(|item| At::new(from_toml(item, origin), origin))
                .collect(),
        ),
        toml::Value::Table(table) => Value::Section(Section::from_toml(table, origin.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_as_toml_would_want_it() {
        let origin = Origin::root().child("role").child("a.b").child("secret");
        let problem = origin.problem("must be set");
        assert_eq!(problem.to_string(), "role.\"a.b\".secret: must be set");
    }

    #[test]
    fn a_part_of_a_flag_is_named_in_the_message() {
        let problem = Origin::named("--upstream").child("sslmode").problem("no");
        assert_eq!(problem.path, "--upstream");
        assert_eq!(problem.message, "sslmode: no");
    }
}
