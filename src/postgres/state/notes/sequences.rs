//! What sequences gave to a session: no move carries it, so that one is better made between the question for it and
//! the next draw.

use memchr::memmem;

/// Of a session that asks, or may ask.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    is_watched: bool,
    /// A sequence may have given something that was not asked for since.
    has_drawn: bool,
    /// What is under way asks.
    asks: bool,
    /// Its queries draw, too.
    queries_draw: bool,
}

impl Sequences {
    /// Of a session that has not drawn yet.
    pub fn new(is_watched: bool) -> Self {
        Self {
            is_watched,
            ..Self::default()
        }
    }

    pub fn is_watched(&self) -> bool {
        self.is_watched
    }

    pub fn has_drawn(&self) -> bool {
        self.has_drawn
    }

    /// A statement's text.
    #[inline]
    pub fn read(&mut self, text: &[u8]) {
        if self.is_watched && !self.queries_draw {
            self.queries_draw = names_a_draw(text);
        }
    }

    /// A statement that asks was given to the server to run.
    pub fn asked(&mut self) {
        // What was drawn before nobody knows.
        self.has_drawn |= !self.is_watched;
        (self.is_watched, self.asks) = (true, true);
    }

    /// A statement was carried out.
    #[inline]
    pub fn completed(&mut self, tag: &[u8]) {
        if self.is_watched {
            self.take(tag);
        }
    }

    #[inline(never)]
    fn take(&mut self, tag: &[u8]) {
        let end = tag.iter().position(|byte| matches!(byte, b' ' | 0));
        match &tag[..end.unwrap_or(tag.len())] {
            b"SELECT" if self.asks => self.has_drawn = false,
            b"SELECT" => self.has_drawn |= self.queries_draw,
            b"INSERT" | b"MERGE" | b"COPY" | b"CALL" | b"DO" => self.has_drawn = true,
            b"DISCARD" if tag.starts_with(b"DISCARD ALL") || tag.starts_with(b"DISCARD SEQUENCES") => {
                self.has_drawn = false;
            }
            _ => {}
        }
    }

    /// Nothing is in flight.
    pub fn quiet(&mut self) {
        self.asks = false;
    }
}

#[inline(never)]
fn names_a_draw(text: &[u8]) -> bool {
    let text = text.to_ascii_lowercase();
    let names = |word: &[u8]| memmem::find(&text, word).is_some();
    names(b"nextval") || names(b"setval")
}
