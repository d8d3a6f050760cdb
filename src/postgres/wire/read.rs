//! Bodies of the few server messages that are read rather than passed on. Every field is bounds-checked: the
//! server is not trusted to keep to the protocol.

use super::parts::{count, messages, string, string_here, value};
use super::tag::from_server;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server sent a malformed {0} message")]
pub struct Malformed(pub &'static str);

/// What an `R` message asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Authentication<'a> {
    Ok,
    Cleartext,
    Md5 {
        salt: [u8; 4],
    },
    Sasl {
        mechanisms: Vec<&'a [u8]>,
    },
    SaslContinue(&'a [u8]),
    SaslFinal(&'a [u8]),
    /// Kerberos, GSSAPI, SSPI and whatever comes: the code.
    Other(u32),
}

pub fn authentication(body: &[u8]) -> Result<Authentication<'_>, Malformed> {
    const BAD: Malformed = Malformed("Authentication");
    let (code, rest) = body.split_first_chunk().ok_or(BAD)?;
    Ok(match u32::from_be_bytes(*code) {
        0 if rest.is_empty() => Authentication::Ok,
        3 if rest.is_empty() => Authentication::Cleartext,
        5 => Authentication::Md5 {
            salt: rest.try_into().map_err(|_| BAD)?,
        },
        10 => Authentication::Sasl {
            mechanisms: mechanisms(rest).ok_or(BAD)?,
        },
        11 => Authentication::SaslContinue(rest),
        12 => Authentication::SaslFinal(rest),
        0 | 3 => return Err(BAD),
        other => Authentication::Other(other),
    })
}

fn mechanisms(mut rest: &[u8]) -> Option<Vec<&[u8]>> {
    let mut names = Vec::new();
    loop {
        let (name, after) = string(rest)?;
        if name.is_empty() {
            return after.is_empty().then_some(names);
        }
        names.push(name);
        rest = after;
    }
}

/// The process id and the key of a `K` message.
pub fn backend_key(body: &[u8]) -> Result<(i32, &[u8]), Malformed> {
    match body.split_first_chunk() {
        Some((process_id, key @ [_, _, _, _, ..])) if key.len() <= 256 => {
            Ok((i32::from_be_bytes(*process_id), key))
        }
        _ => Err(Malformed("BackendKeyData")),
    }
}

/// The columns of a row that has `N` of them.
pub fn row<const N: usize>(body: &[u8]) -> Result<[Option<&[u8]>; N], Malformed> {
    const BAD: Malformed = Malformed("DataRow");
    let (count, mut rest) = count(body).ok_or(BAD)?;
    if count != N {
        return Err(BAD);
    }
    let mut columns = [None; N];
    for column in &mut columns {
        (*column, rest) = value(rest).ok_or(BAD)?;
    }
    rest.is_empty().then_some(columns).ok_or(BAD)
}

/// The channel of a NotificationResponse.
pub fn channel(body: &[u8]) -> Option<&[u8]> {
    string(body.get(4..)?).map(|(channel, _)| channel)
}

/// Who sent a NotificationResponse, its channel and its payload.
pub fn notification(body: &[u8]) -> Option<(i32, &[u8], &[u8])> {
    let channel = channel(body)?;
    let process_id = i32::from_be_bytes(*body.first_chunk()?);
    let payload = body.get(4 + channel.len() + 1..)?.strip_suffix(b"\0")?;
    Some((process_id, channel, payload))
}

/// The last value that `messages`, each of them whole, report for a parameter.
pub fn reported<'a>(bytes: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    messages(bytes)
        .filter(|(tag, _)| *tag == from_server::PARAMETER_STATUS)
        .filter_map(|(_, body)| parameter_status(body))
        .filter_map(|(reported, value)| (reported == name).then_some(value))
        .last()
}

/// The name and the value of a ParameterStatus.
pub fn parameter_status(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = string(body)?;
    Some((name, string_here(rest)))
}

/// One field of an ErrorResponse or NoticeResponse: `b'C'` is the SQLSTATE, `b'V'` the severity, untranslated.
pub fn error_field(body: &[u8], wanted: u8) -> Option<&[u8]> {
    error_fields(body)
        .find(|(code, _)| *code == wanted)
        .map(|(_, value)| value)
}

/// Whether a server says, by this SQLSTATE, that it goes away itself, is not there yet, or was told to end a backend.
pub fn is_going_away(sqlstate: &[u8]) -> bool {
    matches!(sqlstate, b"57P01" | b"57P02" | b"57P03")
}

