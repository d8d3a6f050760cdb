//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, both roles, pure: nonces are arguments and nothing waits.
//!
//! A phase is a type, and reading the expected message consumes it:
//!
//! * [`client`]: `client_first` → `ExpectServerFirst` → `Challenge` → `ExpectServerFinal`
//! * [`server`]: `ExpectMechanism` → `ExpectClientFirst` → `ExpectClientFinal` → `Verdict`
//!
//! The one expensive step is [`SaltedPassword::derive`]. Neither role runs it: the caller does, where
//! blocking is allowed, and may keep the result per (salt, iterations).

mod attributes;
pub mod client;
mod saslprep;
pub mod server;
#[cfg(test)]
mod tests;

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

pub use attributes::Malformed;

pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// As much randomness as Postgres puts into a nonce.
pub const NONCE_BYTES: usize = 18;

const KEY_BYTES: usize = 32;
const PLUS_HEADER: &str = "p=tls-server-end-point,,";

/// The hash of the server's certificate that `tls-server-end-point` binds to.
pub type EndPointHash = Arc<[u8]>;

/// One side's part of the nonce, in printable form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    pub fn from_random(bytes: &[u8; NONCE_BYTES]) -> Self {
        Self(STANDARD.encode(bytes))
    }
}

/// What a password becomes after PBKDF2. Enough to log in with, so it is guarded like the password.
#[derive(Clone)]
pub struct SaltedPassword(Zeroizing<[u8; KEY_BYTES]>);

impl SaltedPassword {
    /// Takes about a tenth of a microsecond for each iteration.
    pub fn derive(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Self {
        let prepared = saslprep::prepare(password);
        let mut salted = Zeroizing::new([0; KEY_BYTES]);
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            iterations,
            salt,
            &prepared,
            &mut *salted,
        );
        Self(salted)
    }

    /// What Postgres keeps of a password, as `ALTER ROLE … PASSWORD` takes it in place of the password itself.
    pub fn verifier(&self, salt: &[u8], iterations: NonZeroU32) -> Zeroizing<String> {
        Zeroizing::new(format!(
            "{SCRAM_SHA_256}${iterations}:{}${}:{}",
            STANDARD.encode(salt),
            STANDARD.encode(sha256(&*self.client_key())),
            STANDARD.encode(*self.server_key()),
        ))
    }

    fn client_key(&self) -> Zeroizing<[u8; KEY_BYTES]> {
        Zeroizing::new(hmac_sha256(&*self.0, &[b"Client Key"]))
    }

    fn server_key(&self) -> Zeroizing<[u8; KEY_BYTES]> {
        Zeroizing::new(hmac_sha256(&*self.0, &[b"Server Key"]))
    }
}

impl fmt::Debug for SaltedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; KEY_BYTES] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    let mut tag = [0; KEY_BYTES];
    tag.copy_from_slice(context.sign().as_ref());
    tag
}

fn sha256(bytes: &[u8]) -> [u8; KEY_BYTES] {
    let mut hash = [0; KEY_BYTES];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

fn xor(left: &[u8; KEY_BYTES], right: &[u8; KEY_BYTES]) -> Zeroizing<[u8; KEY_BYTES]> {
    let mut result = Zeroizing::new(*left);
    for (byte, other) in result.iter_mut().zip(right) {
        *byte ^= other;
    }
    result
}

/// What a client-final message's `c=` has to be: the gs2 header, and after `p=` the data it names.
fn binding_attribute(header: &str, data: &[u8]) -> String {
    STANDARD.encode([header.as_bytes(), data].concat())
}
