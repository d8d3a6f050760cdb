//! What a server says that a prepared statement takes and gives, in few bytes: to be compared, and kept for long.

use std::hash::{DefaultHasher, Hasher};

use memchr::memchr;

/// What is known of a statement's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// By the digest of its parameters. None: only what it gives was asked for.
    takes: Option<u64>,
    /// By the digest of its columns.
    gives: u64,
}

impl Shape {
    /// By the bodies of a ParameterDescription and a RowDescription. That of NoData is empty.
    pub fn of(parameters: &[u8], columns: &[u8]) -> Self {
        let mut described = Described::taking(parameters);
        described.read(columns);
        described.finish()
    }

    /// Whether it is what was told of it.
    pub fn is_as(self, told: Self) -> bool {
        self.gives == told.gives && told.takes.is_none_or(|takes| self.takes == Some(takes))
    }
}

/// Of the number of columns.
const COUNT: u8 = 2;
/// What is said of a column behind its name: table and its column; type, its size and its modifier; the format.
const FACTS: u8 = 18;
/// Those that count. A table that was made anew gives the same columns: which table they are of is left out, as
/// Postgres itself does.
const COMPARED: std::ops::Range<u8> = 6..16;

/// A description that is being read: what the statement takes is known.
#[derive(Clone, Debug)]
pub struct Described {
    takes: Option<u64>,
    hasher: DefaultHasher,
    at: At,
}

#[derive(Clone, Copy, Debug)]
enum At {
    /// So many bytes of the count are left.
    Count(u8),
    Name,
    /// So many bytes of what is said of a column were read.
    Facts(u8),
}

impl Described {
    /// By the body of a ParameterDescription.
    pub fn taking(parameters: &[u8]) -> Self {
        Self {
            takes: Some(digest(parameters)),
            ..Self::taking_anything()
        }
    }

    /// Of a portal.
    pub fn taking_anything() -> Self {
        Self {
            takes: None,
            hasher: DefaultHasher::new(),
            at: At::Count(COUNT),
        }
    }

    /// The body of a RowDescription, or a piece of it.
    pub fn read(&mut self, mut piece: &[u8]) {
        while let [first, rest @ ..] = piece {
            (self.at, piece) = match self.at {
                At::Count(1) => (At::Name, rest),
                At::Count(left) => (At::Count(left - 1), rest),
                At::Name => {
                    let end = memchr(0, piece).map_or(piece.len(), |end| end + 1);
                    self.hasher.write(&piece[..end]);
                    let is_over = piece[end - 1] == 0;
                    (if is_over { At::Facts(0) } else { At::Name }, &piece[end..])
                }
                At::Facts(read) => {
                    if COMPARED.contains(&read) {
                        self.hasher.write_u8(*first);
                    }
                    let is_over = read + 1 == FACTS;
                    (if is_over { At::Name } else { At::Facts(read + 1) }, rest)
                }
            };
        }
    }

    pub fn finish(self) -> Shape {
        Shape {
            takes: self.takes,
            gives: self.hasher.finish(),
        }
    }
}

/// A name in one number.
///
/// FNV-1a: names are short, and it is asked for with each Bind. Who makes two names that come to the same confuses nobody
/// but itself.
pub fn digest<'a>(name: impl IntoIterator<Item = &'a u8>) -> u64 {
    name.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn columns(table: u8, of: &[(&str, u8)]) -> Vec<u8> {
        let mut body = vec![0, of.len() as u8];
        for (name, kind) in of {
            body.extend_from_slice(name.as_bytes());
            body.extend_from_slice(&[
                0, 0, 0, 0, table, 0, 1, 0, 0, 0, *kind, 0, 4, 255, 255, 255, 255, 0, 0,
            ]);
        }
        body
    }

    fn described(parameters: &[u8], columns: &[u8]) -> Shape {
        Shape::of(parameters, columns)
    }

    #[test]
    fn names_types_and_parameters_count_and_the_table_does_not() {
        let base = described(b"\0\0", &columns(1, &[("a", 23), ("b", 23)]));
        assert_eq!(base, described(b"\0\0", &columns(2, &[("a", 23), ("b", 23)])));
        for other in [
            described(b"\0\x01\0\0\0\x17", &columns(1, &[("a", 23), ("b", 23)])),
            described(b"\0\0", &columns(1, &[("a", 23), ("c", 23)])),
            described(b"\0\0", &columns(1, &[("a", 23), ("b", 25)])),
            described(b"\0\0", &columns(1, &[("b", 23), ("a", 23)])),
            described(b"\0\0", &columns(1, &[("a", 23)])),
            described(b"\0\0", b""),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn what_a_portal_gives_is_compared_whatever_its_statement_takes() {
        let columns = columns(1, &[("a", 23)]);
        let mut portal = Described::taking_anything();
        portal.read(&columns);
        let told = portal.finish();
        assert!(Shape::of(b"\0\x01\0\0\0\x17", &columns).is_as(told));
        assert!(!Shape::of(b"\0\0", b"").is_as(told));
        assert!(!Shape::of(b"\0\0", &columns).is_as(Shape::of(b"\0\x01\0\0\0\x17", &columns)));
    }

    #[test]
    fn it_is_the_same_in_whatever_pieces_it_comes() {
        let columns = columns(1, &[("a", 23), ("bcd", 25)]);
        let whole = described(b"\0\0", &columns);
        for end in 0..=columns.len() {
            let mut giving = Described::taking(b"\0\0");
            giving.read(&columns[..end]);
            giving.read(&columns[end..]);
            assert_eq!(giving.finish(), whole, "{end}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(parameters: Vec<u8>, columns: Vec<u8>) {
            let _ = described(&parameters, &columns);
        }
    }
}
