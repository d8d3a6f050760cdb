use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::config::PasswordRecipe;
use crate::credentials::Password;
use crate::rotate::database::{Greeting, Role};
use crate::rotate::facts::{ServerFacts, Standing};
use crate::stores::{Holding, NextPlace, Revision};

const STRONG: &str = "kR9-vQ_2mZt7Lx0aBn4W";

fn login(user: &str) -> Login {
    Login {
        user: user.into(),
        password: Password::new(format!("{STRONG}{user}")),
    }
}

fn another(user: &str) -> Login {
    Login {
        user: user.into(),
        password: Password::new(format!("{STRONG}-another")),
    }
}

fn rotation(style: Style, users: &[&str]) -> Rotation {
    Rotation {
        name: "orders".into(),
        secret: "orders".into(),
        admin: "admin".into(),
        upstreams: vec!["orders".into()],
        users: users.iter().map(|user| (*user).to_owned()).collect(),
        max_age: None,
        fleet: None,
        sidecars: vec![crate::config::Sidecar {
            every_address: false,
            host: "h".to_owned(),
            port: 1,
        }],
        style,
        owner: None,
        min_interval: None,
        soak: Duration::ZERO,
        recipe: PasswordRecipe::default(),
        keep_next: false,
        audit: None,
        report: None,
    }
}

/// One primary where the current login works.
fn server(name: &str, users: &[(&str, bool)]) -> ServerFacts {
    let role = |can_login| Role {
        can_login,
        inherits: true,
        connections_max: -1,
        may_change: true,
        may_end: true,
        ..Role::default()
    };
    ServerFacts {
        endpoint: Endpoint::Tcp {
            host: Arc::from(name),
            port: 5432,
        },
        upstream: "orders".into(),
        greeting: Greeting {
            is_primary: true,
            version: 180_000,
            admin: "rotator".to_owned(),
            admin_is_superuser: false,
        },
        roles: users
            .iter()
            .map(|(user, can)| ((*user).to_owned(), role(*can)))
            .collect(),
        backends: BTreeMap::new(),
        drift: Vec::new(),
        current: Standing::In,
        next: Standing::NotTried,
        previous: Standing::In,
        trusts: false,
    }
}

fn facts(place: NextPlace, next: Option<Login>, servers: Vec<ServerFacts>) -> Facts {
    Facts {
        holding: Holding {
            current: login("a"),
            next,
            previous: None,
            next_place: place,
            revision: Revision::new("1"),
            other_writer: None,
        },
        minted: None,
        servers,
    }
}

fn labels(plan: &Plan) -> Vec<&'static str> {
    assert_eq!(plan.refusals, []);
    plan.steps.iter().map(Step::label).collect()
}

fn refused(word: &str) -> Standing {
    Standing::Refused(word.to_owned())
}

#[test]
fn one_user_gets_its_password_in_the_store_before_any_server_takes_it() {
    let rotation = rotation(Style::Single, &[]);
    let one = |next| ServerFacts {
        next,
        ..server("x", &[("a", true)])
    };
    let two = |next| ServerFacts {
        next,
        ..server("y", &[("a", true)])
    };
    let new = || Some(another("a"));
    let steps = |facts: &Facts, done: &Done| labels(&plan(facts, &rotation, &Goal::Forward, done));
    let rest = facts(
        NextPlace::AnyUser,
        None,
        vec![one(Standing::NotTried), two(Standing::NotTried)],
    );
    let all = [
        "stage", "seen", "password", "password", "prove", "promote", "followed", "refused",
    ];
    assert_eq!(steps(&rest, &Done::default()), all);
    let staged = facts(
        NextPlace::AnyUser,
        new(),
        vec![one(refused("no")), two(refused("no"))],
    );
    assert_eq!(steps(&staged, &Done::default()), all[1..]);
    let half = facts(
        NextPlace::AnyUser,
        new(),
        vec![one(Standing::In), two(refused("no"))],
    );
    assert_eq!(situation(&half, &rotation), Situation::Changed);
    assert_eq!(steps(&half, &Done::default())[..3], ["seen", "password", "prove"]);
    let changed = facts(
        NextPlace::AnyUser,
        new(),
        vec![one(Standing::In), two(Standing::In)],
    );
    assert_eq!(steps(&changed, &Done::default())[..2], ["prove", "promote"]);
}

