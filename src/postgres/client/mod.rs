//! The side of the client: its first packets, its proof of who it is, and what it is told when it is turned away.

pub mod admit;
pub mod auth;
pub mod refusal;
pub mod startup;

use crate::net::Socket;

/// A connection that a listener accepted.
#[derive(Debug)]
pub struct Client {
    pub socket: Socket,
    /// Names its session in the log.
    pub id: u64,
    /// The listener can be reached from elsewhere.
    pub must_encrypt: bool,
}
