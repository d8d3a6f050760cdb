use super::super::known::Again;
use super::super::ledger::{Ledger, Pin, Values};
use super::parses::NAME_MAX;
use super::*;
use crate::postgres::wire::parts::string_here;
use crate::postgres::wire::state_words::{Definition, Learned, learn};

/// `>Q text`, `>P name text`, `>B statement`, `>C name`, `>S`; `<C tag`, `<Z status`, `<1`, `<3`, `<E`.
fn after(steps: &[&str]) -> Notes {
    let mut notes = Notes::new(Arc::new(RiskyNames::plain()), 200);
    play(&mut notes, steps);
    notes
}

fn play(notes: &mut Notes, steps: &[&str]) {
    for step in steps {
        let (head, rest) = step.split_once(' ').unwrap_or((step, ""));
        let tag = head.as_bytes()[1];
        let body = match (head, tag) {
            (">Q" | "<C", _) => format!("{rest}\0"),
            (">P", _) => {
                let (name, text) = rest.split_once(' ').unwrap_or_default();
                format!("{name}\0{text}\0\0\0")
            }
            (">B", _) => format!("\0{rest}\0\0\0\0\0"),
            (">C", _) => format!("S{rest}\0"),
            _ => rest.to_owned(),
        }
        .into_bytes();
        if head.starts_with('>') {
            notes.asked(tag, &body);
        } else {
            notes.answered(tag, &body);
        }
    }
}

/// What would be said again.
fn again(notes: &Notes) -> Vec<String> {
    let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    let known = notes.known(None, &Values::default());
    let first = known.parsed.into_iter().map(|parsed| Again::Parse(parsed.body));
    let again = first.chain(known.said).map(|again| match again {
        Again::Text(said) | Again::Alone(said) => text(&said),
        Again::SetConfig { name, value } => format!("{} = {}", text(&name), text(&value)),
        Again::Touch(name) => format!("touch {}", text(&name)),
        Again::Parse(body) => format!("parse {}", text(string_here(&body))),
    });
    again.collect()
}

const BEGIN: [&str; 3] = [">Q BEGIN", "<C BEGIN", "<Z T"];
const COMMIT: [&str; 3] = [">Q COMMIT", "<C COMMIT", "<Z I"];
const ROLLBACK: [&str; 3] = [">Q ROLLBACK", "<C ROLLBACK", "<Z I"];

#[test]
fn what_a_plain_statement_said_is_said_again() {
    for (text, tag) in [
        ("SET work_mem = '5MB'", "SET"),
        ("RESET ALL", "RESET"),
        ("LISTEN a", "LISTEN"),
        ("PREPARE p AS SELECT 1", "PREPARE"),
        ("DEALLOCATE ALL", "DEALLOCATE ALL"),
        ("DISCARD ALL", "DISCARD ALL"),
    ] {
        let mut notes = after(&[&format!(">Q {text}"), &format!("<C {tag}"), "<Z I"]);
        assert!(notes.is_unsure() && notes.is_rebuildable(), "{text}");
        assert_eq!(again(&notes), [text]);
        notes.surveyed(&Ledger::default(), &Values::default());
        assert!(!notes.is_signalled() && again(&notes).is_empty() && notes.said.is_none());
    }
}

#[test]
fn what_is_said_beside_a_plain_statement_is_judged_by_itself() {
    let risky = Arc::new(RiskyNames::unlearned());
    risky.take(taught(&[("f", SETS)]));
    for (other, tag, is_known) in [
        ("SELECT n FROM t", "SELECT 3", true),
        ("INSERT INTO t VALUES (';')", "INSERT 0 1", true),
        ("CREATE TABLE t ()", "CREATE TABLE", false),
        ("SELECT f()", "SELECT 1", false),
        ("EXECUTE p", "SET", false),
    ] {
        let mut notes = Notes::new(Arc::clone(&risky), 200);
        let text = format!(">Q SET a.b = '1'; {other}; SELECT set_config('lock_timeout', '2s', false)");
        play(
            &mut notes,
            &[&text, "<C SET", &format!("<C {tag}"), "<C SELECT 1", "<Z I"],
        );
        assert_eq!(notes.is_rebuildable(), is_known, "{other}");
        assert!(notes.is_unsure() && (!is_known || again(&notes) == ["SET a.b = '1'", "lock_timeout = 2s"]));
    }
}

#[test]
fn who_asks_what_a_sequence_gave_may_ask_after_each_draw_and_not_after_it_has_asked() {
    const ASK: [&str; 3] = [">Q SELECT lastval()", "<C SELECT 1", "<Z I"];
    const INSERT: [&str; 3] = [">Q INSERT INTO t DEFAULT VALUES", "<C INSERT 0 1", "<Z I"];
    let mut notes = after(&INSERT);
    assert!(!notes.may_ask_sequences());
    let step = |notes: &mut Notes, steps: &[&str]| {
        play(notes, steps);
        notes.quiet();
        notes.may_ask_sequences()
    };
    assert!(!step(&mut notes, &ASK) && !notes.is_signalled());
    for draw in [
        &INSERT,
        &[">Q COPY t FROM STDIN", "<C COPY 3", "<Z I"],
        &[">Q CALL f()", "<C CALL", "<Z I"],
        &[">Q SELECT NextVal('s')", "<C SELECT 1", "<Z I"],
        &[">Q INSERT INTO u SELECT lastval()", "<C INSERT 0 1", "<Z I"],
    ] {
        assert!(step(&mut notes, draw), "{draw:?}");
        assert!(!step(&mut notes, &ASK));
    }
    let mut other = Notes::new(Arc::clone(&notes.risky), 200);
    assert!(!other.may_ask_sequences());
    assert!(step(&mut other, &INSERT));
    assert!(!step(&mut other, &[">Q DISCARD ALL", "<C DISCARD ALL", "<Z I"]));
    let named = [
        ">P s SELECT currval('s')",
        ">B s",
        ">E \0",
        ">S",
        "<1",
        "<C SELECT 1",
        "<Z I",
    ];
    assert!(step(&mut other, &INSERT) && !step(&mut other, &named));
    assert!(step(&mut other, &INSERT) && !step(&mut other, &[&[">B s"], &named[2..4], &named[5..]].concat()));
    // Asked when it was known that others do: what it was given before, nobody knows.
    let mut early = after(&INSERT);
    early.risky = Arc::clone(&notes.risky);
    assert!(early.may_ask_sequences());
}

