//! Why a request of the load failed.

use std::time::Duration;

use crate::cli::demo::failure::describe;

/// No application waits longer.
pub(super) const REQUEST_MAX: Duration = Duration::from_secs(45);

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli::demo) enum RequestError {
    #[error("{}", describe(.0))]
    Postgres(#[from] tokio_postgres::Error),
    #[error("a wrong answer")]
    WrongAnswer,
    #[error("a notification was lost")]
    NotificationLost,
    #[error("no answer within {} s", REQUEST_MAX.as_secs())]
    TooLong,
    #[error("a session was lost")]
    SessionLost,
}
