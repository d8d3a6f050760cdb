use std::time::Duration;

use super::super::keys::{FIELDS, SECRET};
use super::super::loading::Loading;
use super::super::reader::Reader;
use super::super::source::{named_store, source};
use super::super::typed::{FieldPair, Fields, Secret, SessionsPolicy};
use super::super::written::Section;
use super::{DAY, SECOND};

/// Quick enough for a file in a test, slow enough for a store that charges for each read.
const POLL_MIN: Duration = Duration::from_millis(100);
pub(super) const YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

const SESSIONS: [(&str, SessionsPolicy); 4] = [
    ("auto", SessionsPolicy::Auto),
    ("keep", SessionsPolicy::Keep),
    ("move", SessionsPolicy::Move),
    ("cut", SessionsPolicy::Cut),
];

pub(super) fn secret(name: &str, section: &Section, loading: &Loading<'_>) -> Option<Secret> {
    let reader = Reader::new(section, &SECRET, loading);
    let store = named_store(&reader);
    let poll = reader.duration("poll", POLL_MIN..=DAY);
    let sessions = reader.choice("sessions", &SESSIONS);
    let grace = reader.duration("grace", Duration::ZERO..=DAY);
    let max_age = reader.optional_duration("max_age", SECOND..=YEARS);
    let fields = reader.section("fields", &FIELDS).and_then(fields);
    // Without a known store nothing says which of the other keys belong.
    let source = source(store?, &reader);
    reader.finish();
    Some(Secret {
        name: name.into(),
        source: source?,
        fields,
        poll,
        sessions,
        grace,
        max_age,
    })
}

fn fields(reader: Reader<'_>) -> Option<Fields> {
    let user = reader.required_text("user");
    let password = reader.required_text("password");
    let pair = |user_key, password_key| {
        let other = reader.text(user_key);
        let password = reader.text(password_key);
        if other.is_some() && !reader.is_written(password_key) {
            reader.problem(password_key, format!("must be set, since {user_key} is"));
        }
        let user = other.or(user.clone())?.value;
        Some(FieldPair {
            user,
            password: password?.value,
        })
    };
    let next = pair("next_user", "next_password");
    let previous = pair("previous_user", "previous_password");
    reader.finish();
    let current = FieldPair {
        user: user?.value,
        password: password?.value,
    };
    Some(Fields {
        current,
        next,
        previous,
    })
}
