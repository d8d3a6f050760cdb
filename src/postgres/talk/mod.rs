//! Conversations that pgswivel itself has with a server.

pub mod exchange;
pub mod replay;
pub mod stream;
pub mod survey;
