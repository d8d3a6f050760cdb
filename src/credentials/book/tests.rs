use proptest::prelude::*;

use super::*;
use crate::credentials::{Change, Password};

const RETRY: Duration = Duration::from_secs(30);

fn endpoint(port: u16) -> Endpoint {
    Endpoint::Tcp {
        host: "db".into(),
        port,
    }
}

fn credential(user: &str, password: &str, position: Position) -> Credential {
    Credential {
        user: user.into(),
        password: Password::new(password),
        version: password.into(),
        position,
    }
}

fn current(password: &str) -> Credential {
    credential("app", password, Position::Current)
}

fn next(password: &str) -> Credential {
    credential("app", password, Position::Next)
}

fn previous(password: &str) -> Credential {
    credential("app", password, Position::Previous)
}

/// A book, its clock, and a Postgres that takes some passwords.
struct Story {
    book: Book,
    now: Instant,
    accepted: Vec<&'static str>,
    refused_logins: usize,
}

impl Story {
    fn on(ports: &[u16]) -> Self {
        let endpoints = ports.iter().copied().map(endpoint).collect();
        Self {
            book: Book::new(endpoints, RETRY),
            now: Instant::now(),
            accepted: Vec::new(),
            refused_logins: 0,
        }
    }

    /// Running well on this password, as both store and database have it.
    fn running_on(password: &'static str) -> Self {
        let mut story = Self::on(&[5432]);
        story.accepted = vec![password];
        story.store_has(&[current(password)]);
        story.keeper_proves();
        assert_eq!(story.leader(), Some(password.to_owned()));
        story.refused_logins = 0;
        story
    }

    fn store_has(&mut self, credentials: &[Credential]) {
        let offer = Offer {
            credentials: credentials.to_vec(),
            ..Offer::default()
        };
        self.book.offer(offer, self.now);
    }

