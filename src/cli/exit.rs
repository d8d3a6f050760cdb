use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Fine = 0,
    Failed = 1,
    /// Something is half done, and what goes on with it was said. Of `rotate` only.
    Halfway = 2,
    /// Also wrong usage. `EX_USAGE`.
    BadConfiguration = 64,
    /// The upstream, a store or a running pgswivel can't be reached; only for commands that do one thing and end.
    /// `EX_UNAVAILABLE`.
    Unreachable = 69,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
