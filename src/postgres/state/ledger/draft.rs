//! Makes a ledger of the rows that a survey brings.

use super::{LIMITS, Ledger, Origin, Pin, Setting, Statement, Text, Under, find, number};
use crate::postgres::wire::read::{Malformed, row};
use crate::postgres::wire::state_words::blanks::{skip, word};

/// A row: its kind, and up to three values.
const COLUMNS: usize = 4;

/// What an entry costs beside its bytes.
const ENTRY_COST: usize = 64;

/// What Postgres itself tells of, by label.
const SURVEYED: [Pin; 4] = [
    Pin::TemporaryObjects,
    Pin::AdvisoryLocks,
    Pin::HeldCursors,
    Pin::ReplicationSlots,
];

/// A ledger in the making, row by row.
#[derive(Default)]
pub struct Draft {
    ledger: Ledger,
    bytes_left: usize,
    /// The statement that asks, which is no part of the session.
    asker: Text,
    /// Our own limits are in force: who set what they replace is not known.
    limits_replaced: bool,
}

impl Draft {
    /// Of at most `bytes_max` bytes, and without the prepared statement `asker`.
    pub fn new(bytes_max: usize, asker: &[u8]) -> Self {
        Self {
            ledger: Ledger::default(),
            bytes_left: bytes_max,
            asker: asker.into(),
            limits_replaced: false,
        }
    }

    pub fn row(&mut self, body: &[u8]) -> Result<(), Malformed> {
        let [kind, name, value, more] = row::<COLUMNS>(body)?;
        let kind = kind.ok_or(Malformed("DataRow"))?;
        // The server leaves out what is too long by itself.
        let whole = match kind {
            b"setting" | b"custom" | b"parse" | b"prepare" => name.is_some() && value.is_some(),
            _ => true,
        };
        let (name, value) = (name.unwrap_or_default(), value.unwrap_or_default());
        if kind == b"parse" && *name == *self.asker {
            return Ok(());
        }
        let left = self.bytes_left.checked_sub(ENTRY_COST + name.len() + value.len());
        match left {
            Some(left) if whole => self.bytes_left = left,
            _ => {
                self.ledger.pins.insert(Pin::TooLarge);
                return Ok(());
            }
        }
        self.enter(kind, name.into(), value.into(), more.unwrap_or_default())
    }

    fn enter(&mut self, kind: &[u8], name: Text, value: Text, more: &[u8]) -> Result<(), Malformed> {
        const BAD: Malformed = Malformed("DataRow");
        let ledger = &mut self.ledger;
        match kind {
            b"setting" if self.limits_replaced && LIMITS.contains(&&*name) => {}
            b"setting" if !name.starts_with(b"transaction_") || &*name == b"transaction_timeout" => {
                ledger.settings.push(Setting { name, value });
            }
            // Of the transaction that asks.
            b"setting" => {}
            b"login" => ledger.from_login.insert(&name),
            b"limit" if self.limits_replaced => {}
            b"limit" => ledger.values.set(&name, &value),
            // The same, before they were replaced.
            b"replaced" => {
                self.limits_replaced = true;
                ledger.values.set(&name, &value);
                // Who set it is not known: whatever is in the server's files is no reason to give it up.
                ledger.from_login.insert(&name);
            }
            b"custom" => ledger.custom.push(Setting { name, value }),
            b"reported" => ledger.values.set(&name, &value),
            b"listen" => {
                ledger.channels.insert(name);
            }
            b"parse" | b"prepare" => {
                let origin = if kind == b"parse" {
                    Origin::Parse
                } else {
                    Origin::Sql
                };
                let parameters = numbers(more).ok_or(BAD)?;
                ledger.statements.push(Statement {
                    name,
                    text: value,
                    parameters,
                    origin,
                    under: Under::default(),
                });
            }
            b"session user" => {
                ledger.identity.session_user = name;
                ledger.identity.session_changed = more == b"changed";
            }
            b"role" => ledger.identity.role = name,
            b"default role" => ledger.identity.role_changed = ledger.identity.role != name,
            b"pin" => {
                let pin = SURVEYED.iter().find(|pin| pin.label().as_bytes() == &*name);
                ledger.pins.insert(*pin.ok_or(BAD)?);
            }
            _ => return Err(BAD),
        }
        Ok(())
    }

