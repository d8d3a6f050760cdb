//! Who is on the admin address, and who has to go when more come than there is room for. A connection is for one request:
//! until it has asked, and for a probe, there is one room; for everything else another one, so that who asks for much
//! leaves probes theirs. When a room is full, the address that has most of it gives, and of its connections
//! the one that asks for nothing.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::complaint::{Complaint, Over};
use crate::lock::lock;
use crate::metrics::{Limit, Metrics};

/// Room for probes and for those that have not asked yet, however few may ask for pages: more than a careless neighbour
/// opens.
const ASKING_MIN: u32 = 192;
/// Whoever comes has so long to ask, however many others come: until then it is they who wait. It bounds what a crowd that
/// asks for nothing has this thread do, too.
const TIME_TO_ASK: Duration = Duration::from_millis(250);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// What is dropped now and then is one story.
const QUIET: Duration = Duration::from_secs(10);

/// How many may be there that have not asked, or are probes.
pub fn asking_max(pages_max: u32) -> u32 {
    pages_max.max(ASKING_MIN)
}

pub struct Rooms {
    state: Mutex<State>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    guests: Guests,
    complaint: Complaint,
}

#[derive(Default)]
struct Guests {
    /// In the order of their coming.
    all: BTreeMap<u64, Guest>,
    next: u64,
}

struct Guest {
    from: Network,
    since: Instant,
    stage: Stage,
    leave: Arc<Notify>,
}

/// Who shares one share. Whoever has an IPv6 address has the other addresses of its network as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Network(IpAddr);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It has not asked yet.
    Silent,
    /// For what a probe asks.
    Probe,
    /// For its turn, or until the answer is written.
    Waiting,
    /// The answer is on its way to it.
    Reading,
}

/// A connection that is in. It goes by being dropped.
pub struct Entered {
    rooms: Arc<Rooms>,
    number: u64,
    leave: Arc<Notify>,
}

