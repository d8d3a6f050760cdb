//! What pgswivel itself says to either side, and hears: streams, surveys, replay.

pub mod exchange;
pub mod replay;
pub mod stream;
pub mod survey;
