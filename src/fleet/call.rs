//! What a notification says: that a secret has changed, or that any may have.

use super::digest::SecretDigest;

/// A longer one is nobody's of ours, and is not looked at.
pub const PAYLOAD_BYTES_MAX: usize = 32;

const READ: &str = "read";

/// Whose store is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Everything,
    Secret(SecretDigest),
}

impl Call {
    /// None: nonsense.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let payload = payload.get(..PAYLOAD_BYTES_MAX.min(payload.len()))?;
        let text = str::from_utf8(payload).ok()?;
        if text == READ {
            return Some(Self::Everything);
        }
        let secret = text.strip_prefix(READ)?.strip_prefix(' ')?;
        secret.parse().ok().map(Self::Secret)
    }

    pub fn payload(self) -> String {
        match self {
            Self::Everything => READ.to_owned(),
            Self::Secret(secret) => format!("{READ} {secret}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        let secret = Call::Secret("0aff31".parse().unwrap());
        for call in [Call::Everything, secret] {
            assert!(call.payload().len() <= PAYLOAD_BYTES_MAX);
            assert_eq!(Call::parse(call.payload().as_bytes()), Some(call));
        }
    }

    #[test]
    fn nonsense_asks_for_nothing() {
        for payload in [
            "",
            "reads",
            "read ",
            "read 0aff3",
            "read 0aff31 ",
            "READ",
            "drop 0aff31",
        ] {
            assert_eq!(Call::parse(payload.as_bytes()), None, "{payload:?}");
        }
        assert_eq!(Call::parse(&[0xff; 8000]), None);
    }
}
