//! What a client's Bind gives.

/// The portal and the statement that a Bind names, as far as they are there.
pub fn names(body: &[u8]) -> (&[u8], &[u8]) {
    let (portal, rest) = name(body).unwrap_or((body, b""));
    let (statement, _) = name(rest).unwrap_or((rest, b""));
    (portal, statement)
}

/// The values of its parameters, in whatever format they are. None: there are not as many as it says.
pub fn parameters(body: &[u8]) -> Option<Vec<Option<&[u8]>>> {
    let (_, rest) = name(body)?;
    let (_, rest) = name(rest)?;
    let (formats, rest) = rest.split_first_chunk()?;
    let formats = usize::from(u16::from_be_bytes(*formats));
    let (count, mut rest) = rest.get(2 * formats..)?.split_first_chunk()?;
    let count = usize::from(u16::from_be_bytes(*count));
    let mut values = Vec::new();
    for _ in 0..count {
        let (length, after) = rest.split_first_chunk()?;
        let length = i32::from_be_bytes(*length);
        rest = after;
        values.push(match usize::try_from(length) {
            Ok(length) => {
                let (value, after) = rest.split_at_checked(length)?;
                rest = after;
                Some(value)
            }
            Err(_) => None,
        });
    }
    Some(values)
}

/// The types of parameters that a Parse declares; 0 is none in particular.
pub fn declared(body: &[u8]) -> Option<impl Iterator<Item = u32> + Clone> {
    let (_, rest) = name(body)?;
    let (_, rest) = name(rest)?;
    let (_, types) = rest.split_first_chunk::<2>()?;
    Some(
        types
            .chunks_exact(4)
            .map(|oid| u32::from_be_bytes([oid[0], oid[1], oid[2], oid[3]])),
    )
}

fn name(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, body)?;
    Some((&body[..end], &body[end + 1..]))
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
    fn types_are_found() {
        let types = declared(b"s\0SELECT 1\0\0\x02\0\0\0\x19\0\0\0\0").map(|types| types.collect::<Vec<_>>());
        assert_eq!(types, Some(vec![25, 0]));
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = (names(&body), parameters(&body), declared(&body).map(Iterator::count));
        }
    }
}
