//! Finds the statement text in a message whose body may come in pieces. What its words mean, the vocabulary knows.

use memchr::memchr;

use super::place::{AFTER_MAX, BEFORE_MAX};
use super::{Spotted, Vocabulary};

/// A message that carries statement text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    Query,
    Parse,
}

/// Reads the text of a message whose body comes in pieces, and spots what [`Vocabulary::read`] would.
///
/// It keeps at most [`KEPT_MAX`] bytes between pieces, and copies nothing of a body that comes whole.
#[derive(Debug, Default)]
pub struct Listener {
    part: Part,
    named: bool,
    spotted: Spotted,
    /// The end of the text so far.
    kept: Vec<u8>,
    /// Where in `kept` the words begin that are not judged yet.
    unjudged: usize,
}

/// Which part of the body comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    Name,
    Text,
    #[default]
    Rest,
}

/// What the words at the end of a piece need to be judged, with what comes.
const KEPT_MAX: usize = BEFORE_MAX + AFTER_MAX;

impl Listener {
    /// The header of `message` has been seen.
    pub fn begin(&mut self, message: Message) {
        self.part = match message {
            Message::Query => Part::Text,
            Message::Parse => Part::Name,
        };
        self.named = false;
        self.spotted = Spotted::default();
        self.kept.clear();
        self.unjudged = 0;
    }

    /// More of the body, and not the last of it.
    pub fn piece(&mut self, vocabulary: &Vocabulary, body: &[u8]) {
        self.take(vocabulary, body, false);
    }

    /// The last of the body, which is all of it when it came whole.
    pub fn end(&mut self, vocabulary: &Vocabulary, body: &[u8]) -> Spotted {
        self.take(vocabulary, body, true);
        self.part = Part::Rest;
        self.kept = Vec::new();
        let blank = vocabulary.blank();
        let mut spotted = std::mem::take(&mut self.spotted);
        spotted.signalled |= blank.signalled;
        spotted.lasting |= blank.lasting;
        spotted
    }

    /// Whether the Parse message gives its statement a name that outlives the next Parse.
    pub fn is_named(&self) -> bool {
        self.named
    }

    fn take(&mut self, vocabulary: &Vocabulary, mut body: &[u8], last: bool) {
        if self.part == Part::Name {
            let end = memchr(0, body);
            self.named |= end.unwrap_or(body.len()) > 0;
            let Some(end) = end else {
                return;
            };
            body = &body[end + 1..];
            self.part = Part::Text;
        }
        if self.part == Part::Text {
            let end = memchr(0, body);
            self.text(
                vocabulary,
                &body[..end.unwrap_or(body.len())],
                last || end.is_some(),
            );
            if end.is_some() {
                self.part = Part::Rest;
            }
        }
    }

    fn text(&mut self, vocabulary: &Vocabulary, piece: &[u8], last: bool) {
        let before = self.kept.len();
        let length = before + piece.len();
        // Counted from the beginning of what is kept.
        let judged = match last {
            true => length,
            false => length.saturating_sub(AFTER_MAX).max(self.unjudged),
        };
        let in_piece = match before {
            0 => 0,
            _ => before + BEFORE_MAX,
        };
        if before > 0 {
            let seam = piece.len().min(KEPT_MAX + 1);
            self.kept.extend_from_slice(&piece[..seam]);
            let starts = self.unjudged..judged.min(in_piece);
            vocabulary.note(&self.kept, starts, &mut self.spotted);
        }
        if judged > in_piece {
            vocabulary.note(piece, in_piece - before..judged - before, &mut self.spotted);
        }
        if !last {
            self.keep(piece, before, judged);
        }
    }

    /// Keeps what stands before the words that are not judged, and them.
    fn keep(&mut self, piece: &[u8], before: usize, judged: usize) {
        let from = judged.saturating_sub(BEFORE_MAX);
        self.kept.truncate(before);
        match from.checked_sub(before) {
            Some(from) => {
                self.kept.clear();
                self.kept.extend_from_slice(&piece[from..]);
            }
            None => {
                self.kept.drain(..from);
                self.kept.extend_from_slice(piece);
            }
        }
        self.unjudged = judged - from;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn heard(vocabulary: &Vocabulary, message: Message, pieces: &[&[u8]]) -> (Spotted, bool) {
        let mut listener = Listener::default();
        listener.begin(message);
        let (last, first) = pieces.split_last().unwrap();
        for piece in first {
            listener.piece(vocabulary, piece);
            assert!(listener.kept.len() <= KEPT_MAX);
        }
        let spotted = listener.end(vocabulary, last);
        (spotted, listener.is_named())
    }

    #[test]
    fn a_body_that_comes_whole_is_not_copied() {
        let mut listener = Listener::default();
        listener.begin(Message::Query);
        let spotted = listener.end(&Vocabulary::default(), b"SET app.x = 1\0");
        assert_eq!(spotted.settings, ["app.x"]);
        assert_eq!(listener.kept.capacity(), 0);
    }

    #[test]
    fn the_name_of_a_statement_is_not_part_of_its_text() {
        let vocabulary = Vocabulary::default();
        let body = b"set_config\0select 1\0\0\0";
        for cut in 0..body.len() {
            let (spotted, named) = heard(&vocabulary, Message::Parse, &[&body[..cut], &body[cut..]]);
            assert_eq!(spotted, Spotted::default(), "cut at {cut}");
            assert!(named);
        }
        let (spotted, named) = heard(&vocabulary, Message::Parse, &[b"\0select setseed(0)\0\0\0"]);
        assert!(spotted.signalled && !named);
    }

    #[test]
    fn a_listener_that_was_left_in_the_middle_begins_anew() {
        let vocabulary = Vocabulary::default();
        let mut listener = Listener::default();
        listener.begin(Message::Query);
        listener.piece(&vocabulary, b"select set_config('a.b', ");
        listener.begin(Message::Query);
        assert_eq!(listener.end(&vocabulary, b"select 1\0"), Spotted::default());
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        let parts = prop::sample::select(vec![
            "set",
            "SET ",
            "local ",
            "session ",
            "app.tenant",
            "\"a\".\"b\"",
            " = 1;",
            "reset ",
            "set_config",
            "(",
            "'app.x'",
            "'x'",
            ",",
            "$1",
            "::text",
            "create ",
            "temp ",
            "table ",
            "pg_temp",
            "update ",
            "t ",
            "pg_settings",
            "--",
            "\n",
            "/*",
            "*/",
            "u&\"",
            "execute ",
            "advisory_",
            "xact_",
            "load 'x'",
            "apply_tenant",
            "select ",
            "pg_advisory_lock(1)",
            "x",
            ".",
            "\"",
            "'",
            "é",
        ]);
        let pad = (0..300_usize, prop::sample::select(vec![b' ', b'a', b'\n']));
        let pad = pad.prop_map(|(length, byte)| vec![byte; length]);
        let part = prop_oneof![20 => parts.prop_map(|part| part.as_bytes().to_vec()), 1 => pad];
        prop::collection::vec(part, 0..60).prop_map(|parts| parts.concat())
    }

    #[test]
    fn any_split_of_any_text_spots_the_same() {
        let vocabulary = Vocabulary::new(["apply_tenant", "apply"]);
        let cuts = prop::collection::vec(any::<prop::sample::Index>(), 0..8);
        proptest!(ProptestConfig::with_cases(1024), |(text in text(), cuts in cuts)| {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|ends| &text[ends[0]..ends[1]]).collect();
            let (spotted, _) = heard(&vocabulary, Message::Query, &pieces);
            prop_assert_eq!(spotted, vocabulary.read(&text));
        });
    }
}
