//! What literals were read under: Postgres reads them when a statement is parsed, by the settings of that moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::watched::{Values, told_for_reading, untold_for_reading};
use super::{Ledger, Origin, Pin, Statement, Text};

/// What a statement was read under. None: it is not known.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Under {
    /// Of what servers tell clients about.
    told: Option<Arc<Values>>,
    /// Of the rest.
    untold: Option<Arc<Values>>,
}

/// What passed since the last survey that tells what new statements were read under.
#[derive(Default)]
pub struct Since {
    /// By name: Parse messages, and what they were read under if it is known; and what was closed.
    pub parsed: BTreeMap<Text, Option<Arc<Values>>>,
    /// By name: the same of what PREPARE made.
    pub prepared: BTreeMap<Text, Option<Arc<Values>>>,
    pub by_sql: BySql,
    pub by_sql_count: usize,
    /// The values of now, if they were so all the time.
    pub steady: Option<Arc<Values>>,
    /// A text may have set what nobody is told of.
    pub untold_set: bool,
}

/// Statements that PREPARE made whose names are not known.
#[derive(Clone, Default)]
pub enum BySql {
    #[default]
    None,
    Under(Arc<Values>),
    /// More than one, read under different settings, or nobody knows under what.
    Several,
}

impl BySql {
    fn value(&self) -> Option<&Arc<Values>> {
        match self {
            Self::Under(values) => Some(values),
            Self::None | Self::Several => None,
        }
    }
}

impl Ledger {
    /// Writes down what each statement was read under: as the ledger `before` has it, or as it was noted `since`.
    pub fn remember(&mut self, before: Option<&Self>, since: &Since) {
        if self.statements.is_empty() {
            return;
        }
        let was_untouched = match before {
            Some(before) => untold_for_reading().all(|name| before.values.of(name) == self.values.of(name)),
            None => untold_for_reading().all(|name| self.settings.iter().all(|set| &*set.name != name)),
        };
        let now = self
            .values
            .only(|name| untold_for_reading().any(|untold| untold == name));
        // Many statements share it.
        let before_now = before.and_then(|before| before.statements.first()?.under.untold.as_ref());
        let untold = (was_untouched && !since.untold_set).then(|| match before_now {
            Some(before_now) if **before_now == now => Arc::clone(before_now),
            _ => Arc::new(now),
        });
        // Whether none of those that PREPARE made took the place of an older one.
        let are_all_new = self.new_by_sql(before, since) == since.by_sql_count;
        let mut all_known = true;
        for statement in &mut self.statements {
            let parsed = match statement.origin {
                Origin::Parse => since.parsed.get(&statement.name),
                Origin::Sql => since.prepared.get(&statement.name),
            };
            let known = before.and_then(|before| before.statement(&statement.name));
            let known = known.filter(|known| parsed.is_none() && known.is_same(statement));
            statement.under = match (known, parsed, statement.origin) {
                // PREPARE may have made it again, with the same text.
                (Some(known), _, Origin::Sql) if !are_all_new => {
                    let told = since.by_sql.value();
                    let told =
                        told.filter(|told| known.under.told.as_ref().is_some_and(|was| reads_as(was, told)));
                    Under {
                        told: told.cloned(),
                        untold: known.under.untold.clone().filter(|_| untold.is_some()),
                    }
                }
                (Some(known), ..) => known.under.clone(),
                (None, Some(read_under), _) => Under {
                    told: read_under.clone(),
                    untold: untold.clone(),
                },
                (None, _, origin) => {
                    let told = match (&since.by_sql, origin) {
                        (BySql::None, _) | (_, Origin::Parse) => since.steady.as_ref(),
                        (by_sql, Origin::Sql) => by_sql.value(),
                    };
                    Under {
                        told: told.cloned(),
                        untold: untold.clone(),
                    }
                }
            };
            let is_known = statement.under.told.is_some() && statement.under.untold.is_some();
            all_known &= is_known || !may_depend(&statement.text);
        }
        if !all_known {
            self.pins.insert(Pin::UnreplayableStatement);
        }
    }

    /// How many statements PREPARE has made under names that nobody told.
    fn new_by_sql(&self, before: Option<&Self>, since: &Since) -> usize {
        let is_new = |statement: &&Statement| {
            let known = before.and_then(|before| before.statement(&statement.name));
            statement.origin == Origin::Sql
                && !since.prepared.contains_key(&statement.name)
                && !known.is_some_and(|known| known.is_same(statement))
        };
        self.statements.iter().filter(is_new).count()
    }