impl Rooms {
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            metrics,
        })
    }

    /// Until one more can come: there is room, or somebody who has had the time to ask.
    pub async fn there_is_room(&self, max: impl Fn() -> u32) {
        while !self.state().guests.has_room(asking_max(max()), Instant::now()) {
            sleep(LOOK_EVERY).await;
        }
    }

    /// `max`: that may ask for pages.
    pub fn enter(self: &Arc<Self>, peer: IpAddr, max: u32) -> Entered {
        let mut state = self.state();
        let (number, leave) = state.guests.enter(Network::of(peer));
        match state.guests.make_room(Stage::Silent, asking_max(max)) {
            Some(dropped) => self.dropped(&mut state.complaint, dropped),
            None => {
                if let Some(Over { failures, lasted }) = state.complaint.ended_after(QUIET, Instant::now()) {
                    info!(
                        dropped = failures,
                        ?lasted,
                        "there is room on the admin address again"
                    );
                }
            }
        }
        drop(state);
        Entered {
            rooms: Arc::clone(self),
            number,
            leave,
        }
    }

    fn dropped(&self, complaint: &mut Complaint, from: Network) {
        self.metrics.hit(Limit::AdminConnections);
        if let Some(dropped) = complaint.failed(Instant::now()) {
            warn!(
                address = %from.0,
                dropped,
                limit = "limits.admin_connections",
                "too many connections to the admin address: those that ask for nothing are dropped"
            );
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Entered {
    /// It asks for what a probe asks.
    pub fn probes(&self) {
        self.rooms.state().guests.is_at(self.number, Stage::Probe);
    }

    /// It asks for something else. False: there is no room for it.
    pub fn asks(&self, max: u32) -> bool {
        let mut state = self.rooms.state();
        state.guests.is_at(self.number, Stage::Waiting);
        if let Some(dropped) = state.guests.make_room(Stage::Waiting, max) {
            self.rooms.dropped(&mut state.complaint, dropped);
        }
        state.guests.all.contains_key(&self.number)
    }

    /// It has its answer to read.
    pub fn reads(&self) {
        self.rooms.state().guests.is_at(self.number, Stage::Reading);
    }

    /// Until it has to go.
    pub async fn has_to_go(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.rooms.state().guests.all.remove(&self.number);
    }
}

impl Network {
    fn of(peer: IpAddr) -> Self {
        let network = |ip: Ipv6Addr| Ipv6Addr::from(u128::from(ip) & (u128::MAX << 64));
        Self(match peer.to_canonical() {
            IpAddr::V6(ip) => network(ip).into(),
            ip @ IpAddr::V4(_) => ip,
        })
    }
}

impl Stage {
    fn shares_a_room_with(self, other: Self) -> bool {
        let is_before = |stage| matches!(stage, Self::Silent | Self::Probe);
        is_before(self) == is_before(other)
    }
}

impl Guests {
    fn enter(&mut self, from: Network) -> (u64, Arc<Notify>) {
        let (number, leave) = (self.next, Arc::new(Notify::new()));
        self.next += 1;
        let guest = Guest {
            from,
            since: Instant::now(),
            stage: Stage::Silent,
            leave: Arc::clone(&leave),
        };
        self.all.insert(number, guest);
        (number, leave)
    }

    fn is_at(&mut self, number: u64, stage: Stage) {
        if let Some(guest) = self.all.get_mut(&number) {
            guest.stage = stage;
        }
    }

    /// For one more that has not asked yet.
    fn has_room(&self, max: u32, now: Instant) -> bool {
        if self.count(Stage::Silent) < max as usize {
            return true;
        }
        let first = self
            .first_to_go(Stage::Silent)
            .and_then(|first| self.all.get(&first));
        first.is_none_or(|guest| now.saturating_duration_since(guest.since) >= TIME_TO_ASK)
    }

    /// Has one go if there are too many in the room of this stage. Where it was from.
    fn make_room(&mut self, stage: Stage, max: u32) -> Option<Network> {
        if self.count(stage) <= max as usize {
            return None;
        }
        let first = self.first_to_go(stage)?;
        let gone = self.all.remove(&first)?;
        gone.leave.notify_one();
        Some(gone.from)
    }

    fn in_room_of(&self, stage: Stage) -> impl Iterator<Item = (&u64, &Guest)> {
        let guests = self.all.iter();
        guests.filter(move |(_, guest)| guest.stage.shares_a_room_with(stage))
    }

    fn count(&self, stage: Stage) -> usize {
        self.in_room_of(stage).count()
    }

    fn first_to_go(&self, stage: Stage) -> Option<u64> {
        let mut crowds: BTreeMap<Network, usize> = BTreeMap::new();
        for (_, guest) in self.in_room_of(stage) {
            *crowds.entry(guest.from).or_default() += 1;
        }
        // Who was silent, or has read, for longest; but who has waited for longest is next.
        let first = self.in_room_of(stage).max_by_key(|(number, guest)| {
            let crowd = crowds.get(&guest.from);
            match guest.stage {
                Stage::Silent | Stage::Reading => (crowd, true, Reverse(**number), 0),
                Stage::Probe => (crowd, false, Reverse(**number), 0),
                Stage::Waiting => (crowd, false, Reverse(0), **number),
            }
        });
        first.map(|(number, _)| *number)
    }
}

impl fmt::Debug for Rooms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rooms").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of pages.
    const MAX: u32 = 4;
    const ASKING: usize = ASKING_MIN as usize;

    fn rooms() -> Arc<Rooms> {
        Rooms::new(Metrics::new())
    }

    fn enter(rooms: &Arc<Rooms>, peer: &str) -> Entered {
        rooms.enter(peer.parse().unwrap(), MAX)
    }

    fn is_in(entered: &Entered) -> bool {
        entered.rooms.state().guests.all.contains_key(&entered.number)
    }

    fn are_in<'a>(entered: impl IntoIterator<Item = &'a Entered>) -> Vec<bool> {
        entered.into_iter().map(is_in).collect()
    }

    #[test]
    fn who_has_not_asked_for_longest_goes_first_and_a_probe_stays() {
        let rooms = rooms();
        let probe = enter(&rooms, "10.0.0.1");
        probe.probes();
        let idle: Vec<Entered> = (0..ASKING + 9).map(|_| enter(&rooms, "10.0.0.1")).collect();
        assert!(is_in(&probe));
        let left = are_in(&idle);
        assert_eq!(left.iter().filter(|is_in| **is_in).count(), ASKING - 1);
        assert!(left[10..].iter().all(|is_in| *is_in), "{left:?}");
        assert!(
            rooms.state().complaint.ended(Instant::now()).is_some(),
            "it is said"
        );
    }

    #[test]
    fn the_address_that_has_most_gives() {
        let rooms = rooms();
        let other = enter(&rooms, "10.0.0.2");
        let crowd: Vec<Entered> = (0..2 * ASKING).map(|_| enter(&rooms, "10.0.0.1")).collect();
        assert!(is_in(&other));
        // Whoever comes finds room, whatever the crowd does.
        let third = enter(&rooms, "10.0.0.3");
        assert_eq!(are_in([&other, &third]), [true, true]);
        assert_eq!(are_in(&crowd).iter().filter(|is_in| **is_in).count(), ASKING - 2);
    }

    #[test]
    fn addresses_of_one_network_share_a_share() {
        let rooms = rooms();
        let other = enter(&rooms, "2001:db8:1::1");
        let crowd: Vec<Entered> = (0..ASKING)
            .map(|n| enter(&rooms, &format!("2001:db8::{n:x}")))
            .collect();
        assert!(is_in(&other));
        assert_eq!(are_in(&crowd).iter().filter(|is_in| **is_in).count(), ASKING - 1);
    }

    #[test]
    fn who_asks_for_pages_takes_no_room_of_probes() {
        let rooms = rooms();
        let readers: Vec<Entered> = (0..4)
            .map(|_| {
                let reader = enter(&rooms, "10.0.0.1");
                assert!(reader.asks(MAX));
                reader
            })
            .collect();
        let probes: Vec<Entered> = (0..4).map(|_| enter(&rooms, "10.0.0.1")).collect();
        assert!(are_in(readers.iter().chain(&probes)).iter().all(|is_in| *is_in));
    }

    #[test]
    fn who_reads_slowly_goes_before_who_waits_and_the_last_to_wait_goes_first() {
        let rooms = rooms();
        let ask = |peer: &str| {
            let asking = enter(&rooms, peer);
            let has_room = asking.asks(MAX);
            (asking, has_room)
        };
        let slow: Vec<Entered> = (0..4).map(|_| ask("10.0.0.1").0).collect();
        slow.iter().for_each(Entered::reads);
        let (waiting, has_room) = ask("10.0.0.1");
        assert!(has_room);
        assert_eq!(are_in(&slow), [false, true, true, true]);
        let more: Vec<_> = (0..3).map(|_| ask("10.0.0.1")).collect();
        assert!(more.iter().all(|(_, has_room)| *has_room));
        let (_beyond, has_room) = ask("10.0.0.1");
        assert!(!has_room, "they were there before");
        let (_other, has_room) = ask("10.0.0.2");
        assert!(has_room, "from where there is nobody else");
        assert!(is_in(&waiting), "who has waited longest is next");
    }

    #[test]
    fn whoever_comes_has_its_time_to_ask_however_many_others_come() {
        let rooms = rooms();
        let has_room = |later| rooms.state().guests.has_room(ASKING_MIN, Instant::now() + later);
        let crowd: Vec<Entered> = (0..ASKING).map(|_| enter(&rooms, "10.0.0.1")).collect();
        assert!(!has_room(Duration::ZERO));
        assert!(has_room(TIME_TO_ASK));
        drop(crowd);
        assert!(has_room(Duration::ZERO));
    }

    #[tokio::test]
    async fn who_has_to_go_is_told() {
        let rooms = rooms();
        let crowd: Vec<Entered> = (0..=ASKING).map(|_| enter(&rooms, "10.0.0.1")).collect();
        crowd[0].has_to_go().await;
        assert_eq!(rooms.state().guests.all.len(), ASKING);
        drop(crowd);
        assert!(rooms.state().guests.all.is_empty());
    }
}