#[test]
fn what_tells_all_that_it_does_may_be_asked_again() {
    let risky = Arc::new(RiskyNames::unlearned());
    risky.take(taught(&[("f", SETS)]));
    let notes = Notes::new(risky, 200);
    for text in [
        "SELECT 1",
        "SET a.b = 1",
        "SELECT set_config('a.b', '1', false)",
        "SELECT set_config($1, $2, false)",
        "LISTEN a",
        "PREPARE p AS SELECT 1",
        "DISCARD ALL",
    ] {
        assert!(notes.is_plain(text.as_bytes()), "{text}");
    }
    for text in [
        "SELECT f()",
        "PREPARE p AS SELECT f()",
        "DO 'f'",
        "SELECT set_config(a, b, false) FROM t",
    ] {
        assert!(!notes.is_plain(text.as_bytes()), "{text}");
    }
}

#[test]
fn the_extended_protocol_says_as_much() {
    let unnamed = [
        ">P  SET a.b = 1",
        ">B ",
        ">E \0",
        ">S",
        "<1",
        "<2",
        "<C SET",
        "<Z I",
    ];
    assert_eq!(again(&after(&unnamed)), ["SET a.b = 1"]);
    let named = [">P s SET a.b = 1", ">B s", ">E \0", ">S", "<1", "<C SET", "<Z I"];
    let twice = [&named[..], &[">B s", ">E \0", ">S", "<C SET", "<Z I"]].concat();
    assert_eq!(again(&after(&twice)), ["parse s", "SET a.b = 1"]);
    let never = [">P  SET a.b = 1", ">B ", ">S", "<1", "<Z I"];
    assert!(again(&after(&never)).is_empty());
    let two = [
        ">P  SELECT 1",
        ">B ",
        ">E \0",
        ">P  SET a.b = 1",
        ">B ",
        ">E \0",
        ">S",
        "<1",
        "<C SELECT 1",
        "<1",
        "<C SET",
        "<Z I",
    ];
    let notes = after(&two);
    assert!(notes.is_rebuildable());
    assert_eq!(again(&notes), ["SET a.b = 1"]);
}

#[test]
fn a_statement_that_was_not_made_anew_is_what_it_was() {
    let steps = [
        ">P s SET a.b = 1",
        ">S",
        "<1",
        "<Z I",
        ">P s SET a.b = 2",
        ">S",
        "<E",
        "<Z I",
        ">B s",
        ">E \0",
        ">S",
        "<C SET",
        "<Z I",
    ];
    assert_eq!(again(&after(&steps)), ["parse s", "SET a.b = 1"]);
    let ahead = [
        ">P s SET a.b = 1",
        ">S",
        "<1",
        "<Z I",
        ">P s SET a.b = 2",
        ">S",
        ">B s",
        ">E \0",
        ">S",
        "<E",
        "<Z I",
        "<C SET",
        "<Z I",
    ];
    assert!(!after(&ahead).is_rebuildable());
}

#[test]
fn a_name_that_is_closed_and_parsed_anew_at_once_is_known_for_what_it_is_now() {
    let mut notes = after(&[">P s SELECT 1", ">S", "<1", "<Z I"]);
    notes.surveyed(&Ledger::default(), &Values::default());
    notes.asked(b'C', b"Ss\0");
    notes.asked(b'P', b"s\0SELECT set_config(x, 'y', false) FROM t\0\0\0");
    notes.asked(b'S', b"");
    for tag in [b'3', b'1'] {
        notes.answered(tag, b"");
    }
    notes.answered(b'Z', b"I");
    notes.surveyed(&Ledger::default(), &Values::default());
    notes.asked(b'B', b"\0s\0\0\0\0\0\0\0");
    notes.answered(b'Z', b"I");
    assert!(notes.is_signalled());
}

#[test]
fn values_of_set_config_are_kept_with_their_names() {
    let text = "SELECT set_config('a.b', $1, false)";
    let mut notes = after(&[&format!(">P  {text}"), ">S", "<1", "<Z I"]);
    notes.asked(b'B', b"\0\0\0\0\0\x01\0\0\0\x01x\0\0");
    notes.asked(b'E', b"\0\0\0\0\0");
    notes.asked(b'S', b"");
    notes.answered(b'C', b"SELECT 1\0");
    notes.answered(b'Z', b"I");
    assert!(notes.is_rebuildable() && notes.is_unsure());
    assert_eq!(again(&notes), ["a.b = x"]);
    assert!(notes.custom_names().contains("a.b"));
    let literal = [">Q SELECT set_config('a.b', '1', false)", "<C SELECT 1", "<Z I"];
    assert_eq!(again(&after(&literal)), ["a.b = 1"]);
    let parse = format!(">P  {text}");
    let null = [&parse, ">B ", ">E \0", ">S", "<1", "<C SELECT 1", "<Z I"];
    assert!(!after(&null).is_rebuildable());
}

