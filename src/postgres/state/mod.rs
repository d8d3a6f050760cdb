//! What a session holds, as far as it is known. No socket, and nobody to ask.

pub mod known;
pub mod ledger;
pub mod notes;
pub mod risky_names;
