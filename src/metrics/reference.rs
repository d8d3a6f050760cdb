//! The list of metrics in docs/operate.md, held against the table of metrics in both directions.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::labels::{FleetWake, Limit, Login, Move, NotLent, Rescue, Task};
use super::table::{ALL, Family, Kind};

const OPERATE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operate.md"));

fn row(family: &Family) -> String {
    let kind = match family.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
    let (name, labels) = (family.name, labels.join(", "));
    format!("| `{name}` | {kind} | {labels} | {} |", family.help)
}

fn table() -> String {
    let mut table = "| metric | kind | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for family in ALL {
        writeln!(table, "{}", row(family)).expect("a String takes it");
    }
    table
}

#[test]
fn the_documents_list_every_metric_and_no_other() {
    let (_, section) = OPERATE
        .split_once("\n## Metrics\n")
        .expect("docs/operate.md has that section");
    let section = section
        .split_once("\n## ")
        .map_or(section, |(section, _)| section);
    let table = table();
    assert!(
        section.contains(&table),
        "docs/operate.md lacks this table:\n{table}"
    );
    let declared: BTreeSet<&str> = table.lines().collect();
    for line in section.lines().filter(|line| line.starts_with('|')) {
        assert!(declared.contains(line), "the code has no such metric:\n{line}");
    }
    let words = (Limit::ALL.iter().map(|limit| limit.label()))
        .chain(Task::ALL.iter().map(|task| task.label()))
        .chain(NotLent::ALL.iter().map(|reason| reason.label()))
        .chain(Login::ALL.iter().map(|result| result.label()))
        .chain(Move::ALL.iter().map(|result| result.label()))
        .chain(Rescue::ALL.iter().map(|result| result.label()))
        .chain(FleetWake::ALL.iter().map(|wake| wake.label()));
    for word in words {
        assert!(section.contains(word), "docs/operate.md does not know {word}");
    }
}
