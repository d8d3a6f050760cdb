//! Results as tables.

use std::fmt::Write;
use std::path::Path;

use super::kind::Kind;
use super::results::{Latency, Results, Timed, cpu, rate};
use super::statistics::Spread;

/// A file shows the summary between these two lines.
pub const BEGIN: &str = "<!-- compare: begin -->";
pub const END: &str = "<!-- compare: end -->";

const ABSENT: &str = "–";

#[derive(Debug, Default)]
pub struct Table {
    pub heads: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    fn new(heads: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            heads: heads.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule: Vec<String> = self.heads.iter().map(|_| "---".to_owned()).collect();
        let mut text = line(&self.heads) + &line(&rule);
        text.extend(self.rows.iter().map(|row| line(row)));
        text
    }

    /// Every column as wide as its widest cell.
    pub fn text(&self) -> String {
        let mut widths = vec![0; self.heads.len()];
        for row in self.rows.iter().chain([&self.heads]) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for row in [&self.heads].into_iter().chain(&self.rows) {
            let cells = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

pub fn page(results: &Results, kinds: &[Kind], plots: &[(&str, String)]) -> String {
    let mut text = "# Comparison\n\n".to_owned();
    for (name, value) in &results.setting {
        let _ = writeln!(text, "* {name}: {value}");
    }
    text += "\nMedian over the rounds, then the lowest and the highest. ÷ is the rate divided by another peer's of the \
             same round; CPU is the proxy's, in microseconds for each transaction or megabyte, its ÷ likewise, and calls are its \
             system calls for the same.\n\n";
    for (title, file) in plots {
        let _ = writeln!(text, "![{title}]({file})\n");
    }
    for table in [details(results, kinds), memory(results, kinds)] {
        if !table.rows.is_empty() {
            text += &table.markdown();
            text.push('\n');
        }
    }
    text
}

/// What a page that is about something else has room for.
pub fn summary(results: &Results, kinds: &[Kind], plots: &[(&str, String)], directory: &Path) -> String {
    let others: Vec<Kind> = kinds
        .iter()
        .copied()
        .filter(|kind| *kind != Kind::Pgswivel)
        .collect();
    let mut heads = vec!["workload".to_owned()];
    heads.extend(others.iter().map(|kind| format!("rate ÷ {}", kind.name())));
    heads.extend(proxies(kinds).map(|kind| format!("CPU µs, {}", kind.name())));
    let mut table = Table::new(heads);
    for timed in &results.timed {
        let mut row = vec![timed.workload.to_owned()];
        row.extend(
            others
                .iter()
                .map(|kind| shown(timed.ratio(Kind::Pgswivel, *kind, rate), 2)),
        );
        row.extend(proxies(kinds).map(|kind| {
            let spread = timed.entry(*kind).and_then(|entry| entry.spread(cpu));
            spread.map_or(ABSENT.to_owned(), |spread| number(spread.median))
        }));
        table.rows.push(row);
    }
    let mut text = String::new();
    for (title, file) in plots {
        let _ = writeln!(text, "![{title}]({})\n", directory.join(file).display());
    }
    text += &table.markdown();
    let memory = memory(results, kinds);
    if !memory.rows.is_empty() {
        text.push('\n');
        text += &memory.markdown();
    }
    text
}

/// The text with what is between the markers replaced. None: they are not there.
pub fn replace(text: &str, between: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{between}{END}{after}"))
}

pub fn details(results: &Results, kinds: &[Kind]) -> Table {
    let others: Vec<Kind> = kinds
        .iter()
        .copied()
        .filter(|kind| *kind != Kind::Pgswivel)
        .collect();
    let mut heads = vec!["workload".to_owned(), "peer".to_owned(), "per second".to_owned()];
    heads.extend(others.iter().map(|kind| format!("÷ {}", kind.name())));
    heads.extend(["p50 µs", "p95", "p99", "CPU µs"].map(str::to_owned));
    heads.extend(proxies(&others).map(|kind| format!("CPU ÷ {}", kind.name())));
    heads.push("calls".to_owned());
    let mut table = Table::new(heads);
    for timed in &results.timed {
        table
            .rows
            .extend(kinds.iter().map(|kind| detail(timed, *kind, &others)));
    }
    table
}

fn proxies(kinds: &[Kind]) -> impl Iterator<Item = &Kind> + Clone {
    kinds.iter().filter(|kind| **kind != Kind::Direct)
}

fn detail(timed: &Timed, kind: Kind, others: &[Kind]) -> Vec<String> {
    let Some(entry) = timed.entry(kind) else {
        return Vec::new();
    };
    let median = |spread: Option<Spread>| spread.map_or(ABSENT.to_owned(), |spread| number(spread.median));
    let mut row = vec![
        timed.workload.to_owned(),
        kind.name().to_owned(),
        median(entry.spread(rate)),
    ];
    row.extend(others.iter().map(|other| {
        let spread = timed.ratio(kind, *other, rate).filter(|_| *other != kind);
        shown(spread, 2)
    }));
    let latency = |share: fn(&Latency) -> u32| {
        median(entry.spread(|sample| sample.latency.as_ref().map(|latency| share(latency).into())))
    };
    row.push(latency(|latency| latency.p50));
    row.push(latency(|latency| latency.p95));
    row.push(latency(|latency| latency.p99));
    row.push(shown(entry.spread(cpu), 1));
    row.extend(proxies(others).map(|other| {
        let spread = timed.ratio(kind, *other, cpu).filter(|_| *other != kind);
        shown(spread, 2)
    }));
    row.push(
        entry
            .calls
            .map_or(ABSENT.to_owned(), |calls| format!("{calls:.1}")),
    );
    row
}

pub fn memory(results: &Results, kinds: &[Kind]) -> Table {
    let names = proxies(kinds).map(|kind| format!("{}, kB each", kind.name()));
    let mut table = Table::new(["memory".to_owned()].into_iter().chain(names));
    for idle in &results.idle {
        let mut row = vec![idle.workload.to_owned()];
        row.extend(proxies(kinds).map(|kind| {
            let each = idle
                .peers
                .iter()
                .find(|(peer, _)| peer == kind)
                .and_then(|(_, each)| *each);
            each.map_or(ABSENT.to_owned(), |each| format!("{each:.1}"))
        }));
        table.rows.push(row);
    }
    table
}

fn shown(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or(ABSENT.to_owned(), |Spread { median, min, max }| {
        format!("{median:.digits$} ({min:.digits$}–{max:.digits$})")
    })
}

/// With as many digits as mean something.
fn number(value: f64) -> String {
    let digits = match value {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}
