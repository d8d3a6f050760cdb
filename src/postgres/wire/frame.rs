//! Finds message boundaries in a stream that arrives in arbitrary pieces, without holding a message.

/// Bytes of a header after startup: the tag and a length that counts itself.
pub const HEADER: usize = 5;

/// The longest body prefix that a scan hands out.
const PREFIX_MAX: usize = 1024;

/// The header of one message, and as much of its body as was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub tag: u8,
    /// Length of the whole body, of which `prefix` may be only the beginning.
    pub body_length: u32,
    pub prefix: &'a [u8],
}

/// A length field that no message can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message {tag:?} claims a length of {length}")]
pub struct BadLength {
    pub tag: char,
    pub length: i32,
}

/// How many bytes of a body the reader wants to see, by tag.
pub type Prefix = fn(u8) -> usize;

/// Where one direction of a connection stands between two bytes. Persists between reads.
#[derive(Debug)]
pub struct Scanner {
    prefix: Prefix,
    header: [u8; HEADER],
    header_seen: u8,
    body_left: u32,
    /// A message whose header is complete but whose wanted prefix is not.
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    tag: u8,
    body_length: u32,
    wanted: usize,
    bytes: Vec<u8>,
    /// Handed out already; kept alive until the next step because the caller may still look at it.
    done: bool,
}

impl Scanner {
    pub fn new(prefix: Prefix) -> Self {
        Self {
            prefix,
            header: [0; HEADER],
            header_seen: 0,
            body_left: 0,
            begun: None,
        }
    }

    /// Whether the last byte seen was the last byte of a message.
    pub fn at_boundary(&self) -> bool {
        self.header_seen == 0 && self.body_left == 0
    }

    pub fn scan<'s, 'b>(&'s mut self, bytes: &'b [u8]) -> Scan<'s, 'b> {
        Scan {
            scanner: self,
            bytes,
            position: 0,
        }
    }
}

/// One pass over one piece of the stream.
#[derive(Debug)]
pub struct Scan<'s, 'b> {
    scanner: &'s mut Scanner,
    bytes: &'b [u8],
    position: usize,
}

impl Scan<'_, '_> {
    /// The next message whose header and wanted prefix are complete; None when the piece is used up.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, BadLength> {
        if self.scanner.begun.is_some() {
            if self.scanner.begun.as_ref().is_some_and(|begun| begun.done) {
                self.scanner.begun = None;
            } else {
                return Ok(self.continue_prefix());
            }
        }
        self.skip_body();
        let Some((tag, body_length)) = self.header()? else {
            return Ok(None);
        };
        self.scanner.body_left = body_length;
        let wanted = (self.scanner.prefix)(tag)
            .min(body_length as usize)
            .min(PREFIX_MAX);
        let rest = &self.bytes[self.position..];
        if rest.len() < wanted {
            self.scanner.begun = Some(Begun {
                tag,
                body_length,
                wanted,
                bytes: Vec::with_capacity(wanted),
                done: false,
            });
            return Ok(self.continue_prefix());
        }
        self.position += wanted;
        self.scanner.body_left -= wanted as u32;
        let prefix = &rest[..wanted];
        self.skip_body();
        Ok(Some(Frame {
            tag,
            body_length,
            prefix,
        }))
    }

    /// How many bytes of this piece have been passed over.
    pub fn position(&self) -> usize {
        self.position
    }

    fn skip_body(&mut self) {
        let rest = self.bytes.len() - self.position;
        let skipped = rest.min(self.scanner.body_left as usize);
        self.position += skipped;
        self.scanner.body_left -= skipped as u32;
    }

    fn header(&mut self) -> Result<Option<(u8, u32)>, BadLength> {
        let rest = &self.bytes[self.position..];
        let seen = usize::from(self.scanner.header_seen);
        if seen == 0
            && let Some(header) = rest.first_chunk::<HEADER>()
        {
            self.position += HEADER;
            return parse(header).map(Some);
        }
        let taken = rest.len().min(HEADER - seen);
        self.scanner.header[seen..seen + taken].copy_from_slice(&rest[..taken]);
        self.position += taken;
        if seen + taken < HEADER {
            self.scanner.header_seen = (seen + taken) as u8;
            return Ok(None);
        }
        self.scanner.header_seen = 0;
        parse(&self.scanner.header).map(Some)
    }

    fn continue_prefix(&mut self) -> Option<Frame<'_>> {
        let begun = self.scanner.begun.as_mut().expect("called with a message begun");
        let rest = &self.bytes[self.position..];
        let taken = rest.len().min(begun.wanted - begun.bytes.len());
        begun.bytes.extend_from_slice(&rest[..taken]);
        self.position += taken;
        self.scanner.body_left -= taken as u32;
        if begun.bytes.len() < begun.wanted {
            return None;
        }
        begun.done = true;
        let skipped = (self.bytes.len() - self.position).min(self.scanner.body_left as usize);
        self.position += skipped;
        self.scanner.body_left -= skipped as u32;
        Some(Frame {
            tag: begun.tag,
            body_length: begun.body_length,
            prefix: &begun.bytes,
        })
    }
}

