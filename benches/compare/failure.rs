//! What ends a comparison before its time.

use std::io;
use std::time::Duration;

use pgswivel::postgres::wire::read::Malformed;
use pgswivel::postgres::wire::scram::client::ScramClientError;

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("can't {what}: {source}")]
    Io { what: &'static str, source: io::Error },
    #[error("{program} is missing: run `tests/setup bench`")]
    Missing { program: &'static str },
    #[error("{program} did not start:\n{log}")]
    NotStarted { program: &'static str, log: String },
    #[error("no peer or workload is named {0:?}; see --help")]
    Unknown(String),
    #[error("{peer}, {workload}: {source}")]
    At {
        peer: &'static str,
        workload: &'static str,
        source: Box<Failure>,
    },
    #[error("pgbench failed:\n{0}")]
    Pgbench(String),
    #[error("pgbench was not through after {limit:?}")]
    Stuck { limit: Duration },
    #[error("the server refused: {0}")]
    Refused(String),
    #[error("the server sent message {0:?} out of place")]
    Unexpected(char),
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("{0}")]
    Scram(#[from] ScramClientError),
    #[error("too little happened to measure; give it more --seconds")]
    TooShort,
    #[error("interrupted")]
    Interrupted,
}

/// For `map_err`: what could not be done.
pub fn io(what: &'static str) -> impl FnOnce(io::Error) -> Failure {
    move |source| Failure::Io { what, source }
}
