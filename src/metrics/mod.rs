//! What is counted. Built once, passed down, and read by the admin server. Label sets are closed: what a client or
//! a server sends makes no series. What can be read off the state of things when somebody asks is not counted here:
//! see [`Scrape`].

mod labels;
#[cfg(test)]
mod reference;
mod scrape;
// One row a metric: it is a table.
#[rustfmt::skip]
pub mod table;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

pub use self::labels::{FleetWake, Limit, Login, Move, NotLent, Rescue, Task};
pub use self::scrape::Scrape;
use self::table::{Family, Kind};
use crate::credentials::Position;
use crate::names::{Endpoint, SecretName};

const VALID: &str = "a test makes every metric of the table";
const NAMED_ONCE: &str = "no two metrics of the table have one name";

/// The counters of the process.
pub struct Metrics {
    registry: Registry,
    logins: IntCounterVec,
    held: IntGauge,
    hold: Histogram,
    moves: IntCounterVec,
    move_time: Histogram,
    rescues: IntCounterVec,
    rotation: Histogram,
    governor: IntCounterVec,
    limits: IntCounterVec,
    clients: IntGauge,
    not_lent: IntCounterVec,
    restarts: IntCounterVec,
    fleet_listening: IntGauge,
    fleet_wakes: IntCounterVec,
    fleet_told: IntCounter,
}

/// Something that is counted for as long as it lives.
#[derive(Debug)]
pub struct Counted(IntGauge);

impl Metrics {
    pub fn new() -> Arc<Self> {
        let metrics = Self {
            registry: Registry::new(),
            logins: counters(&table::LOGINS),
            held: gauge(&table::LOGINS_HELD),
            hold: histogram(&table::LOGIN_HOLD),
            moves: counters(&table::MOVES),
            move_time: histogram(&table::MOVE),
            rescues: counters(&table::RESCUES),
            rotation: histogram(&table::ROTATION),
            governor: counters(&table::GOVERNOR_HITS),
            limits: counters(&table::LIMIT_HITS),
            clients: gauge(&table::CLIENTS),
            not_lent: counters(&table::LINKS_NOT_LENT),
            restarts: counters(&table::TASK_RESTARTS),
            fleet_listening: gauge(&table::FLEET_LISTENING),
            fleet_wakes: counters(&table::FLEET_WAKES),
            fleet_told: counter(&table::FLEET_TOLD),
        };
        metrics.register();
        for limit in Limit::ALL {
            metrics.limits.with_label_values(&[limit.label()]);
        }
        for reason in NotLent::ALL {
            metrics.not_lent.with_label_values(&[reason.label()]);
        }
        for wake in FleetWake::ALL {
            metrics.fleet_wakes.with_label_values(&[wake.label()]);
        }
        for task in Task::ALL {
            metrics.restarts.with_label_values(&[task.label()]);
        }
        Arc::new(metrics)
    }

    fn register(&self) {
        let families: [Box<dyn Collector>; 16] = [
            Box::new(self.logins.clone()),
            Box::new(self.held.clone()),
            Box::new(self.hold.clone()),
            Box::new(self.moves.clone()),
            Box::new(self.move_time.clone()),
            Box::new(self.rescues.clone()),
            Box::new(self.rotation.clone()),
            Box::new(self.governor.clone()),
            Box::new(self.limits.clone()),
            Box::new(self.clients.clone()),
            Box::new(self.not_lent.clone()),
            Box::new(self.restarts.clone()),
            Box::new(self.fleet_listening.clone()),
            Box::new(self.fleet_wakes.clone()),
            Box::new(self.fleet_told.clone()),
            Box::new(ProcessCollector::for_self()),
        ];
        for family in families {
            let registered = self.registry.register(family);
            registered.expect(NAMED_ONCE);
        }
    }

    /// Its series begin at zero, so that the first event is an increase.
    pub fn begin_secret(&self, secret: &SecretName) {
        for result in Move::ALL {
            self.moves.with_label_values(&[secret.as_str(), result.label()]);
        }
        for result in Rescue::ALL {
            self.rescues.with_label_values(&[secret.as_str(), result.label()]);
        }
    }

    /// The same for an endpoint.
    pub fn begin_endpoint(&self, endpoint: &Endpoint) {
        self.governor.with_label_values(&[&endpoint.to_string()]);
    }

    /// One login, over. `sqlstate`: what the server said, if it said anything.
    pub fn login(&self, secret: &SecretName, result: Login, sqlstate: Option<&str>, position: Position) {
        let sqlstate = labels::sqlstate(sqlstate);
        let labels = [secret.as_str(), result.label(), sqlstate, &position.to_string()];
        self.logins.with_label_values(&labels).inc();
    }

    /// A login waits from now on.
    pub fn hold(&self) -> Counted {
        Counted::new(&self.held)
    }

    /// It has waited so long.
    pub fn held(&self, time: Duration) {
        self.hold.observe(time.as_secs_f64());
    }

    pub fn held_now(&self) -> u64 {
        self.held.get().unsigned_abs()
    }

    pub fn moved(&self, secret: &SecretName, result: Move, took: Duration) {
        let labels = [secret.as_str(), result.label()];
        self.moves.with_label_values(&labels).inc();
        if result == Move::Moved {
            self.move_time.observe(took.as_secs_f64());
        }
    }

