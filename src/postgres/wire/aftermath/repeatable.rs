//! Whether a unit that a server has undone may be done once more: whether it has left nothing behind anywhere else.
//!
//! Nothing here understands SQL. What is not known to end with its transaction may reach outside of it, and what
//! only looks like a call or a second statement, inside of a literal, is taken for one.

use super::super::frame::{HEADER, read_header};
use super::super::parts::{string, string_here};
use super::super::state_words::blanks::{skip, word};
use super::super::tag::from_client;

/// Statements that do nothing but what a rollback, or the end of their session, undoes.
const UNDONE: [&str; 19] = [
    "select",
    "insert",
    "update",
    "delete",
    "with",
    "values",
    "table",
    "merge",
    "show",
    "explain",
    "begin",
    "start",
    "set",
    "reset",
    "listen",
    "unlisten",
    "notify",
    "deallocate",
    "discard",
];

/// Words with a parenthesis behind them that call nothing, or nothing that reaches outside of a transaction.
#[rustfmt::skip]
const INNOCENT: [&str; 167] = [
    "abs", "age", "all", "analyze", "and", "any", "array", "array_agg", "array_length", "as", "avg", "between",
    "bigint", "bit_length", "bool_and", "bool_or", "btrim", "by", "cardinality", "case", "cast", "ceil", "char",
    "char_length", "clock_timestamp", "coalesce", "concat", "concat_ws", "conflict", "count", "cube",
    "current_database", "current_setting", "date", "date_part", "date_trunc", "decimal", "dense_rank",
    "distinct", "else", "except", "exists", "explain", "extract", "filter", "first_value", "float", "floor",
    "format", "from", "gen_random_uuid", "generate_series", "greatest", "group", "grouping", "having", "ilike",
    "in", "int", "integer", "intersect", "interval", "join", "json_agg", "json_build_array",
    "json_build_object", "json_object_agg", "jsonb_agg", "jsonb_array_elements", "jsonb_array_length",
    "jsonb_build_array", "jsonb_build_object", "jsonb_object_agg", "jsonb_set", "lag", "last_value", "lateral",
    "lead", "least", "left", "length", "like", "limit", "localtimestamp", "lower", "lpad", "ltrim",
    "materialized", "max", "md5", "min", "mod", "nextval", "not", "now", "ntile", "nullif", "numeric",
    "octet_length", "offset", "on", "only", "or", "over", "partition", "percentile_cont", "pg_backend_pid",
    "pg_is_in_recovery", "pg_notify", "plainto_tsquery", "position", "power", "random", "rank", "recursive",
    "regexp_replace", "replace", "returning", "right", "rollup", "round", "row", "row_number", "row_to_json",
    "rpad", "rtrim", "select", "set", "set_config", "sets", "sign", "some", "split_part", "sqrt", "starts_with", "stddev",
    "string_agg", "strpos", "substr", "substring", "sum", "then", "time", "timestamp", "timestamptz", "to_char",
    "to_date", "to_json", "to_jsonb", "to_timestamp", "to_tsquery", "to_tsvector", "trim", "ts_rank",
    "txid_current", "union", "unnest", "upper", "using", "values", "varchar", "variance", "varying", "version",
    "websearch_to_tsquery", "when", "where",
];

/// Whether all of it may be done once more: whole messages of one unit.
pub(super) fn repeats<'a>(
    messages: &[u8],
    text_of: impl Fn(&[u8]) -> Option<&'a [u8]>,
    is_plain: impl Fn(&[u8]) -> bool,
) -> bool {
    let mut made: Vec<(&[u8], &[u8])> = Vec::new();
    let is_undone = |text: &[u8]| is_undone(text) && is_plain(text);
    let mut rest = messages;
    while let Some((header, after)) = rest.split_first_chunk::<HEADER>() {
        let message = read_header(*header).ok();
        let Some((tag, (body, next))) =
            message.and_then(|(tag, length)| Some((tag, after.split_at_checked(length)?)))
        else {
            return false;
        };
        rest = next;
        let repeats = match tag {
            from_client::QUERY => string(body).is_some_and(|(text, _)| is_undone(text)),
            from_client::PARSE => string(body).is_some_and(|(name, text)| {
                let text = string_here(text);
                made.push((name, text));
                is_undone(text)
            }),
            from_client::BIND => string(body)
                .and_then(|(_, body)| string(body))
                .is_some_and(|(name, _)| {
                    let here = made.iter().rev().find(|(made, _)| *made == name);
                    let text = here.map(|(_, text)| *text).or_else(|| text_of(name));
                    text.is_some_and(is_undone)
                }),
            // What they are of was bound before.
            from_client::DESCRIBE
            | from_client::EXECUTE
            | from_client::CLOSE
            | from_client::FLUSH
            | from_client::SYNC => true,
            _ => false,
        };
        if !repeats {
            return false;
        }
    }
    true
}

