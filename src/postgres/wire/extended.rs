//! The extended protocol from the client's side: what pgswivel itself asks a server. A simple Query would destroy
//! the client's unnamed statement.

use bytes::{BufMut, BytesMut};

use super::tag::{from_client, object};

/// Types by their number, so that no search path can lead to others.
pub const BOOL: u32 = 16;
pub const BYTEA: u32 = 17;
pub const INT4: u32 = 23;
pub const TEXT: u32 = 25;
pub const BYTEA_ARRAY: u32 = 1001;
pub const TEXT_ARRAY: u32 = 1009;

const BINARY: i16 = 1;

pub fn parse(out: &mut BytesMut, name: &[u8], sql: &[u8], types: &[u32]) {
    message(out, from_client::PARSE, |out| {
        text(out, name);
        text(out, sql);
        out.put_u16(types.len() as u16);
        for number in types {
            out.put_u32(*number);
        }
    });
}

/// A Parse whose body somebody else wrote.
pub fn parse_body(out: &mut BytesMut, body: &[u8]) {
    message(out, from_client::PARSE, |out| out.put_slice(body));
}

/// Binds the unnamed portal; values and results are binary.
pub fn bind(out: &mut BytesMut, statement: &[u8], values: &[Option<&[u8]>]) {
    message(out, from_client::BIND, |out| {
        text(out, b"");
        text(out, statement);
        out.put_i16(1);
        out.put_i16(BINARY);
        out.put_u16(values.len() as u16);
        for value in values {
            field(out, *value);
        }
        out.put_i16(1);
        out.put_i16(BINARY);
    });
}

/// Runs the unnamed portal to its end.
pub fn execute(out: &mut BytesMut) {
    message(out, from_client::EXECUTE, |out| {
        text(out, b"");
        out.put_u32(0);
    });
}

pub fn close_statement(out: &mut BytesMut, name: &[u8]) {
    message(out, from_client::CLOSE, |out| {
        out.put_u8(object::STATEMENT);
        text(out, name);
    });
}

pub fn describe_statement(out: &mut BytesMut, name: &[u8]) {
    message(out, from_client::DESCRIBE, |out| {
        out.put_u8(object::STATEMENT);
        text(out, name);
    });
}

pub fn sync(out: &mut BytesMut) {
    message(out, from_client::SYNC, |_| {});
}

/// A `text[]` in its binary form.
pub fn text_array<'a>(values: impl ExactSizeIterator<Item = &'a [u8]>) -> BytesMut {
    array(TEXT, values)
}

/// A `bytea[]` in its binary form.
pub fn bytea_array<'a>(values: impl ExactSizeIterator<Item = &'a [u8]>) -> BytesMut {
    array(BYTEA, values)
}

fn array<'a>(element: u32, values: impl ExactSizeIterator<Item = &'a [u8]>) -> BytesMut {
    let mut array = BytesMut::new();
    array.put_u32(u32::from(values.len() > 0));
    array.put_u32(0);
    array.put_u32(element);
    if values.len() > 0 {
        array.put_u32(values.len() as u32);
        array.put_u32(1);
    }
    for value in values {
        field(&mut array, Some(value));
    }
    array
}

/// `name` as SQL wants it quoted. In every encoding that a server can have, the bytes of other characters are no
/// quotes.
pub fn identifier(name: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    for byte in name {
        if *byte == b'"' {
            quoted.push(b'"');
        }
        quoted.push(*byte);
    }
    quoted.push(b'"');
    quoted
}

fn message(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let start = out.len();
    out.put_u32(0);
    body(out);
    let length = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn text(out: &mut BytesMut, text: &[u8]) {
    out.put_slice(text);
    out.put_u8(0);
}

fn field(out: &mut BytesMut, value: Option<&[u8]>) {
    match value {
        Some(value) => {
            out.put_u32(value.len() as u32);
            out.put_slice(value);
        }
        None => out.put_i32(-1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_framed() {
        let mut out = BytesMut::new();
        parse(&mut out, b"n", b"q", &[INT4]);
        bind(&mut out, b"n", &[Some(b"ab"), None]);
        execute(&mut out);
        close_statement(&mut out, b"n");
        sync(&mut out);
        let expected = [
            &b"P\0\0\0\x0en\0q\0\0\x01\0\0\0\x17"[..],
            b"B\0\0\0\x1b\0n\0\0\x01\0\x01\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\x01\0\x01",
            b"E\0\0\0\x09\0\0\0\0\0",
            b"C\0\0\0\x07Sn\0",
            b"S\0\0\0\x04",
        ];
        assert_eq!(out, expected.concat());
    }

    #[test]
    fn arrays_have_a_dimension_only_when_they_have_something() {
        assert_eq!(text_array([].into_iter()), &b"\0\0\0\0\0\0\0\0\0\0\0\x19"[..]);
        let one = b"\0\0\0\x01\0\0\0\0\0\0\0\x19\0\0\0\x01\0\0\0\x01\0\0\0\x02ab";
        assert_eq!(text_array([&b"ab"[..]].into_iter()), &one[..]);
    }

    #[test]
    fn identifiers_keep_their_quotes() {
        assert_eq!(identifier(b"a\"; DROP--"), b"\"a\"\"; DROP--\"");
        assert_eq!(identifier(b""), b"\"\"");
    }
}