    /// What has to be set for a statement to be read as it was, and is not so now.
    pub fn read_under(&self, statement: &Statement) -> Vec<(&'static [u8], Text)> {
        let Under { told, untold } = &statement.under;
        let told = told.iter().flat_map(|told| self.other(told, told_for_reading()));
        let untold = untold
            .iter()
            .flat_map(|untold| self.other(untold, untold_for_reading()));
        told.chain(untold).collect()
    }

    /// The same of a Parse message that came since.
    pub fn parsed_under(&self, told: &Values) -> Vec<(&'static [u8], Text)> {
        self.other(told, told_for_reading()).collect()
    }

    fn other(
        &self,
        values: &Values,
        names: impl Iterator<Item = &'static [u8]>,
    ) -> impl Iterator<Item = (&'static [u8], Text)> {
        names.filter_map(|name| {
            let value = values.of(name)?;
            (self.values.of(name) != Some(value)).then(|| (name, value.into()))
        })
    }
}

/// Whether literals mean the same under both.
fn reads_as(one: &Values, other: &Values) -> bool {
    told_for_reading().all(|name| one.of(name) == other.of(name))
}

/// Whether a text has anything in it whose meaning a setting could change: a literal, or a comparison with NULL.
pub fn may_depend(text: &[u8]) -> bool {
    let is_quote = |pair: &[u8]| pair[0] == b'$' && !pair[1].is_ascii_digit();
    text.contains(&b'\'')
        || text.windows(2).any(is_quote)
        || text.windows(4).any(|word| word.eq_ignore_ascii_case(b"null"))
}

/// Whether a text may set something of what nobody is told about. A session that goes back on it is a rare one.
pub fn may_set_untold(text: &[u8]) -> bool {
    let mentions = |name: &[u8]| {
        text.windows(name.len())
            .any(|words| words.eq_ignore_ascii_case(name))
    };
    // SET XML OPTION says it without its name.
    mentions(b"xml") || untold_for_reading().any(mentions)
}

#[cfg(test)]
mod tests {
    use super::super::Draft;
    use super::*;
    use bytes::{BufMut, BytesMut};

    fn ledger(rows: &[[&str; 4]]) -> Ledger {
        let mut draft = Draft::new(1 << 16, b"asker");
        for columns in rows {
            let mut body = BytesMut::new();
            body.put_u16(4);
            for column in columns {
                body.put_u32(column.len() as u32);
                body.put_slice(column.as_bytes());
            }
            draft.row(&body).unwrap();
        }
        draft.finish()
    }

    fn style(value: &'static str) -> [&'static str; 4] {
        ["reported", "DateStyle", value, ""]
    }

    fn values(style: &str) -> Arc<Values> {
        let mut values = Values::default();
        values.set(b"DateStyle", style.as_bytes());
        Arc::new(values)
    }

    const BY_PARSE: [&str; 4] = ["parse", "p", "SELECT date '1/2/3'", "{}"];
    const BY_SQL: [&str; 4] = ["prepare", "s", "PREPARE s AS SELECT date '1/2/3'", "{}"];

    fn parsed(style: Option<&str>) -> Since {
        Since {
            parsed: [(b"p"[..].into(), style.map(values))].into(),
            ..Since::default()
        }
    }

    fn under(ledger: &Ledger) -> Vec<(&'static [u8], Text)> {
        ledger.read_under(&ledger.statements()[0])
    }

    fn is_pinned(ledger: &Ledger) -> bool {
        ledger.pins().any(|pin| pin == Pin::UnreplayableStatement)
    }

    #[test]
    fn a_statement_is_read_as_it_was_when_it_was_parsed() {
        let mut first = ledger(&[style("MDY"), BY_PARSE]);
        first.remember(None, &parsed(Some("DMY")));
        assert_eq!(under(&first), [(&b"DateStyle"[..], b"DMY"[..].into())]);
        // And as long as it lives.
        let mut next = ledger(&[style("YMD"), BY_PARSE]);
        next.remember(Some(&first), &Since::default());
        assert_eq!(under(&next), [(&b"DateStyle"[..], b"DMY"[..].into())]);
        let mut same = ledger(&[style("DMY"), BY_PARSE]);
        same.remember(Some(&first), &Since::default());
        assert!(under(&same).is_empty() && !is_pinned(&same));
        // Made anew, it is another.
        next.remember(Some(&first), &parsed(Some("YMD")));
        assert!(under(&next).is_empty());
    }

