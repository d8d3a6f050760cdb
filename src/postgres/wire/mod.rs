//! The wire protocol, pure: slices in, values out.

pub mod aftermath;
pub mod bound;
pub mod described;
pub mod extended;
pub mod frame;
pub mod opening;
pub mod parts;
pub mod read;
pub mod say;
pub mod scram;
pub mod state_words;
pub mod tag;
pub mod tracker;
pub mod work;
