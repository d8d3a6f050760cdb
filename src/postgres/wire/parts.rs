//! Reads strings, counts and values from message bodies; None if the body is cut short.

use super::frame::{HEADER, read_header};

/// Most names are shorter, and found sooner byte by byte.
const SHORT: usize = 12;

/// A string, and what follows its NUL.
#[inline]
pub fn string(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = match body.iter().take(SHORT).position(|byte| *byte == 0) {
        Some(end) => end,
        None => SHORT + memchr::memchr(0, body.get(SHORT..)?)?,
    };
    Some((&body[..end], &body[end + 1..]))
}

/// The string that `body` begins with, which may be cut.
pub fn string_here(body: &[u8]) -> &[u8] {
    string(body).map_or(body, |(string, _)| string)
}

/// How many of something follow, and they.
pub fn count(body: &[u8]) -> Option<(usize, &[u8])> {
    let (count, rest) = body.split_first_chunk()?;
    Some((usize::from(u16::from_be_bytes(*count)), rest))
}

/// A value by its length, which is -1 for NULL, and what follows.
pub fn value(body: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (length, rest) = body.split_first_chunk()?;
    match i32::from_be_bytes(*length) {
        -1 => Some((None, rest)),
        length => {
            let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            Some((Some(value), rest))
        }
    }
}

/// The tags and bodies of messages that stand one behind the other, as far as they are whole.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (first, rest) = bytes.split_first_chunk::<HEADER>()?;
        let (tag, length) = read_header(*first).ok()?;
        let (body, rest) = rest.split_at_checked(length)?;
        bytes = rest;
        Some((tag, body))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_end_at_their_nul() {
        assert_eq!(string(b"ab\0\0c"), Some((&b"ab"[..], &b"\0c"[..])));
        assert_eq!(string(b"ab"), None);
        assert_eq!(string_here(b"ab"), b"ab");
        assert_eq!(string_here(b"ab\0c"), b"ab");
    }

    #[test]
    fn values_are_as_long_as_they_say_or_absent_or_not_there() {
        assert_eq!(value(b"\0\0\0\x02abc"), Some((Some(&b"ab"[..]), &b"c"[..])));
        assert_eq!(value(b"\xff\xff\xff\xffc"), Some((None, &b"c"[..])));
        for bad in [
            &b"\xff\xff\xff\xfec"[..],
            b"\0\0\0\x02a",
            b"\0\0\0",
            b"\x7f\xff\xff\xffab",
        ] {
            assert_eq!(value(bad), None, "{bad:?}");
        }
        assert_eq!(count(b"\x01\x02x"), Some((258, &b"x"[..])));
        assert_eq!(count(b"\0"), None);
    }

    #[test]
    fn messages_are_read_as_far_as_they_are_whole() {
        let two = b"S\0\0\0\x05aN\0\0\0\x04";
        let read = |bytes| messages(bytes).collect::<Vec<_>>();
        assert_eq!(read(two), [(b'S', &b"a"[..]), (b'N', b"")]);
        assert_eq!(read(&two[..two.len() - 1]), [(b'S', &b"a"[..])]);
        assert_eq!(read(b"S\0\0\0\x03abc"), []);
    }
}
