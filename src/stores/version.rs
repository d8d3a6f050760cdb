use std::collections::VecDeque;
use std::fmt;
use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use aws_lc_rs::{digest, hmac, pbkdf2};

use crate::credentials::Password;
use crate::lock::lock;
use crate::random;

/// Names values that have no version of their own, by a digest under a key: equal values get equal names.
///
/// A fleet compares versions, so all that share a secret (a role's local password, or `version_key`) give a value the same
/// name. Who reads names and has that secret too can try passwords on them, so each try costs more than it does at a login
/// that somebody overheard. Without a shared secret the key never leaves this process, and a name can't be searched at all.
#[derive(Clone)]
pub struct DigestKey(Arc<Key>);

struct Key {
    own: hmac::Key,
    shared: Option<Shared>,
}

struct Shared {
    salt: [u8; digest::SHA256_OUTPUT_LEN],
    /// By what this process alone calls a value, the latest last.
    known: Mutex<VecDeque<(Arc<str>, Arc<str>)>>,
}

/// 64 bits tell versions apart; they prove nothing.
const DIGEST_BYTES: usize = 8;
/// Of every value once: five times what Postgres's own SCRAM verifiers cost.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(20_480).expect("not zero");
/// More than any one secret holds, or remembers.
const KNOWN_MAX: usize = 64;
const LABEL: &[u8] = b"pgswivel: versions of a secret's values\0";

impl DigestKey {
    /// Of this process alone.
    pub fn random() -> Self {
        let key: [u8; 32] = random::bytes();
        Self(Arc::new(Key {
            own: hmac::Key::new(hmac::HMAC_SHA256, &key),
            shared: None,
        }))
    }

    /// The same wherever this secret is the same.
    pub fn shared(secret: &Password) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(LABEL);
        context.update(secret.expose());
        let mut salt = [0; digest::SHA256_OUTPUT_LEN];
        salt.copy_from_slice(context.finish().as_ref());
        let Self(own) = Self::random();
        Self(Arc::new(Key {
            own: own.own.clone(),
            shared: Some(Shared {
                salt,
                known: Mutex::default(),
            }),
        }))
    }

    /// Whether it names values as the other does.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.0.shared, &other.0.shared) {
            (Some(one), Some(other)) => one.salt == other.salt,
            (None, None) => Arc::ptr_eq(&self.0, &other.0),
            _ => false,
        }
    }

    /// What a tuple of values is called within this process, for what is compared often.
    pub(super) fn name(&self, parts: &[&[u8]]) -> Arc<str> {
        let mut context = hmac::Context::with_key(&self.0.own);
        framed(parts, |bytes| context.update(bytes));
        hexadecimal(context.sign().as_ref())
    }

    /// What it is called wherever the key is shared.
    pub(super) fn version(&self, parts: &[&[u8]]) -> Arc<str> {
        let name = self.name(parts);
        let Some(shared) = &self.0.shared else {
            return name;
        };
        let known = || lock(&shared.known);
        if let Some((_, version)) = known().iter().find(|(known, _)| *known == name) {
            return Arc::clone(version);
        }
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &shared.salt));
        framed(parts, |bytes| context.update(bytes));
        let mut derived = [0; digest::SHA256_OUTPUT_LEN];
        let value = context.sign();
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            ITERATIONS,
            &shared.salt,
            value.as_ref(),
            &mut derived,
        );
        let version = hexadecimal(&derived);
        let mut known = known();
        if known.len() == KNOWN_MAX {
            known.pop_front();
        }
        known.push_back((name, Arc::clone(&version)));
        version
    }
}

/// Lengths count, so `("ab", "c")` is not `("a", "bc")`.
fn framed(parts: &[&[u8]], mut update: impl FnMut(&[u8])) {
    for part in parts {
        update(&(part.len() as u64).to_be_bytes());
        update(part);
    }
}

fn hexadecimal(digest: &[u8]) -> Arc<str> {
    let mut name = String::with_capacity(2 * DIGEST_BYTES);
    for byte in &digest[..DIGEST_BYTES] {
        write!(name, "{byte:02x}").expect("writing to a String never fails");
    }
    name.into()
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
        assert_eq!(name, key.version(&[b"app", b"secret"]));
        assert_ne!(name, key.name(&[b"apps", b"ecret"]));
        assert_ne!(name, DigestKey::random().name(&[b"app", b"secret"]));
        assert_eq!(format!("{key:?}"), "DigestKey(***)");
    }

    #[test]
    fn a_version_is_the_same_wherever_the_key_is_and_nowhere_else() {
        let key = |secret: &str| DigestKey::shared(&Password::new(secret));
        let (one, other) = (key("local"), key("local"));
        let version = one.version(&[b"app", b"secret"]);
        assert_eq!(version, other.version(&[b"app", b"secret"]));
        assert_eq!(version, one.version(&[b"app", b"secret"]), "the second time too");
        assert_ne!(version, one.version(&[b"apps", b"ecret"]));
        assert_ne!(version, key("other").version(&[b"app", b"secret"]));
        // What is compared often says nothing outside.
        assert_ne!(one.name(&[b"app"]), other.name(&[b"app"]));
        assert!(one.is_same(&other) && !one.is_same(&key("other")) && !one.is_same(&DigestKey::random()));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let key = DigestKey::shared(&Password::new("local"));
        let before = key.version(&[b"0"]);
        for number in 1..=KNOWN_MAX {
            key.version(&[number.to_string().as_bytes()]);
        }
        let known = |key: &DigestKey| key.0.shared.as_ref().unwrap().known.lock().unwrap().len();
        assert_eq!(known(&key), KNOWN_MAX);
        assert_eq!(key.version(&[b"0"]), before);
    }
}
