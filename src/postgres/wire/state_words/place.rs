//! Where in a text a word stands, as far as its meaning depends on that.

use super::blanks::{is_name_byte, last_word, trim_end};

/// How much of the text before a word counts.
pub(super) const BEFORE_MAX: usize = 256;

/// How much of the text from the beginning of a word on counts. What is longer than that can't be read.
pub(super) const AFTER_MAX: usize = 256;

/// A word in its surroundings. What can be told of it depends on nothing else, so that it does not matter in
/// which pieces a text arrives.
#[derive(Clone, Copy, Debug)]
pub(super) struct SqlPlace<'a> {
    before: &'a [u8],
    after: &'a [u8],
    /// There is more text than `after` shows.
    cut: bool,
}

impl<'a> SqlPlace<'a> {
    /// The word of `length` that begins at `start`.
    pub(super) fn new(text: &'a [u8], start: usize, length: usize) -> Self {
        let end = text.len().min(start + AFTER_MAX);
        Self {
            before: &text[start.saturating_sub(BEFORE_MAX)..start],
            after: &text[start + length..end],
            cut: end < text.len(),
        }
    }

    pub(super) fn after(&self) -> &'a [u8] {
        self.after
    }

    /// Whether `rest`, a part of `after` that goes to its end, ends because no more is shown.
    pub(super) fn is_cut(&self, rest: &[u8]) -> bool {
        self.cut && rest.is_empty()
    }

    /// Nothing of a name goes on before it.
    pub(super) fn begins(&self) -> bool {
        !self.before.last().copied().is_some_and(is_name_byte)
    }

    /// Nothing of a name goes on after it.
    pub(super) fn ends(&self) -> bool {
        !self.after.first().copied().is_some_and(is_name_byte)
    }

    /// TEMP or TEMPORARY as a keyword: a column may be called that as well. In doubt, a keyword.
    pub(super) fn declares_temporary(&self) -> bool {
        const BEFORE: [&[u8]; 5] = [b"create", b"replace", b"local", b"global", b"into"];
        let before = trim_end(self.before);
        match before.last() {
            None => true,
            Some(byte) if is_name_byte(*byte) => {
                BEFORE
                    .iter()
                    .any(|word| last_word(before).eq_ignore_ascii_case(word))
                    || self.follows_a_line_comment(before)
            }
            Some(b',' | b'(' | b')' | b'.' | b'=' | b'<' | b'>' | b'+' | b'*' | b';') => {
                self.follows_a_line_comment(before)
            }
            Some(b'"') => before.len() < self.before.len(),
            Some(_) => true,
        }
    }

    /// SET, LISTEN and the like where a statement may begin, also inside a literal: in `UPDATE t SET` and
    /// as a name they mean something else.
    pub(super) fn begins_a_statement(&self) -> bool {
        const BEFORE: [&[u8]; 5] = [b"begin", b"then", b"else", b"loop", b"atomic"];
        let before = trim_end(self.before);
        let gap = &self.before[before.len()..];
        match before.last() {
            None | Some(b';' | b'$' | b'/') => true,
            Some(b'>') => before.ends_with(b">>"),
            Some(b'\'') => gap.is_empty() || gap.contains(&b'\n'),
            Some(b'"') => gap.is_empty() || before.ends_with(b"\"\"") && gap.contains(&b'\n'),
            Some(byte) if is_name_byte(*byte) => {
                BEFORE
                    .iter()
                    .any(|word| last_word(before).eq_ignore_ascii_case(word))
                    || self.follows_a_line_comment(before)
            }
            Some(_) => self.follows_a_line_comment(before),
        }
    }

    /// `before`, which is what stands before the word without blanks at its end, may end in a comment.
    fn follows_a_line_comment(&self, before: &[u8]) -> bool {
        let gap = &self.before[before.len()..];
        if !gap.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
            return false;
        }
        let line = before.iter().rposition(|byte| matches!(byte, b'\n' | b'\r'));
        let whole = line.is_some() || self.before.len() < BEFORE_MAX;
        let line = &before[line.unwrap_or(0)..];
        !whole || line.windows(2).any(|two| two == b"--")
    }

    /// `word` stands before it, close enough to belong to it.
    pub(super) fn follows(&self, word: &[u8]) -> bool {
        self.before
            .windows(word.len())
            .any(|here| here.eq_ignore_ascii_case(word))
    }

    /// `word` is the last word before it.
    pub(super) fn follows_directly(&self, word: &[u8]) -> bool {
        last_word(trim_end(self.before)).eq_ignore_ascii_case(word)
    }
}
