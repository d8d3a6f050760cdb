//! Finds message boundaries in a stream that arrives in arbitrary pieces.
//!
//! Small messages go on whole, so that the stream towards a client can be continued by another server at any
//! moment, and a message can be looked at in one piece. Large ones go on as they come: memory stays bounded.

/// Bytes of a header after startup: the tag and a length that counts itself.
pub const HEADER: usize = 5;

/// The longest message, header included, that waits for its end.
pub const WHOLE_MAX: usize = 64 * 1024;

/// What a cut finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    Message {
        tag: u8,
        body: &'a mut [u8],
    },
    /// A message longer than [`WHOLE_MAX`] begins: what has arrived of its body.
    Begin {
        tag: u8,
        body: &'a [u8],
    },
    /// More of it. The last piece ends the message.
    More {
        body: &'a [u8],
        last: bool,
    },
}

/// What becomes of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    PassedOn,
    /// The same, and it can be taken back in the same cut.
    Opens,
    Dropped,
    /// And so is what goes on of this cut, from what opened last.
    TakenBack,
    /// It stays where it is, with everything behind it, and is shown again later: not [`Piece::More`].
    Held,
}

/// How far a cut came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Bytes that were pieces.
    pub taken: usize,
    /// Bytes that go on: they are the first now.
    pub kept: usize,
    /// The rest has to be shown again although nothing is behind it.
    pub held: bool,
}

/// A length field that no message can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message {tag:?} claims a length of {length}")]
pub struct BadLength {
    pub tag: char,
    pub length: i32,
}

/// Where one direction of a connection stands between two pieces.
#[derive(Debug, Default)]
pub struct Cutter {
    /// Bytes still to come of a large message.
    passing: usize,
}

impl Cutter {
    /// Shows every piece of `bytes` that may go on, and closes up what does. The bytes that were not taken are
    /// the beginning of a small message: it has to be here again, with more behind it, at the next cut.
    pub fn cut(
        &mut self,
        bytes: &mut [u8],
        mut see: impl FnMut(Piece<'_>) -> Fate,
    ) -> Result<Cut, BadLength> {
        let mut cut = Cut {
            taken: 0,
            kept: 0,
            held: false,
        };
        let mut opened = 0;
        while let Some((count, piece)) = self.first(&mut bytes[cut.taken..])? {
            let fate = see(piece);
            if matches!(fate, Fate::PassedOn | Fate::Opens) {
                if fate == Fate::Opens {
                    opened = cut.kept;
                }
                if cut.kept < cut.taken {
                    bytes.copy_within(cut.taken..cut.taken + count, cut.kept);
                }
                cut.kept += count;
            } else if fate == Fate::TakenBack {
                cut.kept = opened;
            } else if fate == Fate::Held {
                self.passing = 0;
                cut.held = true;
                return Ok(cut);
            }
            cut.taken += count;
        }
        Ok(cut)
    }

    /// The piece that `bytes` begin with, and its length, if there is enough of it.
    #[inline]
    fn first<'a>(&mut self, bytes: &'a mut [u8]) -> Result<Option<(usize, Piece<'a>)>, BadLength> {
        let here = bytes.len();
        if self.passing > 0 && here > 0 {
            let count = here.min(self.passing);
            self.passing -= count;
            let last = self.passing == 0;
            let body = &bytes[..count];
            return Ok(Some((count, Piece::More { body, last })));
        }
        let Some((header, after)) = bytes.split_first_chunk_mut::<HEADER>() else {
            return Ok(None);
        };
        let (tag, length) = read_header(*header)?;
        if length > after.len() {
            if HEADER + length <= WHOLE_MAX {
                return Ok(None);
            }
            self.passing = length - after.len();
            return Ok(Some((here, Piece::Begin { tag, body: after })));
        }
        let body = &mut after[..length];
        Ok(Some((HEADER + length, Piece::Message { tag, body })))
    }

    /// Bytes still to come of a large message that has begun.
    pub fn left(&self) -> usize {
        self.passing
    }

    /// Whether a large message has begun and not ended.
    pub fn is_passing(&self) -> bool {
        self.passing > 0
    }
}

