//! Short names that every process of a fleet has for the same thing, and that say nothing of it to anybody else.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};

use crate::config::Source;

const SECRET_BYTES: usize = 3;
const VERSION_BYTES: usize = 2;

/// Of a place in a store, whatever a configuration calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretDigest([u8; SECRET_BYTES]);

/// The same for everybody who writes the same `store` and `id`.
pub fn of_secret(source: &Source) -> SecretDigest {
    SecretDigest(short(&[source.store(), &source.id()]))
}

/// What of a version shows that two processes have the same one.
pub fn of_version(version: &str) -> u16 {
    u16::from_be_bytes(short::<VERSION_BYTES>(&[version]))
}

fn short<const BYTES: usize>(parts: &[&str]) -> [u8; BYTES] {
    let digest = digest(&SHA256, parts.join("\0").as_bytes());
    let bytes = digest.as_ref().first_chunk();
    *bytes.expect("a digest has more bytes than these")
}

impl fmt::Display for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("not the digest of a secret")]
pub struct NoDigest;

impl FromStr for SecretDigest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 2 * SECRET_BYTES || !text.bytes().all(is_hex) {
            return Err(NoDigest);
        }
        let mut bytes = [0; SECRET_BYTES];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| NoDigest)?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_shows_is_read_back_and_nothing_else_is() {
        let digest = SecretDigest([0x0a, 0xff, 0x31]);
        assert_eq!(digest.to_string(), "0aff31");
        assert_eq!("0aff31".parse::<SecretDigest>().ok(), Some(digest));
        for other in ["", "0aff3", "0aff311", "0AFF31", "+aff31", "0aff3é"] {
            assert!(other.parse::<SecretDigest>().is_err(), "{other:?}");
        }
    }

    #[test]
    fn where_a_secret_is_kept_is_what_it_is_told_by() {
        let file = |path: &str| of_secret(&Source::File { path: path.into() });
        assert_eq!(file("/run/a"), file("/run/a"));
        assert_ne!(file("/run/a"), file("/run/b"));
    }
}
