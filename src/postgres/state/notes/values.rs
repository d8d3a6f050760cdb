//! The values that messages bring.

use super::parses::name_in;

/// The parameter at `index` of a Bind message. None: it is NULL, or not in `body`, which may be cut.
pub(super) fn value_of(body: &[u8], index: usize) -> Option<&[u8]> {
    let body = body.get(name_in(body).len() + 1..)?;
    let body = body.get(name_in(body).len() + 1..)?;
    value_at(body, index)
}

/// The first argument of a FunctionCall message.
pub(super) fn argument_of(body: &[u8]) -> Option<&[u8]> {
    value_at(body.get(4..)?, 0)
}

/// Behind the formats: as many values as are counted, each with its length.
fn value_at(body: &[u8], index: usize) -> Option<&[u8]> {
    let (formats, body) = number(body)?;
    let (count, mut body) = number(body.get(formats * 2..)?)?;
    if index >= count {
        return None;
    }
    for _ in 0..index {
        (_, body) = value(body)?;
    }
    value(body)?.0
}

fn value(body: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (length, rest) = body.split_first_chunk()?;
    match usize::try_from(i32::from_be_bytes(*length)) {
        Ok(length) => rest
            .split_at_checked(length)
            .map(|(value, rest)| (Some(value), rest)),
        Err(_) => Some((None, rest)),
    }
}

fn number(body: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = body.split_first_chunk()?;
    Some((usize::from(u16::from_be_bytes(*number)), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_and_what_is_cut_is_not() {
        let body = b"portal\0name\0\0\x01\0\0\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\x01c\0\0";
        assert_eq!(value_of(body, 0), Some(&b"ab"[..]));
        assert_eq!(value_of(body, 1), None);
        assert_eq!(value_of(body, 2), Some(&b"c"[..]));
        assert_eq!(value_of(body, 3), None);
        for end in 0..body.len() {
            let value = value_of(&body[..end], 2);
            assert!(value.is_none() || value == Some(b"c"), "{end}");
        }
        assert_eq!(
            argument_of(b"\0\0\x08\x1e\0\0\0\x01\0\0\0\x03a.b\0\0"),
            Some(&b"a.b"[..])
        );
    }
}
