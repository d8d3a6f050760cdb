//! `"250ms"`, `"30s"`, `"5m"`, `"1h"`, `"90d"`.

use std::time::Duration;

/// Units and their milliseconds, the largest first.
const UNITS: [(&str, u64); 5] = [
    ("d", 24 * 60 * 60 * 1000),
    ("h", 60 * 60 * 1000),
    ("m", 60 * 1000),
    ("s", 1000),
    ("ms", 1),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("a duration is a whole number and a unit (ms, s, m, h or d), such as \"5m\"")]
    Shape,
    #[error("a duration needs a unit: ms, s, m, h or d")]
    NoUnit,
    #[error("that duration is longer than anything can last")]
    TooLong,
}

pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    if digits.is_empty() {
        return Err(DurationError::Shape);
    }
    let unit = unit.trim_start();
    if unit.is_empty() {
        return Err(DurationError::NoUnit);
    }
    let (_, milliseconds) = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or(DurationError::Shape)?;
    digits
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(*milliseconds))
        .map(Duration::from_millis)
        .ok_or(DurationError::TooLong)
}

/// As [`parse`] reads it, in the largest unit that keeps it whole.
pub(super) fn written(duration: Duration) -> String {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if milliseconds == 0 {
        return "0s".to_owned();
    }
    for (unit, size) in UNITS {
        if milliseconds.is_multiple_of(size) {
            return format!("{}{unit}", milliseconds / size);
        }
    }
    format!("{milliseconds}ms")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        let table = [
            ("250ms", Duration::from_millis(250)),
            ("30s", Duration::from_secs(30)),
            ("5m", Duration::from_secs(300)),
            ("1h", Duration::from_secs(3600)),
            ("90d", Duration::from_secs(90 * 86_400)),
            ("0s", Duration::ZERO),
            (" 10 s ", Duration::from_secs(10)),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let table = [
            ("", DurationError::Shape),
            ("s", DurationError::Shape),
            ("-5s", DurationError::Shape),
            ("1.5s", DurationError::Shape),
            ("5 minutes", DurationError::Shape),
            ("1h30m", DurationError::Shape),
            ("30", DurationError::NoUnit),
            ("99999999999999999999s", DurationError::TooLong),
            ("9999999999999999d", DurationError::TooLong),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), Err(expected), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(milliseconds in 0u64..=u64::MAX / 2) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse(&written(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = parse(&text);
        }
    }
}
