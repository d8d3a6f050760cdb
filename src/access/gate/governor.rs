//! How many refused logins an endpoint is given to see: someone may count them, and lock the user out.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::credentials::{Credential, Position};

const WINDOW: Duration = Duration::from_secs(60);
/// Logins that are remembered as refused: as many as the secrets of one endpoint list, and more.
const REMEMBERED_MAX: usize = 512;

/// Remembers what was refused in the last minute.
///
/// What is new to the endpoint may use all of the limit, and what its store puts first is tried whatever was refused
/// before: it costs one refusal at most, and it may be all that works. What the endpoint refused in this minute has to
/// wait: it may use half of the limit as soon as its back-off says, then one at a time and far between, and never the
/// last fifth. So a store that catches up after many vain tries is heard at once, and a database that catches up is
/// noticed.
#[derive(Debug)]
pub(super) struct Governor {
    limit: usize,
    /// When, up to the limit.
    refusals: VecDeque<Instant>,
    /// Each login once, with when it was refused last; the latest is the last.
    logins: VecDeque<(Instant, Credential)>,
}

impl Governor {
    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit: limit as usize,
            refusals: VecDeque::new(),
            logins: VecDeque::new(),
        }
    }

    pub(super) fn set_limit(&mut self, limit: u32) {
        self.limit = limit as usize;
        let surplus = self.refusals.len().saturating_sub(self.limit);
        self.refusals.drain(..surplus);
    }

    pub(super) fn count(&mut self, credential: &Credential, now: Instant) {
        // More would not change the answer.
        if self.refusals.len() >= self.limit {
            self.refusals.pop_front();
        }
        self.refusals.push_back(now);
        self.logins.retain(|(_, login)| !login.is_same_login(credential));
        if self.logins.len() >= REMEMBERED_MAX {
            self.logins.pop_front();
        }
        self.logins.push_back((now, credential.clone()));
    }

    /// Whether a doubtful login has to wait.
    pub(super) fn holds_back(&mut self, credential: &Credential, now: Instant) -> bool {
        let is_over = |at: &Instant| now.saturating_duration_since(*at) >= WINDOW;
        while self.refusals.pop_front_if(|at| is_over(at)).is_some() {}
        while self.logins.pop_front_if(|(at, _)| is_over(at)).is_some() {}
        let is_known = (self.logins.iter()).any(|(_, refused)| refused.is_same_login(credential));
        let seen = self.refusals.len();
        if !is_known {
            let is_first = matches!(credential.position, Position::Current | Position::Index(0));
            return seen >= self.limit && !is_first;
        }
        if seen < (self.limit / 2).max(1) {
            return false;
        }
        let reserve = (self.limit / 5).max(1);
        let spacing = WINDOW * 2 / u32::try_from(self.limit).unwrap_or(u32::MAX);
        let is_soon = (self.refusals.back()).is_some_and(|at| now.saturating_duration_since(*at) < spacing);
        seen + reserve >= self.limit || is_soon
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Password;

    const SECOND: Duration = Duration::from_secs(1);

    fn login(password: &str) -> Credential {
        Credential {
            user: "app".into(),
            password: Password::new(password),
            version: "1".into(),
            position: Position::Current,
        }
    }

    /// When a login that is always refused is tried, by somebody who asks every second.
    fn tries(governor: &mut Governor, start: Instant, seconds: u32) -> Vec<u32> {
        let wrong = login("wrong");
        (0..seconds)
            .filter(|second| {
                let now = start + SECOND * *second;
                let goes = !governor.holds_back(&wrong, now);
                if goes {
                    governor.count(&wrong, now);
                }
                goes
            })
            .collect()
    }

    #[test]
    fn what_is_refused_again_and_again_is_tried_ever_more_rarely_and_never_given_up() {
        let start = Instant::now();
        let tries = tries(&mut Governor::new(10), start, 300);
        assert_eq!(tries[..8], [0, 1, 2, 3, 4, 16, 28, 40]);
        for window in 0..240 {
            let within = tries.iter().filter(|at| (window..window + 60).contains(*at));
            assert!(within.count() <= 8, "from {window}: {tries:?}");
        }
        assert!(tries.windows(2).all(|pair| pair[1] - pair[0] <= 20), "{tries:?}");
    }

    #[test]
    fn what_is_new_does_not_wait_for_what_was_refused_before() {
        let start = Instant::now();
        let mut governor = Governor::new(10);
        tries(&mut governor, start, 50);
        let now = start + SECOND * 50;
        assert!(governor.holds_back(&login("wrong"), now));
        let many: Vec<_> = (0..1000).map(|number| login(&number.to_string())).collect();
        for new in &many {
            assert!(!governor.holds_back(new, now));
            governor.count(new, now);
        }
        assert!(
            many[900..]
                .iter()
                .all(|refused| governor.holds_back(refused, now))
        );
        assert!(!governor.holds_back(&login("the last"), now));
        let pending = Credential {
            position: Position::Next,
            ..login("pending")
        };
        assert!(
            governor.holds_back(&pending, now),
            "ten a minute are ten a minute"
        );
        assert!(governor.logins.len() <= REMEMBERED_MAX && governor.refusals.len() <= 10);
    }

    #[test]
    fn what_is_refused_once_is_not_new_for_a_minute() {
        let start = Instant::now();
        let mut governor = Governor::new(2);
        for password in ["a", "b", "c"] {
            governor.count(&login(password), start);
        }
        for (second, waits) in [(0, true), (59, true), (60, false)] {
            assert_eq!(
                governor.holds_back(&login("a"), start + SECOND * second),
                waits,
                "{second}"
            );
        }
    }

    #[test]
    fn a_limit_of_one_is_one_a_minute() {
        let start = Instant::now();
        assert_eq!(tries(&mut Governor::new(1), start, 130), [0, 60, 120]);
    }
}