#[test]
fn what_was_rolled_back_was_not_said() {
    let set = [">Q SET work_mem = '5MB'", "<C SET", "<Z T"];
    let notes = after(&[&BEGIN[..], &set, &COMMIT].concat());
    assert_eq!(again(&notes), ["SET work_mem = '5MB'"]);
    let notes = after(&[&BEGIN[..], &set, &ROLLBACK].concat());
    assert!(notes.is_rebuildable() && !notes.is_signalled());
    let failed = [">Q SELECT 1/0", "<E", "<Z E", ">Q COMMIT", "<C ROLLBACK", "<Z I"];
    let notes = after(&[&BEGIN[..], &set, &failed].concat());
    assert!(notes.is_rebuildable() && !notes.is_signalled());
    let together = [
        ">P  SET work_mem = '5MB'",
        ">B ",
        ">E \0",
        ">P  SELEC",
        ">S",
        "<1",
        "<C SET",
        "<E",
        "<Z I",
    ];
    assert!(again(&after(&together)).is_empty());
    let refused = [">Q SET a.b.c = 1", "<E", "<Z I"];
    assert!(!after(&refused).is_signalled());
    let in_one = [
        ">Q BEGIN; SET work_mem = '5MB'; ROLLBACK; SET work_mem = '6MB'",
        "<C BEGIN",
        "<C SET",
        "<C ROLLBACK",
        "<C SET",
        "<Z I",
    ];
    assert_eq!(again(&after(&in_one)), ["SET work_mem = '6MB'"]);
}

#[test]
fn a_savepoint_leaves_it_to_a_survey() {
    let set = [">Q SET work_mem = '5MB'", "<C SET", "<Z T"];
    let back = [">Q ROLLBACK TO s", "<C ROLLBACK", "<Z T"];
    let notes = after(&[&BEGIN[..], &set, &back, &COMMIT].concat());
    assert!(!notes.is_rebuildable() && notes.is_unsure());
    let mut notes = after(&[&BEGIN[..], &set, &back].concat());
    notes.undone();
    assert!(notes.is_rebuildable());
    let released = [">Q RELEASE s", "<C RELEASE", "<Z T"];
    assert!(after(&[&BEGIN[..], &set, &released, &COMMIT].concat()).is_rebuildable());
    // What it took back is no more, in the same message.
    let text = ">Q BEGIN; SET a.b = 1; PREPARE p AS SELECT 1; ROLLBACK; DEALLOCATE p";
    let done = [
        "<C BEGIN",
        "<C SET",
        "<C PREPARE",
        "<C ROLLBACK",
        "<C DEALLOCATE",
        "<Z I",
    ];
    assert_eq!(again(&after(&[&[text], &done[..]].concat())), ["touch a.b"]);
    // Nothing was set.
    assert!(!after(&[&BEGIN[..], &back, &COMMIT].concat()).is_signalled());
}

#[test]
fn what_ends_with_its_transaction_is_nothing_but_a_custom_name() {
    let local = [">Q SET LOCAL work_mem = '5MB'", "<C SET", "<Z T"];
    let notes = after(&[&BEGIN[..], &local, &COMMIT].concat());
    assert!(!notes.is_signalled() && notes.is_rebuildable() && notes.said.is_none());
    let custom = [">Q SELECT set_config('a.b', '1', true)", "<C SELECT 1", "<Z T"];
    for end in [COMMIT, ROLLBACK] {
        let twice = [&BEGIN[..], &custom, &end, &BEGIN, &custom, &end].concat();
        let notes = after(&twice);
        assert!(notes.is_signalled() && !notes.is_unsure() && notes.is_rebuildable());
        assert_eq!(again(&notes), ["touch a.b"]);
    }
    let set = [">Q SET a.b = 1", "<C SET", "<Z T"];
    assert_eq!(
        again(&after(&[&BEGIN[..], &set, &ROLLBACK].concat())),
        ["touch a.b"]
    );
}

#[test]
fn statements_are_made_where_they_were() {
    let parse = |name: &str| format!(">P {name} SELECT 1");
    let (one, two, three) = (parse("one"), parse("two"), parse("three"));
    let steps = [
        &one,
        ">S",
        "<1",
        "<Z I",
        ">Q SET DateStyle = 'SQL'",
        "<C SET",
        "<Z I",
        &two,
        ">S",
        "<1",
        "<Z I",
        ">Q SET DateStyle = 'ISO'",
        "<C SET",
        "<Z I",
        &three,
        ">S",
        "<1",
        "<Z I",
    ];
    let expected = [
        "parse one",
        "SET DateStyle = 'SQL'",
        "parse two",
        "SET DateStyle = 'ISO'",
        "parse three",
    ];
    assert_eq!(again(&after(&steps)), expected);
    let closed = [&steps[..], &[">C two", ">S", "<3", "<Z I"]].concat();
    assert_eq!(again(&after(&closed)).len(), 4);
    let dropped = [&steps[..], &[">Q DEALLOCATE one", "<C DEALLOCATE", "<Z I"]].concat();
    let notes = after(&dropped);
    assert!(notes.is_replaced(b"one") && notes.is_rebuildable());
    assert_eq!(again(&notes), expected[1..]);
    let discarded = [&steps[..], &[">Q DISCARD ALL", "<C DISCARD ALL", "<Z I"]].concat();
    assert_eq!(again(&after(&discarded)), ["DISCARD ALL"]);
    let custom = [
        ">Q SET a.b = 1",
        "<C SET",
        "<Z I",
        ">Q DISCARD ALL",
        "<C DISCARD ALL",
        "<Z I",
    ];
    assert_eq!(again(&after(&custom)), ["DISCARD ALL", "touch a.b"]);
}