    #[test]
    fn a_statement_that_was_read_under_nobody_knows_what_is_a_pin_if_it_has_literals() {
        let mut unknown = ledger(&[style("MDY"), BY_PARSE]);
        unknown.remember(None, &parsed(None));
        assert!(is_pinned(&unknown));
        let mut number = ledger(&[style("MDY"), ["parse", "p", "SELECT $1 + 1", "{23}"]]);
        number.remember(None, &parsed(None));
        assert!(!is_pinned(&number));
    }

    #[test]
    fn what_prepare_made_was_read_under_what_it_was_answered_under() {
        let since = |by_sql, steady: Option<&str>| Since {
            by_sql_count: usize::from(!matches!(by_sql, BySql::None)),
            by_sql,
            steady: steady.map(values),
            ..Since::default()
        };
        for (since, is_unknown) in [
            (since(BySql::Under(values("MDY")), None), false),
            (since(BySql::None, Some("MDY")), false),
            (since(BySql::None, None), true),
            (since(BySql::Several, Some("MDY")), true),
        ] {
            let mut ledger = ledger(&[style("MDY"), BY_SQL]);
            ledger.remember(None, &since);
            assert_eq!(is_pinned(&ledger), is_unknown);
        }
        let mut named = ledger(&[style("MDY"), BY_SQL]);
        let dmy = Since {
            prepared: [(b"s"[..].into(), Some(values("DMY")))].into(),
            ..since(BySql::Several, None)
        };
        named.remember(None, &dmy);
        assert_eq!(under(&named), [(&b"DateStyle"[..], b"DMY"[..].into())]);
        // Another one that was made since is not this one.
        named.remember(Some(&named.clone()), &since(BySql::None, None));
        assert!(!is_pinned(&named));
        let mut first = ledger(&[style("MDY"), BY_SQL]);
        first.remember(None, &since(BySql::Under(values("MDY")), None));
        for (again, is_unknown) in [("MDY", false), ("DMY", true)] {
            let mut next = ledger(&[style("DMY"), BY_SQL]);
            next.remember(Some(&first), &since(BySql::Under(values(again)), None));
            assert_eq!(is_pinned(&next), is_unknown, "{again}");
        }
    }

    #[test]
    fn what_nobody_is_told_of_has_to_be_what_it_was_in_two_surveys() {
        let nulls = |value| ["reported", "array_nulls", value, ""];
        let first = ledger(&[style("MDY"), nulls("on")]);
        for (value, untold_set, is_unknown) in
            [("on", false, false), ("on", true, true), ("off", false, true)]
        {
            let mut next = ledger(&[style("MDY"), nulls(value), BY_PARSE]);
            let since = Since {
                untold_set,
                ..parsed(Some("MDY"))
            };
            next.remember(Some(&first), &since);
            assert_eq!(is_pinned(&next), is_unknown, "{value} {untold_set}");
        }
        let mut first = ledger(&[style("MDY"), nulls("off"), BY_PARSE]);
        first.remember(None, &parsed(Some("MDY")));
        let mut later = ledger(&[style("MDY"), nulls("on"), BY_PARSE]);
        later.remember(Some(&first), &Since::default());
        assert_eq!(under(&later), [(&b"array_nulls"[..], b"off"[..].into())]);
    }

    #[test]
    fn texts_without_literals_depend_on_nothing() {
        for (text, depends) in [
            ("SELECT $1, $23", false),
            ("SELECT 1", false),
            ("SELECT 'a'", true),
            ("SELECT $$a$$", true),
            ("SELECT $a$b$a$", true),
            ("SELECT a = Null", true),
        ] {
            assert_eq!(may_depend(text.as_bytes()), depends, "{text}");
        }
        assert!(may_set_untold(b"SET XML OPTION DOCUMENT") && may_set_untold(b"set Array_Nulls = off"));
        assert!(!may_set_untold(b"SET work_mem = '5MB'"));
    }
}
