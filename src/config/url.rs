//! What every URL here shares: escapes, a query, and no password in it.

/// None of these quotes the text: somebody may have put a password into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UrlError {
    #[error("a \"%\" is followed by two hexadecimal digits; write % itself as %25")]
    Escape,
    #[error("the escapes do not spell UTF-8 text")]
    NotUtf8,
    #[error("a parameter is written name=value")]
    Parameter,
    #[error("a URL starts with https:// or http:// and a host")]
    NotWeb,
    #[error("no user and no password belong into a URL")]
    Credentials,
}

/// Names and values, in the order in which they are written.
pub(super) type Parameters = Vec<(String, String)>;

/// What is before the `?`, still escaped, and the parameters after it, decoded.
pub(super) fn split_query(text: &str) -> Result<(&str, Parameters), UrlError> {
    let Some((before, query)) = text.split_once('?') else {
        return Ok((text, Vec::new()));
    };
    let mut parameters = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or(UrlError::Parameter)?;
        parameters.push((decode(name)?, decode(value)?));
    }
    Ok((before, parameters))
}

pub(super) fn decode(text: &str) -> Result<String, UrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = after;
            continue;
        }
        let (digits, after) = after.split_at_checked(2).ok_or(UrlError::Escape)?;
        let high = hex_digit(digits[0]).ok_or(UrlError::Escape)?;
        let low = hex_digit(digits[1]).ok_or(UrlError::Escape)?;
        bytes.push(high << 4 | low);
        rest = after;
    }
    if bytes.contains(&0) {
        return Err(UrlError::Escape);
    }
    String::from_utf8(bytes).map_err(|_| UrlError::NotUtf8)
}

pub(super) fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// The address of a web service: a Vault, or something that speaks AWS.
pub(super) fn check_web(text: &str) -> Result<(), UrlError> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .ok_or(UrlError::NotWeb)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    if authority.contains('@') {
        return Err(UrlError::Credentials);
    }
    if authority.is_empty() || authority.starts_with(':') || text.contains(char::is_whitespace) {
        return Err(UrlError::NotWeb);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_are_decoded_and_broken_ones_refused() {
        assert_eq!(decode("%2Fvar%2frun").as_deref(), Ok("/var/run"));
        assert_eq!(decode("a+b").as_deref(), Ok("a+b"));
        assert_eq!(decode("%"), Err(UrlError::Escape));
        assert_eq!(decode("%4"), Err(UrlError::Escape));
        assert_eq!(decode("%zz"), Err(UrlError::Escape));
        assert_eq!(decode("%00"), Err(UrlError::Escape));
        assert_eq!(decode("%ff"), Err(UrlError::NotUtf8));
    }

    #[test]
    fn web_addresses_hold_no_password() {
        assert_eq!(check_web("https://vault:8200"), Ok(()));
        assert_eq!(check_web("http://127.0.0.1:8200/v1/x@y"), Ok(()));
        assert_eq!(check_web("vault:8200"), Err(UrlError::NotWeb));
        assert_eq!(check_web("https://"), Err(UrlError::NotWeb));
        assert_eq!(check_web("https://me:pw@vault"), Err(UrlError::Credentials));
    }

    proptest! {
        #[test]
        fn every_text_survives_escaping(text in "[^\0]*") {
            let escaped: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(decode(&escaped), Ok(text));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = split_query(&text);
            let _ = check_web(&text);
        }
    }
}
