//! Bars, drawn as SVG that reads on light and on dark.

use std::fmt::Write;

use super::kind::Kind;
use super::results::{Results, Timed, cpu, rate};
use super::statistics::Spread;

const WIDTH: f64 = 760.0;
const LABELS: f64 = 118.0;
const VALUES: f64 = 52.0;
const HEAD: f64 = 62.0;
const BAR: f64 = 11.0;
const BAR_GAP: f64 = 2.0;
const GROUP_GAP: f64 = 10.0;

/// What follows the reader's own light or dark; whoever does not know either gets tones that read on both.
const STYLE: &str = "\
text { font: 11px system-ui, sans-serif; fill: #6a737d; }
.title { font-size: 14px; font-weight: 600; }
.spread { stroke: #6a737d; stroke-width: 1; }
.direct { fill: #9aa3ad; } .haproxy { fill: #d99a2b; } .pgbouncer { fill: #4a8fd6; }
.other { fill: #a07bd0; } .pgswivel { fill: #2a9d6f; }
@media (prefers-color-scheme: light) { text { fill: #24292f; } .spread { stroke: #24292f; } }
@media (prefers-color-scheme: dark) { text { fill: #d0d7de; } .spread { stroke: #d0d7de; } }";

#[derive(Debug)]
pub struct Chart {
    pub title: &'static str,
    /// The unit, and which way is better.
    pub unit: &'static str,
    pub groups: Vec<Group>,
}

#[derive(Debug)]
pub struct Group {
    pub label: String,
    pub bars: Vec<(Kind, Spread)>,
}

/// Every chart that has something to show, with the name of its file.
pub fn charts(results: &Results, kinds: &[Kind]) -> Vec<(&'static str, Chart)> {
    let timed = |bulk: bool| results.timed.iter().filter(move |timed| timed.is_bulk() == bulk);
    let connects = |timed: &&Timed| timed.workload.starts_with("connect");
    let bars = |timed: &Timed, figure: &dyn Fn(&Timed, Kind) -> Option<Spread>| Group {
        label: timed.workload.to_owned(),
        bars: kinds
            .iter()
            .filter_map(|kind| Some((*kind, figure(timed, *kind)?)))
            .collect(),
    };
    let of_cpu = |timed: &Timed, kind: Kind| timed.entry(kind)?.spread(cpu);
    let of_rate = |timed: &Timed, kind: Kind| timed.ratio(kind, Kind::Direct, rate);
    let per_cpu = |timed: &Timed, kind: Kind| {
        // From microseconds for a megabyte to megabytes for a second.
        timed
            .entry(kind)?
            .spread(|sample| sample.cpu.map(|cpu| 1e6 / cpu))
    };
    let charts = [
        (
            "cpu",
            Chart {
                title: "Proxy CPU for each transaction",
                unit: "microseconds, less is better",
                groups: timed(false)
                    .filter(|timed| !connects(timed))
                    .map(|timed| bars(timed, &of_cpu))
                    .collect(),
            },
        ),
        (
            "rate",
            Chart {
                title: "Rate relative to a direct connection",
                unit: "1 is as fast as direct, more is better",
                groups: results
                    .timed
                    .iter()
                    .filter(|timed| !connects(timed))
                    .map(|timed| bars(timed, &of_rate))
                    .collect(),
            },
        ),
        (
            "connect",
            Chart {
                title: "A connection for each transaction, relative to a direct one",
                unit: "1 is as fast as direct, more is better",
                groups: results
                    .timed
                    .iter()
                    .filter(connects)
                    .map(|timed| bars(timed, &of_rate))
                    .collect(),
            },
        ),
        (
            "bulk",
            Chart {
                title: "Bulk for each second of proxy CPU",
                unit: "megabytes, more is better",
                groups: timed(true).map(|timed| bars(timed, &per_cpu)).collect(),
            },
        ),
        (
            "memory",
            Chart {
                title: "Memory of each idle client with its link",
                unit: "kB, less is better",
                groups: idle(results),
            },
        ),
    ];
    let shown = |chart: &Chart| chart.groups.iter().any(|group| !group.bars.is_empty());
    charts.into_iter().filter(|(_, chart)| shown(chart)).collect()
}

fn idle(results: &Results) -> Vec<Group> {
    let groups = results.idle.iter().map(|idle| Group {
        label: idle.workload.to_owned(),
        bars: idle
            .peers
            .iter()
            .filter_map(|(kind, each)| Some((*kind, Spread::of(*each)?)))
            .collect(),
    });
    groups.collect()
}

impl Chart {
    pub fn svg(&self) -> String {
        let bars = || self.groups.iter().flat_map(|group| &group.bars);
        let most = bars()
            .map(|(_, spread)| spread.max)
            .fold(f64::MIN_POSITIVE, f64::max);
        let scale = (WIDTH - LABELS - VALUES) / most;
        let heights = self.groups.iter().map(Group::height);
        let height = HEAD + heights.sum::<f64>();
        let title = self.title;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" role=\"img\" aria-label=\"{title}\">\n<style>\n{STYLE}\n</style>\n\
             <text class=\"title\" x=\"0\" y=\"14\">{title}</text>\n<text x=\"0\" y=\"31\">{}</text>\n",
            self.unit
        );
        self.legend(&mut svg);
        let mut y = HEAD;
        for group in &self.groups {
            group.draw(&mut svg, y, scale);
            y += group.height();
        }
        svg + "</svg>\n"
    }

    fn legend(&self, svg: &mut String) {
        const STEP: f64 = 92.0;
        let mut kinds: Vec<Kind> = self
            .groups
            .iter()
            .flat_map(|group| group.bars.iter().map(|(kind, _)| *kind))
            .collect();
        kinds.sort();
        kinds.dedup();
        for (index, kind) in kinds.into_iter().enumerate() {
            let (x, name) = (LABELS + STEP * index as f64, kind.name());
            let _ = writeln!(
                svg,
                "<rect class=\"{name}\" x=\"{x}\" y=\"40\" width=\"10\" height=\"10\"/>\
                 <text x=\"{}\" y=\"49\">{name}</text>",
                x + 14.0
            );
        }
    }
}

impl Group {
    fn height(&self) -> f64 {
        self.bars.len() as f64 * (BAR + BAR_GAP) + GROUP_GAP
    }

    fn draw(&self, svg: &mut String, top: f64, scale: f64) {
        let middle = top + (self.height() - GROUP_GAP) / 2.0 + 4.0;
        let _ = writeln!(svg, "<text x=\"0\" y=\"{middle:.1}\">{}</text>", self.label);
        for (index, (kind, spread)) in self.bars.iter().enumerate() {
            let y = top + index as f64 * (BAR + BAR_GAP);
            let width = spread.median * scale;
            let (low, high) = (LABELS + spread.min * scale, LABELS + spread.max * scale);
            let across = y + BAR / 2.0;
            let _ = writeln!(
                svg,
                "<rect class=\"{}\" x=\"{LABELS}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\"/>\
                 <line class=\"spread\" x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{across:.1}\" y2=\"{across:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                kind.name(),
                high.max(LABELS + width) + 4.0,
                y + BAR - 1.5,
                value(spread.median)
            );
        }
    }
}

fn value(value: f64) -> String {
    let digits = match value {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}
