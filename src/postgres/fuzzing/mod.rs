//! See [`crate::fuzzing`].

mod conversation;
mod login;

pub use conversation::conversation;
pub use login::{scram, startup};