    fn database_takes(&mut self, passwords: &[&'static str]) {
        self.accepted = passwords.to_vec();
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn try_login(&mut self, credential: &Credential, endpoint: &Endpoint) -> bool {
        let password = String::from_utf8_lossy(credential.password.expose()).into_owned();
        let is_taken = self.accepted.contains(&password.as_str());
        if is_taken {
            self.book.confirm(credential, endpoint, self.now);
        } else {
            self.refused_logins += 1;
            self.book
                .refuse(credential, endpoint, Refusal::BadPassword, self.now);
        }
        is_taken
    }

    /// A client goes through the tries, and looks at the page again after each refusal.
    fn client_logs_in(&mut self) -> Option<String> {
        let endpoint = endpoint(5432);
        for _ in 0..KNOWN_MAX {
            let candidate = self.book.page().tries(&endpoint, self.now).next()?;
            if self.try_login(&candidate.credential, &endpoint) {
                return Some(candidate.credential.version.to_string());
            }
        }
        panic!("a login that does not end");
    }

    fn keeper_proves(&mut self) {
        let mut tried: Vec<(Credential, Endpoint)> = Vec::new();
        while let Some(proof) =
            (self.book.unproven(self.now).into_iter()).find(|proof| !tried.contains(proof))
        {
            self.try_login(&proof.0, &proof.1);
            tried.push(proof);
        }
    }

    fn tries(&self) -> Vec<String> {
        let tries = self.book.page().tries(&endpoint(5432), self.now);
        tries
            .map(|candidate| candidate.credential.version.to_string())
            .collect()
    }

    fn leader(&self) -> Option<String> {
        self.book.page().leader().map(|leader| leader.version.to_string())
    }
}

#[test]
fn before_the_first_value_there_is_a_page_with_nothing_to_try() {
    let story = Story::on(&[5432]);
    let page = story.book.page();
    assert_eq!((page.generation, page.entries().len()), (0, 0));
    assert!(page.leader().is_none() && !page.has_proof());
    assert!(page.is_live(&current("any")));
}

#[test]
fn at_a_cold_start_the_stores_order_is_used_and_nothing_leads() {
    let mut story = Story::on(&[5432]);
    story.store_has(&[previous("old"), next("new"), current("now")]);
    assert_eq!(story.tries(), ["now", "new", "old"]);
    assert!(story.leader().is_none());
    assert!(
        story
            .book
            .page()
            .tries(&endpoint(5432), story.now)
            .all(|candidate| candidate.doubtful)
    );
}

#[test]
fn database_first_then_store() {
    let mut story = Story::running_on("one");
    story.database_takes(&["two"]);
    assert_eq!(story.client_logs_in(), None);
    story.store_has(&[current("two")]);
    assert_eq!(story.client_logs_in().as_deref(), Some("two"));
    assert_eq!(
        (story.leader().as_deref(), story.refused_logins),
        (Some("two"), 1)
    );
}

#[test]
fn store_first_then_database_and_nobody_waits_for_a_blocked_credential() {
    let mut story = Story::running_on("one");
    story.store_has(&[current("two"), previous("one")]);
    story.keeper_proves();
    assert_eq!(story.tries(), ["one"]);
    story.pass(5);
    story.database_takes(&["two"]);
    assert_eq!(story.client_logs_in().as_deref(), Some("two"));
    assert_eq!(story.refused_logins, 2);
}

#[test]
fn a_pending_credential_known_before_the_database_changes_serves_the_first_client_after_it() {
    let mut story = Story::running_on("one");
    story.store_has(&[current("one"), next("two")]);
    story.keeper_proves();
    assert_eq!(
        (story.refused_logins, story.tries()),
        (0, vec!["one".to_owned(), "two".to_owned()])
    );
    story.database_takes(&["two"]);
    assert_eq!(story.client_logs_in().as_deref(), Some("two"));
    assert_eq!(story.leader().as_deref(), Some("two"));
    let generation = story.book.page().generation;
    story.store_has(&[current("two"), previous("one")]);
    assert_eq!(story.leader().as_deref(), Some("two"));
    assert_eq!(
        story.book.page().generation,
        generation,
        "a new label is no new order"
    );
    assert_eq!(story.client_logs_in().as_deref(), Some("two"));
}

#[test]
fn the_four_steps_of_a_single_user_rotation_a_second_apart() {
    for client_after in 0..4 {
        let mut story = Story::running_on("one");
        for step in 0..4 {
            match step {
                0 => story.store_has(&[current("one"), next("two")]),
                1 => story.database_takes(&["two"]),
                2 => {}
                _ => story.store_has(&[current("two"), previous("one")]),
            }
            if step >= client_after {
                let expected = if step == 0 { "one" } else { "two" };
                assert_eq!(story.client_logs_in().as_deref(), Some(expected), "step {step}");
            }
            story.keeper_proves();
            story.pass(1);
        }
        assert_eq!(story.leader().as_deref(), Some("two"));
        assert!(story.refused_logins <= 1);
    }
}

#[test]
fn alternating_users_lead_by_proof_and_the_old_one_retires_as_a_changed_user() {
    let mut story = Story::running_on("one");
    let clone = credential("app_clone", "two", Position::Current);
    story.database_takes(&["one", "two"]);
    story.store_has(&[clone.clone(), previous("one")]);
    assert_eq!(story.leader().as_deref(), Some("one"));
    story.keeper_proves();
    assert_eq!(story.leader().as_deref(), Some("two"));
    let page = story.book.page();
    let retirement = page.retirement(&current("one")).expect("it was replaced");
    assert_eq!((retirement.change, retirement.since), (Change::User, story.now));
    assert!(page.is_live(&clone));
    assert_eq!(story.tries(), ["two", "one"]);
}

#[test]
fn a_new_password_of_the_same_user_retires_the_old_one_as_a_changed_password() {
    let mut story = Story::running_on("one");
    story.database_takes(&["two"]);
    story.store_has(&[current("two")]);
    story.keeper_proves();
    let retirement = story
        .book
        .page()
        .retirement(&current("one"))
        .expect("it was replaced");
    assert_eq!(retirement.change, Change::Password);
}

#[test]
fn the_next_and_previous_keys_of_a_store_swap_without_a_refused_login_when_both_work() {
    let mut story = Story::running_on("one");
    let spare = credential("app2", "two", Position::Next);
    story.database_takes(&["one", "two"]);
    story.store_has(&[current("one"), spare.clone()]);
    story.keeper_proves();
    assert_eq!(
        story.leader().as_deref(),
        Some("one"),
        "next is promoted only when it is needed"
    );
    let promoted = Credential {
        position: Position::Current,
        ..spare
    };
    story.store_has(&[promoted]);
    story.keeper_proves();
    assert_eq!(
        (story.leader().as_deref(), story.refused_logins),
        (Some("two"), 0)
    );
}

#[test]
fn a_lease_ends_with_its_credential_and_is_known_after_it_was_replaced() {
    let mut story = Story::running_on("one");
    let ends = story.now + Duration::from_secs(60);
    let lease = Offer {
        credentials: vec![current("one")],
        lease_ends: Some(ends),
        logins_end: None,
    };
    story.book.offer(lease, story.now);
    assert_eq!(story.book.page().lease_ends(&current("one")), Some(ends));
    let fresh = credential("v-2", "two", Position::Current);
    story.database_takes(&["one", "two"]);
    story.store_has(&[fresh]);
    story.keeper_proves();
    let retirement = story
        .book
        .page()
        .retirement(&current("one"))
        .expect("it was replaced");
    assert_eq!(retirement.lease_ends, Some(ends));
    story.pass(61);
    assert_eq!(story.tries(), ["two", "one"]);
}

#[test]
fn a_password_whose_time_is_over_is_doubted_and_comes_last() {
    let mut story = Story::running_on("one");
    let ends = story.now + Duration::from_secs(60);
    let token = Offer {
        credentials: vec![current("one")],
        lease_ends: None,
        logins_end: Some(ends),
    };
    story.book.offer(token, story.now);
    story.store_has(&[current("two")]);
    assert_eq!(story.tries(), ["one", "two"]);
    story.pass(60);
    assert_eq!(story.tries(), ["two", "one"]);
    assert_eq!(
        story.book.page().lease_ends(&current("one")),
        None,
        "its sessions may stay"
    );
}

#[test]
fn a_cold_start_inside_the_window_finds_the_pending_credential() {
    let mut story = Story::on(&[5432]);
    story.database_takes(&["two"]);
    story.store_has(&[current("one"), next("two")]);
    story.keeper_proves();
    assert_eq!(
        (story.leader().as_deref(), story.refused_logins),
        (Some("two"), 1)
    );
}

#[test]
fn a_cold_start_before_the_database_catches_up_tries_again_soon() {
    let mut story = Story::on(&[5432]);
    story.store_has(&[current("one")]);
    let mut tried_at = Vec::new();
    for second in 0..60 {
        let before = story.refused_logins;
        assert_eq!(story.client_logs_in(), None);
        if story.refused_logins > before {
            tried_at.push(second);
        }
        story.pass(1);
    }
    assert_eq!(tried_at, [0, 1, 3, 7, 15, 30, 45]);
    story.database_takes(&["one"]);
    assert_eq!(story.client_logs_in().as_deref(), Some("one"));
}

#[test]
fn a_dead_pending_credential_is_refused_at_most_once_and_by_nobody_while_current_works() {
    let mut story = Story::running_on("one");
    story.store_has(&[current("one"), next("dead")]);
    for _ in 0..1000 {
        story.keeper_proves();
        assert_eq!(story.client_logs_in().as_deref(), Some("one"));
        story.store_has(&[current("one"), next("dead")]);
        story.pass(60);
    }
    assert_eq!(
        (story.refused_logins, story.leader().as_deref()),
        (0, Some("one"))
    );
}

#[test]
fn a_pending_credential_equal_to_current_is_one_credential() {
    let mut story = Story::running_on("one");
    let generation = story.book.page().generation;
    story.store_has(&[next("one"), current("one")]);
    assert_eq!(story.tries(), ["one"]);
    assert_eq!(
        story.book.page().entries()[0].credential.position,
        Position::Current
    );
    assert_eq!(story.book.page().generation, generation);
}

#[test]
fn a_promotion_to_current_earns_a_refused_credential_one_new_try_and_only_one() {
    let mut story = Story::on(&[5432]);
    story.database_takes(&["one"]);
    story.store_has(&[next("two"), current("zero"), previous("one")]);
    story.keeper_proves();
    assert_eq!(
        (story.leader().as_deref(), story.refused_logins),
        (Some("one"), 2)
    );
    story.store_has(&[current("two"), previous("one")]);
    assert_eq!(story.tries(), ["one", "two"]);
    story.keeper_proves();
    assert_eq!(story.refused_logins, 3);
    for _ in 0..5 {
        story.store_has(&[next("two"), previous("one")]);
        story.store_has(&[current("two"), previous("one")]);
        story.keeper_proves();
    }
    assert_eq!((story.tries(), story.refused_logins), (vec!["one".to_owned()], 3));
}

#[test]
fn a_bad_value_never_leads_and_the_last_good_one_stays_first_for_ever() {
    let mut story = Story::running_on("good");
    for attempt in 0..100 {
        let garbage = credential("app", &format!("garbage {attempt}"), Position::Current);
        story.store_has(&[garbage]);
        story.keeper_proves();
        story.pass(300);
        assert_eq!(story.client_logs_in().as_deref(), Some("good"));
    }
    assert!(story.book.page().known().count() <= KNOWN_MAX);
    story.store_has(&[]);
    story.book.read_failed(story.now);
    assert_eq!(story.leader().as_deref(), Some("good"));
    assert_eq!(story.book.page().reads, 103);
}

#[test]
fn a_refusal_blocks_one_endpoint_only() {
    let mut story = Story::on(&[5432, 5433]);
    story.database_takes(&["one"]);
    story.store_has(&[current("one")]);
    story.keeper_proves();
    story
        .book
        .refuse(&current("one"), &endpoint(5433), Refusal::NotAllowed, story.now);
    let page = story.book.page();
    assert_eq!(page.tries(&endpoint(5433), story.now).count(), 0);
    assert_eq!(
        page.next_try(&endpoint(5433), story.now),
        Some(story.now + HELD_RETRY_FIRST)
    );
    assert_eq!(story.tries(), ["one"]);
    assert_eq!(story.leader().as_deref(), Some("one"));
    assert!(page.is_live(&current("one")), "28000 does not condemn");
}

#[test]
fn late_answers_to_logins_sent_before_a_refusal_do_not_prolong_it() {
    let mut story = Story::running_on("one");
    for _ in 0..100 {
        story
            .book
            .refuse(&current("one"), &endpoint(5432), Refusal::BadPassword, story.now);
    }
    story.pass(1);
    assert_eq!(story.tries(), ["one"]);
}

#[test]
fn a_new_credential_leads_only_when_every_endpoint_has_taken_it() {
    let mut story = Story::on(&[5432, 5433]);
    story.database_takes(&["one", "two"]);
    story.store_has(&[current("one")]);
    story.keeper_proves();
    story.store_has(&[current("two")]);
    story.book.confirm(&current("two"), &endpoint(5432), story.now);
    assert_eq!(story.leader().as_deref(), Some("one"));
    story.book.confirm(&current("two"), &endpoint(5433), story.now);
    assert_eq!(story.leader().as_deref(), Some("two"));
}

#[test]
fn an_endpoint_that_is_down_has_no_vote_and_keeps_its_own_last_good() {
    let mut story = Story::on(&[5432, 5433]);
    story.database_takes(&["one", "two"]);
    story.store_has(&[current("one")]);
    story.keeper_proves();
    story.store_has(&[current("two")]);
    story.pass(1);
    story.book.untested(&current("two"), &endpoint(5433), story.now);
    assert_eq!(story.leader().as_deref(), Some("one"), "nobody has taken it yet");
    story.book.confirm(&current("two"), &endpoint(5432), story.now);
    assert_eq!(story.leader().as_deref(), Some("two"));
    let last_good = story.book.page().tries(&endpoint(5433), story.now).next();
    assert_eq!(
        last_good.map(|candidate| candidate.credential),
        Some(current("one"))
    );
    assert!(story.book.page().is_live(&current("one")));
    assert_eq!(story.book.unproven(story.now), [(current("two"), endpoint(5433))]);
    story.book.confirm(&current("two"), &endpoint(5433), story.now);
    assert!(!story.book.page().is_live(&current("one")));
    assert_eq!(story.book.unfinished(), None);
}

#[test]
fn a_late_success_of_a_retired_credential_does_not_bring_it_back() {
    let mut story = Story::running_on("one");
    story.store_has(&[current("two")]);
    story.pass(1);
    story.book.confirm(&current("two"), &endpoint(5432), story.now);
    story.pass(1);
    story.book.confirm(&current("one"), &endpoint(5432), story.now);
    assert_eq!(story.leader().as_deref(), Some("two"));
    assert_eq!(story.tries(), ["two", "one"]);
    assert!(!story.book.page().is_live(&current("one")));
}

#[test]
fn a_rollback_in_the_database_is_followed() {
    let mut story = Story::running_on("one");
    story.database_takes(&["two"]);
    story.store_has(&[current("two")]);
    story.keeper_proves();
    story.database_takes(&["one"]);
    story.pass(1);
    assert_eq!(story.client_logs_in().as_deref(), Some("one"));
    assert_eq!(story.leader().as_deref(), Some("one"));
    assert!(story.book.page().is_live(&current("one")));
    assert!(!story.book.page().is_live(&current("two")));
}

#[test]
fn a_list_is_probed_in_its_order_and_each_login_once() {
    let mut story = Story::on(&[5432]);
    story.database_takes(&["c"]);
    let list: Vec<_> = ["a", "b", "a", "c"]
        .iter()
        .zip(0..)
        .map(|(password, index)| credential("app", password, Position::Index(index)))
        .collect();
    story.store_has(&list);
    assert_eq!(story.tries(), ["a", "b", "c"]);
    assert_eq!(story.client_logs_in().as_deref(), Some("c"));
    assert_eq!((story.leader().as_deref(), story.refused_logins), (Some("c"), 2));
}

#[test]
fn a_forgotten_credential_counts_as_retired() {
    let mut story = Story::running_on("one");
    for round in 0..50 {
        let fresh = credential(&format!("v-{round}"), &format!("{round}"), Position::Current);
        story.store_has(std::slice::from_ref(&fresh));
        story.pass(1);
        story.book.confirm(&fresh, &endpoint(5432), story.now);
    }
    let page = story.book.page();
    assert_eq!(page.known().count(), KNOWN_MAX);
    assert_eq!(page.entries().len(), 2, "the leader and what led before");
    let retirement = page.retirement(&current("one")).expect("nobody remembers it");
    assert_eq!(retirement.change, Change::User);
}

#[test]
fn the_audit_trail_tells_the_story_in_order() {
    let mut story = Story::running_on("one");
    story.book.take_events();
    story.store_has(&[current("two")]);
    story.database_takes(&["two"]);
    story.keeper_proves();
    let (one, two) = (current("one"), current("two"));
    let expected = [
        Event::Seen(two.clone()),
        Event::Proven(two.clone(), endpoint(5432)),
        Event::Leading {
            credential: two,
            before: Some(one.clone()),
        },
        Event::Retired(one),
    ];
    assert_eq!(story.book.take_events(), expected);
    assert!(story.book.take_events().is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Offer(Vec<(u8, Position)>),
    ReadFailed,
    Confirm(u8, u16),
    Refuse(u8, u16, Refusal),
    Untested(u8, u16),
    Pass(u64),
}

fn login() -> impl Strategy<Value = u8> {
    0..6_u8
}

fn port() -> impl Strategy<Value = u16> {
    1..3_u16
}

fn step() -> impl Strategy<Value = Step> {
    let position = prop_oneof![
        Just(Position::Current),
        Just(Position::Next),
        Just(Position::Previous),
        (0..3_u16).prop_map(Position::Index),
    ];
    let refusal = prop_oneof![Just(Refusal::BadPassword), Just(Refusal::NotAllowed)];
    prop_oneof![
        3 => prop::collection::vec((login(), position), 0..4).prop_map(Step::Offer),
        1 => Just(Step::ReadFailed),
        4 => (login(), port()).prop_map(|(login, port)| Step::Confirm(login, port)),
        4 => (login(), port(), refusal).prop_map(|(login, port, refusal)| Step::Refuse(login, port, refusal)),
        1 => (login(), port()).prop_map(|(login, port)| Step::Untested(login, port)),
        2 => (0..40_u64).prop_map(Step::Pass),
    ]
}

fn nth(login: u8, position: Position) -> Credential {
    credential(
        if login.is_multiple_of(2) { "app" } else { "clone" },
        &login.to_string(),
        position,
    )
}

fn take(book: &mut Book, step: &Step, now: &mut Instant) {
    match step {
        Step::Offer(listed) => {
            let credentials = listed
                .iter()
                .map(|(login, position)| nth(*login, *position))
                .collect();
            book.offer(
                Offer {
                    credentials,
                    ..Offer::default()
                },
                *now,
            );
        }
        Step::ReadFailed => book.read_failed(*now),
        Step::Confirm(login, port) => book.confirm(&nth(*login, Position::Current), &endpoint(*port), *now),
        Step::Refuse(login, port, refusal) => {
            book.refuse(&nth(*login, Position::Current), &endpoint(*port), *refusal, *now);
        }
        Step::Untested(login, port) => book.untested(&nth(*login, Position::Current), &endpoint(*port), *now),
        Step::Pass(seconds) => *now += Duration::from_secs(*seconds),
    }
}

fn order(page: &Page) -> Vec<(Vec<u8>, bool)> {
    let leads = |credential: &Credential| {
        page.leader()
            .is_some_and(|leader| leader.is_same_login(credential))
    };
    (page.entries().iter())
        .map(|entry| {
            (
                entry.credential.password.expose().to_vec(),
                leads(&entry.credential),
            )
        })
        .collect()
}

fn check(before: &Page, after: &Page, step: &Step, now: Instant) -> Result<(), TestCaseError> {
    prop_assert_eq!(
        after.generation - before.generation,
        u64::from(order(before) != order(after))
    );
    prop_assert!(before.leader().is_none() || after.leader().is_some());
    prop_assert!(after.leader().is_none_or(|leader| after.is_live(leader)));
    for port in [1, 2] {
        let endpoint = endpoint(port);
        let tries: Vec<_> = after.tries(&endpoint, now).collect();
        for (index, candidate) in tries.iter().enumerate() {
            let rest = &tries[index + 1..];
            prop_assert!(
                !rest
                    .iter()
                    .any(|other| other.credential.is_same_login(&candidate.credential))
            );
            let entry = after.entry(&candidate.credential).expect("a try is an entry");
            prop_assert!(entry.blocked_until(&endpoint).is_none_or(|until| until <= now));
            prop_assert_eq!(candidate.doubtful, entry.proven_since(&endpoint).is_none());
        }
        let is_handed_over =
            before.leader().map(|leader| &leader.password) != after.leader().map(|leader| &leader.password);
        let is_reading = matches!(step, Step::Offer(_) | Step::ReadFailed | Step::Pass(_)) && !is_handed_over;
        for proven in before
            .tries(&endpoint, now)
            .filter(|candidate| !candidate.doubtful && is_reading)
        {
            let is_kept = tries
                .iter()
                .any(|candidate| candidate.credential.is_same_login(&proven.credential));
            prop_assert!(is_kept, "what works is never removed by a reading");
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn whatever_happens_the_page_keeps_its_word(steps in prop::collection::vec(step(), 1..60)) {
        let mut now = Instant::now();
        let mut book = Book::new(vec![endpoint(1), endpoint(2)], RETRY);
        for step in &steps {
            let before = book.page().clone();
            take(&mut book, step, &mut now);
            check(&before, book.page(), step, now)?;
            prop_assert!(book.page().known().count() <= KNOWN_MAX);
        }
    }

    #[test]
    fn a_refusal_holds_for_its_time_unless_the_database_or_the_store_has_moved(
        steps in prop::collection::vec(step(), 1..40),
        login in login(),
    ) {
        let mut now = Instant::now();
        let mut book = Book::new(vec![endpoint(1), endpoint(2)], RETRY);
        book.offer(Offer { credentials: vec![nth(login, Position::Current)], ..Offer::default() }, now);
        book.refuse(&nth(login, Position::Current), &endpoint(1), Refusal::BadPassword, now);
        let until = now + HELD_RETRY_FIRST;
        for step in &steps {
            let may_promote = |listed: &[(u8, Position)]| {
                listed.iter().any(|(other, position)| *other == login && *position != Position::Current)
            };
            match step {
                Step::Confirm(..) => break,
                Step::Offer(listed) if may_promote(listed) => break,
                _ if now >= until => break,
                _ => {}
            }
            take(&mut book, step, &mut now);
            let is_tried = book.page().tries(&endpoint(1), now)
                .any(|candidate| candidate.credential.is_same_login(&nth(login, Position::Current)));
            prop_assert!(!is_tried || now >= until);
        }
    }
}