/// Whether a text is one statement, and a rollback leaves nothing of it.
fn is_undone(text: &[u8]) -> bool {
    let text = skip(text);
    let end = text
        .iter()
        .rposition(|byte| !matches!(byte, b';' | b' ' | b'\t' | b'\r' | b'\n'));
    let text = &text[..end.map_or(0, |end| end + 1)];
    let first = word(text);
    let is = |known: &&str| first.eq_ignore_ascii_case(known.as_bytes());
    let prepares = first.eq_ignore_ascii_case(b"prepare")
        && !word(skip(&text[first.len()..])).eq_ignore_ascii_case(b"transaction");
    // Some pools ask for nothing at all, to see whether anybody is there.
    text.is_empty()
        || (prepares || UNDONE.iter().any(is))
            && !text.contains(&b';')
            // A call could hide behind a comment.
            && !text.windows(2).any(|two| two == b"--")
            && calls_nothing(text)
}

/// Looks at what stands before each parenthesis.
fn calls_nothing(text: &[u8]) -> bool {
    let mut parentheses = text.iter().enumerate().filter(|(_, byte)| **byte == b'(');
    parentheses.all(|(at, _)| is_innocent(&text[..at]))
}

/// `before` ends where a parenthesis begins.
fn is_innocent(before: &[u8]) -> bool {
    let before = trim_end(before);
    if before.ends_with(b"*/") {
        return false;
    }
    let (before, name) = split_name(before);
    match name {
        // An operator, a comma, another parenthesis.
        b"" => true,
        name if !before.ends_with(b".") && is_listed(name) => true,
        // The columns of a table, or of what is called so.
        _ => follows_into(before) || follows_as(before),
    }
}

/// As Postgres knows blanks.
fn trim_end(text: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c);
    let last = text.iter().rposition(|byte| !is_blank(byte));
    &text[..last.map_or(0, |last| last + 1)]
}

