use std::fmt;
use std::time::Duration;

use super::PayloadError;

/// Why a read gave nothing. No variant carries a byte of a payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("the store has no such secret ({0}): create it, or correct its name")]
    Missing(Said),
    #[error("the store denies access ({0}): allow this identity to read the secret")]
    Denied(Said),
    #[error(
        "this process is nobody to the store ({0}): give it a role, a service account, a profile or keys"
    )]
    Nobody(Said),
    #[error("the store does not take this process's keys ({0}): they are loaded anew, see who renews them")]
    Expired(Said),
    #[error("the store's clock and this machine's differ too much ({0}): set this machine's clock")]
    Clock(Said),
    #[error("the store asks to slow down ({said}): poll less often, or raise its limit")]
    Throttled {
        retry_after: Option<Duration>,
        said: Said,
    },
    #[error("the store can't be reached ({0}): check its address, the network and its certificate")]
    Unreachable(Said),
    #[error("the store did not answer within {} s: check that it is well and near", limit.as_secs_f32())]
    Slow { limit: Duration },
    #[error("the secret is larger than {limit} bytes: it can't be a credential")]
    TooLarge { limit: usize },
    #[error("the secret can't be understood: {0}")]
    Unparsable(#[from] PayloadError),
    #[error("the secret is empty: put a value in it")]
    Empty,
    #[error("the secret kept changing while it was read: it will be read again")]
    Unsettled,
    #[error("the store failed ({0}): see its own log")]
    Failed(Said),
    #[error("{0}")]
    Unsuitable(Unsuitable),
}

/// What kind of second try makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Soon, then more and more rarely.
    BackOff,
    /// Not before this, because the store said so.
    After(Duration),
    /// Only another configuration helps.
    Never,
}

impl StoreError {
    /// A stable word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Missing(_) => "missing",
            Self::Denied(_) | Self::Nobody(_) => "denied",
            Self::Expired(_) => "expired",
            Self::Clock(_) => "clock",
            Self::Throttled { .. } => "throttled",
            Self::Unreachable(_) => "unreachable",
            Self::Slow { .. } => "slow",
            Self::TooLarge { .. } => "too_large",
            Self::Unparsable(_) => "unparsable",
            Self::Empty => "empty",
            Self::Unsettled => "unsettled",
            Self::Failed(_) => "failed",
            Self::Unsuitable(_) => "unsuitable",
        }
    }

    /// Says where it was looked for, if that may be what is wrong.
    #[cfg(feature = "aws")]
    pub(super) fn looked_for_in(self, place: &str) -> Self {
        let at = |said: &Said| Said::new(format_args!("{said}, looked for in {place}"));
        match self {
            Self::Missing(said) => Self::Missing(at(&said)),
            Self::Unreachable(said) => Self::Unreachable(at(&said)),
            error => error,
        }
    }

    pub fn retry(&self) -> Retry {
        match self {
            Self::Throttled {
                retry_after: Some(wait),
                ..
            } => Retry::After(*wait),
            // The machine may come to know its region.
            Self::Unsuitable(Unsuitable::NoRegion) => Retry::BackOff,
            Self::Unsuitable(_) => Retry::Never,
            _ => Retry::BackOff,
        }
    }
}

/// A configuration that a store can't work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsuitable {
    #[error("this build has no support for this store: build it with the feature \"{feature}\"")]
    NotBuiltIn { feature: &'static str },
    #[error("a command needs at least a program to run")]
    NoProgram,
    #[error(
        "a signed token names one host, and this secret is used for several: give each upstream its own secret"
    )]
    SeveralEndpoints,
    #[error(
        "a signed token names a host, and this secret is used for none that has one: it needs an upstream over TCP"
    )]
    NoEndpoint,
    #[error("this store can only be read: rotate where its values come from")]
    ReadOnly,
    #[error("this command store is only read: name the program that takes a new payload in its `write`")]
    NoWriteCommand,
    #[error("no AWS region is known: name one in the secret, in AWS_REGION or in the profile")]
    NoRegion,
    #[error("the store's address is not a URL: write it as https://host:port")]
    Address,
}

/// What a store, an operating system or a library said about a failure: one line, of bounded length,
/// without control characters. Never made from a payload.
#[derive(Clone, PartialEq, Eq)]
pub struct Said(Box<str>);

/// Longer stories are cut here.
const SAID_CHARS_MAX: usize = 400;

impl Said {
    pub(super) fn new(words: impl fmt::Display) -> Self {
        let mut line = String::new();
        for (count, character) in words.to_string().trim().chars().enumerate() {
            if count == SAID_CHARS_MAX {
                line.push('…');
                break;
            }
            line.push(if character.is_control() { ' ' } else { character });
        }
        Self(line.into())
    }

    /// An error with everything that caused it, in their own words.
    #[cfg(any(feature = "aws", feature = "vault"))]
    pub(super) fn chain(error: &dyn std::error::Error) -> Self {
        let mut story = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let words = error.to_string();
            if !story.ends_with(&words) {
                story.push_str(": ");
                story.push_str(&words);
            }
            cause = error.source();
        }
        Self::new(story)
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_says_is_one_bounded_line() {
        let said = Said::new(format!("  first\r\nsecond\u{1b}[31m{}", "x".repeat(1000)));
        let line = said.to_string();
        assert!(line.starts_with("first  second [31m"));
        assert_eq!(line.chars().count(), SAID_CHARS_MAX + 1);
        assert!(line.ends_with('…'));
    }

    #[test]
    fn a_store_that_names_a_wait_is_believed() {
        let throttled = StoreError::Throttled {
            retry_after: Some(Duration::from_secs(7)),
            said: Said::new("Rate exceeded"),
        };
        assert_eq!(throttled.retry(), Retry::After(Duration::from_secs(7)));
        assert_eq!(StoreError::Empty.retry(), Retry::BackOff);
        assert_eq!(
            StoreError::Unsuitable(Unsuitable::NoProgram).retry(),
            Retry::Never
        );
    }
}