#[test]
fn what_was_read_under_what_is_gone_leaves_it_to_a_survey() {
    let parsed = [">P one SELECT 1", ">S", "<1", "<Z T"];
    let local = [">Q SET LOCAL DateStyle = 'SQL'", "<C SET", "<Z T"];
    assert!(!after(&[&BEGIN[..], &local, &parsed, &COMMIT].concat()).is_rebuildable());
    let harmless = [">Q SET LOCAL a.b = 1", "<C SET", "<Z T"];
    assert!(after(&[&BEGIN[..], &harmless, &parsed, &COMMIT].concat()).is_rebuildable());
    let set = [">Q SET DateStyle = 'SQL'", "<C SET", "<Z T"];
    assert!(after(&[&BEGIN[..], &set, &parsed, &COMMIT].concat()).is_rebuildable());
    assert!(!after(&[&BEGIN[..], &set, &parsed, &ROLLBACK].concat()).is_rebuildable());
    let prepare = [">Q PREPARE p AS SELECT 1", "<C PREPARE", "<Z T"];
    assert!(!after(&[&BEGIN[..], &set, &prepare, &ROLLBACK].concat()).is_rebuildable());
    assert_eq!(
        again(&after(&[&BEGIN[..], &prepare, &ROLLBACK].concat())),
        ["PREPARE p AS SELECT 1"]
    );
}

#[test]
fn what_its_text_does_not_tell_leaves_it_to_a_survey() {
    for text in ["SET a.b = 1; DO ''", "SET seed = 0.5", "SET a.b = E'1'"] {
        let notes = after(&[&format!(">Q {text}"), "<C SET", "<Z I"]);
        assert!(!notes.is_rebuildable() && notes.is_unsure(), "{text}");
    }
    let both = after(&[">Q SET a.b = 1", "<C SET", "<Z I", ">Q DO ''", "<C DO", "<Z I"]);
    assert!(!both.is_rebuildable());
}

#[test]
fn more_than_is_kept_leaves_it_to_a_survey() {
    let each = |count: usize| {
        let steps = (0..count).flat_map(|_| [">Q SET DateStyle = 'SQL'", "<C SET", "<Z I"]);
        after(&steps.collect::<Vec<_>>())
    };
    assert!(each(64).is_rebuildable() && !each(65).is_rebuildable());
    let harmless = (0..100).flat_map(|_| [">Q SET a.b = 1", "<C SET", "<Z I"]);
    assert_eq!(again(&after(&harmless.collect::<Vec<_>>())), ["SET a.b = 1"]);
    let long = format!(">Q SET a.b = '{}'", "x".repeat(300));
    assert!(!after(&[&long, "<C SET", "<Z I"]).is_rebuildable());
}

#[test]
fn before_anything_is_learned_a_session_is_unsure_only_of_what_may_do_something() {
    let unlearned = |steps: &[&str]| {
        let mut notes = Notes::new(Arc::new(RiskyNames::unlearned()), 200);
        play(&mut notes, steps);
        notes
    };
    let first = [
        ">Q SET a.b = 1",
        "<C SET",
        "<Z I",
        ">Q SELECT 1",
        "<C SELECT 1",
        "<Z I",
    ];
    let notes = unlearned(&first);
    assert!(notes.is_rebuildable());
    assert_eq!(again(&notes), ["SET a.b = 1"]);
    assert!(!unlearned(&[">Q SELECT f()", "<C SELECT 1", "<Z I"]).is_rebuildable());
}

fn made(notes: &Notes) -> Vec<String> {
    let known = notes.known(None, &Values::default());
    let names = known.parsed.iter();
    names
        .map(|parsed| String::from_utf8_lossy(string_here(&parsed.body)).into_owned())
        .collect()
}

#[test]
fn what_leaves_a_session_as_it_was_gives_no_signal() {
    let notes = after(&[
        ">Q SELECT 1",
        "<C SELECT 1",
        "<Z I",
        ">P  SELECT 1",
        ">B ",
        ">S",
        "<1",
        "<Z I",
    ]);
    assert!(!notes.is_signalled() && notes.is_rebuildable());
}

#[test]
fn what_may_have_set_anything_is_a_signal_until_a_survey() {
    let mut notes = after(&[">Q DO ''", "<C DO", "<Z I"]);
    assert!(notes.is_signalled() && !notes.is_rebuildable());
    notes.surveyed(&Ledger::default(), &Values::default());
    assert!(!notes.is_signalled() && notes.is_rebuildable());
}

#[test]
fn what_a_transaction_set_goes_with_the_transaction() {
    let begun = [
        ">Q BEGIN",
        "<C BEGIN",
        "<Z T",
        ">Q SELECT set_config(name, '1', true) FROM t",
        "<C SELECT 1",
        "<Z T",
    ];
    let mut notes = after(&begun);
    assert!(notes.is_signalled());
    notes.undone();
    assert!(!notes.is_signalled());
    let notes = after(&[&begun[..], &[">Q COMMIT", "<C COMMIT", "<Z I"]].concat());
    assert!(!notes.is_rebuildable());
}

