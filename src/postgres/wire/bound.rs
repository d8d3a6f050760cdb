//! What a client's Bind gives, and what it was parsed for.

use super::parts::{count, string, string_here, value};

/// The portal and the statement that a Bind names, as far as they are there.
pub fn names(body: &[u8]) -> (&[u8], &[u8]) {
    let (portal, rest) = string(body).unwrap_or((body, b""));
    (portal, string_here(rest))
}

/// The values of its parameters, in whatever format they are. None: there are not as many as it says.
pub fn parameters(body: &[u8]) -> Option<Vec<Option<&[u8]>>> {
    let (_, rest) = string(body)?;
    let (_, rest) = string(rest)?;
    let (count, mut rest) = counted(rest)?;
    let mut values = Vec::new();
    for _ in 0..count {
        let (value, after) = value(rest)?;
        rest = after;
        values.push(value);
    }
    Some(values)
}

/// The parameter at `index`. None: it is NULL, or not in `body`, which may be cut.
pub fn parameter(body: &[u8], index: usize) -> Option<&[u8]> {
    let (_, rest) = string(body)?;
    let (_, rest) = string(rest)?;
    value_at(rest, index)
}

/// The first argument of a FunctionCall.
pub fn argument(body: &[u8]) -> Option<&[u8]> {
    value_at(body.get(4..)?, 0)
}

fn value_at(body: &[u8], index: usize) -> Option<&[u8]> {
    let (count, mut rest) = counted(body)?;
    if index >= count {
        return None;
    }
    for _ in 0..index {
        (_, rest) = value(rest)?;
    }
    value(rest)?.0
}

/// Behind the formats: how many values there are, and they.
fn counted(body: &[u8]) -> Option<(usize, &[u8])> {
    let (formats, rest) = count(body)?;
    count(rest.get(2 * formats..)?)
}

/// The types of parameters that a Parse declares; 0 is none in particular.
pub fn declared(body: &[u8]) -> Option<impl Iterator<Item = u32> + Clone> {
    let (_, rest) = string(body)?;
    let (_, rest) = string(rest)?;
    let (_, types) = rest.split_first_chunk::<2>()?;
    Some(
        types
            .chunks_exact(4)
            .map(|oid| u32::from_be_bytes([oid[0], oid[1], oid[2], oid[3]])),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_found() {
        let body = b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\0";
        assert_eq!(names(body), (&b"p"[..], &b"s"[..]));
        assert_eq!(parameters(body), Some(vec![Some(&b"ab"[..]), None]));
        for cut in 0..body.len() - 2 {
            assert_eq!(parameters(&body[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn values_are_found_and_what_is_cut_is_not() {
        let body = b"portal\0name\0\0\x01\0\0\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\x01c\0\0";
        assert_eq!(parameter(body, 0), Some(&b"ab"[..]));
        assert_eq!(parameter(body, 1), None);
        assert_eq!(parameter(body, 2), Some(&b"c"[..]));
        assert_eq!(parameter(body, 3), None);
        for end in 0..body.len() {
            let value = parameter(&body[..end], 2);
            assert!(value.is_none() || value == Some(b"c"), "{end}");
        }
        assert_eq!(
            argument(b"\0\0\x08\x1e\0\0\0\x01\0\0\0\x03a.b\0\0"),
            Some(&b"a.b"[..])
        );
    }

    #[test]
    fn types_are_found() {
        let types = declared(b"s\0SELECT 1\0\0\x02\0\0\0\x19\0\0\0\0").map(|types| types.collect::<Vec<_>>());
        assert_eq!(types, Some(vec![25, 0]));
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = (names(&body), parameters(&body), parameter(&body, 1), argument(&body), declared(&body).map(Iterator::count));
        }
    }
}
