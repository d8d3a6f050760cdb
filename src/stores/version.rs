use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

use aws_lc_rs::{hmac, rand};

/// Names values that have no version of their own, by a digest under a key that never leaves this
/// process: equal values get equal names, and a name can't be searched for its password.
#[derive(Clone)]
pub struct DigestKey(Arc<hmac::Key>);

/// 64 bits tell versions apart; they prove nothing.
const DIGEST_BYTES: usize = 8;

impl DigestKey {
    pub fn random() -> Self {
        let mut key = [0; 32];
        rand::fill(&mut key).expect("aws-lc-rs has a random source or aborts");
        Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// The name of one tuple of values. Lengths count, so `("ab", "c")` is not `("a", "bc")`.
    pub(super) fn name(&self, parts: &[&[u8]]) -> Arc<str> {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let tag = context.sign();
        let mut name = String::with_capacity(2 * DIGEST_BYTES);
        for byte in &tag.as_ref()[..DIGEST_BYTES] {
            write!(name, "{byte:02x}").expect("writing to a String never fails");
        }
        name.into()
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_keeps_its_name_within_a_process_and_not_across() {
        let key = DigestKey::random();
        let name = key.name(&[b"app", b"secret"]);
        let shared = key.clone();
        assert_eq!(name, shared.name(&[b"app", b"secret"]));
        assert_ne!(name, key.name(&[b"apps", b"ecret"]));
        assert_ne!(name, DigestKey::random().name(&[b"app", b"secret"]));
        assert_eq!(format!("{key:?}"), "DigestKey(***)");
    }
}
