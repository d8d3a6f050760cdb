//! When a session looks at what it holds, when it leaves its link, and when it is cut. Pure: it is told what is so and
//! what time it is, and answers what to do and until when to wait. Doing it, and telling what came of it, is the session's.
//!
//! ```text
//!             something may have changed                       at rest for SETTLE, or restless
//!   content ──────────────────────────────▶ to be surveyed ─────────────────────────────────────▶ Survey
//!
//!             its credential is replaced      the start has come, at rest      from `press` on, or
//!   content ──────────────────────────────▶ leaving ───────────────────────▶ Move      restless: any safe point
//!                                              ▲                               │
//!                                              └──── pinned, or put off ───────┘
//!   any     ── the deadline of a policy that cuts ──▶ Cut
//!   any     ── refused as if its user were gone ────▶ AskForUser ──▶ Move
//! ```

use std::time::{Duration, Instant};

use crate::access::leave::{Departure, Leave};
use crate::backoff::{Backoff, jittered};
use crate::postgres::relay::Want;

/// A client that says nothing for so long is at rest.
const SETTLE: Duration = Duration::from_millis(50);
/// One that never rests is surveyed nevertheless, between two of its queries.
const RESTLESS_FOR: Duration = Duration::from_secs(1);
/// Whoever inserts a row and wants to know its number asks within this.
const ASKED_WITHIN: Duration = Duration::from_secs(1);

/// A session whose user is gone tries again to leave.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How often a session that is pinned, or could not move, is looked at again.
const RECHECK_MIN: Duration = Duration::from_millis(500);
const RECHECK_MAX: Duration = Duration::from_secs(30);
const RECHECK_JITTER: f64 = 0.2;
/// A server that refuses to be asked is asked again after this, then less and less often.
const REFUSED_FIRST: Duration = Duration::from_millis(500);
const REFUSED_CAP: Duration = Duration::from_secs(60);

/// When the session has to do something of its own accord.
pub struct Plan {
    leave: Option<Leave>,
    /// New logins are another user's.
    user: User,
    /// When to leave, or to try again.
    leave_at: Option<Instant>,
    survey: Option<Wanted>,
    /// The server refused the last survey.
    refused: Option<Backoff>,
    heard: Heard,
}

/// The link's, beside the one that logins are made with now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    Same,
    Replaced,
}

/// A survey that is not urgent.
#[derive(Clone, Copy)]
struct Wanted {
    /// When, if the client still rests.
    at: Instant,
    since: Instant,
}

/// What the client had said when it was last looked at, and since when it is known to have said no more.
struct Heard {
    turns: u64,
    silent_since: Instant,
}

/// What is so at the moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// Grows with everything that the client says.
    pub turns: u64,
    /// Nothing is in flight: the session could change links.
    pub is_safe: bool,
    /// Something may have changed that nobody took notes of.
    pub is_unsure: bool,
    /// After a move the client would be told that no sequence gave it anything, and it may ask.
    pub may_ask_sequences: bool,
    /// The server has refused something as it does when the user is gone.
    pub is_disowned: bool,
}

/// Why the session is asked what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The relay has come to where it was to.
    Rested,
    /// The time has come.
    Alarm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Relay, and wait for what [`Plan::next`] says.
    Relay,
    /// End it: it could not leave in time.
    Cut,
    /// Ask the server whether the link's user is gone: if so, it is a flight, else what to do is asked again.
    AskForUser,
    /// Try it, and tell if it was put off.
    Move(Haste),
    /// Ask what the session holds, and tell whether that was answered.
    Survey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// It is its time.
    Planned,
    /// Nothing works any more where the session is.
    Flight,
}

impl Plan {
    pub fn new(now: Instant) -> Self {
        Self {
            leave: None,
            user: User::Same,
            leave_at: None,
            survey: None,
            refused: None,
            heard: Heard {
                turns: 0,
                silent_since: now,
            },
        }
    }

    /// What the page and the policy say now. They say many things; that they say this again is no reason to start anew.
    pub fn heed(&mut self, departure: Departure, user: User, turns: u64, now: Instant) {
        self.user = user;
        match departure {
            Departure::Leave(leave) => {
                if self.leave.replace(leave).is_none() {
                    self.leave_at = Some(leave.start);
                    self.hear(turns, now);
                }
            }
            Departure::Stay => (self.leave, self.leave_at) = (None, None),
        }
    }

    /// The same of a session that never rests. What is to be cut is, all the same.
    pub fn heed_in_vain(&mut self, leave: Leave, user: User) {
        (self.leave, self.user) = (Some(leave), user);
    }

