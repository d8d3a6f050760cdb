//! What logs in: passwords that do not leak, credentials that are never mixed, and the book of what is
//! known about them. Pure: no IO, and the clock is an argument.

mod credential;
mod password;

pub use credential::{Credential, Position};
pub use password::Password;
