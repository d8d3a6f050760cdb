//! Under which settings statements were read, as far as a server tells of its settings.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::ledger::{BySql, Values, is_told_and_kept, is_told_for_reading, may_set_untold};
use super::parses::Under;
use crate::postgres::wire::read::parameter_status;
use crate::postgres::wire::tag::status;

/// More statements that PREPARE made are not told apart.
const PREPARED_MAX: usize = 256;

/// What the server told, and when it may have changed.
#[derive(Default)]
pub(super) struct Settings {
    /// What it told since its greeting. None: nothing.
    now: Option<Arc<Values>>,
    /// Of that, what literals are read under.
    reading: Option<Arc<Values>>,
    /// Some of the latter was told since the last survey.
    changed: bool,
    /// The last unit in which a command said that it may have changed a setting: that is told at the unit's end.
    changed_in: Option<u64>,
    /// The last unit that was asked to run a text which may do so.
    asked_in: Option<u64>,
    /// In the unit that is being answered such a thing was told.
    pub is_fresh: bool,
    /// And in the transaction that is open: its end may take that back.
    pub may_revert: bool,
    by_sql: Prepared,
    /// How many.
    pub by_sql_count: usize,
    /// What PREPARE made under a name that is known.
    by_sql_named: BTreeMap<Box<[u8]>, Under>,
    /// A text since the last survey may have set what nobody is told of.
    pub untold_set: bool,
}

/// What PREPARE made was read under.
#[derive(Default)]
enum Prepared {
    #[default]
    Nothing,
    Under(Under),
    Several,
}

impl Settings {
    /// The body of a ParameterStatus. True: literals are read in another way.
    pub fn told(&mut self, body: &[u8]) -> bool {
        let (name, value) = parameter_status(body).unwrap_or_default();
        if !is_told_and_kept(name) {
            return false;
        }
        let mut values = self.now.as_deref().cloned().unwrap_or_default();
        values.set(name, value);
        self.now_is(values);
        let is_read_by = is_told_for_reading(name);
        self.changed |= is_read_by;
        self.is_fresh |= is_read_by;
        is_read_by
    }

    /// The unit is over.
    #[inline(never)]
    pub fn ready(&mut self, status: Option<u8>) {
        self.is_fresh = false;
        self.may_revert = status != Some(status::IDLE);
    }

    /// Whether what changed in this unit may have been changed by what it asked for.
    pub fn may_have_been_changed_by_client(&self, unit: u64) -> bool {
        [self.changed_in, self.asked_in]
            .iter()
            .any(|when| when.is_some_and(|when| when >= unit))
    }

    fn now_is(&mut self, values: Values) {
        let reading = values.only(is_told_for_reading);
        // Statements share it for as long as it is the same.
        if self.reading.as_deref() != Some(&reading) {
            self.reading = (reading != Values::default()).then(|| Arc::new(reading));
        }
        self.now = Some(Arc::new(values));
    }

    /// A setting may have changed in this unit.
    pub fn may_have_changed(&mut self, unit: u64) {
        self.changed_in = Some(unit);
    }

    /// A setting may change in this unit, after what it asked for before.
    pub fn may_change(&mut self, unit: u64) {
        self.asked_in = Some(unit);
    }

    /// Whether what is asked for in this unit now may meet other settings than those that are told by then.
    pub fn is_in_doubt(&self, unit: u64) -> bool {
        self.asked_in == Some(unit)
    }

    /// What a statement is read under whose Parse is answered in this unit.
    pub fn under(&self, unit: u64, in_doubt: bool) -> Under {
        if in_doubt || self.changed_in.is_some_and(|changed| changed >= unit) {
            return Under::Unknown;
        }
        self.reading.clone().map_or(Under::Greeting, Under::Told)
    }

    /// PREPARE was answered in this unit.
    pub fn prepared(&mut self, unit: u64, name: Option<Box<[u8]>>) {
        let under = self.under(unit, false);
        if let Some(name) = name
            && self.by_sql_named.len() < PREPARED_MAX
        {
            self.by_sql_named.insert(name, under);
            return;
        }
        self.by_sql_count += 1;
        self.by_sql = match &self.by_sql {
            _ if under == Under::Unknown => Prepared::Several,
            Prepared::Nothing => Prepared::Under(under),
            Prepared::Under(before) if *before == under => Prepared::Under(under),
            Prepared::Under(_) | Prepared::Several => Prepared::Several,
        };
    }

