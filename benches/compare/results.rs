//! What was measured, and how figures are set against each other.

use serde::Serialize;

use super::kind::Kind;
use super::statistics::Spread;

/// One run of one workload by one peer.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    /// Transactions, or megabytes, a second.
    pub rate: f64,
    pub latency: Option<Latency>,
    /// Microseconds for one of them; None where nothing stands between client and server.
    pub cpu: Option<f64>,
}

/// In microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    pub p50: u32,
    pub p95: u32,
    pub p99: u32,
}

#[derive(Debug, Default, Serialize)]
pub struct Results {
    /// What ran, on what.
    pub setting: Vec<(&'static str, String)>,
    pub timed: Vec<Timed>,
    pub idle: Vec<Idle>,
}

/// One workload.
#[derive(Debug, Serialize)]
pub struct Timed {
    pub workload: &'static str,
    pub about: &'static str,
    /// What its rate and its costs are for.
    pub unit: &'static str,
    pub peers: Vec<Entry>,
}

/// One peer under one workload.
#[derive(Debug, Serialize)]
pub struct Entry {
    pub peer: Kind,
    /// One a round.
    pub samples: Vec<Sample>,
    /// System calls for each unit.
    pub calls: Option<f64>,
}

#[derive(Debug, Serialize)]
pub struct Idle {
    pub workload: &'static str,
    pub about: &'static str,
    /// kB each.
    pub peers: Vec<(Kind, Option<f64>)>,
}

impl Timed {
    pub fn entry(&self, kind: Kind) -> Option<&Entry> {
        self.peers.iter().find(|entry| entry.peer == kind)
    }

    /// How one peer's figure relates to another's of the same round.
    pub fn ratio(&self, of: Kind, to: Kind, figure: impl Fn(&Sample) -> Option<f64>) -> Option<Spread> {
        let (of, to) = (self.entry(of)?, self.entry(to)?);
        let pairs = of.samples.iter().zip(&to.samples);
        Spread::of(pairs.filter_map(|(of, to)| Some(figure(of)? / figure(to)?)))
    }

    pub fn is_bulk(&self) -> bool {
        self.unit == "MB"
    }
}

impl Entry {
    pub fn spread(&self, figure: impl Fn(&Sample) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.samples.iter().filter_map(figure))
    }
}

pub fn rate(sample: &Sample) -> Option<f64> {
    Some(sample.rate)
}

pub fn cpu(sample: &Sample) -> Option<f64> {
    sample.cpu
}
