//! Names of settings, where SET, RESET and set_config name them.

use super::blanks::{identifier, literal, skip};
use super::place::Place;

/// What a text says about the name of a setting.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// No name that is not in pg_settings.
    Nothing,
    /// A custom setting: its name has a dot.
    Custom(Vec<u8>),
    /// Something is set whose name the text does not show.
    Unknown,
}

/// What SET or RESET names. In UPDATE, SET is followed by a column, which has no dot, or if it has one, costs
/// nothing but a name too many.
pub(super) fn after_set(place: Place<'_>) -> Named {
    let rest = skip(place.after());
    let Some((mut first, mut rest)) = identifier(rest) else {
        return unreadable(place, rest);
    };
    if first.eq_ignore_ascii_case(b"session") || first.eq_ignore_ascii_case(b"local") {
        let after = skip(rest);
        match identifier(after) {
            Some((name, after)) => (first, rest) = (name, after),
            None if after.starts_with(b".") => {}
            None => return unreadable(place, after),
        }
    }
    dotted(place, first, rest)
}

fn dotted(place: Place<'_>, first: &[u8], rest: &[u8]) -> Named {
    let mut rest = skip(rest);
    if !rest.starts_with(b".") && !first.contains(&b'.') {
        return match place.is_cut(rest) {
            true => Named::Unknown,
            false => Named::Nothing,
        };
    }
    let mut name = first.to_vec();
    while let Some(after) = rest.strip_prefix(b".") {
        let after = skip(after);
        let Some((part, after)) = identifier(after) else {
            return unreadable(place, after);
        };
        name.push(b'.');
        name.extend_from_slice(part);
        rest = skip(after);
    }
    match place.is_cut(rest) {
        true => Named::Unknown,
        false => Named::Custom(name),
    }
}

/// No identifier at `rest`: because the text shows none, or because it can't be seen from here.
fn unreadable(place: Place<'_>, rest: &[u8]) -> Named {
    let quoted = rest.starts_with(b"\"");
    match place.is_cut(rest) || quoted {
        true => Named::Unknown,
        false => Named::Nothing,
    }
}

/// What the first argument of set_config names.
pub(super) fn after_set_config(place: Place<'_>) -> Named {
    let rest = place.after();
    let rest = skip(rest.strip_prefix(b"\"").unwrap_or(rest));
    let Some(arguments) = rest.strip_prefix(b"(") else {
        return match place.is_cut(rest) {
            true => Named::Unknown,
            false => Named::Nothing,
        };
    };
    let Some((name, rest)) = literal(skip(arguments)) else {
        return Named::Unknown;
    };
    if !skip(without_cast(skip(rest))).starts_with(b",") {
        return Named::Unknown;
    }
    match name.contains(&b'.') {
        true => Named::Custom(name.to_vec()),
        false => Named::Nothing,
    }
}

/// Drivers write `'app.tenant'::text`.
fn without_cast(rest: &[u8]) -> &[u8] {
    let kind = rest.strip_prefix(b"::").map(skip);
    kind.and_then(identifier).map_or(rest, |(_, rest)| rest)
}
