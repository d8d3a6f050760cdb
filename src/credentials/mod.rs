//! What logs in: passwords that do not leak, credentials that are never mixed, and the book of what is
//! known about them. Pure: no IO, and the clock is an argument.

mod book;
mod credential;
mod page;
mod password;
mod verdicts;

pub use book::{Book, Event, KNOWN_MAX, LISTED_MAX, Offer, Unfinished};
pub use credential::{Credential, Position};
pub use page::{Change, Entry, Page, Retirement, Try, Verdict};
pub use password::Password;
pub use verdicts::{Refusal, Verdicts};
