//! What the processes of a fleet tell each other over the database that they serve: what each says of itself in the name
//! of the link that it listens on, and what a notification asks for. Words in, words out; who sends and listens is
//! `server`.
//!
//! Whoever may log in to the database may write both. So what is said here is believed for speed and for reasons, never
//! for safety: a notification has stores read, no more, and that nobody is on a user is seen in `pg_stat_activity`.

mod call;
mod digest;
mod pace;
mod word;

pub use call::{Call, PAYLOAD_BYTES_MAX};
pub use digest::{SecretDigest, of_secret, of_version};
pub use pace::{Pace, READ_EVERY, Wish};
pub use word::{NAME_BYTES_MAX, NAME_PREFIX, SecretWord, Standing, Word, instance};
