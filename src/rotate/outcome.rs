//! How a run ended, and how that is said.

use std::fmt;

use super::plan::Refusal;

/// How it ended.
#[derive(Debug)]
pub enum Outcome {
    Done,
    /// Nothing was there to do.
    Nothing,
    /// Nothing was done.
    Refused(Vec<Refusal>),
    /// Nothing was done.
    NotBegun(String),
    RolledBack(String),
    /// With how to go on.
    Halfway {
        why: String,
        how: String,
    },
    Unreachable(String),
}

impl Outcome {
    /// A stable word.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Nothing => "nothing",
            Self::Refused(_) => "refused",
            Self::NotBegun(_) => "not_begun",
            Self::RolledBack(_) => "rolled_back",
            Self::Halfway { .. } => "halfway",
            Self::Unreachable(_) => "unreachable",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Nothing => f.write_str("nothing was to be done"),
            Self::Refused(refusals) => {
                f.write_str("nothing was done")?;
                refusals.iter().try_for_each(|refusal| write!(f, "\n  {refusal}"))
            }
            Self::NotBegun(why) => write!(f, "nothing was done: {why}"),
            Self::RolledBack(why) => write!(f, "failed, and everything is as it was before: {why}"),
            Self::Halfway { why, how } => write!(f, "stopped half-way: {why}\n{how}"),
            Self::Unreachable(why) => write!(f, "nothing was done, since something can't be reached: {why}"),
        }
    }
}