#[test]
fn a_half_done_change_of_one_user_is_taken_back_on_the_servers_before_the_store() {
    let rotation = rotation(Style::Single, &[]);
    let changed = ServerFacts {
        current: Standing::NotTried,
        next: Standing::In,
        ..server("x", &[("a", true)])
    };
    let unchanged = ServerFacts {
        next: refused("no"),
        ..server("y", &[("a", true)])
    };
    let half = facts(NextPlace::AnyUser, Some(another("a")), vec![changed, unchanged]);
    let back = plan(&half, &rotation, &Goal::Back, &Done::default());
    assert_eq!(labels(&back), ["password", "prove", "withdraw"]);
    assert!(
        matches!(&back.steps[0], Step::Password { which: Which::Current, on, .. } if on.to_string() == "x:5432")
    );
}

#[test]
fn a_payload_without_a_place_for_what_comes_next_is_refused_for_one_user_and_taken_for_two() {
    let one = facts(NextPlace::None, None, vec![server("x", &[("a", true)])]);
    let single = plan(
        &one,
        &rotation(Style::Single, &[]),
        &Goal::Forward,
        &Done::default(),
    );
    assert!(single.refusals[0].words.contains("no place for what comes next"));
    assert!(single.steps.is_empty());
    let two = facts(
        NextPlace::None,
        None,
        vec![server("x", &[("a", true), ("b", false)])],
    );
    let alternating = plan(
        &two,
        &rotation(Style::Alternating, &["a", "b"]),
        &Goal::Forward,
        &Done::default(),
    );
    assert_eq!(
        labels(&alternating),
        [
            "make", "password", "prove", "promote", "left", "soak", "close", "end", "refused"
        ]
    );
}

#[test]
fn users_that_take_turns_end_what_was_begun_before_anything_new() {
    let rotation = rotation(Style::Alternating, &["a", "b"]);
    let steps = |facts: &Facts, goal: &Goal| labels(&plan(facts, &rotation, goal, &Done::default()));
    let open = facts(
        NextPlace::AnyUser,
        None,
        vec![server("x", &[("a", true), ("b", true)])],
    );
    assert_eq!(situation(&open, &rotation), Situation::Promoted);
    assert_eq!(
        steps(&open, &Goal::Forward),
        ["left", "soak", "close", "end", "refused"]
    );
    // Nothing says what b's password was.
    assert_eq!(
        steps(&open, &Goal::Back),
        ["left", "soak", "close", "end", "refused"]
    );
    let mut known = facts(
        NextPlace::AnyUser,
        None,
        vec![server("x", &[("a", true), ("b", true)])],
    );
    known.holding.previous = Some(login("b"));
    assert_eq!(
        steps(&known, &Goal::Back),
        [
            "stage", "seen", "password", "prove", "promote", "left", "soak", "close", "end", "refused"
        ]
    );
    let leaked = Goal::Emergency { role: "b".to_owned() };
    assert_eq!(steps(&open, &leaked), ["followed", "close", "end", "refused"]);
    let leaked = Goal::Emergency { role: "a".to_owned() };
    assert_eq!(
        steps(&open, &leaked),
        [
            "stage", "seen", "password", "prove", "promote", "followed", "close", "end", "refused"
        ]
    );
}

