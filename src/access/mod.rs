//! Getting logged in and staying so, whatever the protocol: which credential is tried where, how many logins there are
//! at once, who is on which credential, when a session has to leave one, and who waits for a link. It knows neither a
//! wire protocol nor a socket.

pub mod gate;
pub mod leave;
pub mod log_in;
pub mod pin;
pub mod queue;
pub mod roster;
