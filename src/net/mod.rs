//! Sockets, and TLS over them: reaching an endpoint, listening for clients, one [`Stream`] for both.
//!
//! * [`dial`] and [`listen`] yield a [`Socket`]: TCP or Unix, options set, nothing said on it yet.
//! * [`tls`] turns a socket into a [`Stream`]; without TLS, `Stream::from(socket)` does.
//!
//! Nothing here knows Postgres: who asks for TLS, and when, is decided above. `tls` alone names its TLS
//! library.

pub mod dial;
pub mod listen;
mod socket;
mod stream;
pub mod tls;

pub use socket::{Peer, Socket};
pub use stream::Stream;