#[test]
fn what_waits_in_a_secret_that_somebody_has_read_does_not_become_current() {
    let leaked = Goal::Emergency { role: "a".to_owned() };
    let found = |style, next, standing| {
        let place = match style {
            Style::Single => NextPlace::SameUser,
            Style::Alternating => NextPlace::AnyUser,
        };
        let here = ServerFacts {
            next: standing,
            ..server("x", &[("a", true), ("b", false)])
        };
        facts(place, Some(next), vec![here])
    };
    for (style, users, next) in [
        (Style::Single, &[][..], another("a")),
        (Style::Alternating, &["a", "b"], login("b")),
    ] {
        let rotation = rotation(style, users);
        let waits = found(style, next.clone(), refused("no"));
        let first = plan(&waits, &rotation, &leaked, &Done::default());
        assert_eq!(labels(&first)[..3], ["withdraw", "stage", "seen"]);
        let ours = Done {
            staged: true,
            ..Done::default()
        };
        let second = plan(&waits, &rotation, &leaked, &ours);
        assert_eq!(labels(&second)[..2], ["seen", "password"]);
        // The server is not to be without a password that the store holds.
        let taken = plan(
            &found(style, next, Standing::In),
            &rotation,
            &leaked,
            &Done::default(),
        );
        assert_eq!(labels(&taken)[..2], ["prove", "promote"]);
        assert!(
            taken.notes.iter().any(|note| note.contains("once more")),
            "{:?}",
            taken.notes
        );
    }
}

#[test]
fn a_twin_that_is_missing_is_made_as_the_other_one_is() {
    let mut rotation = rotation(Style::Alternating, &["a", "b"]);
    rotation.owner = Some("owner".to_owned());
    let mut here = server("x", &[("a", true)]);
    here.roles
        .get_mut("a")
        .unwrap()
        .groups
        .insert("reader".to_owned());
    let found = facts(NextPlace::AnyUser, None, vec![here]);
    let made = plan(&found, &rotation, &Goal::Forward, &Done::default());
    assert_eq!(labels(&made)[..5], ["create", "grant", "grant", "stage", "seen"]);
}

#[test]
fn what_stands_in_the_way_is_said_all_at_once() {
    let rotation = rotation(Style::Alternating, &["a", "b"]);
    let mut here = server("x", &[("a", true), ("b", false)]);
    here.trusts = true;
    here.roles.get_mut("a").unwrap().is_expired = true;
    here.roles.get_mut("b").unwrap().may_change = false;
    here.drift.push(crate::rotate::database::Drift {
        role: "a".to_owned(),
        database: "orders".to_owned(),
        what: crate::rotate::database::DriftKind::Owns,
        count: 3,
    });
    here.backends.insert(
        "b".to_owned(),
        vec![Backend {
            pid: 7,
            database: String::new(),
            application: "report".to_owned(),
            client: None,
            since: None,
        }],
    );
    let mut found = facts(NextPlace::AnyUser, None, vec![here]);
    found.holding.next = Some(another("b"));
    let refusals = plan(&found, &rotation, &Goal::Forward, &Done::default()).refusals;
    let said: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    let said = said.join("\n");
    for words in [
        "whatever the password",
        "VALID UNTIL of a is over",
        "rotator may not change b",
        "a itself owns 3 objects in database orders",
        "application \"report\"",
    ] {
        assert!(said.contains(words), "{words} is not in:\n{said}");
    }
}

#[test]
fn what_always_waits_in_the_store_is_not_half_done() {
    let mut rotation = rotation(Style::Single, &[]);
    rotation.keep_next = true;
    let waiting = ServerFacts {
        next: refused("no"),
        ..server("x", &[("a", true)])
    };
    let rest = facts(NextPlace::SameUser, Some(another("a")), vec![waiting]);
    assert_eq!(situation(&rest, &rotation), Situation::Rest);
    let forward = plan(&rest, &rotation, &Goal::Forward, &Done::default());
    assert_eq!(
        labels(&forward),
        [
            "seen",
            "password",
            "prove",
            "promote",
            "followed",
            "refused",
            "keep-next"
        ]
    );
    let back = plan(&rest, &rotation, &Goal::Back, &Done::default());
    assert!(back.refusals[0].words.contains("nothing is half-done"));
}