/// As a server refuses the work of a user who was dropped, or has lost every right, under a live session.
pub fn is_disowned(sqlstate: &[u8]) -> bool {
    matches!(sqlstate, b"42501" | b"42704" | b"28000")
}

/// Whether what a server refuses with this SQLSTATE it may grant in a moment: it has no room, something is locked, in use
/// or not ready, or somebody cancelled it.
pub fn passes(sqlstate: &[u8]) -> bool {
    matches!(
        sqlstate,
        [b'5', b'3', ..] | b"40001" | b"40P01" | b"55000" | b"55006" | b"55P03" | b"57014"
    ) || is_going_away(sqlstate)
}

/// All fields, as far as the body is well formed.
pub fn error_fields(mut rest: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (code, after) = rest.split_first()?;
        if *code == 0 {
            return None;
        }
        let (value, after) = string(after)?;
        rest = after;
        Some((*code, value))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn truncated_authentication_is_malformed_not_a_panic() {
        for body in [
            &b""[..],
            b"\0",
            b"\0\0\0",
            b"\0\0\0\x05ab",
            b"\0\0\0\x0aSCRAM",
            b"\0\0\0\x0a",
        ] {
            assert!(authentication(body).is_err(), "{body:?}");
        }
    }

    #[test]
    fn mechanisms_are_listed() {
        let body = b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
        let mechanisms = vec![&b"SCRAM-SHA-256-PLUS"[..], b"SCRAM-SHA-256"];
        assert_eq!(authentication(body), Ok(Authentication::Sasl { mechanisms }));
    }

    #[test]
    fn backend_keys_have_4_to_256_bytes() {
        assert!(backend_key(b"\0\0\0").is_err());
        assert!(backend_key(b"\0\0\0\x07abc").is_err());
        assert_eq!(backend_key(b"\0\0\0\x07abcd"), Ok((7, &b"abcd"[..])));
        assert!(backend_key(&[0; 4 + 256]).is_ok());
        assert!(backend_key(&[0; 4 + 257]).is_err());
    }

    #[test]
    fn rows_have_the_columns_they_claim_and_nothing_else() {
        let body = b"\0\x02\0\0\0\x02ab\xff\xff\xff\xff";
        assert_eq!(row(body), Ok([Some(&b"ab"[..]), None]));
        assert!(row::<1>(body).is_err());
        assert!(row::<3>(body).is_err());
        for cut in 0..body.len() {
            assert!(row::<2>(&body[..cut]).is_err(), "cut at {cut}");
        }
        assert!(row::<1>(b"\0\x01\xff\xff\xff\xfe").is_err());
        assert!(row::<1>(b"\0\x01\x7f\xff\xff\xffab").is_err());
        assert!(row::<1>(b"\0\x01\0\0\0\0x").is_err());
    }

    #[test]
    fn a_notification_names_its_channel() {
        assert_eq!(channel(b"\0\0\0\x07ch\0payload\0"), Some(&b"ch"[..]));
        assert_eq!(channel(b"\0\0\0\x07ch"), None);
        assert_eq!(channel(b"\0"), None);
    }

    #[test]
    fn error_fields_are_found_as_far_as_they_are_whole() {
        let body = b"SFATAL\0VFATAL\0C57P01\0Mgone\0\0";
        assert_eq!(error_field(body, b'C'), Some(&b"57P01"[..]));
        assert_eq!(error_field(body, b'H'), None);
        assert_eq!(error_field(b"SFATAL\0C57P", b'C'), None);
        assert_eq!(error_field(b"", b'C'), None);
    }

    #[test]
    fn the_last_report_of_a_parameter_counts() {
        let messages = b"S\0\0\0\x08a\x001\0N\0\0\0\x05\0S\0\0\0\x08a\x002\0S\0\0\0\x08b\x003\0";
        assert_eq!(reported(messages, b"a"), Some(&b"2"[..]));
        assert_eq!(reported(messages, b"b"), Some(&b"3"[..]));
        assert_eq!(reported(messages, b"c"), None);
        assert_eq!(reported(b"S\0\0\0\x03a\x001\0", b"a"), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = authentication(&body);
            let _ = backend_key(&body);
            let _ = error_fields(&body).count();
            let _ = row::<4>(&body);
            let _ = channel(&body);
            let _ = reported(&body, b"a");
        }
    }
}
