//! Links to a server: how there come to be any, which are ready, and how they end. It knows no session.

pub mod arrival;
pub mod cancel;
pub mod complaints;
pub mod examine;
pub mod farewell;
pub mod fleet_link;
pub mod learn;
pub mod login;
pub mod login_error;
pub mod no_link;
pub mod obtain;
pub mod pool;
pub mod scram_keys;
pub mod target;
pub mod warm;
pub mod way;
