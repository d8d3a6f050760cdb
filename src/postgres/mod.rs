//! The Postgres wing.

pub mod by_the_book;
mod turnstile;
pub mod wire;

pub use turnstile::Turnstiles;
