//! Decides when a store is read next: by its poll, for clients that wait, after failures, and as the store itself wishes.
//! It reads nothing, and is told the time.

use std::time::{Duration, Instant};

use crate::backoff::{Backoff, chance, jittered};
use crate::stores::Retry;

/// Two reads never start closer than this, except when a person asks.
const SPACING_MIN: Duration = Duration::from_secs(1);
/// A store that sees its own changes has one to give: clients may be waiting for it.
const NOTICE_SPACING_MIN: Duration = Duration::from_millis(100);
/// Reads that waiting clients cause come this often at least.
const WANTED_CAP: Duration = Duration::from_secs(15);
/// Reads after failures that nobody waits for come this often at least, or as often as the poll.
const FAILED_CAP: Duration = Duration::from_secs(60);
/// A store that asks for a longer pause is asked again all the same.
const PAUSE_MAX: Duration = Duration::from_secs(900);
/// While nothing works, a pause that the store asks for is believed up to this: what it would spare the store is less
/// than what it costs those who wait.
const PAUSE_WHILE_WAITED_FOR_MAX: Duration = Duration::from_secs(5);
/// Until a read that only another configuration could mend is tried again.
const HOPELESS_RETRY: Duration = Duration::from_secs(3600);
const POLL_JITTER: f64 = 0.1;
/// A store that names its next read means not before; jitter only adds, and not for long.
const NEXT_READ_JITTER_MAX: Duration = Duration::from_secs(30);

/// When to read the store next.
#[derive(Debug)]
pub(super) struct Pace {
    poll: Duration,
    /// In the ordinary course.
    due: Instant,
    /// The store asked for a pause until then. A person who asks ends it.
    paused_until: Instant,
    /// The same for reads that clients wait for.
    paused_for_clients_until: Instant,
    /// Spacing of the reads that logins want: it grows while they bring nothing.
    next_wanted: Instant,
    wants: Backoff,
    failures: Backoff,
    is_wanted: bool,
}

/// How a read ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ended {
    /// With another order of tries, or without.
    Well {
        is_change: bool,
        next_read: Option<Duration>,
        read_by: Option<Duration>,
    },
    Badly {
        retry: Retry,
        has_credential: bool,
    },
}

impl Pace {
    pub(super) fn new(poll: Duration, now: Instant) -> Self {
        Self {
            poll,
            due: now,
            paused_until: now,
            paused_for_clients_until: now,
            next_wanted: now,
            wants: Backoff::starting_at(SPACING_MIN),
            failures: Backoff::starting_at(SPACING_MIN),
            is_wanted: false,
        }
    }

    /// A read that was due later comes when one of the new poll would.
    pub(super) fn set_poll(&mut self, poll: Duration, now: Instant) {
        self.poll = poll;
        self.due = self.due.min(now + self.until_next(None));
    }

    pub(super) fn next_read(&self) -> Instant {
        let ordinary = self.due.max(self.paused_until);
        if self.is_wanted {
            ordinary.min(self.next_wanted.max(self.paused_for_clients_until))
        } else {
            ordinary
        }
    }