fn is_listed(name: &[u8]) -> bool {
    INNOCENT
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// What stands before the name that `text` ends with, and the name: with its quotes, if it has some.
fn split_name(text: &[u8]) -> (&[u8], &[u8]) {
    let begin = match text.split_last() {
        Some((b'"', quoted)) => quoted.iter().rposition(|byte| *byte == b'"'),
        _ => {
            let before = text
                .iter()
                .rposition(|byte| word(&[*byte]).is_empty() && *byte != b'$');
            Some(before.map_or(0, |before| before + 1))
        }
    };
    text.split_at(begin.unwrap_or(0))
}

/// Whether a name behind it is given here: as whatever, nothing is called.
fn follows_as(before: &[u8]) -> bool {
    split_name(trim_end(before)).1.eq_ignore_ascii_case(b"as")
}

/// Whether the name whose qualification `before` ends with is the table of an INSERT.
fn follows_into(mut before: &[u8]) -> bool {
    while let Some(qualified) = trim_end(before).strip_suffix(b".") {
        (before, _) = split_name(trim_end(qualified));
    }
    split_name(trim_end(before)).1.eq_ignore_ascii_case(b"into")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_rollback_undoes_may_be_done_once_more() {
        for text in [
            "SELECT 1",
            "select count(*) from t where (a = $1 or b in (1, 2)) and now() > c;",
            "INSERT INTO t (a, b) VALUES ($1, lower($2)) RETURNING id",
            "INSERT INTO \"app\".\"t x\" (\"a\", \"b\") VALUES (1, 2) ON CONFLICT (a) DO UPDATE SET b = excluded.b",
            "/* controller='a' */ UPDATE t SET a = (SELECT max(b) FROM u)",
            "SELECT count(*) FROM (SELECT 1) AS s(m) WHERE m = 1",
            "INSERT INTO t SELECT * FROM unnest($1::int[], $2::text[]) as \"a b\" (a, \"b\")",
            "SELECT cast(a AS bit (3)) FROM t",
            "WITH x AS (DELETE FROM t RETURNING a) INSERT INTO u SELECT * FROM x",
            "BEGIN",
            "START TRANSACTION READ ONLY",
            "SET app.tenant = 'a'",
            "LISTEN a",
            "PREPARE p AS SELECT 1",
            "VALUES (1), (2)",
            "",
            " ;\n",
            "-- ping",
            "/* ping */;",
        ] {
            assert!(is_undone(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_may_reach_outside_of_its_transaction_is_not_done_twice() {
        for text in [
            "COMMIT",
            "ROLLBACK",
            "END",
            "PREPARE TRANSACTION 'x'",
            "COMMIT PREPARED 'x'",
            "COPY t FROM STDIN",
            "COPY (SELECT 1) TO PROGRAM 'mail'",
            "CALL p()",
            "DO 'BEGIN COMMIT; END'",
            "VACUUM t",
            "ANALYZE",
            "CREATE INDEX CONCURRENTLY i ON t (a)",
            "CREATE DATABASE d",
            "ALTER SYSTEM SET work_mem = '5MB'",
            "EXECUTE p",
            "SELECT 1; SELECT 2",
            "INSERT INTO t VALUES (1); COMMIT",
            "SELECT f(1)",
            "SELECT DISTINCT ON (a) f(a) FROM t",
            "SELECT /* as */ f(1)",
            "SELECT a AS b, f(1)",
            "SELECT 1 AS a FROM b.as.f(1)",
            "SELECT app.count(1)",
            "SELECT \"f\"(1)",
            "SELECT \"count\"(1)",
            "SELECT f /* x */ (1)",
            "SELECT f -- x\n (1)",
            "SELECT count/**/(f(1))",
            "SELECT 1 FROM t JOIN u ON f(a)",
            "SELECT * FROM dblink('a', 'b') AS t(a int)",
            "SELECT pg_terminate_backend(pg_backend_pid())",
            "INSERT INTO t VALUES (http_post('a'))",
            "SELECT 'into' || f(1)",
            "SELECT f\x0b(1)",
            "SELECT a$b(1)",
            "SELECT über(1)",
        ] {
            assert!(!is_undone(text.as_bytes()), "{text}");
        }
    }

    fn message(tag: u8, body: &str) -> Vec<u8> {
        let length = (body.len() as u32 + 4).to_be_bytes();
        [&[tag], &length[..], body.as_bytes()].concat()
    }

    #[test]
    fn every_statement_of_a_unit_has_to_qualify() {
        let known = |name: &[u8]| match name {
            b"known" => Some(&b"SELECT 1"[..]),
            b"ends" => Some(&b"COMMIT"[..]),
            _ => None,
        };
        let repeats =
            |messages: &[Vec<u8>]| repeats(&messages.concat(), known, |text| text != b"SELECT risky");
        let bind = |name: &str| message(b'B', &format!("\0{name}\0\0\0\0\0\0\0"));
        let parse = |text: &str| message(b'P', &format!("s\0{text}\0\0\0"));
        let run = [message(b'E', "\0\0\0\0\0"), message(b'S', "")].concat();
        for (unit, expected) in [
            (vec![bind("known"), run.clone()], true),
            (vec![bind("ends"), run.clone()], false),
            (vec![bind("unknown"), run.clone()], false),
            (vec![bind(""), run.clone()], false),
            (
                vec![
                    parse("SELECT 1"),
                    bind("s"),
                    run.clone(),
                    bind("known"),
                    run.clone(),
                ],
                true,
            ),
            (
                vec![parse("SELECT 1"), bind("s"), bind("ends"), run.clone()],
                false,
            ),
            (vec![parse("SELECT risky"), run.clone()], false),
            (vec![parse("CALL p()"), run], false),
            (vec![message(b'Q', "SELECT 1\0")], true),
            (vec![message(b'F', "\0\0\0\0")], false),
            (vec![message(b'd', "data")], false),
            // All of it was answered.
            (vec![], true),
        ] {
            assert_eq!(repeats(&unit), expected, "{unit:?}");
        }
    }

    #[test]
    fn arbitrary_texts_never_panic() {
        use proptest::prelude::*;
        proptest!(|(text in "[a-zé\"(). ;$*/-]{0,40}", bytes in prop::collection::vec(any::<u8>(), 0..64))| {
            is_undone(text.as_bytes());
            repeats(&bytes, |_| None, |_| true);
        });
    }
}
