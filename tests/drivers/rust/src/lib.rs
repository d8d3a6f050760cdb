//! What both programs need: where to connect, what to ask, how to say it.

use std::fmt::Debug;
use std::fs::read_to_string;

use md5::{Digest, Md5};

pub const MEGABYTE: usize = 1 << 20;

/// A variable that the runner sets.
pub fn from_runner(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is set by tests/drivers/run"))
}

pub fn ca_file() -> Option<String> {
    std::env::var("CA_FILE").ok()
}

pub fn show(name: impl AsRef<str>, value: impl Debug) {
    println!("{}: {value:?}", name.as_ref());
}

pub fn lines_of(file: &str) -> Vec<String> {
    let text = read_to_string(file).expect("the runner starts programs beside their files");
    text.lines().map(str::to_owned).collect()
}

pub fn md5(data: impl AsRef<[u8]>) -> String {
    format!("{:x}", Md5::digest(data))
}

#[cfg(feature = "tokio-postgres")]
pub mod tls;
