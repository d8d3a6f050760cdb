//! The attribute syntax of SCRAM messages: `x=value`, comma, `y=value`.

/// What is wrong with the form of a message. Says nothing of the message's own bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("the message is empty")]
    Empty,
    #[error("the message is longer than {max} bytes")]
    TooLong { max: usize },
    #[error("the message holds a zero byte")]
    ZeroByte,
    #[error("expected attribute \"{0}\"")]
    Expected(char),
    #[error("expected an attribute")]
    ExpectedAny,
    #[error("attribute \"{0}\" has a malformed value")]
    Value(char),
    #[error("there is something after the message's end")]
    Trailing,
}

/// Reads attributes in the order in which they have to come.
pub(super) struct Attributes<'m> {
    message: &'m [u8],
    at: usize,
}

impl<'m> Attributes<'m> {
    pub(super) fn new(message: &'m [u8], max: usize) -> Result<Self, Malformed> {
        if message.is_empty() {
            return Err(Malformed::Empty);
        }
        if message.len() > max {
            return Err(Malformed::TooLong { max });
        }
        if message.contains(&0) {
            return Err(Malformed::ZeroByte);
        }
        Ok(Self { message, at: 0 })
    }

    /// How far the reader has come: where the next attribute begins.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn rest(&self) -> &'m [u8] {
        &self.message[self.at..]
    }

    pub(super) fn next_is(&self, name: char) -> bool {
        self.rest().first() == Some(&(name as u8))
    }

    pub(super) fn skip(&mut self, literal: &[u8]) -> bool {
        let found = self.rest().starts_with(literal);
        if found {
            self.at += literal.len();
        }
        found
    }

    /// The value of the next attribute, which has to be `name`.
    pub(super) fn expect(&mut self, name: char) -> Result<&'m [u8], Malformed> {
        match self.rest() {
            [first, b'=', ..] if *first == name as u8 => Ok(self.take_value()),
            _ => Err(Malformed::Expected(name)),
        }
    }

    /// The next attribute, whichever it is.
    pub(super) fn any(&mut self) -> Result<(char, &'m [u8]), Malformed> {
        match self.rest() {
            [name, b'=', ..] if name.is_ascii_alphabetic() => Ok((char::from(*name), self.take_value())),
            _ => Err(Malformed::ExpectedAny),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.rest().is_empty()
    }

    pub(super) fn done(&self) -> Result<(), Malformed> {
        if self.is_done() {
            Ok(())
        } else {
            Err(Malformed::Trailing)
        }
    }

    fn take_value(&mut self) -> &'m [u8] {
        let after_equals = &self.rest()[2..];
        let length = after_equals.iter().position(|byte| *byte == b',');
        let value = &after_equals[..length.unwrap_or(after_equals.len())];
        self.at += 2 + value.len() + usize::from(length.is_some());
        value
    }
}

/// RFC 5802 `printable`: ASCII without space, control characters and comma.
pub(super) fn printable(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b',')
        .then_some(text)
}
