//! What PBKDF2 made of passwords lately: most of what a login with SCRAM costs, and always the same for a server that
//! keeps its salt.

use std::num::NonZeroU32;
use std::sync::Mutex;

use crate::credentials::Password;
use crate::lock::lock;
use crate::postgres::wire::scram::SaltedPassword;

/// Of one upstream: its servers, times the credentials that are tried on them.
const KEPT_MAX: usize = 16;

/// The latest last.
#[derive(Default)]
pub struct ScramKeys(Mutex<Vec<Derived>>);

struct Derived {
    password: Password,
    salt: Box<[u8]>,
    iterations: NonZeroU32,
    salted: SaltedPassword,
}

impl ScramKeys {
    pub fn get(&self, password: &Password, salt: &[u8], iterations: NonZeroU32) -> Option<SaltedPassword> {
        let kept = lock(&self.0);
        let is_it = |kept: &&Derived| {
            kept.iterations == iterations && *kept.salt == *salt && kept.password == *password
        };
        kept.iter().find(is_it).map(|kept| kept.salted.clone())
    }

    pub fn keep(&self, password: Password, salt: &[u8], iterations: NonZeroU32, salted: SaltedPassword) {
        let mut kept = lock(&self.0);
        if kept.len() == KEPT_MAX {
            kept.remove(0);
        }
        kept.push(Derived {
            password,
            salt: salt.into(),
            iterations,
            salted,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_key_is_found_by_all_that_it_was_derived_from() {
        let keys = ScramKeys::default();
        let (one, two) = (NonZeroU32::MIN, NonZeroU32::MIN.saturating_add(1));
        let (right, wrong) = (Password::new("right"), Password::new("wrong"));
        let derived = SaltedPassword::derive(right.expose(), b"salt", one);
        keys.keep(right.clone(), b"salt", one, derived);
        assert!(keys.get(&right, b"salt", one).is_some());
        assert!(keys.get(&wrong, b"salt", one).is_none());
        assert!(keys.get(&right, b"pepper", one).is_none());
        assert!(keys.get(&right, b"salt", two).is_none());
    }

    #[test]
    fn the_oldest_makes_room() {
        let keys = ScramKeys::default();
        for salt in 0..=KEPT_MAX {
            let derived = SaltedPassword::derive(b"x", b"salt", NonZeroU32::MIN);
            keys.keep(Password::new("x"), &[salt as u8], NonZeroU32::MIN, derived);
        }
        assert!(keys.get(&Password::new("x"), &[0], NonZeroU32::MIN).is_none());
        assert!(keys.get(&Password::new("x"), &[1], NonZeroU32::MIN).is_some());
    }
}