    /// What to relay until, and until when.
    pub fn next(&self, now: Instant) -> (Want, Option<Instant>) {
        let survey_at = self.survey.map(|survey| survey.at);
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        // A client that never rests is caught between two of its queries.
        if is_due(self.leave_at) {
            return (Want::Safe, self.cut_at());
        }
        let earliest = |times: [Option<Instant>; 3]| times.into_iter().flatten().min();
        if is_due(survey_at) && self.is_restless(now) {
            return (Want::Safe, earliest([self.leave_at, self.cut_at(), None]));
        }
        let want = match survey_at {
            None => Want::Unsure,
            Some(_) => Want::End,
        };
        (want, earliest([self.leave_at, self.cut_at(), survey_at]))
    }

    /// What to do now, the most urgent first.
    pub fn decide(&mut self, cause: Cause, facts: &Facts, now: Instant) -> Step {
        if self.cut_at().is_some_and(|cut| cut <= now) {
            return Step::Cut;
        }
        if facts.is_safe && facts.is_disowned && self.user == User::Replaced {
            // Who is to stay leaves only what is certain to be dead. Else no wonder, and no use in waiting for a better moment.
            return match self.leave {
                Some(_) => Step::Move(Haste::Flight),
                None => Step::AskForUser,
            };
        }
        if self.leave_at.is_some_and(|at| at <= now) {
            return self.leave(facts, now);
        }
        if !facts.is_unsure {
            self.survey = None;
            return Step::Relay;
        }
        match self.survey {
            None if cause == Cause::Rested => {
                let at = now + self.settle();
                self.survey = Some(Wanted { at, since: now });
                self.hear(facts.turns, now);
                Step::Relay
            }
            Some(survey) if survey.at <= now => self.survey_if_at_rest(survey, facts, now),
            _ => Step::Relay,
        }
    }

    /// The time has come: now, or at the next quiet moment.
    fn leave(&mut self, facts: &Facts, now: Instant) -> Step {
        let is_pressing = self.leave.is_some_and(|leave| now >= leave.press);
        let rests = facts.turns == self.heard.turns || is_pressing;
        self.hear(facts.turns, now);
        if !(rests && facts.is_safe) {
            if !is_pressing {
                self.leave_at = Some(now + SETTLE);
            }
            return Step::Relay;
        }
        if facts.may_ask_sequences && !self.needs_not_ask(facts.turns, now) {
            self.leave_at = Some(now + SETTLE);
            return Step::Relay;
        }
        Step::Move(Haste::Planned)
    }

    fn survey_if_at_rest(&mut self, survey: Wanted, facts: &Facts, now: Instant) -> Step {
        let rests = facts.turns == self.heard.turns || self.is_restless(now);
        if !(rests && facts.is_safe) {
            self.hear(facts.turns, now);
            self.survey = Some(Wanted {
                at: now + SETTLE,
                ..survey
            });
            return Step::Relay;
        }
        self.survey = None;
        Step::Survey
    }

    /// A move was tried, and did not come to pass.
    pub fn put_off(&mut self, haste: Haste, grace: Duration, now: Instant) {
        let wait = match haste {
            Haste::Planned if self.leave.is_some() => {
                jittered((grace / 8).clamp(RECHECK_MIN, RECHECK_MAX), RECHECK_JITTER)
            }
            // Who fled once, though it was to stay, goes on trying.
            Haste::Planned | Haste::Flight => RETRY_AFTER,
        };
        self.leave_at = Some(now + wait);
    }

    /// Nothing keeps the session where it is any more.
    pub fn unpinned(&mut self, now: Instant) {
        self.leave_at = Some(now);
    }

    pub fn survey_is_refused(&mut self) {
        self.refused = self.refused.or(Some(Backoff::starting_at(REFUSED_FIRST)));
    }

    pub fn survey_is_answered(&mut self) {
        self.refused = None;
    }

    pub fn was_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// A session that can't leave is ended then.
    pub fn cut_at(&self) -> Option<Instant> {
        self.leave.and_then(|leave| leave.cut)
    }

    /// How far the client has come.
    pub fn hear(&mut self, turns: u64, now: Instant) {
        if self.heard.turns != turns {
            self.heard = Heard {
                turns,
                silent_since: now,
            };
        }
    }

    /// Who says nothing for long will not ask any more, and when grace is over it does not matter.
    pub fn needs_not_ask(&self, turns: u64, now: Instant) -> bool {
        let is_silent = turns == self.heard.turns && now >= self.heard.silent_since + ASKED_WITHIN;
        is_silent || self.is_late(now)
    }