    /// A login was refused, or a client waits.
    pub(super) fn want(&mut self, now: Instant) {
        self.is_wanted = true;
        if now.saturating_duration_since(self.next_wanted) > WANTED_CAP {
            self.wants.reset();
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// The store saw a change.
    pub(super) fn notice(&mut self, last_read: Instant, now: Instant) {
        self.due = self.due.min(now.max(last_read + NOTICE_SPACING_MIN));
    }

    /// Somebody asked: who asks knows something that the store's wish for a pause does not.
    pub(super) fn ask(&mut self, now: Instant) {
        self.due = now;
        self.paused_until = now;
    }

    pub(super) fn read_ended(&mut self, ended: Ended, now: Instant) {
        let was_wanted = std::mem::take(&mut self.is_wanted);
        match ended {
            Ended::Well {
                is_change,
                next_read,
                read_by,
            } => {
                self.failures.reset();
                let ordinary = self.until_next(next_read);
                let latest = read_by.map_or(ordinary, not_before);
                self.due = now + ordinary.min(latest);
                if is_change {
                    self.wants.reset();
                }
            }
            Ended::Badly {
                retry,
                has_credential,
            } => {
                let cap = if has_credential {
                    FAILED_CAP.min(self.poll)
                } else {
                    WANTED_CAP
                };
                self.due = now + self.failures.next(cap);
                let waited_for = |pause: Duration| pause.min(PAUSE_WHILE_WAITED_FOR_MAX);
                let (pause, for_clients) = match retry {
                    Retry::BackOff => (Duration::ZERO, Duration::ZERO),
                    Retry::After(pause) if has_credential => (pause.min(PAUSE_MAX), waited_for(pause)),
                    Retry::After(pause) => (waited_for(pause), waited_for(pause)),
                    Retry::Never => (HOPELESS_RETRY, HOPELESS_RETRY),
                };
                self.paused_until = now + pause;
                self.paused_for_clients_until = now + for_clients;
            }
        }
        self.next_wanted = if was_wanted {
            now + self.wants.next(WANTED_CAP)
        } else {
            self.next_wanted.max(now + SPACING_MIN)
        };
    }

    fn until_next(&self, next_read: Option<Duration>) -> Duration {
        next_read.map_or_else(|| jittered(self.poll, POLL_JITTER), not_before)
    }
}

/// A wish of the store, and a little later.
fn not_before(wish: Duration) -> Duration {
    let wish = wish.max(SPACING_MIN);
    wish + wish.mul_f64(POLL_JITTER * chance()).min(NEXT_READ_JITTER_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_secs(300);
    const SAME: Ended = Ended::Well {
        is_change: false,
        next_read: None,
        read_by: None,
    };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_poll_is_jittered_and_a_wish_of_the_store_is_not_anticipated() {
        let start = Instant::now();
        for _ in 0..100 {
            let mut pace = Pace::new(POLL, start);
            pace.read_ended(SAME, start);
            let wait = pace.next_read() - start;
            assert!(wait >= seconds(270) && wait <= seconds(330));
            let wish = Ended::Well {
                is_change: true,
                next_read: Some(seconds(3600)),
                read_by: None,
            };
            pace.read_ended(wish, start);
            let wait = pace.next_read() - start;
            assert!(wait >= seconds(3600) && wait <= seconds(3630));
        }
    }

    #[test]
    fn a_shorter_poll_counts_from_now_and_a_longer_one_from_the_next_read() {
        let start = Instant::now();
        let mut pace = Pace::new(POLL, start);
        pace.read_ended(SAME, start);
        pace.set_poll(seconds(10), start);
        let wait = pace.next_read() - start;
        assert!(wait >= seconds(9) && wait <= seconds(11));
        pace.set_poll(seconds(3600), start);
        assert_eq!(pace.next_read() - start, wait);
        pace.read_ended(SAME, start);
        assert!(pace.next_read() - start >= seconds(3240));
    }

    #[test]
    fn a_store_that_wants_to_be_read_in_time_never_puts_off_a_poll() {
        let start = Instant::now();
        for (read_by, expected) in [(5, 5..6), (86_400, 270..331)] {
            let mut pace = Pace::new(POLL, start);
            let ended = Ended::Well {
                is_change: false,
                next_read: None,
                read_by: Some(seconds(read_by)),
            };
            pace.read_ended(ended, start);
            let wait = (pace.next_read() - start).as_secs();
            assert!(expected.contains(&wait), "{wait} of {read_by}");
        }
    }

    #[test]
    fn reads_that_clients_wait_for_come_at_once_and_then_ever_more_rarely() {
        let start = Instant::now();
        let mut pace = Pace::new(POLL, start);
        pace.read_ended(SAME, start);
        let mut now = start + seconds(60);
        let mut reads = Vec::new();
        while now < start + seconds(120) {
            pace.want(now);
            if pace.next_read() <= now {
                reads.push((now - start).as_secs());
                pace.read_ended(SAME, now);
            }
            now += Duration::from_millis(100);
        }
        assert_eq!(reads[0], 60);
        assert!((6..=9).contains(&reads.len()), "{reads:?}");
    }

    #[test]
    fn a_change_that_the_store_sees_is_read_at_once_but_not_without_end() {
        let start = Instant::now();
        let mut pace = Pace::new(POLL, start);
        pace.read_ended(SAME, start);
        let soon = start + Duration::from_millis(150);
        pace.notice(start, soon);
        assert_eq!(pace.next_read(), soon);
        pace.read_ended(SAME, soon);
        pace.notice(soon, soon);
        assert_eq!(pace.next_read(), soon + Duration::from_millis(100));
    }

    fn throttled(pause: u64, has_credential: bool) -> Ended {
        Ended::Badly {
            retry: Retry::After(seconds(pause)),
            has_credential,
        }
    }

    #[test]
    fn a_pause_that_the_store_asked_for_holds_for_whatever_nobody_waits_for() {
        let start = Instant::now();
        let mut pace = Pace::new(POLL, start);
        pace.read_ended(throttled(40, true), start);
        pace.notice(start, start + seconds(3));
        assert_eq!(pace.next_read(), start + seconds(40));
    }

    #[test]
    fn who_asks_is_not_told_to_wait_because_the_store_asked_for_a_pause() {
        let start = Instant::now();
        for (retry, has_credential) in [
            (Retry::After(seconds(900)), true),
            (Retry::After(seconds(900)), false),
            (Retry::Never, true),
        ] {
            let mut pace = Pace::new(POLL, start);
            let ended = Ended::Badly {
                retry,
                has_credential,
            };
            pace.read_ended(ended, start);
            let asked = start + seconds(2);
            pace.ask(asked);
            assert_eq!(pace.next_read(), asked);
            // Asked again, and refused again: the pause is a new one.
            pace.read_ended(ended, asked);
            assert!(pace.next_read() > asked + seconds(4));
        }
    }

    #[test]
    fn while_clients_wait_a_pause_that_the_store_asked_for_is_a_matter_of_seconds() {
        let start = Instant::now();
        let mut pace = Pace::new(POLL, start);
        let (mut now, mut reads) = (start, Vec::new());
        pace.read_ended(throttled(900, true), now);
        while now < start + seconds(60) {
            pace.want(now);
            if pace.next_read() <= now {
                reads.push((now - start).as_secs());
                pace.read_ended(throttled(900, true), now);
            }
            now += Duration::from_millis(100);
        }
        assert!((3..=10).contains(&reads.len()), "{reads:?}");
        assert!(reads[0] <= 6, "{reads:?}");
        assert!(reads.windows(2).all(|pair| pair[1] - pair[0] >= 4), "{reads:?}");
    }

    #[test]
    fn while_no_credential_is_known_a_pause_is_a_matter_of_seconds_whoever_waits() {
        let start = Instant::now();
        let mut pace = Pace::new(POLL, start);
        pace.read_ended(throttled(900, false), start);
        assert_eq!(pace.next_read(), start + seconds(5));
    }

    #[test]
    fn a_mistake_in_the_configuration_is_not_mended_by_clients_who_wait() {
        let start = Instant::now();
        let mut pace = Pace::new(POLL, start);
        let ended = Ended::Badly {
            retry: Retry::Never,
            has_credential: false,
        };
        pace.read_ended(ended, start);
        pace.want(start + seconds(20));
        assert!(pace.next_read() > start + seconds(3000));
    }

    #[test]
    fn without_a_credential_a_failing_store_is_read_at_least_every_quarter_minute() {
        let start = Instant::now();
        let mut now = start;
        let mut pace = Pace::new(POLL, now);
        for _ in 0..20 {
            pace.read_ended(
                Ended::Badly {
                    retry: Retry::BackOff,
                    has_credential: false,
                },
                now,
            );
            assert!(pace.next_read() - now <= seconds(19));
            now = pace.next_read();
        }
        assert!(now - start > seconds(120));
    }
}
