//! What EXECUTE runs inside a function.

use super::blanks::{is_name_byte, last_word, literal, skip, trim_end, trim_start, word};

/// What may be run by an EXECUTE whose text does not show all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Runs {
    /// Nothing but what the text shows.
    Shown,
    /// A statement that leaves the session as it is, but fires triggers of any table.
    Writes,
    /// A query, or a command that sets nothing: of any view, with any function.
    Queries,
    Anything,
}

const QUERIES: [&str; 9] = [
    "select", "with", "values", "table", "explain", "call", "refresh", "execute", "create",
];

/// Their own words tell, wherever they stand.
const WORDS: [&str; 7] = [
    "set",
    "reset",
    "listen",
    "unlisten",
    "deallocate",
    "discard",
    "load",
];

const WRITES: [&str; 6] = ["insert", "update", "delete", "merge", "truncate", "copy"];

/// Whatever the rest of their text says, they leave the session as it is.
const HARMLESS: [&str; 13] = [
    "lock",
    "notify",
    "analyze",
    "vacuum",
    "reindex",
    "cluster",
    "alter",
    "drop",
    "comment",
    "grant",
    "revoke",
    // CREATE TRIGGER … EXECUTE FUNCTION
    "function",
    "procedure",
];

/// What stands behind EXECUTE. The words of a literal are found by themselves; this is about what is not
/// written down.
pub(super) fn runs(after: &[u8]) -> Runs {
    let after = skip(after);
    let next = word(after);
    // GRANT EXECUTE ON
    if is_any(next, &HARMLESS) || is_any(next, &["on"]) || is_all(after) {
        return Runs::Shown;
    }
    let Some(head) = written(format_argument(after).unwrap_or(after)) else {
        return Runs::Anything;
    };
    let first = word(head);
    if is_any(first, &WRITES) {
        return Runs::Writes;
    }
    // CREATE TEMP has a word of its own, unless it is put together.
    let second = word(trim_start(&head[first.len()..]));
    let is_shown = is_any(first, &HARMLESS) || is_any(first, &WORDS);
    if is_shown || is_any(first, &["create"]) && !second.is_empty() {
        return Runs::Shown;
    }
    match is_any(first, &QUERIES) {
        true => Runs::Queries,
        false => Runs::Anything,
    }
}

/// The same in another language, where a text stands in its own kind of quotes.
pub(super) fn runs_foreign(after: &[u8]) -> Runs {
    let after = skip(after);
    let after = skip(after.strip_prefix(b"(").unwrap_or(after));
    let after = match after {
        [b'f' | b'r' | b'F' | b'R', b'"' | b'\'', ..] => &after[1..],
        _ => after,
    };
    let quotes = after
        .iter()
        .take_while(|byte| matches!(byte, b'"' | b'\'' | b'`' | b'{'))
        .count();
    let first = word(skip(&after[quotes..]));
    let shown: [&[&str]; 4] = [&WRITES, &HARMLESS, &QUERIES, &WORDS];
    match quotes > 0 && shown.iter().any(|words| is_any(first, words)) {
        true => Runs::Queries,
        false => Runs::Anything,
    }
}

/// The same where `at` in `body`, behind EXECUTE. A variable is what it is made of.
pub(super) fn runs_at(body: &[u8], at: usize) -> Runs {
    let after = &body[at..];
    match runs(after) {
        Runs::Anything => variable(after).map_or(Runs::Anything, |name| assigned(body, name)),
        known => known,
    }
}

/// The name that is all that is executed.
fn variable(after: &[u8]) -> Option<&[u8]> {
    let after = skip(after);
    let name = word(after);
    let rest = skip(&after[name.len()..]);
    let ends = rest.starts_with(b";") || is_any(word(rest), &["into", "using", "loop"]);
    (!name.is_empty() && ends).then_some(name)
}

/// The worst that a variable of a function may be. What is declared nowhere in it is an argument.
fn assigned(body: &[u8], name: &[u8]) -> Runs {
    const TYPES: [&str; 4] = ["text", "varchar", "character", "pg_catalog"];
    let mut worst = None;
    let mut is_declared = false;
    for at in mentions(body, name) {
        let (before, after) = (trim_end(&body[..at]), skip(&body[at + name.len()..]));
        if is_filled(before) {
            return Runs::Anything;
        }
        let value = if is_any(word(after), &TYPES) {
            is_declared = true;
            initial(after)
        } else if let Some(value) = after.strip_prefix(b":=") {
            Some(value)
        } else {
            let begins = before.last().is_none_or(|byte| *byte == b';')
                || is_any(last_word(before), &["begin", "then", "else", "loop"]);
            after.strip_prefix(b"=").filter(|_| begins)
        };
        if let Some(value) = value.filter(|value| !goes_on(value, name)) {
            worst = worst.max(Some(runs(value)));
        }
    }
    worst.filter(|_| is_declared).unwrap_or(Runs::Anything)
}

/// Where `name` stands as a word.
fn mentions(body: &[u8], name: &[u8]) -> impl Iterator<Item = usize> {
    (0..body.len().saturating_sub(name.len())).filter(move |at| {
        let begins = *at == 0 || !is_name_byte(body[at - 1]);
        begins && word(&body[*at..]).eq_ignore_ascii_case(name)
    })
}

/// A query or a loop puts something into what follows `before`.
fn is_filled(before: &[u8]) -> bool {
    let statement = before
        .iter()
        .rposition(|byte| *byte == b';')
        .map_or(0, |at| at + 1);
    let statement = &before[statement..];
    let is_listed = before.ends_with(b",") && mentions(statement, b"into").next().is_some();
    is_listed || is_any(last_word(before), &["into", "strict", "for", "foreach"])
}