#[test]
fn a_cursor_goes_with_its_transaction_unless_it_is_held() {
    let cursor = |declare| {
        let closed = ["<Z T", ">Q CLOSE c", "<C CLOSE CURSOR", "<Z T"];
        let committed = [">Q COMMIT", "<C COMMIT", "<Z I"];
        let declared = [">Q BEGIN", "<C BEGIN", "<Z T", declare, "<C DECLARE CURSOR"];
        after(&[&declared[..], &closed, &committed].concat())
    };
    assert!(cursor(">Q DECLARE c CURSOR FOR SELECT 1").is_rebuildable());
    assert!(!cursor(">Q DECLARE c CURSOR WITH HOLD FOR SELECT 1").is_rebuildable());
}

#[test]
fn a_cursor_that_is_closed_may_have_been_what_kept_its_session() {
    let notes = after(&[">Q CLOSE c", "<C CLOSE CURSOR", "<Z I"]);
    assert!(notes.is_signalled() && notes.is_rebuildable());
}

#[test]
fn a_lock_does_not_go_with_the_transaction() {
    let lock = ">Q SELECT pg_advisory_lock(1)";
    let notes = after(&[">Q BEGIN", "<C BEGIN", "<Z T", lock, "<C SELECT 1", "<Z T"]);
    assert!(!notes.is_rebuildable());
    let under_way = [">Q SELECT pg_advisory_lock(1); SELECT pg_sleep(60)"];
    assert!(after(&under_way).is_rebuildable());
    assert!(!after(&[&under_way[..], &["<C SELECT 1"]].concat()).is_rebuildable());
}

#[test]
fn named_statements_are_kept_until_a_survey_lists_them() {
    let mut notes = after(&[">P one SELECT 1", ">P two SELECT 2", ">S", "<1", "<1", "<Z I"]);
    assert!(notes.is_signalled() && notes.is_rebuildable());
    assert_eq!(made(&notes), ["one", "two"]);
    notes.surveyed(&Ledger::default(), &Values::default());
    assert!(made(&notes).is_empty());
    let notes = after(&[
        ">P one SELECT 1",
        ">S",
        "<1",
        "<Z I",
        ">C one",
        ">S",
        "<3",
        "<Z I",
    ]);
    assert!(made(&notes).is_empty() && notes.since(&Values::default()).parsed.contains_key(&b"one"[..]));
}

#[test]
fn a_statement_whose_parse_was_not_answered_was_not_made() {
    let failed = [">P one SELECT 1", ">P two SELEC", ">S", "<1", "<E", "<Z I"];
    assert_eq!(made(&after(&failed)), ["one"]);
    let next = [&failed[..], &[">P three SELECT 3", ">S", "<1", "<Z I"]].concat();
    assert_eq!(made(&after(&next)), ["one", "three"]);
}