/// A message's tag, and the length of its body.
pub fn read_header([tag, length @ ..]: [u8; HEADER]) -> Result<(u8, usize), BadLength> {
    let length = i32::from_be_bytes(length);
    match usize::try_from(length) {
        Ok(length @ 4..) => Ok((tag, length - 4)),
        _ => Err(BadLength {
            tag: char::from(tag),
            length,
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    type Messages = Vec<(u8, Vec<u8>)>;

    /// Feeds a stream in pieces as a relay would; returns the messages, what went on, and whether it is all.
    fn feed(pieces: &[&[u8]]) -> (Messages, Vec<u8>, bool) {
        let mut cutter = Cutter::default();
        let (mut seen, mut sent, mut held) = (Vec::new(), Vec::new(), Vec::new());
        for piece in pieces {
            held.extend_from_slice(piece);
            let cut = cutter.cut(&mut held, |piece| {
                match piece {
                    Piece::Message { tag, body } => seen.push((tag, body.to_vec())),
                    Piece::Begin { tag, body } => seen.push((tag, body.to_vec())),
                    Piece::More { body, .. } => seen.last_mut().unwrap().1.extend_from_slice(body),
                }
                Fate::PassedOn
            });
            let Cut { taken, kept, .. } = cut.unwrap();
            assert_eq!(taken, kept);
            sent.extend(held.drain(..taken));
            assert!(held.len() < WHOLE_MAX);
        }
        (seen, sent, held.is_empty() && !cutter.is_passing())
    }

    #[test]
    fn a_header_split_at_every_byte_is_the_same_header() {
        let stream = [
            message(b'C', b"INSERT 0 1\0"),
            message(b'Z', b"I"),
            message(b'D', &[7; 300]),
        ]
        .concat();
        let whole = feed(&[&stream]);
        assert_eq!(whole.0.len(), 3);
        for cut in 0..stream.len() {
            assert_eq!(feed(&[&stream[..cut], &stream[cut..]]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn a_small_message_waits_for_its_end_and_a_large_one_does_not() {
        let small = message(b'D', &[1; 1000]);
        let (seen, sent, whole) = feed(&[&small[..999]]);
        assert!(seen.is_empty() && sent.is_empty() && !whole);
        let large = message(b'D', &[1; WHOLE_MAX]);
        let (_, sent, whole) = feed(&[&large[..999]]);
        assert_eq!((sent.len(), whole), (999, false));
        assert_eq!(
            feed(&[&large[..999], &large[999..]]),
            (vec![(b'D', vec![1; WHOLE_MAX])], large, true)
        );
    }

    #[test]
    fn lengths_that_no_message_can_have_are_refused() {
        for length in [i32::MIN, -1, 0, 1, 2, 3] {
            let mut bytes = vec![b'Q'];
            bytes.extend_from_slice(&length.to_be_bytes());
            let bad = Cutter::default().cut(&mut bytes, |_| panic!("nothing to see"));
            assert_eq!(bad, Err(BadLength { tag: 'Q', length }));
        }
    }

    #[test]
    fn the_longest_length_is_a_message_that_has_only_begun() {
        let mut bytes = vec![b'd'];
        bytes.extend_from_slice(&i32::MAX.to_be_bytes());
        let (seen, sent, whole) = feed(&[&bytes]);
        assert_eq!((seen, sent.len(), whole), (vec![(b'd', vec![])], 5, false));
    }

    #[test]
    fn what_is_dropped_leaves_no_gap() {
        let messages = [
            message(b'A', b"one"),
            message(b'B', b"two"),
            message(b'A', b"three"),
            message(b'B', b""),
        ];
        let mut bytes = [&messages.concat()[..], b"A\0"].concat();
        let cut = Cutter::default().cut(&mut bytes, |piece| match piece {
            Piece::Message { tag: b'A', .. } => Fate::Dropped,
            _ => Fate::PassedOn,
        });
        let Cut { taken, kept, .. } = cut.unwrap();
        assert_eq!(bytes[..kept], [&messages[1][..], &messages[3]].concat());
        assert_eq!(bytes[taken..], *b"A\0");
    }

    #[test]
    fn what_is_taken_back_does_not_go_on() {
        let messages = ["A", "O", "A", "T", "A"].map(|tag| message(tag.as_bytes()[0], b"xy"));
        let mut bytes = messages.concat();
        let cut = Cutter::default().cut(&mut bytes, |piece| match piece {
            Piece::Message { tag: b'O', .. } => Fate::Opens,
            Piece::Message { tag: b'T', .. } => Fate::TakenBack,
            _ => Fate::PassedOn,
        });
        let Cut { taken, kept, .. } = cut.unwrap();
        assert_eq!(bytes[..kept], [&messages[0][..], &messages[4]].concat());
        assert_eq!(taken, messages.concat().len());
    }

    proptest! {
        #[test]
        fn any_split_of_any_stream_gives_the_same_messages(
            messages in prop::collection::vec(
                (
                    prop::sample::select(b"CZEDdQ1".to_vec()),
                    prop_oneof![9 => 0..40_usize, 1 => WHOLE_MAX - 10..WHOLE_MAX + 10],
                ),
                0..12,
            ),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let stream: Vec<u8> = messages.iter().flat_map(|(tag, length)| message(*tag, &vec![3; *length])).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|ends| &stream[ends[0]..ends[1]]).collect();
            let (seen, sent, whole) = feed(&pieces);
            prop_assert_eq!(sent, stream);
            prop_assert!(whole);
            let headers: Vec<_> = seen.iter().map(|(tag, body)| (*tag, body.len())).collect();
            prop_assert_eq!(headers, messages);
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Cutter::default().cut(&mut bytes, |_| Fate::PassedOn);
        }
    }
}
