//! Why a login failed, and what that means for the next one.

use bytes::Bytes;

use crate::access::log_in::AttemptError;
use crate::credentials::Refusal;
use crate::metrics;
use crate::net::dial::DialError;
use crate::net::tls::TlsError;
use crate::postgres::talk::stream::StreamError;
use crate::postgres::wire::read::{self, Malformed};
use crate::postgres::wire::scram::client::ScramClientError;
use crate::postgres::wire::tag::field;

/// All messages between AuthenticationOk and ReadyForQuery.
pub const GREETING_MAX: usize = 1 << 20;
const TOO_MANY_CONNECTIONS: &str = "53300";

#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    #[error("{0}")]
    Dial(#[from] DialError),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("the server does not offer TLS, and tls.mode demands it")]
    TlsNotOffered,
    #[error("the server answered SSLRequest with byte {0:#04x}; only S and N are answers")]
    BadTlsAnswer(u8),
    #[error("the server did not finish the login within connect_timeout")]
    TimedOut,
    #[error("the connection failed during login: {0}")]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the server sent message {0:?} during login")]
    Unexpected(char),
    #[error(
        "the server asks for the password in clear text, which is sent over verified TLS only (tls.mode verify-ca or verify-full)"
    )]
    CleartextRefused,
    #[error("the server asks for an md5 answer, which is given over TLS or with md5 = \"allow\" only")]
    Md5Refused,
    #[error("the server asks for authentication method {0}, which is not supported")]
    Method(u32),
    #[error("the server offers no SASL mechanism that is spoken here")]
    Mechanism,
    #[error("the server does not bind the login to its TLS certificate, and channel binding is required")]
    Unbound,
    #[error("{0}")]
    Scram(#[from] ScramClientError),
    #[error("the server ended SCRAM without proving that it knows the password")]
    Unproven,
    #[error("the server sent more than {GREETING_MAX} bytes before it was ready")]
    Greeting,
    #[error("the server went on with notices and did not come to the login")]
    Chatter,
    #[error("the server refused the login with {}", sqlstate(.body))]
    Server {
        /// Of the server's ErrorResponse.
        body: Bytes,
        /// The credential was accepted; something else was not: the database, the role, a limit.
        authenticated: bool,
    },
}

enum Verdict {
    Refused(Refusal),
    NotYet,
    Fatal { authenticated: bool },
}

impl From<LoginError> for AttemptError<LoginError> {
    fn from(error: LoginError) -> Self {
        match error.verdict() {
            Verdict::Refused(refusal) => Self::Refused(refusal, error),
            Verdict::NotYet => Self::NotYet(error),
            Verdict::Fatal { authenticated } => Self::Fatal { error, authenticated },
        }
    }
}

impl LoginError {
    /// What it says to whoever counts.
    pub fn outcome(&self) -> metrics::Login {
        match self.verdict() {
            Verdict::Refused(_) => metrics::Login::Refused,
            Verdict::NotYet => metrics::Login::Unreachable,
            Verdict::Fatal { .. } => metrics::Login::Failed,
        }
    }

    /// What it means for the next login.
    fn verdict(&self) -> Verdict {
        let (sqlstate, authenticated) = match self {
            Self::Server { body, authenticated } => (sqlstate(body), *authenticated),
            // As if it had said nothing: only the wait is spared.
            Self::Dial(_)
            | Self::TimedOut
            | Self::Chatter
            | Self::Stream(StreamError::Closed | StreamError::Io(_)) => {
                return Verdict::NotYet;
            }
            _ => ("", false),
        };
        if read::is_going_away(sqlstate.as_bytes()) {
            return Verdict::NotYet;
        }
        match Refusal::from_sqlstate(sqlstate) {
            // NOLOGIN and a dropped role are told after the password was taken.
            Some(refusal) => Verdict::Refused(refusal),
            None => Verdict::Fatal { authenticated },
        }
    }

    /// None: the server did not answer with an error of its own.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Server { body, .. } => Some(sqlstate(body)),
            _ => None,
        }
    }

    /// Another client's login would not have to fare the same.
    pub fn is_clients_affair(&self) -> bool {
        self.sqlstate()
            .is_some_and(|state| state != TOO_MANY_CONNECTIONS && !read::is_going_away(state.as_bytes()))
    }

    /// What the server says about its error, in its own words: they may hold anything.
    pub fn server_message(&self) -> Option<String> {
        let Self::Server { body, .. } = self else {
            return None;
        };
        let message = read::error_field(body, field::MESSAGE)?;
        Some(String::from_utf8_lossy(message).into_owned())
    }
}

fn sqlstate(body: &[u8]) -> &str {
    let state = read::error_field(body, field::SQLSTATE).unwrap_or_default();
    str::from_utf8(state).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(sqlstate: &str) -> AttemptError<LoginError> {
        let body = format!("SFATAL\0VFATAL\0C{sqlstate}\0Mno\0\0").into_bytes();
        let authenticated = true;
        AttemptError::from(LoginError::Server {
            body: body.into(),
            authenticated,
        })
    }

    #[test]
    fn a_login_that_a_server_breaks_off_as_it_goes_away_is_tried_again() {
        for state in ["57P01", "57P02", "57P03"] {
            assert!(matches!(attempt(state), AttemptError::NotYet(_)), "{state}");
        }
        for state in ["3D000", "57P04", "XX000"] {
            assert!(matches!(attempt(state), AttemptError::Fatal { .. }), "{state}");
        }
        assert!(matches!(attempt("28P01"), AttemptError::Refused(..)));
    }
}
