//! Passwords that nobody has seen before, and what a server is told of them.

use std::num::NonZeroU32;

use zeroize::Zeroizing;

pub use crate::config::{Alphabet, PasswordRecipe as Recipe};
use crate::credentials::Password;
use crate::postgres::wire::scram::SaltedPassword;
use crate::random;

/// Letters that need no escape in a URL, a shell, JSON, YAML or a connection string.
const URL_SAFE: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const ALPHANUMERIC: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Below this, a verifier that leaks can be searched for its password.
const BITS_MIN: f64 = 80.0;
/// As Postgres salts and stretches by default.
const SALT_BYTES: usize = 16;
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("it is not 0");

fn letters(alphabet: Alphabet) -> &'static [u8] {
    match alphabet {
        Alphabet::UrlSafe => URL_SAFE,
        Alphabet::Alphanumeric => ALPHANUMERIC,
    }
}

/// Why a password should not be used. Nothing of it is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Weak {
    #[error("it is empty")]
    Empty,
    #[error("it holds a NUL byte, which Postgres can't take")]
    Nul,
    #[error("it holds the user's name")]
    HoldsUser,
    #[error("it looks like a verifier or a hash, which Postgres would keep as it is")]
    LooksHashed,
    #[error("it could be guessed: make it longer, or of more kinds of characters")]
    Guessable,
}

/// From the system's generator, every letter as likely as any other.
pub fn generate(recipe: Recipe) -> Password {
    let letters = letters(recipe.alphabet);
    // The largest multiple: what is above it would make the first letters likelier.
    let fair = 256 - 256 % letters.len();
    let mut made = Zeroizing::new(Vec::with_capacity(recipe.length));
    let mut drawn = Zeroizing::new([0; 64]);
    while made.len() < recipe.length {
        random::fill(&mut *drawn);
        let usable = drawn.iter().filter(|byte| usize::from(**byte) < fair);
        let wanted = recipe.length - made.len();
        made.extend(
            usable
                .take(wanted)
                .map(|byte| letters[usize::from(*byte) % letters.len()]),
        );
    }
    Password::new(made.to_vec())
}

/// Whether a password that a person brings may be used for this user.
pub fn check(password: &Password, user: &str) -> Result<(), Weak> {
    let bytes = password.expose();
    if bytes.is_empty() {
        return Err(Weak::Empty);
    }
    if bytes.contains(&0) {
        return Err(Weak::Nul);
    }
    let text = Zeroizing::new(String::from_utf8_lossy(bytes).to_lowercase());
    if text.starts_with("scram-sha-256$") || text.starts_with("md5") && bytes.len() == 35 {
        return Err(Weak::LooksHashed);
    }
    if user.chars().count() > 2 && text.contains(&user.to_lowercase()) {
        return Err(Weak::HoldsUser);
    }
    match bits(bytes) < BITS_MIN {
        true => Err(Weak::Guessable),
        false => Ok(()),
    }
}

/// Whether a byte is one of a kind that people choose from.
type LetterKind = fn(&u8) -> bool;

/// How much there is to guess, at most: runs (`aaaa`, `abcd`, `4321`) add next to nothing.
fn bits(bytes: &[u8]) -> f64 {
    let kinds: [(LetterKind, f64); 5] = [
        (u8::is_ascii_lowercase, 26.0),
        (u8::is_ascii_uppercase, 26.0),
        (u8::is_ascii_digit, 10.0),
        (|byte| byte.is_ascii() && !byte.is_ascii_alphanumeric(), 33.0),
        (|byte| !byte.is_ascii(), 64.0),
    ];
    let found = kinds.iter().filter(|(is, _)| bytes.iter().any(is));
    let alphabet: f64 = found.map(|(_, size)| size).sum();
    let mut seen = [false; 256];
    let mut different = 0;
    for byte in bytes {
        different += usize::from(!std::mem::replace(&mut seen[usize::from(*byte)], true));
    }
    let is_step = |pair: &&[u8]| pair[0].abs_diff(pair[1]) > 1;
    let steps = 1 + bytes.windows(2).filter(is_step).count();
    // Few different letters are a small alphabet, however many kinds they are of.
    let alphabet = alphabet.min(2.0 * different as f64);
    steps as f64 * alphabet.max(1.0).log2()
}

/// What Postgres keeps of it. The server is told this and never the password, so no log of statements has it.
pub fn verifier(password: &Password) -> Zeroizing<String> {
    let salt: [u8; SALT_BYTES] = random::bytes();
    let salted = SaltedPassword::derive(password.expose(), &salt, ITERATIONS);
    salted.verifier(&salt, ITERATIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_as_long_as_wanted_of_its_letters_and_never_the_same() {
        for (alphabet, length) in [(Alphabet::UrlSafe, 40), (Alphabet::Alphanumeric, 129)] {
            let made = generate(Recipe { length, alphabet });
            assert_eq!(made.expose().len(), length);
            assert!(made.expose().iter().all(|byte| letters(alphabet).contains(byte)));
            assert_ne!(made, generate(Recipe { length, alphabet }));
            assert_eq!(check(&made, "app"), Ok(()));
        }
    }

    #[test]
    fn every_letter_is_as_likely_as_any_other() {
        let made = generate(Recipe {
            length: 62 * 1000,
            alphabet: Alphabet::Alphanumeric,
        });
        for letter in ALPHANUMERIC {
            let count = made.expose().iter().filter(|byte| *byte == letter).count();
            assert!((800..1200).contains(&count), "{count} of {}", char::from(*letter));
        }
    }

    #[test]
    fn a_password_that_a_person_brings_is_looked_at() {
        let check = |password: &str| check(&Password::new(password), "orders_app");
        assert_eq!(check(""), Err(Weak::Empty));
        assert_eq!(check("a\0b"), Err(Weak::Nul));
        assert_eq!(check("x9#Orders_App!kdQ83mZZpl02"), Err(Weak::HoldsUser));
        assert_eq!(check("SCRAM-SHA-256$4096:c2FsdA==$a:b"), Err(Weak::LooksHashed));
        assert_eq!(
            check("md5c4ca4238a0b923820dcc509a6f75849b"),
            Err(Weak::LooksHashed)
        );
        for weak in [
            "hunter2",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "abcdefghijklmnopqrstuvwxyz0123456789",
            "12345678901234567890",
            "abababababababababababababab",
            "Passw0rd!",
        ] {
            assert_eq!(check(weak), Err(Weak::Guessable), "{weak}");
        }
        for strong in [
            "correct horse battery staple",
            "kR9-vQ_2mZt7Lx0aBn4W",
            "żółć-gęślą-jaźń-ćma-9",
        ] {
            assert_eq!(check(strong), Ok(()), "{strong}");
        }
    }
}
