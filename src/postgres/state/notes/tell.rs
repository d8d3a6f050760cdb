//! What the notes add to the last survey, put together for a move or a rescue.

use super::super::known::{Known, Parsed, Unnamed as Carried};
use super::super::ledger::{Ledger, Since, Values, may_depend};
use super::parses::{Under, text_in};
use super::settings::Readings;
use super::{Notes, Unnamed};

impl Notes {
    /// Whether a literal of a new statement may mean this or that.
    pub(super) fn has_unknown_meaning(&self) -> bool {
        let is_unknown = |under: &Under, body: &[u8]| *under == Under::Unknown && may_depend(body);
        let made = self.parses.made.values().flatten();
        is_unknown(&self.unnamed.under, &self.unnamed.body)
            || made.into_iter().any(|made| is_unknown(&made.under, &made.body))
    }

    /// The client's unnamed statement, if it may be alive. `greeting`: what the server told with it.
    pub fn unnamed(&self, greeting: &Values) -> Option<Carried> {
        let Unnamed {
            body,
            doubtful,
            under,
            told,
            ..
        } = &self.unnamed;
        let parsed = Parsed {
            body: (!body.is_empty()).then(|| body[..].into())?,
            // If it is not known, there is nothing in it whose meaning depends on it.
            under: Readings::new(greeting).of(under).unwrap_or_default(),
        };
        Some(Carried {
            parsed,
            doubtful: *doubtful,
            told: *told,
        })
    }

    /// The text of a statement that was parsed since the last survey, or of the one without a name.
    pub fn text_of(&self, name: &[u8]) -> Option<&[u8]> {
        match name {
            b"" => text_in(&self.unnamed.body),
            name => text_in(&self.parses.made.get(name)?.as_ref()?.body),
        }
    }

    /// All that is known of the session without asking, if it was asked for `ledger`.
    pub fn known(&self, ledger: Option<&Ledger>, greeting: &Values) -> Known {
        let since = self.since(greeting);
        let (said, placed) = match &self.said {
            Some(said) => said.kept().again(&self.parses),
            None => Default::default(),
        };
        let made = self.parses.made.iter();
        let made: Vec<_> = made
            .filter_map(|(name, made)| Some((name, made.as_ref()?)))
            .collect();
        let parsed = made.iter().filter(|(name, _)| !placed.contains(&***name));
        let parsed = parsed.map(|(name, made)| Parsed {
            body: made.body.clone(),
            under: since.parsed.get(*name).cloned().flatten().unwrap_or_default(),
        });
        let listed = ledger.into_iter().flat_map(Ledger::statements);
        let listed = listed.filter(|statement| !self.parses.made.contains_key(&statement.name));
        let names = listed
            .map(|statement| &statement.name)
            .chain(made.iter().map(|(name, _)| *name));
        let told = names.filter_map(|name| Some((name.clone(), self.parses.told.of(name)?)));
        let values = self.settings.values(greeting);
        Known {
            ledger: ledger.cloned(),
            // What was said since begins with what was in force then.
            before: match (said.is_empty(), ledger) {
                (true, _) => values.clone(),
                (false, None) => greeting.clone(),
                (false, Some(_)) => Values::default(),
            },
            values,
            parsed: parsed.collect(),
            told: told.collect(),
            is_all: self.is_all_there_is() && said.is_empty(),
            said,
            since,
        }
    }

    /// Whether these notes and the last survey say all.
    pub fn is_all_there_is(&self) -> bool {
        !self.is_unsure() && self.is_rebuildable()
    }

    /// What statements were read under that came since the last survey.
    pub fn since(&self, greeting: &Values) -> Since {
        let mut reading = Readings::new(greeting);
        let parsed = self.parses.made.iter().map(|(name, made)| {
            let under = made.as_ref().and_then(|made| reading.of(&made.under));
            (name.clone(), under)
        });
        Since {
            parsed: parsed.collect(),
            prepared: self.settings.prepared_since(greeting),
            by_sql: self.settings.by_sql(greeting),
            by_sql_count: self.settings.by_sql_count,
            steady: self.settings.steady(greeting),
            untold_set: self.settings.untold_set,
        }
    }

    /// What the greeting told holds on, whatever the next one tells.
    pub fn keep_greeting(&mut self, greeting: &Values) {
        self.settings.keep_greeting(greeting);
        if let Some(values) = Readings::new(greeting).of(&self.unnamed.under) {
            self.unnamed.under = Under::Told(values);
        }
    }
}
