//! How numbers are written, and the rows that the live screen and the summary share.

use std::time::Duration;

use super::view::Second;

/// Seconds are drawn as one character each while they fit.
const TIMELINE_COLUMNS: usize = 60;

const LABEL: usize = 26;
const COLUMN: usize = 25;

/// Colours, or none.
#[derive(Clone, Copy)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    /// As <https://no-color.org> has it.
    pub(super) fn wanted(is_terminal: bool) -> Self {
        let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self(is_terminal && !is_unwanted)
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    /// None is good, and any is not.
    pub(super) fn errors(self, count: u64, text: &str) -> String {
        self.with(if count == 0 { "32" } else { "1;31" }, text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// One row of the table with a column a side.
pub(super) fn row(label: &str, sides: &[impl AsRef<str>; 2]) -> String {
    let [with, without] = sides.each_ref().map(AsRef::as_ref);
    format!("{label:<LABEL$}{with:>COLUMN$}{without:>COLUMN$}")
}

/// The same, for something that should not happen.
pub(super) fn bad_row(paint: Paint, label: &str, counts: [u64; 2]) -> String {
    let [with, without] = counts.map(|count| {
        let text = format!("{:>COLUMN$}", grouped(count));
        paint.errors(count, &text)
    });
    format!("{label:<LABEL$}{with}{without}")
}

/// What happened when: rotations, and the errors of both sides.
pub(super) fn timeline(paint: Paint, seconds: &[Second]) -> Vec<String> {
    let size = seconds.len().div_ceil(TIMELINE_COLUMNS).max(1);
    let line = |mark: char, count: &dyn Fn(&Second) -> u64| -> String {
        let marks = seconds.chunks(size).map(|chunk| {
            let is_marked = chunk.iter().map(count).sum::<u64>() > 0;
            if is_marked { mark } else { '·' }
        });
        marks.collect()
    };
    let errors = |label: &str, side: usize| {
        let total: u64 = seconds.iter().map(|second| second.failed[side]).sum();
        let line = line('x', &|second| second.failed[side]);
        format!("{label:<LABEL$}{}", paint.errors(total, &line))
    };
    let rotations = line('R', &|second| second.rotations);
    vec![
        format!("{:<LABEL$}{rotations}", format!("rotations (R), {size} s each")),
        errors("errors (x) with pgswivel", 0),
        errors("errors (x) without", 1),
    ]
}

/// `12,345`
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `4 ms`, `1.2 s`
pub(super) fn short(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

/// `one error`, `3 errors`
pub(super) fn counted(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{} {noun}s", grouped(count)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(
            [7, 999, 1000, 1_234_567].map(grouped),
            ["7", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [4, 1234].map(|ms| short(Duration::from_millis(ms))),
            ["4 ms", "1.2 s"]
        );
        assert_eq!(
            [0, 1, 2].map(|count| counted(count, "error")),
            ["0 errors", "1 error", "2 errors"]
        );
    }

    #[test]
    fn a_long_run_fits_on_a_line_and_loses_no_error() {
        let mut seconds = vec![Second::default(); 150];
        seconds[149].failed = [0, 1];
        let lines = timeline(Paint(false), &seconds);
        assert_eq!(lines[1].chars().count(), LABEL + 50);
        assert!(
            !lines[1].contains('x') || lines[1].matches('x').count() == 1,
            "{}",
            lines[1]
        );
        assert!(lines[2].ends_with("·x"), "{}", lines[2]);
    }
}
