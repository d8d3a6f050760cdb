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
    /// The store asked for a pause until then.
    paused_until: Instant,
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
        let due = if self.is_wanted {
            self.due.min(self.next_wanted)
        } else {
            self.due
        };
        due.max(self.paused_until)
    }

    /// A login was refused, or a client waits.
    pub(super) fn want(&mut self, now: Instant) {
        self.is_wanted = true;
        if now.saturating_duration_since(self.next_wanted) > WANTED_CAP {
            self.wants.reset();
        }
    }

    /// The store saw a change.
    pub(super) fn notice(&mut self, last_read: Instant, now: Instant) {
        self.due = self.due.min(now.max(last_read + NOTICE_SPACING_MIN));
    }

    /// Somebody asked.
    pub(super) fn ask(&mut self, now: Instant) {
        self.due = now;
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
                let latest = read_by.map_or(ordinary, |read_by| read_by.max(SPACING_MIN));
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
                match retry {
                    Retry::BackOff => {}
                    Retry::After(pause) => self.paused_until = now + pause.min(PAUSE_MAX),
                    Retry::Never => self.paused_until = now + HOPELESS_RETRY,
                }
            }
        }
        self.next_wanted = if was_wanted {
            now + self.wants.next(WANTED_CAP)
        } else {
            self.next_wanted.max(now + SPACING_MIN)
        };
    }

    fn until_next(&self, next_read: Option<Duration>) -> Duration {
        match next_read {
            Some(wish) => {
                let wish = wish.max(SPACING_MIN);
                wish + wish.mul_f64(POLL_JITTER * chance()).min(NEXT_READ_JITTER_MAX)
            }
            None => jittered(self.poll, POLL_JITTER),
        }
    }
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

    #[test]
    fn nobody_makes_us_break_a_pause_that_the_store_asked_for() {
        let start = Instant::now();
        let mut pace = Pace::new(POLL, start);
        let throttled = Ended::Badly {
            retry: Retry::After(seconds(40)),
            has_credential: true,
        };
        pace.read_ended(throttled, start);
        pace.want(start + seconds(2));
        pace.notice(start, start + seconds(3));
        pace.ask(start + seconds(4));
        assert_eq!(pace.next_read(), start + seconds(40));
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