    pub fn moves(&self, secret: &SecretName, result: Move) -> u64 {
        let labels = [secret.as_str(), result.label()];
        self.moves.with_label_values(&labels).get()
    }

    pub fn rescued(&self, secret: &SecretName, result: Rescue) {
        let labels = [secret.as_str(), result.label()];
        self.rescues.with_label_values(&labels).inc();
    }

    pub fn rescues(&self, secret: &SecretName, result: Rescue) -> u64 {
        let labels = [secret.as_str(), result.label()];
        self.rescues.with_label_values(&labels).get()
    }

    /// So long after the store had changed there was a login with what it changed to.
    pub fn rotated(&self, took: Duration) {
        self.rotation.observe(took.as_secs_f64());
    }

    /// A doubtful login was not sent.
    pub fn governed(&self, endpoint: &Endpoint) {
        self.governor.with_label_values(&[&endpoint.to_string()]).inc();
        self.hit(Limit::RefusedLoginsPerMinute);
    }

    pub fn hit(&self, limit: Limit) {
        self.limits.with_label_values(&[limit.label()]).inc();
    }

    /// A connection ends with its session.
    pub fn not_lent(&self, reason: NotLent) {
        self.not_lent.with_label_values(&[reason.label()]).inc();
    }

    /// A background task broke off and is begun again.
    pub fn restarted(&self, task: Task) {
        self.restarts.with_label_values(&[task.label()]).inc();
    }

    pub fn restarts(&self, task: Task) -> u64 {
        self.restarts.with_label_values(&[task.label()]).get()
    }

    /// A database is listened to from now on.
    pub fn fleet_listening(&self) -> Counted {
        Counted::new(&self.fleet_listening)
    }

    /// Somebody of the fleet said something.
    pub fn fleet_woke(&self, wake: FleetWake) {
        self.fleet_wakes.with_label_values(&[wake.label()]).inc();
    }

    /// The others were told.
    pub fn fleet_told(&self) {
        self.fleet_told.inc();
    }

    /// A client has logged in here.
    pub fn client(&self) -> Counted {
        Counted::new(&self.clients)
    }

    pub fn clients_now(&self) -> u64 {
        self.clients.get().unsigned_abs()
    }

    pub fn scrape(&self) -> Scrape {
        Scrape::new(self.registry.gather())
    }
}

impl Counted {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn opts(family: &Family) -> Opts {
    Opts::new(family.name, family.help)
}

fn counters(family: &Family) -> IntCounterVec {
    IntCounterVec::new(opts(family), family.labels).expect(VALID)
}

fn counter(family: &Family) -> IntCounter {
    IntCounter::with_opts(opts(family)).expect(VALID)
}

fn gauge(family: &Family) -> IntGauge {
    IntGauge::with_opts(opts(family)).expect(VALID)
}

fn histogram(family: &Family) -> Histogram {
    let Kind::Histogram(buckets) = family.kind else {
        unreachable!("{} is declared as a histogram", family.name);
    };
    let opts = HistogramOpts::from(opts(family)).buckets(buckets.to_vec());
    Histogram::with_opts(opts).expect(VALID)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of a scrape in which every metric of the table has a series.
    fn everything() -> String {
        let metrics = Metrics::new();
        let secret = SecretName::from("orders");
        metrics.begin_secret(&secret);
        metrics.governed(&Endpoint::Tcp {
            host: "db".into(),
            port: 5432,
        });
        metrics.login(&secret, Login::Refused, Some("28P01"), Position::Current);
        let mut scrape = metrics.scrape();
        let counted = scrape_names(&metrics.scrape().text());
        for family in table::ALL {
            if !counted.iter().any(|name| name == family.name) {
                let labels = vec!["x"; family.labels.len()];
                scrape.tell(family, &labels, 1.0);
            }
        }
        scrape.text()
    }

    fn scrape_names(text: &str) -> Vec<String> {
        let helps = text.lines().filter_map(|line| line.strip_prefix("# HELP "));
        helps
            .map(|line| line.split(' ').next().unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn every_metric_of_the_table_can_be_made_and_is_told_once() {
        let names = scrape_names(&everything());
        for family in table::ALL {
            let told = names.iter().filter(|name| *name == family.name).count();
            assert_eq!(told, 1, "{}", family.name);
        }
        let ours = names.iter().filter(|name| name.starts_with("pgswivel_"));
        assert_eq!(ours.count(), table::ALL.len());
        assert!(names.is_sorted());
    }

    #[test]
    fn what_is_counted_ends_with_what_was_counted() {
        let metrics = Metrics::new();
        let first = metrics.client();
        let second = metrics.client();
        drop(first);
        assert_eq!(metrics.clients_now(), 1);
        drop(second);
        assert_eq!(metrics.clients_now(), 0);
    }

    #[test]
    fn a_limit_is_there_before_it_is_hit() {
        let metrics = Metrics::new();
        let text = metrics.scrape().text();
        for limit in Limit::ALL {
            let line = format!("pgswivel_limit_hits_total{{limit=\"{}\"}} 0\n", limit.label());
            assert!(text.contains(&line), "{line}");
        }
    }
}