#[test]
fn a_run_that_has_ended_what_was_begun_makes_nothing_new() {
    let rotation = rotation(Style::Alternating, &["a", "b"]);
    let mut closed = facts(
        NextPlace::AnyUser,
        None,
        vec![server("x", &[("a", true), ("b", false)])],
    );
    closed.holding.previous = Some(login("b"));
    let mut done = Done {
        left: vec!["b".to_owned()],
        soaked: vec!["b".to_owned()],
        ..Done::default()
    };
    for goal in [Goal::Forward, Goal::Back] {
        assert_eq!(
            labels(&plan(&closed, &rotation, &goal, &done)),
            ["end", "refused"]
        );
    }
    done.ended.push("b".to_owned());
    done.refused.push("b".to_owned());
    for goal in [Goal::Forward, Goal::Back] {
        assert_eq!(labels(&plan(&closed, &rotation, &goal, &done)), [""; 0]);
    }
}

/// b waits in the store, and the server takes it.
fn staged_and_taken() -> Facts {
    let server = ServerFacts {
        next: Standing::In,
        ..server("x", &[("a", true), ("b", true)])
    };
    facts(NextPlace::AnyUser, Some(another("b")), vec![server])
}

#[test]
fn what_may_have_somebody_on_it_is_taken_out_of_the_store_before_it_is_closed_and_waited_for() {
    let rotation = rotation(Style::Alternating, &["a", "b"]);
    let steps = |done: &Done, facts: &Facts| labels(&plan(facts, &rotation, &Goal::Back, done));
    assert_eq!(
        steps(&Done::default(), &staged_and_taken()),
        ["prove", "withdraw"]
    );
    let withdrawn = Done {
        withdrawn: true,
        ..Done::default()
    };
    let mut without = staged_and_taken();
    without.holding.next = None;
    assert_eq!(steps(&withdrawn, &without), ["left", "close", "end", "refused"]);
}

#[test]
fn a_login_that_somebody_knows_does_not_stay_in_the_store_as_what_comes_next() {
    let rotation = rotation(Style::Alternating, &["a", "b"]);
    let leaked = Goal::Emergency { role: "b".to_owned() };
    let plan = plan(&staged_and_taken(), &rotation, &leaked, &Done::default());
    assert_eq!(labels(&plan), ["followed", "close", "end", "refused", "withdraw"]);
}

#[test]
fn who_may_not_end_sessions_is_told_before_anything_is_changed() {
    let rotation = rotation(Style::Alternating, &["a", "b"]);
    let mut here = server("x", &[("a", true), ("b", false)]);
    here.roles.get_mut("a").unwrap().may_end = false;
    let found = facts(NextPlace::AnyUser, None, vec![here]);
    for goal in [Goal::Forward, Goal::Emergency { role: "a".to_owned() }] {
        let plan = plan(&found, &rotation, &goal, &Done::default());
        let [refusal] = &plan.refusals[..] else {
            panic!("{:?}", plan.refusals);
        };
        assert!(
            refusal.words.contains("GRANT pg_signal_backend TO \"rotator\""),
            "{refusal}"
        );
        assert!(refusal.can_be_forced);
    }
}

#[test]
fn what_a_server_has_again_is_proven_although_something_always_waits() {
    let mut rotation = rotation(Style::Single, &[]);
    rotation.keep_next = true;
    let back_again = ServerFacts {
        next: refused("no"),
        ..server("x", &[("a", true)])
    };
    let half = facts(NextPlace::SameUser, Some(another("a")), vec![back_again]);
    let restored = Done {
        restored: true,
        ..Done::default()
    };
    let back = plan(&half, &rotation, &Goal::Back, &restored);
    assert_eq!(labels(&back), ["prove"]);
}