fn parse(header: &[u8; HEADER]) -> Result<(u8, u32), BadLength> {
    let [tag, length @ ..] = *header;
    let length = i32::from_be_bytes(length);
    match u32::try_from(length) {
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

    fn prefix(tag: u8) -> usize {
        match tag {
            b'Z' => 1,
            b'C' => 16,
            b'E' => usize::MAX,
            _ => 0,
        }
    }

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    type Seen = Vec<(u8, u32, Vec<u8>)>;

    fn frames(pieces: &[&[u8]]) -> (Seen, bool) {
        let mut scanner = Scanner::new(prefix);
        let mut seen = Vec::new();
        for piece in pieces {
            let mut scan = scanner.scan(piece);
            while let Some(frame) = scan.next_frame().unwrap() {
                seen.push((frame.tag, frame.body_length, frame.prefix.to_vec()));
            }
            assert_eq!(scan.position(), piece.len());
        }
        (seen, scanner.at_boundary())
    }

    #[test]
    fn a_header_split_at_every_byte_is_the_same_header() {
        let stream = [
            message(b'C', b"INSERT 0 1\0"),
            message(b'Z', b"I"),
            message(b'D', &[7; 300]),
        ]
        .concat();
        let whole = frames(&[&stream]);
        assert_eq!(
            whole.0,
            [
                (b'C', 11, b"INSERT 0 1\0".to_vec()),
                (b'Z', 1, b"I".to_vec()),
                (b'D', 300, vec![])
            ]
        );
        for cut in 0..stream.len() {
            assert_eq!(frames(&[&stream[..cut], &stream[cut..]]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn a_partial_message_is_not_a_boundary() {
        let stream = message(b'Q', b"select 1\0");
        for cut in 1..stream.len() {
            assert!(!frames(&[&stream[..cut]]).1, "cut at {cut}");
        }
        assert!(frames(&[&stream]).1);
        assert!(frames(&[]).1);
    }

    #[test]
    fn lengths_that_no_message_can_have_are_refused() {
        for length in [i32::MIN, -1, 0, 1, 2, 3] {
            let mut bytes = vec![b'Q'];
            bytes.extend_from_slice(&length.to_be_bytes());
            let mut scanner = Scanner::new(prefix);
            assert_eq!(
                scanner.scan(&bytes).next_frame(),
                Err(BadLength { tag: 'Q', length })
            );
        }
    }

    #[test]
    fn the_longest_length_is_a_message_that_has_only_begun() {
        let mut bytes = vec![b'd'];
        bytes.extend_from_slice(&i32::MAX.to_be_bytes());
        let (seen, boundary) = frames(&[&bytes]);
        assert_eq!(seen, [(b'd', i32::MAX as u32 - 4, vec![])]);
        assert!(!boundary);
    }

    #[test]
    fn a_prefix_is_bounded_whatever_the_message_claims() {
        let stream = message(b'E', &[b'x'; 5000]);
        let (seen, boundary) = frames(&[&stream[..100], &stream[100..]]);
        assert_eq!(seen, [(b'E', 5000, vec![b'x'; PREFIX_MAX])]);
        assert!(boundary);
    }

    proptest! {
        #[test]
        fn any_split_of_any_stream_gives_the_same_headers(
            messages in prop::collection::vec(
                (prop::sample::select(b"CZEDdQ1".to_vec()), prop::collection::vec(any::<u8>(), 0..40)),
                0..12,
            ),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let stream: Vec<u8> = messages.iter().flat_map(|(tag, body)| message(*tag, body)).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|ends| &stream[ends[0]..ends[1]]).collect();
            let split = frames(&pieces);
            prop_assert_eq!(&split, &frames(&[&stream]));
            prop_assert_eq!(split.0.len(), messages.len());
            prop_assert!(split.1);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut scanner = Scanner::new(prefix);
            let mut scan = scanner.scan(&bytes);
            while let Ok(Some(_)) = scan.next_frame() {}
        }
    }
}
