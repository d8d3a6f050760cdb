use std::collections::BTreeMap;

use prometheus::proto::MetricFamily;
use prometheus::{CounterVec, GaugeVec, Registry, TextEncoder};

use super::table::{Family, Kind};
use super::{NAMED_ONCE, VALID, opts};

/// One scrape: what was counted so far, and what is read off at this moment. Series that are not told this time
/// are gone.
#[derive(Debug)]
pub struct Scrape {
    counted: Vec<MetricFamily>,
    read_off: Registry,
    gauges: BTreeMap<&'static str, GaugeVec>,
    counters: BTreeMap<&'static str, CounterVec>,
}

impl Scrape {
    pub(super) fn new(counted: Vec<MetricFamily>) -> Self {
        Self {
            counted,
            read_off: Registry::new(),
            gauges: BTreeMap::new(),
            counters: BTreeMap::new(),
        }
    }

    /// `labels` in the order of the family's.
    pub fn tell(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        if matches!(family.kind, Kind::Counter) {
            let vec = self.counters.entry(family.name).or_insert_with(|| {
                let vec = CounterVec::new(opts(family), family.labels).expect(VALID);
                self.read_off.register(Box::new(vec.clone())).expect(NAMED_ONCE);
                vec
            });
            vec.with_label_values(labels).inc_by(value);
        } else {
            let vec = self.gauges.entry(family.name).or_insert_with(|| {
                let vec = GaugeVec::new(opts(family), family.labels).expect(VALID);
                self.read_off.register(Box::new(vec.clone())).expect(NAMED_ONCE);
                vec
            });
            vec.with_label_values(labels).set(value);
        }
    }

    /// In the text format of Prometheus.
    pub fn text(self) -> String {
        let mut families = self.counted;
        families.extend(self.read_off.gather());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        let text = TextEncoder::new().encode_to_string(&families);
        text.expect("families have names and at least one series, and a String takes everything")
    }
}
