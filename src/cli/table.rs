//! Plain tables: aligned columns, notes below a row, nothing wider than the terminal.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::time::Duration;

const INDENT: usize = 2;
const GAP: usize = 2;
const NOTE_INDENT: usize = 6;
/// A column is not made narrower than this, nor are notes wrapped to less.
const COLUMN_MIN: usize = 8;
const NOTE_MIN: usize = 30;

pub(super) struct Table<const N: usize> {
    head: [&'static str; N],
    rows: Vec<Row<N>>,
}

struct Row<const N: usize> {
    cells: [String; N],
    notes: Vec<String>,
}

impl<const N: usize> Table<N> {
    pub(super) fn new(head: [&'static str; N]) -> Self {
        Self {
            head,
            rows: Vec::new(),
        }
    }

    /// A row, and what is to be said below it.
    pub(super) fn add(&mut self, cells: [String; N], notes: impl IntoIterator<Item = String>) {
        self.rows.push(Row {
            cells: cells.map(|cell| printable(&cell)),
            notes: notes.into_iter().map(|note| printable(&note)).collect(),
        });
    }

    /// None: as wide as it comes.
    pub(super) fn write(&self, width: Option<usize>, out: &mut String) {
        let widths = self.widths(width);
        let heads = self.head.map(str::to_owned);
        write_line(&heads, &widths, out);
        for row in &self.rows {
            write_line(&row.cells, &widths, out);
            for note in &row.notes {
                write_note(note, width, out);
            }
        }
    }

    /// Of each column; 0 for one with nothing in it.
    fn widths(&self, width: Option<usize>) -> [usize; N] {
        let mut widths: [usize; N] = std::array::from_fn(|column| {
            let cells = self.rows.iter().map(|row| row.cells[column].chars().count());
            match cells.max().unwrap_or_default() {
                0 => 0,
                widest => widest.max(self.head[column].chars().count()),
            }
        });
        while let Some(width) = width
            && total(&widths) > width
        {
            let Some(widest) = widths.iter_mut().max().filter(|widest| **widest > COLUMN_MIN) else {
                break;
            };
            *widest -= 1;
        }
        widths
    }
}

/// Of the terminal that standard output is, if it is one.
pub(super) fn width() -> Option<usize> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&stdout).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// One number and one unit, as people speak of ages.
pub(super) fn rough(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn total(widths: &[usize]) -> usize {
    let shown = widths.iter().filter(|width| **width > 0);
    let with_gaps: usize = shown.map(|width| width + GAP).sum();
    INDENT + with_gaps.saturating_sub(GAP)
}

fn write_line<const N: usize>(cells: &[String; N], widths: &[usize; N], out: &mut String) {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths).filter(|(_, width)| **width > 0) {
        let gap = if line.is_empty() { INDENT } else { GAP };
        let cell = shortened(cell, *width);
        let written = write!(line, "{:gap$}{cell:<width$}", "");
        written.expect("writing to a String never fails");
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

/// The beginning and the end say more than the middle: of versions, hosts with ports, paths.
fn shortened(cell: &str, width: usize) -> String {
    let length = cell.chars().count();
    if length <= width {
        return cell.to_owned();
    }
    let kept = width.saturating_sub(1);
    let tail = kept / 2;
    let head = cell.chars().take(kept - tail);
    let tail = cell.chars().skip(length - tail);
    head.chain(['…']).chain(tail).collect()
}

fn write_note(note: &str, width: Option<usize>, out: &mut String) {
    let width = width.map_or(usize::MAX, |width| {
        width.saturating_sub(NOTE_INDENT).max(NOTE_MIN)
    });
    let mut line = String::new();
    for word in note.split(' ') {
        let length = line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && length > width {
            let written = writeln!(out, "{:NOTE_INDENT$}{line}", "");
            written.expect("writing to a String never fails");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    let written = writeln!(out, "{:NOTE_INDENT$}{line}", "");
    written.expect("writing to a String never fails");
}

/// A user's name comes from a store: it must not command a terminal.
pub(super) fn printable(text: &str) -> String {
    let shown = |character: char| match character.is_control() {
        true => char::REPLACEMENT_CHARACTER,
        false => character,
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(width: Option<usize>) -> String {
        let mut table = Table::new(["name", "version", "empty", "age"]);
        let row = |name: &str, version: &str, age: &str| {
            [name.to_owned(), version.to_owned(), String::new(), age.to_owned()]
        };
        table.add(row("orders", "0123456789abcdef0123456789abcdef", "4d"), []);
        let note = "nothing is known to be wrong with it, and yet it does not work".to_owned();
        table.add(row("a\u{1b}[31m", "7", ""), [note]);
        let mut out = String::new();
        table.write(width, &mut out);
        out
    }

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        let expected = [
            "  name    version                           age",
            "  orders  0123456789abcdef0123456789abcdef  4d",
            "  a\u{fffd}[31m  7",
            "      nothing is known to be wrong with it, and yet it does not work",
            "",
        ];
        assert_eq!(written(None), expected.join("\n"));
    }

    #[test]
    fn nothing_is_wider_than_the_terminal() {
        let narrow = written(Some(40));
        assert!(narrow.lines().all(|line| line.chars().count() <= 40), "{narrow}");
        assert!(narrow.contains("0123456789ab…"), "{narrow}");
        assert!(
            narrow.contains("…") && narrow.contains("89abcdef  4d"),
            "{narrow}"
        );
        let hopeless = written(Some(3));
        assert!(hopeless.contains("orders"), "{hopeless}");
    }
}
