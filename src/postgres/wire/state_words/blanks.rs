//! The smallest parts of SQL text: blanks and comments, identifiers, literals.

/// A byte that an identifier without quotes goes on with. Not `$`: it also begins and ends dollar quotes.
pub(super) fn is_name_byte(byte: u8) -> bool {
    NAME_BYTES[usize::from(byte)]
}

const NAME_BYTES: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut at = 0;
    while at < bytes.len() {
        let byte = at as u8;
        bytes[at] = byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
        at += 1;
    }
    bytes
};

pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

pub(super) fn trim_start(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| !is_blank(*byte));
    &text[end.unwrap_or(text.len())..]
}

pub(super) fn trim_end(text: &[u8]) -> &[u8] {
    let last = text.iter().rposition(|byte| !is_blank(*byte));
    &text[..last.map_or(0, |last| last + 1)]
}

/// Whether `text` begins with `word`, in whatever case.
pub(super) fn starts_with(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// Leaves out blanks and comments. A comment without an end takes all.
pub(in crate::postgres) fn skip(mut text: &[u8]) -> &[u8] {
    loop {
        text = trim_start(text);
        text = if text.starts_with(b"--") {
            let end = text.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            &text[end.unwrap_or(text.len())..]
        } else if text.starts_with(b"/*") {
            after_comment(text)
        } else {
            return text;
        };
    }
}

/// Comments nest.
fn after_comment(mut text: &[u8]) -> &[u8] {
    let mut depth = 0_u32;
    loop {
        if text.starts_with(b"/*") {
            depth += 1;
            text = &text[2..];
        } else if text.starts_with(b"*/") {
            depth -= 1;
            text = &text[2..];
            if depth == 0 {
                return text;
            }
        } else {
            match text.split_first() {
                Some((_, rest)) => text = rest,
                None => return text,
            }
        }
    }
}

/// The bytes of a name without quotes that `text` begins with.
pub(in crate::postgres) fn word(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| !is_name_byte(*byte));
    &text[..end.unwrap_or(text.len())]
}

/// The bytes of a name without quotes that `text` ends with.
pub(super) fn last_word(text: &[u8]) -> &[u8] {
    let before = text.iter().rposition(|byte| !is_name_byte(*byte));
    &text[before.map_or(0, |before| before + 1)..]
}

/// An identifier with or without quotes, as it is written between them, and what follows.
pub(super) fn identifier(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if let Some(quoted) = text.strip_prefix(b"\"") {
        let end = quoted.iter().position(|byte| *byte == b'"')?;
        return Some((&quoted[..end], &quoted[end + 1..]));
    }
    let mut end = word(text).len();
    if end == 0 || text[0].is_ascii_digit() {
        return None;
    }
    while text.get(end) == Some(&b'$') {
        end += 1 + word(&text[end + 1..]).len();
    }
    Some(text.split_at(end))
}

/// A string constant whose value is plain from its text, and what follows. None: not a constant, or one with
/// escapes.
pub(super) fn literal(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if let Some(dollar) = text.strip_prefix(b"$") {
        let (tag, body) = text.split_at_checked(word(dollar).len() + 2)?;
        if !tag.ends_with(b"$") {
            return None;
        }
        let end = body.windows(tag.len()).position(|here| here == tag)?;
        return Some((&body[..end], &body[end + tag.len()..]));
    }
    let text = match text {
        [b'e' | b'E' | b'n' | b'N', rest @ ..] => rest,
        _ => text,
    };
    let text = text.strip_prefix(b"'")?;
    // Inside another literal the quotes are doubled.
    let doubled = text.starts_with(b"'") && text.get(1).copied().is_some_and(is_name_byte);
    let (text, quote) = if doubled {
        (&text[1..], &b"''"[..])
    } else {
        (text, &b"'"[..])
    };
    let end = text.iter().position(|byte| matches!(byte, b'\'' | b'\\'))?;
    let rest = text[end..].strip_prefix(quote)?;
    if !doubled && rest.starts_with(b"'") {
        return None;
    }
    Some((&text[..end], rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_and_comments_are_left_out() {
        assert_eq!(skip(b" \t\n a"), b"a");
        assert_eq!(skip(b"-- one\n /* two /* three */ */ a"), b"a");
        assert_eq!(skip(b"/* open"), b"");
        assert_eq!(skip(b"- a"), b"- a");
        assert_eq!(skip(b""), b"");
    }

    #[test]
    fn identifiers_end_where_they_end() {
        assert_eq!(identifier(b"app.x"), Some((&b"app"[..], &b".x"[..])));
        assert_eq!(identifier(b"a$1$ b"), Some((&b"a$1$"[..], &b" b"[..])));
        assert_eq!(identifier(b"\"a b\".x"), Some((&b"a b"[..], &b".x"[..])));
        assert_eq!(identifier(b"1a"), None);
        assert_eq!(identifier(b"\"a"), None);
        assert_eq!(identifier(b"=1"), None);
    }

    #[test]
    fn literals_are_read_when_they_are_plain() {
        for (text, value) in [
            ("'a.b', 1", "a.b"),
            ("E'a.b', 1", "a.b"),
            ("n'a.b', 1", "a.b"),
            ("$$a.b$$, 1", "a.b"),
            ("$x$a.b$x$, 1", "a.b"),
            ("''a.b'', 1", "a.b"),
            ("'', 1", ""),
        ] {
            let expected = Some((value.as_bytes(), &b", 1"[..]));
            assert_eq!(literal(text.as_bytes()), expected, "{text}");
        }
        for text in [
            "$1", "$", "a", "'a", "E'\\x61'", "'a''b'", "U&'a'", "$x$a", "''a.b'",
        ] {
            assert_eq!(literal(text.as_bytes()), None, "{text}");
        }
    }
}
