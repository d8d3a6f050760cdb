//! What is thrown at whoever reads something from outside: bytes in, and a panic if what must hold does not. `fuzz/` has
//! a fuzzer's target for each; a bounded run of all is a test.

mod bounded;
mod configuration;

pub use configuration::configuration;

pub use crate::postgres::fuzzing::{conversation, scram, startup};
pub use crate::stores::payload::fuzzing::payload;

/// What takes the bytes.
pub type Target = fn(&[u8]);

/// By the names that files in `fuzz/fuzz_targets` have.
pub const TARGETS: [(&str, Target); 5] = [
    ("configuration", configuration),
    ("conversation", conversation),
    ("payload", payload),
    ("scram", scram),
    ("startup", startup),
];
