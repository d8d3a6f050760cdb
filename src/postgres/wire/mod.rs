//! The wire protocol, pure: slices in, values out.

pub mod scram;
