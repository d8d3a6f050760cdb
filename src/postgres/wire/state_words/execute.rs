//! What EXECUTE runs inside a function.

use super::blanks::{literal, skip, trim_start, word};

/// Statements that leave the session as it is, whatever the rest of their text says. Their tables may have
/// risky triggers all the same; a name that is put together while the function runs can't be known.
const HARMLESS: [&[u8]; 18] = [
    b"insert",
    b"update",
    b"delete",
    b"merge",
    b"truncate",
    b"copy",
    b"lock",
    b"notify",
    b"analyze",
    b"vacuum",
    b"refresh",
    b"reindex",
    b"cluster",
    b"alter",
    b"drop",
    b"comment",
    b"grant",
    b"revoke",
];

/// Whether what stands behind EXECUTE could run a statement that changes the session. The words of a literal
/// are found by themselves; this is about what is not written down.
pub(super) fn runs_anything(after: &[u8]) -> bool {
    let after = skip(after);
    // CREATE TRIGGER … EXECUTE FUNCTION, GRANT EXECUTE ON.
    if ["function", "procedure", "on"]
        .iter()
        .any(|next| word(after).eq_ignore_ascii_case(next.as_bytes()))
    {
        return false;
    }
    let (text, formatted) = match format_argument(after) {
        Some(argument) => (argument, true),
        None => (after, false),
    };
    let Some(head) = written(text) else {
        return true;
    };
    let first = word(head);
    if HARMLESS
        .iter()
        .any(|harmless| first.eq_ignore_ascii_case(harmless))
    {
        return false;
    }
    if first.eq_ignore_ascii_case(b"create") {
        // CREATE TEMP has a word of its own, unless it is put together.
        let second = word(trim_start(&head[first.len()..]));
        return second.is_empty();
    }
    let reads = first.eq_ignore_ascii_case(b"select") || first.eq_ignore_ascii_case(b"with");
    !(reads && !formatted && is_all(text))
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
    let next = word(rest);
    rest.starts_with(b";")
        || [&b"into"[..], b"using", b"loop"]
            .iter()
            .any(|end| next.eq_ignore_ascii_case(end))
}
