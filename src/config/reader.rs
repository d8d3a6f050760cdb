//! Types the values of one section, and reports what does not fit, without ever stopping.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::duration;
use super::keys::{Key, Keys, Unset};
use super::loading::Loading;
use super::suggest::did_you_mean;
use super::written::{At, Origin, Section, Value};

/// Reads a section by the keys that its table declares. A value that does not fit is reported and its
/// default used, so that reading goes on.
pub(super) struct Reader<'a> {
    pub(super) section: &'a Section,
    pub(super) loading: &'a Loading<'a>,
    keys: &'static Keys,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(section: &'a Section, keys: &'static Keys, loading: &'a Loading<'a>) -> Self {
        Self {
            section,
            loading,
            keys,
            asked: RefCell::default(),
        }
    }

    pub(super) fn origin(&self) -> &'a Origin {
        &self.section.origin
    }

    /// Where the key is written, or would have to be.
    pub(super) fn origin_of(&self, key: &str) -> Origin {
        match self.section.get(key) {
            Some(written) => written.origin.clone(),
            None => self.section.origin.child(key),
        }
    }

    pub(super) fn is_written(&self, key: &str) -> bool {
        self.section.get(key).is_some()
    }

    pub(super) fn problem(&self, key: &str, message: impl Into<String>) {
        self.loading.problem(&self.origin_of(key), message);
    }

    pub(super) fn value(&self, key: &'static str) -> Option<&'a At<Value>> {
        self.key(key);
        self.section.get(key)
    }

    pub(super) fn text(&self, key: &'static str) -> Option<At<String>> {
        let written = self.value(key)?;
        match &written.value {
            Value::Text(text) if text.is_empty() => {
                self.loading.problem(&written.origin, "is empty");
                None
            }
            Value::Text(text) if text.contains('\0') => {
                self.loading.problem(&written.origin, "holds a NUL byte");
                None
            }
            Value::Text(text) => Some(At::new(text.clone(), &written.origin)),
            other => self.unfit(written, "text", other),
        }
    }

    pub(super) fn required_text(&self, key: &'static str) -> Option<At<String>> {
        self.require(key);
        self.text(key)
    }

    pub(super) fn require(&self, key: &'static str) {
        if !self.is_written(key) {
            let meaning = self.keys.key(key).meaning.replace('`', "");
            self.problem(key, format!("must be set: {meaning}"));
        }
    }

    pub(super) fn path(&self, key: &'static str) -> Option<At<PathBuf>> {
        let text = self.text(key)?;
        Some(At::new(PathBuf::from(text.value), &text.origin))
    }

    /// What the table declares for when the key is not written.
    pub(super) fn text_default(&self, key: &'static str) -> &'static str {
        self.asked.borrow_mut().insert(key);
        self.keys.text_default(key)
    }

    /// A file that has to be there when the program starts.
    pub(super) fn readable(&self, key: &'static str) -> Option<At<PathBuf>> {
        let path = self.path(key)?;
        if let Err(error) = self.loading.read(&path.value) {
            let shown = path.value.display();
            self.loading
                .problem(&path.origin, format!("can't read {shown}: {error}"));
        }
        Some(path)
    }

    /// One text, or a list of them.
    pub(super) fn texts(&self, key: &'static str) -> Vec<At<String>> {
        let Some(written) = self.value(key) else {
            return Vec::new();
        };
        let Value::List(items) = &written.value else {
            return self.text(key).into_iter().collect();
        };
        if items.is_empty() {
            self.loading.problem(&written.origin, "is an empty list");
        }
        let text = |item: &At<Value>| match &item.value {
            Value::Text(text) => Some(At::new(text.clone(), &item.origin)),
            other => self.unfit(item, "a list of text", other),
        };
        items.iter().filter_map(text).collect()
    }

    pub(super) fn switch(&self, key: &'static str) -> bool {
        let Unset::Switch(default) = self.key(key).unset else {
            unreachable!("{key} is declared with a switch as its default");
        };
        match self.section.get(key) {
            None => default,
            Some(written) => match &written.value {
                Value::Switch(switch) => *switch,
                other => self.unfit(written, "true or false", other).unwrap_or(default),
            },
        }
    }

    pub(super) fn number(&self, key: &'static str, range: RangeInclusive<u32>) -> u32 {
        let Unset::Number(default) = self.key(key).unset else {
            unreachable!("{key} is declared with a number as its default");
        };
        let Some(written) = self.section.get(key) else {
            return default;
        };
        let Value::Number(number) = &written.value else {
            return self.unfit(written, "a number", &written.value).unwrap_or(default);
        };
        match u32::try_from(*number) {
            Ok(number) if range.contains(&number) => number,
            _ => {
                let message = format!("must be from {} to {}", range.start(), range.end());
                self.loading.problem(&written.origin, message);
                default
            }
        }
    }

    pub(super) fn duration(&self, key: &'static str, range: RangeInclusive<Duration>) -> Duration {
        let default =
            duration::parse(self.text_default(key)).expect("a test reads every default of the table");
        self.optional_duration(key, range).unwrap_or(default)
    }

    pub(super) fn optional_duration(
        &self,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let written = self.value(key)?;
        let Value::Text(text) = &written.value else {
            return self.unfit(written, "a duration such as \"5m\"", &written.value);
        };
        match duration::parse(text) {
            Ok(duration) if range.contains(&duration) => Some(duration),
            Ok(_) => {
                let (shortest, longest) = (*range.start(), *range.end());
                let (shortest, longest) = (duration::written(shortest), duration::written(longest));
                let message = format!("must be from {shortest} to {longest}");
                self.loading.problem(&written.origin, message);
                None
            }
            Err(error) => {
                self.loading
                    .problem(&written.origin, format!("{text:?}: {error}"));
                None
            }
        }
    }

    /// One of a few words; the default is one of them.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)]) -> T {
        let default = self.text_default(key);
        self.optional_choice(key, choices).unwrap_or_else(|| {
            let default = choices.iter().find(|(word, _)| *word == default);
            default.expect("a test reads every default of the table").1
        })
    }

    pub(super) fn optional_choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let found = choices.iter().find(|(word, _)| *word == text.value);
        if found.is_none() {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            let hint = did_you_mean(&text.value, words.iter().copied());
            let words = words.join(", ");
            self.loading.problem(
                &text.origin,
                format!("{:?} is not one of {words}{hint}", text.value),
            );
        }
        found.map(|(_, choice)| *choice)
    }

    pub(super) fn section(&self, key: &'static str, keys: &'static Keys) -> Option<Reader<'a>> {
        let written = self.value(key)?;
        match &written.value {
            Value::Section(section) => Some(Reader::new(section, keys, self.loading)),
            other => self.unfit(written, "a table", other),
        }
    }

    /// The sections below this key by the names that the user gave them. None: reported.
    pub(super) fn named_sections(&self, key: &'static str) -> Vec<(&'a str, Option<&'a Section>)> {
        let Some(written) = self.value(key) else {
            return Vec::new();
        };
        let Value::Section(sections) = &written.value else {
            let wanted = format!("a table for each name, such as [{key}.NAME]");
            self.unfit::<()>(written, &wanted, &written.value);
            return Vec::new();
        };
        let named = |(name, written): (&'a str, &'a At<Value>)| match &written.value {
            Value::Section(_) if name.is_empty() || name.contains('\0') => {
                self.loading.problem(&written.origin, "is not a name");
                (name, None)
            }
            Value::Section(section) => (name, Some(section)),
            Value::Reported => (name, None),
            other => (name, self.unfit(written, "a table", other)),
        };
        sections.entries().map(named).collect()
    }

    /// Reports every written key that nothing asked for.
    pub(super) fn finish(self) {
        let asked = self.asked.borrow();
        for (name, written) in self.section.entries() {
            if asked.contains(name) {
                continue;
            }
            if self.keys.names().any(|declared| declared == name) {
                let message = "has no meaning together with the other keys here";
                self.loading.problem(&written.origin, message);
                continue;
            }
            let hint = did_you_mean(name, asked.iter().copied());
            self.loading
                .problem(&written.origin, format!("unknown key{hint}"));
        }
    }

    fn unfit<T>(&self, written: &At<Value>, wanted: &str, found: &Value) -> Option<T> {
        let message = format!("expected {wanted}, found {}", found.kind());
        self.loading.problem(&written.origin, message);
        None
    }

    fn key(&self, name: &'static str) -> &'static Key {
        self.asked.borrow_mut().insert(name);
        self.keys.key(name)
    }
}
