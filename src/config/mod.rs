//! Configuration: as typed by the user, resolved with all problems at once, typed for the rest.

mod typed;

pub use typed::*;
