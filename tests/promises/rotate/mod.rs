//! What `pgswivel rotate` promises.

mod age;
mod gate;
mod password;