/// What a declaration begins with, if it says so.
fn initial(declared: &[u8]) -> Option<&[u8]> {
    let end = declared
        .iter()
        .position(|byte| matches!(byte, b';' | b'=' | b'\''))?;
    let default = declared[..end]
        .windows(7)
        .position(|here| here.eq_ignore_ascii_case(b"default"));
    match (default, declared[end]) {
        (Some(at), _) => Some(&declared[at + 7..]),
        (None, b'=') => Some(&declared[end + 1..]),
        (None, _) => None,
    }
}

/// The value is what it was before, and more.
fn goes_on(value: &[u8], name: &[u8]) -> bool {
    let value = skip(value);
    let first = word(value);
    first.eq_ignore_ascii_case(name) && skip(&value[first.len()..]).starts_with(b"||")
}

fn is_any(word: &[u8], words: &[&str]) -> bool {
    words
        .iter()
        .any(|known| word.eq_ignore_ascii_case(known.as_bytes()))
}

/// The first argument of `format(` and `concat(`.
fn format_argument(text: &[u8]) -> Option<&[u8]> {
    let text = text.strip_prefix(b"pg_catalog.").unwrap_or(text);
    let name = word(text);
    let known = [&b"format"[..], b"concat"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known));
    let arguments = skip(&text[name.len()..]).strip_prefix(b"(").filter(|_| known)?;
    Some(skip(arguments))
}

/// What a literal begins with. Its end is not needed.
fn written(text: &[u8]) -> Option<&[u8]> {
    let text = match text {
        [b'e' | b'E', rest @ ..] => rest,
        _ => text,
    };
    if let Some(dollar) = text.strip_prefix(b"$") {
        let tag = word(dollar).len();
        return dollar[tag..].strip_prefix(b"$").map(skip);
    }
    let quotes = text.iter().take_while(|byte| **byte == b'\'').count();
    (quotes > 0).then(|| skip(&text[quotes..]))
}

/// The literal that `text` begins with is all that is executed.
fn is_all(text: &[u8]) -> bool {
    let Some((_, rest)) = literal(text) else {
        return false;
    };
    let rest = skip(rest);
    rest.starts_with(b";") || is_any(word(rest), &["into", "using", "loop"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_told_from_what_is_put_together() {
        for (text, expected) in [
            (" 'SELECT count(*) FROM t' INTO n;", Runs::Shown),
            (" $q$SELECT f()$q$;", Runs::Shown),
            (" 'SET app.x = 1';", Runs::Shown),
            (" FUNCTION f()", Runs::Shown),
            (" ON FUNCTION f TO r", Runs::Shown),
            (" format('CREATE TABLE %I (a int)', t);", Runs::Shown),
            (" 'ALTER TABLE ' || t || ' ADD a int';", Runs::Shown),
            (" 'INSERT INTO ' || t || ' VALUES (1)';", Runs::Writes),
            (" pg_catalog.format($$ delete from %I $$, t);", Runs::Writes),
            (" q;", Runs::Anything),
            (" 'SELECT ' || f || '()';", Runs::Queries),
            (" format('SELECT ($1).%I', c) USING NEW;", Runs::Queries),
            (" 'SET ' || k || ' = 1';", Runs::Shown),
            (" 'DO ' || q;", Runs::Anything),
            (" $1;", Runs::Anything),
            (" format('%s', q);", Runs::Anything),
            (" format(q, 1);", Runs::Anything),
            (" 'CREATE ' || kind || ' TABLE t (a int)';", Runs::Queries),
            (" quote_ident(q);", Runs::Anything),
            ("", Runs::Anything),
        ] {
            assert_eq!(runs(text.as_bytes()), expected, "{text}");
        }
    }

    fn runs_last(body: &str) -> Runs {
        runs_at(body.as_bytes(), body.rfind("EXECUTE").unwrap() + 7)
    }

    #[test]
    fn a_variable_is_what_it_is_made_of() {
        for (body, expected) in [
            (
                "DECLARE q text := 'SELECT 1'; BEGIN q := q || ' WHERE a'; EXECUTE q; END",
                Runs::Shown.max(runs(b" 'SELECT 1';")),
            ),
            (
                "DECLARE q text; BEGIN q := format('DELETE FROM %I', t); EXECUTE q; END",
                Runs::Writes,
            ),
            (
                "DECLARE q varchar(100) DEFAULT 'select ' || c; BEGIN EXECUTE q INTO n; END",
                Runs::Queries,
            ),
            (
                "DECLARE q text; BEGIN q = 'SELECT ' || c; EXECUTE Q USING 1; END",
                Runs::Queries,
            ),
            (
                "DECLARE q text; BEGIN q := 'SELECT ' || c; q := other; EXECUTE q; END",
                Runs::Anything,
            ),
            (
                "DECLARE q text; BEGIN SELECT a INTO q FROM t; EXECUTE q; END",
                Runs::Anything,
            ),
            (
                "DECLARE q text; BEGIN SELECT a, b INTO n, q FROM t; EXECUTE q; END",
                Runs::Anything,
            ),
            (
                "DECLARE q text; BEGIN FOR q IN SELECT a FROM t LOOP EXECUTE q; END LOOP; END",
                Runs::Anything,
            ),
            ("BEGIN q := 'SELECT 1' || c; EXECUTE q; END", Runs::Anything),
            ("DECLARE q text; BEGIN EXECUTE q; END", Runs::Anything),
        ] {
            assert_eq!(runs_last(body), expected, "{body}");
        }
    }
}
