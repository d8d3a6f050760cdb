//! What EXECUTE runs inside a function.

use super::blanks::{literal, skip, trim_start, word};

/// What may be run by an EXECUTE whose text does not show all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runs {
    /// Nothing but what the text shows.
    Shown,
    /// A statement that leaves the session as it is, but fires triggers of any table.
    Writes,
    Anything,
}

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
    if is_any(first, &HARMLESS) || is_any(first, &["create"]) && !second.is_empty() {
        return Runs::Shown;
    }
    Runs::Anything
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
            (" 'SELECT ' || f || '()';", Runs::Anything),
            (" format('%s', q);", Runs::Anything),
            (" format(q, 1);", Runs::Anything),
            (" 'CREATE ' || kind || ' TABLE t (a int)';", Runs::Anything),
            (" quote_ident(q);", Runs::Anything),
            ("", Runs::Anything),
        ] {
            assert_eq!(runs(text.as_bytes()), expected, "{text}");
        }
    }
}