    pub fn finish(self) -> Ledger {
        let mut ledger = self.ledger;
        ledger.settings.sort_by(|a, b| a.name.cmp(&b.name));
        ledger.statements.sort_by(|a, b| a.name.cmp(&b.name));
        let replayable =
            |statement: &Statement| statement.origin == Origin::Parse || is_prepare(&statement.text);
        if !ledger.statements.iter().all(replayable) {
            ledger.pins.insert(Pin::UnreplayableStatement);
        }
        let path = find(&ledger.settings, b"search_path").unwrap_or_default();
        if path.trim_ascii_start().starts_with(b"pg_temp") || path.starts_with(b"\"pg_temp") {
            ledger.pins.insert(Pin::TemporarySearchPath);
        }
        ledger
    }
}

/// `{23,25}`
fn numbers(array: &[u8]) -> Option<Box<[u32]>> {
    let list = array.strip_prefix(b"{")?.strip_suffix(b"}")?;
    if list.is_empty() {
        return Some(Box::default());
    }
    list.split(|byte| *byte == b',').map(number).collect()
}

/// Whether a text begins with the word PREPARE. Postgres keeps the whole text that a PREPARE was part of, which
/// may be another command that did it on the way.
fn is_prepare(text: &[u8]) -> bool {
    let text = skip(text);
    let first = word(text);
    first.eq_ignore_ascii_case(b"prepare") && text.get(first.len()) != Some(&b'$')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Difference, Values};
    use super::*;

    fn body(columns: &[Option<&[u8]>]) -> Vec<u8> {
        let mut body = (columns.len() as u16).to_be_bytes().to_vec();
        for column in columns {
            body.extend_from_slice(&column.map_or(-1, |bytes| bytes.len() as i32).to_be_bytes());
            body.extend_from_slice(column.unwrap_or_default());
        }
        body
    }

    fn ledger(rows: &[[&str; 4]]) -> Ledger {
        let mut draft = Draft::new(1 << 16, b"asker");
        for columns in rows {
            draft
                .row(&body(&columns.map(|text| Some(text.as_bytes()))))
                .unwrap();
        }
        draft.finish()
    }

    fn pins(ledger: &Ledger) -> Vec<Pin> {
        ledger.pins().collect()
    }

    #[test]
    fn the_statement_that_asks_is_no_part_of_the_session() {
        let ledger = ledger(&[
            ["parse", "asker", "SELECT", "{}"],
            ["parse", "mine", "SELECT", "{23,25}"],
        ]);
        let [mine] = ledger.statements() else {
            panic!("one statement");
        };
        assert_eq!((&*mine.name, &*mine.parameters), (&b"mine"[..], &[23, 25][..]));
    }

    #[test]
    fn a_limit_as_it_was_counts_more_than_our_own() {
        let ledger = ledger(&[
            ["replaced", "lock_timeout", "7ms", ""],
            ["setting", "lock_timeout", "1s", ""],
        ]);
        assert_eq!(ledger.kept(b"lock_timeout"), Some(&b"7ms"[..]));
        assert!(ledger.settings().is_empty());
    }

    #[test]
    fn a_limit_that_nobody_is_known_to_have_set_is_no_difference() {
        let unsure = ledger(&[["replaced", "statement_timeout", "1ms", ""]]);
        let set = |value| {
            ledger(&[
                ["setting", "statement_timeout", value, ""],
                ["limit", "statement_timeout", value, ""],
            ])
        };
        assert_eq!(unsure.differences(&set("1ms"), 0), []);
        assert_eq!(unsure.differences(&set("2ms"), 0), [Difference::Settings]);
        assert_eq!(set("1ms").differences(&unsure, 0), [Difference::Settings]);
        assert_eq!(ledger(&[]).differences(&set("1ms"), 0), [Difference::Settings]);
    }

    #[test]
    fn a_limit_that_a_survey_died_of_stays_what_it_was_however_long_ago_that_was() {
        let mut unsure = ledger(&[["replaced", "statement_timeout", "2ms", ""]]);
        unsure.is_of_before(&Values::default());
        let without = ledger(&[["limit", "statement_timeout", "0", ""]]);
        assert_eq!(unsure.differences(&without, 0), [Difference::Settings]);
        let unset: Vec<_> = unsure.unset().collect();
        assert_eq!(unset, [(&b"statement_timeout"[..], &b"2ms"[..], false)]);
    }

    #[test]
    fn no_difference_hides_another() {
        let one = [
            ["setting", "work_mem", "1", ""],
            ["custom", "app.x", "1", ""],
            ["parse", "p", "SELECT 1", "{}"],
            ["listen", "a", "", ""],
            ["session user", "x", "", "changed"],
            ["role", "r", "", ""],
            ["default role", "none", "", ""],
        ];
        let other = [
            ["setting", "work_mem", "2", ""],
            ["custom", "app.x", "2", ""],
            ["parse", "p", "SELECT 2", "{}"],
            ["listen", "b", "", ""],
            ["session user", "y", "", "changed"],
            ["role", "s", "", ""],
            ["default role", "none", "", ""],
        ];
        let all = [
            Difference::Settings,
            Difference::CustomSettings,
            Difference::Statements,
            Difference::Channels,
            Difference::SessionAuthorization,
            Difference::Role,
        ];
        assert_eq!(ledger(&one).differences(&ledger(&other), 0), all);
        assert_eq!(ledger(&one).differences(&ledger(&other), 9), all);
    }

    #[test]
    fn statements_that_came_to_be_since_are_no_difference_and_all_others_are() {
        let [p, q] = [["parse", "p", "SELECT 1", "{}"], ["parse", "q", "SELECT 1", "{}"]];
        let before = ledger(&[p]);
        assert_eq!(before.differences(&ledger(&[q, p]), 1), []);
        assert_eq!(before.differences(&ledger(&[q, p]), 0), [Difference::Statements]);
        assert_eq!(before.differences(&ledger(&[q]), 1), [Difference::Statements]);
    }

    #[test]
    fn what_was_in_force_is_kept_whoever_set_it() {
        let zone = |value| ["reported", "TimeZone", value, ""];
        let (tokyo, utc) = (ledger(&[zone("Asia/Tokyo")]), ledger(&[zone("UTC")]));
        assert_eq!(tokyo.differences(&utc, 0), [Difference::Settings]);
        let set = ledger(&[zone("Asia/Tokyo"), ["setting", "TimeZone", "Asia/Tokyo", ""]]);
        assert_eq!(tokyo.differences(&set, 0), []);
        let other = |value| ledger(&[["reported", "application_name", value, ""]]);
        assert_eq!(other("a").differences(&other("b"), 0), []);
    }

    #[test]
    fn what_a_server_may_have_read_anew_from_its_files_is_no_difference() {
        let path = |value| ["reported", "search_path", value, ""];
        let mut before = ledger(&[path("a"), ["reported", "TimeZone", "UTC", ""]]);
        let mut told = Values::default();
        told.set(b"TimeZone", b"Asia/Tokyo");
        before.is_of_before(&told);
        let after = ledger(&[path("b"), ["reported", "TimeZone", "Asia/Tokyo", ""]]);
        assert_eq!(before.differences(&after, 0), []);
        let of_login = ledger(&[path("b"), ["login", "search_path", "", ""]]);
        assert_eq!(before.differences(&of_login, 0), [Difference::Settings]);
    }

    #[test]
    fn a_role_is_kept_unless_it_is_nobody_but_another_user() {
        let acting = |user, role| {
            ledger(&[
                ["session user", user, "", ""],
                ["role", role, "", ""],
                ["default role", role, "", ""],
            ])
        };
        let none = acting("a", "none");
        assert_eq!(none.differences(&acting("a", "owner"), 0), [Difference::Role]);
        assert_eq!(none.differences(&acting("b", "owner"), 0), []);
        assert_eq!(
            acting("a", "owner").differences(&acting("b", "none"), 0),
            [Difference::Role]
        );
    }

    #[test]
    fn what_belongs_to_the_transaction_that_asks_is_left_out() {
        let names = [
            "transaction_isolation",
            "transaction_read_only",
            "transaction_deferrable",
            "transaction_timeout",
        ];
        let ledger = ledger(&names.map(|name| ["setting", name, "x", ""]));
        let [kept] = ledger.settings() else {
            panic!("one setting");
        };
        assert_eq!(&*kept.name, b"transaction_timeout");
    }

    #[test]
    fn a_role_is_changed_when_it_is_not_what_it_goes_back_to() {
        let same = ledger(&[["role", "none", "", ""], ["default role", "none", "", ""]]);
        let changed = ledger(&[["role", "owner", "", ""], ["default role", "none", "", ""]]);
        assert_eq!(
            (same.identity().role_changed, changed.identity().role_changed),
            (false, true)
        );
        assert_eq!(&*changed.identity().role, b"owner");
    }

    #[test]
    fn more_than_the_bound_is_a_pin_and_is_not_kept() {
        let mut draft = Draft::new(1000, b"");
        for n in 0..100 {
            let value = [n; 500];
            draft
                .row(&body(&[Some(b"custom"), Some(b"app.x"), Some(&value), None]))
                .unwrap();
        }
        let ledger = draft.finish();
        assert_eq!((ledger.custom().len(), pins(&ledger)), (1, vec![Pin::TooLarge]));
    }

    #[test]
    fn a_value_that_the_server_left_out_is_a_pin() {
        for kind in [&b"setting"[..], b"custom", b"parse", b"prepare"] {
            let mut draft = Draft::new(1000, b"");
            draft
                .row(&body(&[Some(kind), Some(b"name"), None, None]))
                .unwrap();
            assert_eq!(pins(&draft.finish()), [Pin::TooLarge]);
        }
    }

    #[test]
    fn a_text_that_is_no_prepare_is_never_run_again() {
        for text in [
            "PREPARE p AS SELECT 1",
            " \n\tprepare\"p\" AS SELECT 1",
            "/* a /* b */ c */ -- d\n PREPARE/**/p AS SELECT 1",
        ] {
            assert!(
                pins(&ledger(&[["prepare", "p", text, "{}"]])).is_empty(),
                "{text}"
            );
        }
        for text in [
            "",
            "DO $$ BEGIN EXECUTE 'PREPARE p AS SELECT 1'; END $$",
            "INSERT INTO t VALUES (1); PREPARE p AS SELECT 1",
            "PREPARED",
            "prepare_all()",
            "-- PREPARE p AS SELECT 1",
            "/* PREPARE p AS SELECT 1",
            "/*/ PREPARE p",
            "PREPAR",
        ] {
            let rows = [["prepare", "p", text, "{}"]];
            assert_eq!(pins(&ledger(&rows)), [Pin::UnreplayableStatement], "{text}");
        }
    }

    #[test]
    fn rows_that_no_survey_asked_for_are_malformed() {
        for columns in [
            [None, None, None, None],
            [Some(&b"other"[..]), None, None, None],
            [Some(b"pin"), Some(b"none_such"), None, None],
            [Some(b"parse"), Some(b"p"), Some(b"SELECT"), None],
            [Some(b"parse"), Some(b"p"), Some(b"SELECT"), Some(b"{1,x}")],
            [
                Some(b"parse"),
                Some(b"p"),
                Some(b"SELECT"),
                Some(b"{99999999999}"),
            ],
        ] {
            assert!(Draft::new(1000, b"").row(&body(&columns)).is_err(), "{columns:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_rows_never_panic(
            rows in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..8),
            kind in prop::sample::select(vec!["setting", "parse", "prepare", "pin", "role", "default role"]),
            columns in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..32), 3),
        ) {
            let mut draft = Draft::new(100, b"");
            for row in &rows {
                let _ = draft.row(row);
            }
            let columns = columns.iter().map(|column| Some(&column[..]));
            let columns: Vec<_> = std::iter::once(Some(kind.as_bytes())).chain(columns).collect();
            let _ = draft.row(&body(&columns));
            let _ = draft.finish();
        }
    }
}
