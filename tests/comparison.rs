//! What `benches/compare` makes of its readings.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "these files belong to the bench, which uses all of them"
)]

#[path = "../benches/compare/kind.rs"]
mod kind;
#[path = "../benches/compare/plot.rs"]
mod plot;
#[path = "../benches/compare/results.rs"]
mod results;
#[path = "../benches/compare/statistics.rs"]
mod statistics;
#[path = "../benches/compare/tables.rs"]
mod tables;

use kind::Kind;
use results::{Entry, Idle, Results, Sample, Timed};
use statistics::{Spread, quantile};

fn entry(peer: Kind, rates: &[f64]) -> Entry {
    let cpu = (peer != Kind::Direct).then_some(20.0);
    let sample = |rate: &f64| Sample {
        rate: *rate,
        latency: None,
        cpu,
    };
    Entry {
        peer,
        samples: rates.iter().map(sample).collect(),
        calls: None,
    }
}

fn results() -> Results {
    Results {
        setting: vec![("cores", "2".to_owned())],
        timed: vec![Timed {
            workload: "simple-16",
            about: "16 clients",
            unit: "transaction",
            peers: vec![
                entry(Kind::Direct, &[100.0, 200.0, 400.0]),
                entry(Kind::Pgswivel, &[90.0, 200.0, 300.0]),
            ],
        }],
        idle: vec![Idle {
            workload: "idle-1000",
            about: "1,000",
            peers: vec![(Kind::Direct, None), (Kind::Pgswivel, Some(12.5))],
        }],
    }
}

const KINDS: [Kind; 2] = [Kind::Direct, Kind::Pgswivel];

#[test]
fn a_spread_is_the_middle_and_both_ends() {
    let odd = Spread::of([3.0, 1.0, 2.0]).expect("there are values");
    assert_eq!((odd.min, odd.median, odd.max), (1.0, 2.0, 3.0));
    let even = Spread::of([4.0, 1.0, 2.0, 3.0]).expect("there are values");
    assert_eq!((even.min, even.median, even.max), (1.0, 2.5, 4.0));
    assert_eq!(Spread::of([]), None);
}

#[test]
fn a_quantile_is_a_value_that_was_there() {
    let hundred: Vec<u32> = (1..=100).collect();
    assert_eq!(
        [0.5, 0.95, 0.99, 1.0].map(|share| quantile(&hundred, share)),
        [50, 95, 99, 100]
    );
    assert_eq!(quantile(&[7], 0.01), 7);
    assert_eq!(quantile(&[], 0.5), 0);
}

#[test]
fn ratios_are_taken_within_a_round() {
    let timed = &results().timed[0];
    let ratio = timed
        .ratio(Kind::Pgswivel, Kind::Direct, results::rate)
        .expect("both ran");
    assert_eq!((ratio.min, ratio.median, ratio.max), (0.75, 0.9, 1.0));
    assert_eq!(timed.ratio(Kind::Pgswivel, Kind::Haproxy, results::rate), None);
    assert_eq!(timed.ratio(Kind::Direct, Kind::Direct, results::cpu), None);
}

#[test]
fn every_row_of_a_table_has_a_cell_for_every_column() {
    let results = results();
    for table in [
        tables::details(&results, &KINDS),
        tables::memory(&results, &KINDS),
    ] {
        assert!(!table.rows.is_empty());
        for row in &table.rows {
            assert_eq!(row.len(), table.heads.len(), "{row:?}");
        }
    }
    assert!(
        tables::details(&results, &KINDS)
            .text()
            .contains("0.90 (0.75–1.00)")
    );
}

#[test]
fn a_summary_goes_between_its_markers_and_nowhere_else() {
    let page = format!("before\n{}\nold\n{}\nafter\n", tables::BEGIN, tables::END);
    let once = tables::replace(&page, "new\n").expect("it has markers");
    assert!(once.starts_with("before\n") && once.ends_with("\nafter\n"));
    assert!(once.contains("new") && !once.contains("old"));
    assert_eq!(tables::replace(&once, "new\n"), Some(once.clone()));
    assert_eq!(tables::replace("no markers", "new"), None);
}

#[test]
fn a_plot_has_a_bar_for_each_peer_that_was_measured() {
    let results = results();
    let charts = plot::charts(&results, &KINDS);
    let drawn: Vec<_> = charts
        .iter()
        .map(|(name, chart)| (*name, chart.svg().matches("class=\"spread\"").count()))
        .collect();
    assert_eq!(drawn, [("cpu", 1), ("rate", 2), ("memory", 1)]);
}
