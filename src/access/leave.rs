//! Whether and when a session leaves its link because the credential that opened it has been replaced. Pure.

use std::time::{Duration, Instant};

use crate::config::SessionsPolicy;
use crate::credentials::{Change, Credential, Page};

/// Before the store takes a user away, its sessions should be gone.
const LEASE_MARGIN: Duration = Duration::from_secs(5);

/// What a secret's owner wants for sessions on a replaced credential.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    pub sessions: SessionsPolicy,
    /// Moves are spread over this.
    pub grace: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    Stay,
    Leave(Leave),
}

/// When to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leave {
    /// Not before this, so that not all sessions leave at once.
    pub start: Instant,
    /// From then on at any safe point, however short it is.
    pub press: Instant,
    /// Until then, a session that would miss something after a move may put it off.
    pub deadline: Instant,
    /// A session that can't leave is ended then.
    pub cut: Option<Instant>,
    /// The user is another: the old one may be taken away under its sessions.
    pub user_changes: bool,
}

impl Policy {
    /// `chance` in 0..1 is the session's own place among all that leave.
    pub fn departure(&self, page: &Page, credential: &Credential, chance: f64, now: Instant) -> Departure {
        let Some(retirement) = page.retirement(credential) else {
            return Departure::Stay;
        };
        let user_changes = retirement.change == Change::User;
        let leaves = match self.sessions {
            SessionsPolicy::Keep => false,
            SessionsPolicy::Auto => user_changes || retirement.lease_ends.is_some(),
            SessionsPolicy::Move | SessionsPolicy::Cut => true,
        };
        if !leaves {
            return Departure::Stay;
        }
        let since = retirement.since;
        let mut end = since + self.grace;
        if let Some(lease_ends) = retirement.lease_ends {
            let left = lease_ends.saturating_duration_since(since);
            end = end.min(since + left.saturating_sub(LEASE_MARGIN.min(left / 4)));
        }
        // Whoever comes late is not to wait for a time that is over, nor to come together with all others.
        let spread = end.saturating_duration_since(since) / 2;
        let start = if now > since + spread {
            now
        } else {
            since + spread.mul_f64(chance)
        };
        Departure::Leave(Leave {
            start,
            press: since + spread + spread / 2,
            deadline: end,
            cut: (self.sessions == SessionsPolicy::Cut).then_some(end),
            user_changes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::{Book, Offer, Password, Position};
    use crate::names::Endpoint;

    const GRACE: Duration = Duration::from_secs(30);

    fn credential(user: &str, password: &str) -> Credential {
        Credential {
            user: user.into(),
            password: Password::new(password),
            version: password.into(),
            position: Position::Current,
        }
    }

    /// A page on which `new` has replaced `old`.
    fn replaced(old: &Credential, new: &Credential, lease: Option<Duration>, now: Instant) -> Page {
        let endpoint = Endpoint::Tcp {
            host: "db".into(),
            port: 5432,
        };
        let mut book = Book::new(vec![endpoint.clone()], GRACE);
        for (credential, lease_ends) in [(old, lease.map(|lease| now + lease)), (new, None)] {
            let offer = Offer {
                credentials: vec![credential.clone()],
                lease_ends,
                ..Offer::default()
            };
            book.offer(offer, now);
            book.confirm(credential, &endpoint, now);
        }
        Page::clone(book.page())
    }

    fn departure(sessions: SessionsPolicy, new: &Credential, lease: Option<Duration>) -> Departure {
        let (old, now) = (credential("a", "1"), Instant::now());
        let page = replaced(&old, new, lease, now);
        let policy = Policy {
            sessions,
            grace: GRACE,
        };
        policy.departure(&page, &old, 0.5, now)
    }

    fn leave(departure: Departure) -> Leave {
        match departure {
            Departure::Leave(leave) => leave,
            Departure::Stay => panic!("it stays"),
        }
    }

    #[test]
    fn sessions_stay_when_only_the_password_changed_and_leave_another_user() {
        let (password, user) = (credential("a", "2"), credential("b", "2"));
        assert_eq!(departure(SessionsPolicy::Auto, &password, None), Departure::Stay);
        assert!(leave(departure(SessionsPolicy::Auto, &user, None)).user_changes);
        assert_eq!(departure(SessionsPolicy::Keep, &user, None), Departure::Stay);
        assert!(!leave(departure(SessionsPolicy::Move, &password, None)).user_changes);
        assert!(
            leave(departure(SessionsPolicy::Cut, &password, None))
                .cut
                .is_some()
        );
        assert!(
            leave(departure(SessionsPolicy::Move, &password, None))
                .cut
                .is_none()
        );
    }

    #[test]
    fn what_leads_is_not_left() {
        let (old, now) = (credential("a", "1"), Instant::now());
        let page = replaced(&old, &credential("b", "2"), None, now);
        let policy = Policy {
            sessions: SessionsPolicy::Move,
            grace: GRACE,
        };
        assert_eq!(
            policy.departure(&page, &credential("b", "2"), 0.0, now),
            Departure::Stay
        );
    }

    #[test]
    fn moves_begin_in_the_first_half_of_grace_and_are_pressed_before_its_end() {
        let (old, new, now) = (credential("a", "1"), credential("b", "2"), Instant::now());
        let page = replaced(&old, &new, None, now);
        let policy = Policy {
            sessions: SessionsPolicy::Cut,
            grace: GRACE,
        };
        for (chance, start) in [(0.0, 0), (0.5, 7500), (1.0, 15000)] {
            let leave = leave(policy.departure(&page, &old, chance, now));
            assert_eq!(leave.start, now + Duration::from_millis(start));
            assert_eq!(leave.press, now + Duration::from_millis(22_500));
            assert_eq!(leave.deadline, now + GRACE);
            assert_eq!(leave.cut, Some(now + GRACE));
        }
        let late = now + GRACE;
        assert_eq!(leave(policy.departure(&page, &old, 1.0, late)).start, late);
    }

    #[test]
    fn sessions_have_left_before_the_lease_ends() {
        let (old, new, now) = (credential("a", "1"), credential("b", "2"), Instant::now());
        for lease in [1, 8, 20, 1000] {
            let lease = Duration::from_secs(lease);
            let page = replaced(&old, &new, Some(lease), now);
            let policy = Policy {
                sessions: SessionsPolicy::Auto,
                grace: GRACE,
            };
            let leave = leave(policy.departure(&page, &old, 1.0, now));
            assert!(
                leave.start <= leave.press && leave.press < now + lease.min(GRACE),
                "{lease:?}"
            );
        }
    }
}