#[test]
fn statements_that_come_and_go_are_known_unless_they_are_too_many() {
    let each = |number: usize| {
        let parse = format!(">P s{number} SELECT 1");
        let steps = [
            &parse,
            ">S",
            "<1",
            "<Z I",
            &format!(">C s{number}"),
            ">S",
            "<3",
            "<Z I",
        ];
        steps.map(str::to_owned)
    };
    for (count, is_unsure) in [(MADE_MAX, false), (MADE_MAX + 1, true)] {
        let steps: Vec<String> = (0..count).flat_map(each).collect();
        let notes = after(&steps.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(notes.is_signalled());
        assert_eq!(notes.is_unsure(), is_unsure, "{count}");
    }
    for (length, is_unsure) in [(NAME_MAX, false), (NAME_MAX + 1, true)] {
        let close = format!(">C {}", "s".repeat(length));
        let notes = after(&[&close, ">S", "<3", "<Z I"]);
        assert_eq!(notes.is_unsure(), is_unsure, "{length}");
    }
}

#[test]
fn more_statements_than_there_is_room_for_are_a_signal() {
    let long = format!(">P one SELECT '{}'", "x".repeat(300));
    let notes = after(&[&long, ">S", "<1", "<Z I"]);
    assert!(notes.is_signalled() && !notes.is_rebuildable());
}

#[test]
fn a_kept_statement_signals_each_time_it_is_bound() {
    for name in ["", "one"] {
        let parse = format!(">P {name} SELECT set_config('a.b', $1, false)");
        let bind = format!(">B {name}");
        let mut notes = after(&[&parse, ">S", "<1", "<Z I"]);
        notes.surveyed(&Ledger::default(), &Values::default());
        notes.bind(format!("\0{name}\0").as_bytes(), true);
        notes.ready(Some(b'I'));
        assert!(!notes.is_rebuildable(), "{bind}");
    }
}

#[test]
fn the_unnamed_statement_lives_until_the_next_query() {
    let parsed = [">P  SELECT 1", ">S", "<1", "<Z I"];
    let notes = after(&parsed);
    assert!(
        notes
            .unnamed(&Values::default())
            .is_some_and(|unnamed| !unnamed.doubtful)
    );
    let notes = after(&[&parsed[..], &["<E"]].concat());
    assert!(
        notes
            .unnamed(&Values::default())
            .is_some_and(|unnamed| unnamed.doubtful)
    );
    for end in [">Q SELECT 1", ">C "] {
        let notes = after(&[&parsed[..], &[end]].concat());
        assert!(notes.unnamed(&Values::default()).is_none(), "{end}");
    }
    let long = format!(">P  SELECT '{}'", "x".repeat(300));
    assert_eq!(after(&[&long]).pins().collect::<Vec<_>>(), [Pin::TooLarge]);
}

#[test]
fn what_a_session_lists_of_itself_hides_nothing() {
    let notes = after(&[
        ">Q SET a.b = 1",
        "<C SET",
        "<Z I",
        ">Q LISTEN a",
        "<C LISTEN",
        "<Z I",
    ]);
    assert!(!notes.is_hidden());
    for hides in [">Q SELECT pg_advisory_lock(1)", "<C DO"] {
        let mut notes = after(&[hides, "<Z I"]);
        notes.surveyed(&Ledger::default(), &Values::default());
        assert!(notes.is_hidden(), "{hides}");
    }
}

#[test]
fn a_statement_is_read_under_what_the_server_told_until_it_was_answered() {
    let told = |notes: &Notes, name: &[u8]| {
        let under = notes.since(&Values::default()).parsed[name].clone();
        under.map(|values| values.of(b"DateStyle").map(<[u8]>::to_vec))
    };
    let mut notes = after(&[">P one SELECT 1", ">S", "<1", "<Z I"]);
    assert_eq!(told(&notes, b"one"), Some(None));
    notes.answered(b'S', b"DateStyle\0German\0");
    notes.answered(b'S', b"application_name\0x\0");
    for (tag, body) in [(b'P', &b"two\0SELECT 2\0\0\0"[..]), (b'S', b"")] {
        notes.asked(tag, body);
    }
    notes.answered(b'1', b"");
    // From here on it is told with the end of the unit only.
    notes.answered(b'C', b"SET\0");
    for (tag, body) in [(b'P', &b"three\0SELECT 'a'\0\0\0"[..]), (b'S', b"")] {
        notes.asked(tag, body);
    }
    notes.answered(b'1', b"");
    assert_eq!(told(&notes, b"one"), Some(None));
    assert_eq!(told(&notes, b"two"), Some(Some(b"German".to_vec())));
    assert_eq!(told(&notes, b"three"), None);
    assert!(notes.pins().any(|pin| pin == Pin::UnreplayableStatement));
}

#[test]
fn what_a_client_was_told_of_a_statement_is_known_as_long_as_it_lives() {
    let mut notes = after(&[">P one SELECT 1", ">S", "<1", "<Z I"]);
    let described = |notes: &mut Notes, columns: &[u8]| {
        notes.asked(b'D', b"Sone\0");
        notes.answered(b't', b"\0\0");
        notes.described(columns, true);
    };
    let told = |notes: &Notes| {
        notes
            .known(None, &Values::default())
            .told
            .first()
            .map(|(_, told)| *told)
    };
    assert_eq!(told(&notes), None);
    described(
        &mut notes,
        b"\0\x01a\0\0\0\0\x01\0\x01\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0",
    );
    let before = told(&notes);
    described(&mut notes, b"");
    assert!(before.is_some() && told(&notes).is_some() && told(&notes) != before);
    notes.asked(b'P', b"one\0SELECT 2\0\0\0");
    notes.answered(b'1', b"");
    assert_eq!(told(&notes), None);
}

#[test]
fn what_no_survey_sees_pins() {
    let notes = after(&[">Q SELECT dblink_connect('a')", "<C SELECT 1", "<Z I"]);
    assert_eq!(notes.pins().collect::<Vec<_>>(), [Pin::ForeignConnections]);
    let notes = after(&[">Q LOAD 'auto_explain'", "<C LOAD", "<Z I"]);
    assert_eq!(notes.pins().collect::<Vec<_>>(), [Pin::LoadedLibrary]);
}

fn pins_after(steps: &[&str]) -> Vec<Pin> {
    after(steps).pins().collect()
}

#[test]
fn a_do_that_executes_what_is_not_written_down_pins_and_one_that_shows_it_does_not() {
    let pins = |text: &str| pins_after(&[&format!(">Q {text}"), "<C DO", "<Z I"]);
    for text in [
        "DO $$ BEGIN EXECUTE format('SET app.%I = %L', 'a', 'b'); END $$",
        "DO $$ BEGIN EXECUTE 'SET ' || k || ' = 1'; END $$",
        "DO $$ BEGIN EXECUTE 'SET app.' || k || ' = 1'; END $$",
        "DO $$ BEGIN EXECUTE q; END $$",
        "DO $$ BEGIN EXECUTE format('%s', q); END $$",
    ] {
        assert_eq!(pins(text), [Pin::UnknownSettings], "{text}");
    }
    for text in [
        "DO $$ BEGIN EXECUTE 'SELECT count(*) FROM ' || t; END $$",
        "DO $$ BEGIN EXECUTE format('INSERT INTO %I VALUES (1)', t); END $$",
        "DO $$ BEGIN EXECUTE 'SET app.x = 1'; END $$",
    ] {
        assert_eq!(pins(text), [], "{text}");
    }
    let defined = [
        ">Q CREATE FUNCTION f() AS $$ BEGIN EXECUTE q; END $$",
        "<C CREATE FUNCTION",
        "<Z I",
    ];
    assert_eq!(pins_after(&defined), []);
    assert_eq!(pins_after(&[">Q EXECUTE p", "<C SELECT 1", "<Z I"]), []);
}

#[test]
fn what_a_do_keeps_in_its_interpreter_pins() {
    let text = "DO LANGUAGE plpython3u $$ GD['a'] = 1 $$";
    let steps = [format!(">Q {text}"), "<C DO".to_owned(), "<Z I".to_owned()];
    assert_eq!(
        pins_after(&steps.each_ref().map(String::as_str)),
        [Pin::InterpreterData]
    );
    let loads = [">Q DO $$ BEGIN LOAD 'auto_explain'; END $$", "<C DO", "<Z I"];
    assert_eq!(pins_after(&loads), [Pin::LoadedLibrary]);
    let rows = [">Q INSERT INTO t VALUES ('load', 'x')", "<C INSERT 0 1", "<Z I"];
    assert_eq!(pins_after(&rows), []);
}

#[test]
fn a_seed_pins_however_it_is_set() {
    for text in [
        "SET seed = 0.5",
        "SET SESSION seed TO 0.5",
        "SELECT set_config('seed', '0.5', false)",
    ] {
        let query = format!(">Q {text}");
        assert_eq!(
            pins_after(&[&query, "<C SET", "<Z I"]),
            [Pin::RandomSeed],
            "{text}"
        );
    }
    assert_eq!(
        pins_after(&[">Q UPDATE games SET seed = 1", "<C UPDATE 1", "<Z I"]),
        []
    );
    let called = |oid: u32| {
        let mut notes = after(&[]);
        let mut body = oid.to_be_bytes().to_vec();
        body.extend_from_slice(b"\0\0\0\x01\0\0\0\x03a.b\0\0");
        notes.asked(b'F', &body);
        (notes.pins().collect::<Vec<_>>(), notes.custom_names())
    };
    assert_eq!(called(1599).0, [Pin::RandomSeed]);
    let (pins, names) = called(2078);
    assert_eq!((pins, names.contains("a.b")), (Vec::new(), true));
    assert_eq!(called(16384).0, [Pin::UnknownSettings]);
    assert_eq!(called(2880).0, []);
}

#[test]
fn settings_that_not_everybody_is_shown_pin() {
    for name in ["dynamic_library_path", "transform_null_equals"] {
        let query = format!(">Q SET {name} = 'on'");
        assert_eq!(pins_after(&[&query, "<C SET", "<Z I"]), [Pin::UnknownSettings]);
    }
}

/// Parse and Bind of `text` under `name`, with one parameter.
fn bound(name: &str, text: &str, value: &[u8]) -> Notes {
    let parse = format!(">P {name} {text}");
    let mut notes = after(&[&parse, ">S", "<1", "<Z I"]);
    let mut body = format!("\0{name}\0\0\0\0\x01").into_bytes();
    body.extend_from_slice(&(value.len() as u32).to_be_bytes());
    body.extend_from_slice(value);
    notes.asked(b'B', &body);
    notes
}

#[test]
fn a_setting_that_a_parameter_names_is_known_by_its_value() {
    for name in ["", "s"] {
        let notes = bound(name, "SELECT set_config($1, 'x', false)", b"App.Tenant");
        assert_eq!(notes.pins().collect::<Vec<_>>(), []);
        assert!(notes.custom_names().contains("app.tenant"));
    }
    let seeded = bound("s", "SELECT set_config($1, '0.1', false)", b"seed");
    assert_eq!(seeded.pins().collect::<Vec<_>>(), [Pin::RandomSeed]);
    let unknown = bound("s", "SELECT set_config('a.' || $1, '0.1', false)", b"b");
    assert_eq!(unknown.pins().collect::<Vec<_>>(), [Pin::UnknownSettings]);
}

#[test]
fn what_is_set_for_a_transaction_does_not_pin() {
    for text in [
        "SELECT set_config(name, value, true) FROM wanted",
        "SELECT set_config(lower('A.b'), f(1, 'x,('), true)",
        "SELECT set_config($1, $2, TRUE)",
        "SET LOCAL %I = 1",
    ] {
        let query = format!(">Q {text}");
        assert_eq!(pins_after(&[&query, "<C SELECT 1", "<Z I"]), [], "{text}");
    }
}

#[test]
fn one_client_with_many_settings_spoils_no_other() {
    let risky = Arc::new(RiskyNames::plain());
    let mut greedy = Notes::new(Arc::clone(&risky), 200);
    for number in 0..4200 {
        greedy.asked(b'Q', format!("SET a.n{number} = 1\0").as_bytes());
    }
    assert_eq!(greedy.pins().collect::<Vec<_>>(), [Pin::UnknownSettings]);
    assert!(risky.settings().len() < 100);
    let mut modest = Notes::new(risky, 200);
    modest.asked(b'Q', b"SET b.own = 1\0");
    assert_eq!(modest.pins().collect::<Vec<_>>(), []);
    assert!(modest.custom_names().contains("b.own"));
}

#[test]
fn names_of_statements_are_cut_as_postgres_cuts_them() {
    let (name, other) = ("n".repeat(70), "n".repeat(64) + "other");
    let parse = format!(">P {name} SELECT set_config('a.b', $1, false)");
    let mut notes = after(&[&parse, ">S", "<1", "<Z I"]);
    notes.surveyed(&Ledger::default(), &Values::default());
    notes.asked(b'B', format!("\0{other}\0").as_bytes());
    notes.ready(Some(b'I'));
    assert!(!notes.is_rebuildable());
}

#[test]
fn a_refused_parse_leaves_the_older_statement_what_it_was() {
    let first = [">P s SELECT set_config('a.b', $1, false)", ">S", "<1", "<Z I"];
    let refused = [">P s SELECT 1", ">S", "<E", "<Z I"];
    let replaced = [">C s", ">P s SELECT 1", ">S", "<3", "<1", "<Z I"];
    for (then, is_still_there) in [(&refused[..], true), (&replaced[..], false)] {
        let mut notes = after(&[&first[..], then].concat());
        notes.surveyed(&Ledger::default(), &Values::default());
        notes.asked(b'B', b"\0s\0");
        notes.ready(Some(b'I'));
        assert_eq!(!notes.is_rebuildable(), is_still_there);
    }
}

#[test]
fn a_large_statement_is_known_by_its_name() {
    let mut notes = after(&[]);
    notes.asked_beginning(b'P', b"s\0SELECT set_config('a.b', '1', false) -- ");
    notes.asked_more(b"more\0\0\0", true);
    let mut notes = {
        for (tag, body) in [(b'1', &b""[..]), (b'Z', b"I")] {
            notes.answered(tag, body);
        }
        notes
    };
    notes.surveyed(&Ledger::default(), &Values::default());
    notes.asked(b'B', b"\0s\0");
    notes.ready(Some(b'I'));
    assert!(!notes.is_rebuildable());
}

fn taught(bodies: &[(&str, &str)]) -> Learned {
    learn(bodies.iter().map(|(name, body)| Definition {
        name,
        language: "sql",
        body: Some(body),
    }))
}

const SETS: &str = "SELECT set_config('app.f', '1', false)";
const SETS_ANY: &str = "SELECT set_config($1, '1', false)";

#[test]
fn nothing_said_before_functions_are_known_is_taken_for_harmless() {
    for (body, is_pinned) in [(SETS, false), (SETS_ANY, true), ("SELECT 1", false)] {
        let risky = Arc::new(RiskyNames::unlearned());
        let mut notes = Notes::new(Arc::clone(&risky), 200);
        notes.asked(b'Q', b"SELECT f('a.b')\0");
        notes.ready(Some(b'I'));
        assert_eq!(notes.pins().collect::<Vec<_>>(), [Pin::UnknownSettings]);
        risky.take(taught(&[("f", body), ("g", SETS_ANY)]));
        notes.hear_news();
        assert_eq!(notes.pins().next().is_some(), is_pinned, "{body}");
        assert!(notes.is_unsure());
    }
}

#[test]
fn a_statement_is_judged_again_as_soon_as_it_is_known_what_it_calls() {
    let risky = Arc::new(RiskyNames::unlearned());
    let mut notes = Notes::new(Arc::clone(&risky), 200);
    play(
        &mut notes,
        &[
            ">P s SELECT n FROM t",
            ">P f SELECT f()",
            ">S",
            "<1",
            "<1",
            "<Z I",
        ],
    );
    risky.take(taught(&[("f", SETS)]));
    notes.hear_news();
    for (name, is_known) in [("s", true), ("f", false)] {
        notes.changes = Changes::default();
        play(
            &mut notes,
            &[&format!(">B {name}"), ">E \0", ">S", "<2", "<C SELECT 1", "<Z I"],
        );
        assert_eq!(notes.is_rebuildable(), is_known, "{name}");
    }
}

#[test]
fn a_function_that_was_replaced_is_judged_by_what_it_does_now() {
    for (body, is_pinned) in [(SETS, false), (SETS_ANY, true)] {
        let risky = Arc::new(RiskyNames::unlearned());
        risky.take(taught(&[("f", "SELECT 1")]));
        let mut notes = Notes::new(Arc::clone(&risky), 200);
        notes.asked(b'P', b"s\0SELECT f('a.b')\0\0\0");
        notes.asked(b'S', b"");
        notes.answered(b'1', b"");
        notes.ready(Some(b'I'));
        let ledger = Ledger::holding("s", "SELECT f('a.b')");
        notes.surveyed(&ledger, &Values::default());
        assert!(!notes.is_unsure());
        risky.take(taught(&[("f", body)]));
        notes.hear_news();
        // It may have been run meanwhile.
        assert!(notes.is_unsure() && !notes.is_rebuildable());
        assert_eq!(notes.pins().next().is_some(), is_pinned, "{body}");
        notes.surveyed(&ledger, &Values::default());
        notes.asked(b'B', b"\0s\0");
        notes.ready(Some(b'I'));
        assert!(!notes.is_rebuildable());
        assert!(notes.custom_names().contains("app.f") || is_pinned);
    }
}

#[test]
fn a_function_that_does_what_a_survey_shows_has_not_done_it_since_if_nothing_was_run() {
    for (runs, is_rebuildable) in [(&[][..], true), (&[">Q SELECT 1", "<C SELECT 1", "<Z I"], false)] {
        let risky = Arc::new(RiskyNames::unlearned());
        risky.take(taught(&[("f", "SELECT 1")]));
        let mut notes = Notes::new(Arc::clone(&risky), 200);
        play(&mut notes, &[">Q SELECT f()", "<C SELECT 1", "<Z I"]);
        notes.surveyed(&Ledger::default(), &Values::default());
        play(&mut notes, runs);
        risky.take(taught(&[("f", "SELECT set_config('search_path', 'x', false)")]));
        notes.hear_news();
        assert_eq!(notes.is_rebuildable(), is_rebuildable, "{runs:?}");
    }
}

#[test]
fn what_was_learned_while_postgres_was_asked_was_not_asked_about() {
    let risky = Arc::new(RiskyNames::unlearned());
    risky.take(taught(&[("f", "SELECT 1")]));
    let mut notes = Notes::new(Arc::clone(&risky), 200);
    play(&mut notes, &[">Q SELECT f()", "<C SELECT 1", "<Z I"]);
    risky.take(taught(&[("f", SETS)]));
    notes.surveyed(&Ledger::default(), &Values::default());
    assert!(notes.is_unsure());
    notes.surveyed(&Ledger::default(), &Values::default());
    assert!(!notes.is_unsure());
}

#[test]
fn what_is_learned_again_and_is_the_same_is_no_news() {
    let risky = Arc::new(RiskyNames::unlearned());
    risky.take(taught(&[("f", SETS_ANY)]));
    let mut notes = Notes::new(Arc::clone(&risky), 200);
    notes.asked(b'Q', b"SELECT 1\0");
    notes.ready(Some(b'I'));
    risky.take(taught(&[("f", SETS_ANY)]));
    notes.hear_news();
    assert!(!notes.is_unsure());
}
