//! Messages that pgswivel itself sends, to either side.

use bytes::{BufMut, Bytes, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::response::ErrorResponse;
use pgwire::messages::simplequery::Query;
use pgwire::messages::startup::{
    Authentication, BackendKeyData, NegotiateProtocolVersion, SASLInitialResponse, SASLResponse, SecretKey,
    SslRequest,
};
use pgwire::messages::terminate::Terminate;

use super::opening::{MAJOR, MINOR_MAX};
use super::tag::{field, from_client, from_server};

/// Appends one message. Encoding into memory only fails for keys of a forbidden length, which `opening` and
/// `read` do not let in.
fn put(out: &mut BytesMut, message: &impl Message) {
    message
        .encode(out)
        .expect("lengths were checked where they came in");
}

pub fn authentication_ok(out: &mut BytesMut) {
    put(out, &Authentication::Ok);
}

pub fn sasl(out: &mut BytesMut, mechanisms: &[&str]) {
    let names = mechanisms.iter().map(ToString::to_string).collect();
    put(out, &Authentication::SASL(names));
}

pub fn sasl_continue(out: &mut BytesMut, data: &[u8]) {
    put(out, &Authentication::SASLContinue(Bytes::copy_from_slice(data)));
}

pub fn sasl_final(out: &mut BytesMut, data: &[u8]) {
    put(out, &Authentication::SASLFinal(Bytes::copy_from_slice(data)));
}

pub fn sasl_initial(out: &mut BytesMut, mechanism: &str, data: &[u8]) {
    let data = Some(Bytes::copy_from_slice(data));
    put(out, &SASLInitialResponse::new(mechanism.to_owned(), data));
}

pub fn sasl_response(out: &mut BytesMut, data: &[u8]) {
    put(out, &SASLResponse::new(Bytes::copy_from_slice(data)));
}

/// A password or an md5 answer: any bytes but NUL.
pub fn password(out: &mut BytesMut, password: &[u8]) {
    out.put_u8(from_client::PASSWORD);
    out.put_u32(password.len() as u32 + 5);
    out.put_slice(password);
    out.put_u8(0);
}

pub fn backend_key(out: &mut BytesMut, process_id: i32, key: &[u8]) {
    let key = SecretKey::Bytes(Bytes::copy_from_slice(key));
    put(out, &BackendKeyData::new(process_id, key));
}

/// Says which version is spoken, with its full number, and which extensions are not.
pub fn negotiate(out: &mut BytesMut, minor: u16, extensions: &[Vec<u8>]) {
    let version = (i32::from(MAJOR) << 16) | i32::from(minor.min(MINOR_MAX));
    let names = extensions
        .iter()
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    put(out, &NegotiateProtocolVersion::new(version, names));
}

pub fn terminate(out: &mut BytesMut) {
    put(out, &Terminate::new());
}

pub fn query(out: &mut BytesMut, statement: &str) {
    put(out, &Query::new(statement.to_owned()));
}

pub fn ssl_request(out: &mut BytesMut) {
    put(out, &SslRequest::new());
}

pub fn cancel_request(out: &mut BytesMut, process_id: i32, key: &[u8]) {
    let key = SecretKey::Bytes(Bytes::copy_from_slice(key));
    put(out, &CancelRequest::new(process_id, key));
}

/// An ErrorResponse of these fields, in this order.
pub fn error(out: &mut BytesMut, fields: &[(u8, &str)]) {
    let fields = fields.iter().map(|(code, value)| (*code, (*value).to_owned()));
    put(out, &ErrorResponse::new(fields.collect()));
}

/// What ends a connection, in pgswivel's own words.
pub struct Fatal<'a> {
    pub sqlstate: &'a str,
    pub message: &'a str,
    pub detail: Option<&'a String>,
    pub hint: Option<&'a str>,
}