    /// A text that the client has the server run.
    pub fn asked(&mut self, text: &[u8], may_set: bool) {
        let begins = |word: &[u8]| {
            text.get(..word.len())
                .is_some_and(|text| text.eq_ignore_ascii_case(word))
        };
        if may_set || begins(b"set") || begins(b"reset") {
            self.untold_set |= may_set_untold(text);
        }
    }

    /// Postgres was asked, and these are the values of now.
    pub fn surveyed(&mut self, values: &Values, greeting: &Values) {
        let known = self.values(greeting);
        // What this server does not tell, it does not tell now either.
        let is_told = |name: &[u8]| known.of(name).is_some();
        let is_known = (known.iter()).all(|(name, value)| values.of(name).is_none_or(|now| now == value));
        if !is_known {
            self.now_is(values.only(is_told));
        }
        (self.changed, self.untold_set) = (false, false);
        self.by_sql = Prepared::Nothing;
        self.by_sql_named.clear();
        self.by_sql_count = 0;
    }

    pub fn keep_greeting(&mut self, greeting: &Values) {
        self.now_is(self.values(greeting));
    }

    /// What was told, all in all.
    pub fn values(&self, greeting: &Values) -> Values {
        self.now
            .as_ref()
            .map_or_else(|| greeting.clone(), |now| now.over(greeting))
    }

    pub fn steady(&self, greeting: &Values) -> Option<Arc<Values>> {
        (!self.changed).then(|| Arc::new(self.values(greeting).only(is_told_for_reading)))
    }

    pub fn prepared_since(&self, greeting: &Values) -> BTreeMap<Box<[u8]>, Option<Arc<Values>>> {
        let mut readings = Readings::new(greeting);
        let all = self.by_sql_named.iter();
        all.map(|(name, under)| (name.clone(), readings.of(under)))
            .collect()
    }

    pub fn by_sql(&self, greeting: &Values) -> BySql {
        match &self.by_sql {
            Prepared::Nothing => BySql::None,
            Prepared::Under(under) => Readings::new(greeting)
                .of(under)
                .map_or(BySql::Several, BySql::Under),
            Prepared::Several => BySql::Several,
        }
    }
}

/// Spells out what statements were read under. Many of them share it.
pub(super) struct Readings {
    greeting: Arc<Values>,
    /// The last one.
    spelled_out: Option<(Arc<Values>, Arc<Values>)>,
}

impl Readings {
    pub fn new(greeting: &Values) -> Self {
        Self {
            greeting: Arc::new(greeting.only(is_told_for_reading)),
            spelled_out: None,
        }
    }

    /// None: it is not known.
    pub fn of(&mut self, under: &Under) -> Option<Arc<Values>> {
        let told = match under {
            Under::Greeting => return Some(Arc::clone(&self.greeting)),
            Under::Told(told) => told,
            Under::Unknown => return None,
        };
        if let Some((before, all)) = &self.spelled_out
            && Arc::ptr_eq(before, told)
        {
            return Some(Arc::clone(all));
        }
        let all = Arc::new(told.over(&self.greeting));
        self.spelled_out = Some((Arc::clone(told), Arc::clone(&all)));
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(all: &[(&str, &str)]) -> Values {
        let mut values = Values::default();
        for (name, value) in all {
            values.set(name.as_bytes(), value.as_bytes());
        }
        values
    }

    #[test]
    fn what_a_survey_finds_is_what_was_told_and_no_more() {
        let greeting = values(&[("DateStyle", "ISO, MDY"), ("TimeZone", "UTC")]);
        let mut settings = Settings::default();
        settings.surveyed(
            &values(&[("DateStyle", "ISO, MDY"), ("array_nulls", "off")]),
            &greeting,
        );
        assert!(settings.now.is_none());
        let found = [
            ("DateStyle", "German"),
            ("TimeZone", "UTC"),
            ("array_nulls", "off"),
        ];
        settings.surveyed(&values(&found), &greeting);
        let told = settings.values(&greeting);
        assert!(told == values(&found[..2]));
    }

    #[test]
    fn settings_that_were_told_since_are_no_longer_steady() {
        let greeting = values(&[("DateStyle", "ISO, MDY")]);
        let mut settings = Settings::default();
        settings.told(b"application_name\0x\0");
        assert!(settings.steady(&greeting).is_some());
        settings.told(b"DateStyle\0German\0");
        assert!(settings.steady(&greeting).is_none());
        settings.surveyed(&values(&[("DateStyle", "German")]), &greeting);
        assert!(
            settings
                .steady(&greeting)
                .is_some_and(|now| *now == values(&[("DateStyle", "German")]))
        );
    }
}