    /// Grace is over.
    pub fn is_late(&self, now: Instant) -> bool {
        self.leave.is_some_and(|leave| now >= leave.deadline)
    }

    /// How long a client has to be at rest for a survey.
    fn settle(&mut self) -> Duration {
        let refused = self.refused.as_mut();
        refused.map_or(SETTLE, |refused| refused.next(REFUSED_CAP))
    }

    /// A survey has been wanted for too long.
    fn is_restless(&self, now: Instant) -> bool {
        self.survey
            .is_some_and(|survey| now >= survey.since + RESTLESS_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const GRACE: Duration = Duration::from_secs(40);

    /// A session at rest, and a clock that moves when it is told to.
    struct Bench {
        plan: Plan,
        began: Instant,
        now: Instant,
        facts: Facts,
    }

    impl Bench {
        fn new() -> Self {
            let now = Instant::now();
            Self {
                plan: Plan::new(now),
                began: now,
                now,
                facts: Facts {
                    is_safe: true,
                    ..Facts::default()
                },
            }
        }

        /// `start`, `press` and `deadline` after 10, 30 and 40 seconds.
        fn replaced(cut: Option<Duration>) -> Self {
            let mut bench = Self::new();
            let departure = bench.departure(cut);
            bench.plan.heed(departure, User::Replaced, 0, bench.now);
            bench
        }

        fn departure(&self, cut: Option<Duration>) -> Departure {
            Departure::Leave(Leave {
                start: self.began + GRACE / 4,
                press: self.began + GRACE * 3 / 4,
                deadline: self.began + GRACE,
                cut: cut.map(|cut| self.began + cut),
                user_changes: true,
            })
        }

        fn wait(&mut self, time: Duration) -> &mut Self {
            self.now += time;
            self
        }

        /// The client says something.
        fn hears(&mut self) -> &mut Self {
            self.facts.turns += 1;
            self
        }

        fn decide(&mut self, cause: Cause) -> Step {
            self.plan.decide(cause, &self.facts, self.now)
        }

        /// What comes of the alarm that is set, at its time.
        fn alarm(&mut self) -> Step {
            self.now = self.next().1.expect("an alarm is set");
            self.decide(Cause::Alarm)
        }

        fn next(&self) -> (Want, Option<Instant>) {
            self.plan.next(self.now)
        }

        /// When the alarm goes off, counted from now.
        fn rings_in(&self) -> Option<Duration> {
            self.next().1.map(|at| at.saturating_duration_since(self.now))
        }
    }

    #[test]
    fn a_session_of_which_nothing_is_known_to_change_waits_for_nothing_but_that() {
        let mut bench = Bench::new();
        assert_eq!(bench.next(), (Want::Unsure, None));
        assert_eq!(bench.decide(Cause::Rested), Step::Relay);
        assert_eq!(bench.next(), (Want::Unsure, None));
    }

    #[test]
    fn a_change_is_surveyed_when_the_client_has_rested_a_moment() {
        let mut bench = Bench::new();
        bench.facts.is_unsure = true;
        assert_eq!(bench.decide(Cause::Rested), Step::Relay);
        assert_eq!((bench.next().0, bench.rings_in()), (Want::End, Some(SETTLE)));
        assert_eq!(bench.alarm(), Step::Survey);
        bench.plan.survey_is_answered();
        bench.facts.is_unsure = false;
        assert_eq!(bench.next(), (Want::Unsure, None));
    }

    #[test]
    fn a_client_that_spoke_meanwhile_is_waited_for_again_and_one_that_never_rests_not_for_ever() {
        let mut bench = Bench::new();
        bench.facts.is_unsure = true;
        bench.decide(Cause::Rested);
        let restless_at = bench.now + RESTLESS_FOR;
        while bench.now + SETTLE < restless_at {
            assert_eq!(bench.hears().alarm(), Step::Relay);
            assert_eq!((bench.next().0, bench.rings_in()), (Want::End, Some(SETTLE)));
        }
        // Between two of its queries, then.
        bench.facts.is_safe = false;
        assert_eq!(bench.hears().alarm(), Step::Relay);
        bench.wait(SETTLE);
        assert_eq!(bench.next(), (Want::Safe, None));
        bench.facts.is_safe = true;
        assert_eq!(bench.hears().decide(Cause::Rested), Step::Survey);
    }

    #[test]
    fn a_survey_is_not_wanted_any_more_when_what_was_unsure_has_become_known() {
        let mut bench = Bench::new();
        bench.facts.is_unsure = true;
        bench.decide(Cause::Rested);
        bench.facts.is_unsure = false;
        assert_eq!(bench.alarm(), Step::Relay);
        assert_eq!(bench.next(), (Want::Unsure, None));
    }

    #[test]
    fn a_server_that_refuses_to_be_asked_is_asked_less_and_less_often() {
        let mut bench = Bench::new();
        bench.facts.is_unsure = true;
        let mut waits = Vec::new();
        for _ in 0..10 {
            bench.decide(Cause::Rested);
            waits.extend(bench.rings_in());
            assert_eq!(bench.alarm(), Step::Survey);
            bench.plan.survey_is_refused();
            assert!(bench.plan.was_refused());
        }
        assert_eq!(waits[0], SETTLE);
        assert!(
            (REFUSED_FIRST / 2..REFUSED_FIRST * 2).contains(&waits[1]),
            "{waits:?}"
        );
        assert!(
            (REFUSED_CAP / 2..REFUSED_CAP * 2).contains(&waits[9]),
            "{waits:?}"
        );
        bench.plan.survey_is_answered();
        bench.decide(Cause::Rested);
        assert_eq!(bench.rings_in(), Some(SETTLE));
        assert!(!bench.plan.was_refused());
    }

    #[test]
    fn a_session_leaves_when_its_start_has_come_and_not_before() {
        let mut bench = Bench::replaced(None);
        assert_eq!(
            (bench.next().0, bench.rings_in()),
            (Want::Unsure, Some(GRACE / 4))
        );
        bench.wait(GRACE / 4 - MS);
        assert_eq!(bench.decide(Cause::Rested), Step::Relay);
        bench.wait(MS);
        assert_eq!(bench.next(), (Want::Safe, None));
        assert_eq!(bench.decide(Cause::Alarm), Step::Move(Haste::Planned));
    }

    #[test]
    fn what_is_said_again_does_not_start_anew() {
        let mut bench = Bench::replaced(None);
        bench.wait(GRACE / 8);
        let later = Departure::Leave(Leave {
            start: bench.now + GRACE,
            ..match bench.departure(None) {
                Departure::Leave(leave) => leave,
                Departure::Stay => unreachable!("it leaves"),
            }
        });
        bench.plan.heed(later, User::Replaced, 0, bench.now);
        assert_eq!(bench.rings_in(), Some(GRACE / 8));
    }

    #[test]
    fn a_session_stays_when_its_credential_leads_again() {
        let mut bench = Bench::replaced(Some(GRACE));
        bench.plan.heed(Departure::Stay, User::Same, 0, bench.now);
        assert_eq!(bench.next(), (Want::Unsure, None));
        bench.wait(GRACE * 2);
        assert_eq!(bench.decide(Cause::Rested), Step::Relay);
    }

    #[test]
    fn a_busy_client_is_left_to_its_work_until_it_presses_and_then_caught_at_any_safe_point() {
        let mut bench = Bench::replaced(None);
        bench.wait(GRACE / 4);
        assert_eq!(bench.hears().decide(Cause::Alarm), Step::Relay);
        assert_eq!(bench.rings_in(), Some(SETTLE));
        bench.wait(SETTLE);
        assert_eq!(bench.hears().decide(Cause::Rested), Step::Relay);
        bench.wait(GRACE / 2);
        bench.facts.is_safe = false;
        assert_eq!(bench.hears().decide(Cause::Alarm), Step::Relay);
        // No time is set: the relay stops at the next safe point.
        assert_eq!(bench.next(), (Want::Safe, None));
        bench.facts.is_safe = true;
        assert_eq!(bench.hears().decide(Cause::Rested), Step::Move(Haste::Planned));
    }

    #[test]
    fn who_may_ask_what_its_sequences_gave_is_waited_for_until_it_is_silent_or_grace_is_over() {
        let mut silent = Bench::replaced(None);
        silent.facts.may_ask_sequences = true;
        silent.wait(GRACE / 4);
        silent.hears().decide(Cause::Alarm);
        let since = silent.now;
        while silent.alarm() == Step::Relay {}
        assert!(silent.now >= since + ASKED_WITHIN && silent.now < since + ASKED_WITHIN + SETTLE);

        let mut chatty = Bench::replaced(None);
        chatty.facts.may_ask_sequences = true;
        chatty.wait(GRACE - SETTLE);
        assert_eq!(chatty.hears().decide(Cause::Alarm), Step::Relay);
        assert!(!chatty.plan.is_late(chatty.now));
        chatty.wait(SETTLE);
        assert!(chatty.plan.is_late(chatty.now));
        assert_eq!(chatty.hears().decide(Cause::Rested), Step::Move(Haste::Planned));
    }

    #[test]
    fn a_session_that_is_pinned_is_looked_at_again_and_at_once_when_nothing_pins_it_any_more() {
        let mut bench = Bench::replaced(None);
        assert_eq!(bench.alarm(), Step::Move(Haste::Planned));
        bench.plan.put_off(Haste::Planned, GRACE, bench.now);
        let wait = bench.rings_in().unwrap_or_default();
        assert!(
            (GRACE / 8).abs_diff(wait) <= (GRACE / 8).mul_f64(RECHECK_JITTER),
            "{wait:?}"
        );
        bench.plan.unpinned(bench.now);
        assert_eq!(bench.decide(Cause::Rested), Step::Move(Haste::Planned));
        for (grace, bound) in [(Duration::ZERO, RECHECK_MIN), (GRACE * 100, RECHECK_MAX)] {
            bench.plan.put_off(Haste::Planned, grace, bench.now);
            let wait = bench.rings_in().unwrap_or_default();
            assert!(
                bound.abs_diff(wait) <= bound.mul_f64(RECHECK_JITTER),
                "{wait:?} of {bound:?}"
            );
        }
    }

    #[test]
    fn who_can_not_leave_is_cut_at_the_deadline_whatever_else_there_is_to_do() {
        let mut bench = Bench::replaced(Some(GRACE));
        assert_eq!(bench.alarm(), Step::Move(Haste::Planned));
        bench.plan.put_off(Haste::Planned, GRACE * 100, bench.now);
        assert!(bench.rings_in() <= Some(GRACE * 3 / 4), "not after the deadline");
        bench.now = bench.began + GRACE - MS;
        bench.facts.is_safe = false;
        assert_ne!(bench.decide(Cause::Alarm), Step::Cut);
        bench.facts = Facts {
            is_unsure: true,
            is_disowned: true,
            ..bench.facts
        };
        assert_eq!(bench.wait(MS).decide(Cause::Alarm), Step::Cut);
    }

    #[test]
    fn one_that_never_rests_is_not_moved_and_is_cut_all_the_same() {
        let mut bench = Bench::new();
        let Departure::Leave(leave) = bench.departure(Some(GRACE)) else {
            unreachable!("it leaves");
        };
        bench.plan.heed_in_vain(leave, User::Replaced);
        assert_eq!((bench.next().0, bench.rings_in()), (Want::Unsure, Some(GRACE)));
        assert_eq!(bench.alarm(), Step::Cut);
    }

    #[test]
    fn whose_user_is_about_to_go_flees_when_it_is_refused_as_if_it_were_gone() {
        let mut bench = Bench::replaced(None);
        bench.facts.is_disowned = true;
        assert_eq!(bench.hears().decide(Cause::Rested), Step::Move(Haste::Flight));
        bench.plan.put_off(Haste::Flight, GRACE, bench.now);
        assert_eq!(bench.rings_in(), Some(RETRY_AFTER));
        bench.facts.is_safe = false;
        assert_eq!(
            bench.decide(Cause::Rested),
            Step::Relay,
            "not in the middle of something"
        );
    }

    #[test]
    fn a_flight_of_who_was_to_stay_is_tried_again_after_a_pause_each_time() {
        let mut bench = Bench::new();
        bench.plan.heed(Departure::Stay, User::Replaced, 0, bench.now);
        bench.plan.put_off(Haste::Flight, GRACE, bench.now);
        for _ in 0..3 {
            assert_eq!(bench.rings_in(), Some(RETRY_AFTER));
            assert_eq!(bench.alarm(), Step::Move(Haste::Planned));
            bench.plan.put_off(Haste::Planned, GRACE, bench.now);
        }
    }

    #[test]
    fn who_is_to_stay_asks_first_and_one_whose_user_is_the_same_thinks_nothing_of_it() {
        let mut bench = Bench::new();
        bench.facts.is_disowned = true;
        assert_eq!(bench.decide(Cause::Rested), Step::Relay);
        bench.plan.heed(Departure::Stay, User::Replaced, 0, bench.now);
        assert_eq!(bench.decide(Cause::Rested), Step::AskForUser);
        // It is there.
        bench.facts.is_disowned = false;
        assert_eq!(bench.decide(Cause::Rested), Step::Relay);
        assert_eq!(bench.next(), (Want::Unsure, None));
    }
}