impl Fatal<'_> {
    pub fn write(&self, out: &mut BytesMut) {
        let mut fields = vec![
            (field::SEVERITY, "FATAL"),
            (field::SEVERITY_UNTRANSLATED, "FATAL"),
            (field::SQLSTATE, self.sqlstate),
            (field::MESSAGE, self.message),
        ];
        fields.extend(self.detail.map(|detail| (field::DETAIL, detail.as_str())));
        fields.extend(self.hint.map(|hint| (field::HINT, hint)));
        fields.push((field::ROUTINE, "pgswivel"));
        error(out, &fields);
    }
}

/// A notice that a client may show to a person.
pub fn warning(out: &mut BytesMut, sqlstate: &str, message: &str) {
    out.put_u8(from_server::NOTICE);
    let fields = [
        ("S", "WARNING"),
        ("V", "WARNING"),
        ("C", sqlstate),
        ("M", message),
        ("R", "pgswivel"),
    ];
    let length: usize = fields
        .iter()
        .map(|(code, value)| code.len() + value.len() + 1)
        .sum();
    out.put_u32(length as u32 + 5);
    for (code, value) in fields {
        out.put_slice(code.as_bytes());
        out.put_slice(value.as_bytes());
        out.put_u8(0);
    }
    out.put_u8(0);
}

/// An ErrorResponse whose body somebody else wrote.
pub fn error_body(out: &mut BytesMut, body: &[u8]) {
    out.put_u8(from_server::ERROR);
    out.put_u32(body.len() as u32 + 4);
    out.put_slice(body);
}

pub fn command_complete(out: &mut BytesMut, tag: &str) {
    out.put_u8(from_server::COMMAND_COMPLETE);
    out.put_u32(tag.len() as u32 + 5);
    out.put_slice(tag.as_bytes());
    out.put_u8(0);
}

pub fn ready(out: &mut BytesMut, status: u8) {
    out.put_slice(&[from_server::READY, 0, 0, 0, 5, status]);
}

pub fn parameter_status(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.put_u8(from_server::PARAMETER_STATUS);
    out.put_u32((name.len() + value.len()) as u32 + 6);
    for text in [name, value] {
        out.put_slice(text);
        out.put_u8(0);
    }
}

/// The same bytes with every `"old"` turned into `"new"`, double quotes included.
pub fn requote(text: &[u8], old: &str, new: &str) -> Vec<u8> {
    let (old, new) = (format!("\"{old}\""), format!("\"{new}\""));
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.first() {
        if let Some(after) = rest.strip_prefix(old.as_bytes()) {
            out.extend_from_slice(new.as_bytes());
            rest = after;
        } else {
            out.push(*first);
            rest = &rest[1..];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::wire::opening::Opening;

    #[test]
    fn a_version_is_negotiated_with_its_full_number() {
        let mut out = BytesMut::new();
        negotiate(&mut out, 9, &[b"_pq_.x".to_vec()]);
        assert_eq!(&out[..], b"v\0\0\0\x13\0\x03\0\x02\0\0\0\x01_pq_.x\0");
    }

    #[test]
    fn cancel_requests_carry_keys_of_any_allowed_length() {
        for length in [4, 32, 256] {
            let mut out = BytesMut::new();
            let key = vec![7; length];
            cancel_request(&mut out, 42, &key);
            assert_eq!(out.len(), 12 + length);
            let process_id = 42;
            assert_eq!(Opening::read(&out[4..]), Ok(Opening::Cancel { process_id, key }));
        }
    }

    #[test]
    fn a_quoted_name_is_replaced_wherever_it_stands() {
        let text = b"Mtoo many connections for role \"app_v1\"\0Happ_v1 \"app_v12\"\0\0";
        let told = requote(text, "app_v1", "app");
        assert_eq!(
            told,
            b"Mtoo many connections for role \"app\"\0Happ_v1 \"app_v12\"\0\0"
        );
    }

    #[test]
    fn a_password_of_any_bytes_is_framed() {
        let mut out = BytesMut::new();
        password(&mut out, b"\xff\xfe");
        assert_eq!(&out[..], b"p\0\0\0\x07\xff\xfe\0");
    }
}
