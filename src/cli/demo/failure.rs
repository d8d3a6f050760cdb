use std::io;
use std::path::PathBuf;

/// Where PostgreSQL is, if the user says so.
pub(super) const VARIABLE: &str = "PGSWIVEL_DEMO_POSTGRES";

/// Why the demo could not be shown. That pgswivel let the application down is no failure of this kind: it is
/// counted, and shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(
        "no PostgreSQL was found in {}, in /usr/lib/postgresql, or in PATH: install one (apt-get install postgresql), \
         run `make demo`, which brings its own, or set {}",
        .0.display(),
        VARIABLE
    )]
    NoPostgres(PathBuf),
    #[error("{}={}: there is no bin/postgres and bin/initdb in it", VARIABLE, .0.display())]
    NotAPostgres(PathBuf),
    #[error("can't {doing}: {source}")]
    Io { doing: &'static str, source: io::Error },
    /// With the last lines of what it said.
    #[error("{program} ended early, and said:\n{said}")]
    Ended { program: &'static str, said: String },
    #[error("{program} did not get ready, and said:\n{said}")]
    NotReady { program: &'static str, said: String },
    #[error("the demo's own session: {}", describe(.0))]
    Database(#[from] tokio_postgres::Error),
    #[error("stopped")]
    Interrupted,
}

/// `map_err(io("read a file"))`
pub(super) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Failure {
    move |source| Failure::Io { doing, source }
}

/// What Postgres said, which the error's own `Display` leaves out.
pub(super) fn describe(error: &tokio_postgres::Error) -> String {
    use std::error::Error;

    match (error.as_db_error(), error.source()) {
        (Some(said), _) => format!("{} ({})", said.message(), said.code().code()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}
