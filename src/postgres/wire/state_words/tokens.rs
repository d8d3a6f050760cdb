//! SQL text in its smallest parts, for statements so plain that they can be read.

use super::blanks::{is_name_byte, skip, word};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A keyword or a name without quotes.
    Word(&'a [u8]),
    /// What stands between the quotes of a name.
    Quoted(&'a [u8]),
    /// What stands between the quotes of a constant; its own quotes are still doubled.
    Text(&'a [u8]),
    /// `$1`
    Parameter(u16),
    Number(&'a [u8]),
    Symbol(u8),
}

impl Token<'_> {
    /// Whether it is this keyword.
    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword.as_bytes()))
    }
}

/// Something that can't be read without knowing more than the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// The tokens of a text, each with what stands behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    pub(super) fn of(text: &'a [u8]) -> Self {
        Self { rest: skip(text) }
    }

    /// What has not been read, without blanks before it.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next one. `Ok(None)`: the text is over.
    pub(super) fn next(&mut self) -> Result<Option<Token<'a>>, Unreadable> {
        let text = self.rest;
        let Some(first) = text.first() else {
            return Ok(None);
        };
        let (token, rest) = match first {
            b'\'' => quoted(text, b'\'').map(|(text, rest)| (Token::Text(text), rest))?,
            b'"' => quoted(text, b'"').map(|(text, rest)| (Token::Quoted(text), rest))?,
            b'$' => dollar(text)?,
            b'0'..=b'9' => {
                let end = text.iter().position(|byte| !is_name_byte(*byte) && *byte != b'.');
                let (number, rest) = text.split_at(end.unwrap_or(text.len()));
                (Token::Number(number), rest)
            }
            // Whether it escapes depends on a setting.
            b'\\' => return Err(Unreadable),
            byte if is_name_byte(*byte) => name(text)?,
            byte => (Token::Symbol(*byte), &text[1..]),
        };
        self.rest = skip(rest);
        Ok(Some(token))
    }
}

/// What stands between quotes, which are doubled inside.
fn quoted(text: &[u8], quote: u8) -> Result<(&[u8], &[u8]), Unreadable> {
    let mut at = 1;
    loop {
        match text.get(at) {
            Some(b'\\') | None => return Err(Unreadable),
            Some(byte) if *byte == quote && text.get(at + 1) == Some(&quote) => at += 2,
            Some(byte) if *byte == quote => return Ok((&text[1..at], &text[at + 1..])),
            Some(_) => at += 1,
        }
    }
}

fn dollar(text: &[u8]) -> Result<(Token<'_>, &[u8]), Unreadable> {
    let after = &text[1..];
    let tag = word(after);
    if tag.first().is_some_and(u8::is_ascii_digit) {
        let number = str::from_utf8(tag).ok().and_then(|digits| digits.parse().ok());
        return number
            .map(|number| (Token::Parameter(number), &after[tag.len()..]))
            .ok_or(Unreadable);
    }
    let mark = &text[..(tag.len() + 2).min(text.len())];
    if mark.len() < 2 || !mark.ends_with(b"$") {
        return Err(Unreadable);
    }
    let body = &text[mark.len()..];
    let end = memchr::memmem::find(body, mark).ok_or(Unreadable)?;
    // Its value as it is, which doubled quotes in it would not be: no use for a value, but it is over here.
    match body[..end].contains(&b'\'') || body[..end].contains(&b'\\') {
        true => Ok((Token::Symbol(b'$'), &body[end + mark.len()..])),
        false => Ok((Token::Text(&body[..end]), &body[end + mark.len()..])),
    }
}

fn name(text: &[u8]) -> Result<(Token<'_>, &[u8]), Unreadable> {
    let mut end = word(text).len();
    while text.get(end) == Some(&b'$') {
        end += 1 + word(&text[end + 1..]).len();
    }
    let (name, rest) = text.split_at(end);
    // E'…', U&'…' and their like are read in their own way.
    match rest {
        [b'\'', ..] | [b'&', b'\'' | b'"', ..] => Err(Unreadable),
        _ => Ok((Token::Word(name), rest)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &str) -> Result<Vec<Token<'_>>, Unreadable> {
        let mut tokens = Tokens::of(text.as_bytes());
        let mut all = Vec::new();
        while let Some(token) = tokens.next()? {
            all.push(token);
        }
        Ok(all)
    }

    #[test]
    fn texts_are_taken_apart() {
        let expected = [
            Token::Word(b"set"),
            Token::Word(b"a$1"),
            Token::Symbol(b'.'),
            Token::Quoted(b"B"),
            Token::Symbol(b'='),
            Token::Text(b"it''s; fine"),
            Token::Symbol(b','),
            Token::Parameter(12),
            Token::Number(b"1.5e3"),
            Token::Text(b" q "),
        ];
        let text = "/* a */ set a$1 . \"B\" = 'it''s; fine', -- b\n $12 1.5e3 $x$ q $x$";
        assert_eq!(all(text).as_deref(), Ok(&expected[..]));
    }

    #[test]
    fn what_depends_on_settings_is_unreadable() {
        for text in ["'a\\b'", "E'a'", "U&'a'", "u&\"a\"", "'a", "$x$a", "\\", "$"] {
            assert_eq!(all(text), Err(Unreadable), "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_texts_come_to_an_end(text in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut tokens = Tokens::of(&text);
            while let Ok(Some(_)) = tokens.next() {}
        }
    }
}
