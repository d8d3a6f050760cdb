//! Names of settings, where SET, RESET and set_config name them.

use super::blanks::{identifier, is_name_byte, literal, skip, word};
use super::place::SqlPlace;

/// What a text says about the name of a setting.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// No name that is not in pg_settings.
    Nothing,
    /// A custom setting: its name has a dot.
    Custom(Vec<u8>),
    /// The name is in the statement's parameter of this number.
    Parameter(u16),
    /// What random() goes on from, which no survey sees.
    Seed,
    /// Something is set whose name the text does not show, or that pg_settings does not show to everybody.
    Unknown,
}

/// Settings that pg_settings hides from most roles, or that statements are read under and nobody is told of.
const HIDDEN: [&[u8]; 4] = [
    b"dynamic_library_path",
    b"extension_control_path",
    b"session_preload_libraries",
    b"transform_null_equals",
];

/// What SET or RESET names. In UPDATE, SET is followed by a column, which has no dot, or if it has one, costs
/// nothing but a name too many.
pub(super) fn after_set(place: SqlPlace<'_>) -> Named {
    let rest = skip(place.after());
    let Some((mut first, mut rest)) = identifier(rest) else {
        return unreadable(place, rest);
    };
    let is_local = first.eq_ignore_ascii_case(b"local");
    if is_local || first.eq_ignore_ascii_case(b"session") {
        let after = skip(rest);
        match identifier(after) {
            Some((name, after)) => (first, rest) = (name, after),
            None if after.starts_with(b".") => {}
            None if is_local => return Named::Nothing,
            None => return unreadable(place, after),
        }
    }
    match dotted(place, first, rest) {
        // It is gone when the transaction is over.
        Named::Unknown if is_local => Named::Nothing,
        named => named,
    }
}

fn dotted(place: SqlPlace<'_>, first: &[u8], mut rest: &[u8]) -> Named {
    let mut end = rest;
    rest = skip(rest);
    if !rest.starts_with(b".") && !first.contains(&b'.') {
        return undotted(place, first, end);
    }
    let mut name = first.to_vec();
    while let Some(after) = rest.strip_prefix(b".") {
        let after = skip(after);
        let Some((part, after)) = identifier(after) else {
            let shown = after.first();
            return match shown.is_some_and(|byte| matches!(byte, b'%' | b'{' | b'$' | b'\'' | b'"')) {
                true => Named::Unknown,
                false => unreadable(place, after),
            };
        };
        name.push(b'.');
        name.extend_from_slice(part);
        end = after;
        rest = skip(after);
    }
    match place.is_cut(rest) || goes_on(end) || is_template(&name) {
        true => Named::Unknown,
        false => Named::Custom(name),
    }
}

fn undotted(place: SqlPlace<'_>, name: &[u8], end: &[u8]) -> Named {
    if place.is_cut(skip(end)) {
        return Named::Unknown;
    }
    if !place.begins_a_statement() {
        return Named::Nothing;
    }
    match goes_on(end) || is_template(name) {
        true => Named::Unknown,
        false => plain(name),
    }
}

/// A name without a dot.
fn plain(name: &[u8]) -> Named {
    if name.eq_ignore_ascii_case(b"seed") {
        return Named::Seed;
    }
    match HIDDEN.iter().any(|hidden| name.eq_ignore_ascii_case(hidden)) {
        true => Named::Unknown,
        false => Named::Nothing,
    }
}

/// No identifier at `rest`: because the text shows none, or because it can't be seen from here.
fn unreadable(place: SqlPlace<'_>, rest: &[u8]) -> Named {
    let quoted = rest.starts_with(b"\"");
    let is_put_in = match rest.first() {
        Some(b'%' | b'{') => true,
        Some(b'$') => rest.get(1).copied().is_some_and(is_name_byte) || goes_on(rest),
        Some(b'\'') => goes_on(rest),
        _ => false,
    };
    match place.is_cut(rest) || quoted || is_put_in && place.begins_a_statement() {
        true => Named::Unknown,
        false => Named::Nothing,
    }
}

/// What is put in when the statement is made goes on where a name seems to end: `app.%I`, `'SET app.' || name`.
fn goes_on(rest: &[u8]) -> bool {
    let quotes = rest.iter().take_while(|byte| **byte == b'\'').count();
    let after = match rest.strip_prefix(b"$") {
        Some(dollar) => match dollar[word(dollar).len()..].strip_prefix(b"$") {
            Some(after) => after,
            None => return true,
        },
        None if quotes > 0 => &rest[quotes..],
        None => return matches!(rest.first(), Some(b'%' | b'{')),
    };
    let after = skip(after);
    after.starts_with(b"||") || matches!(after.first(), Some(b'+' | b',' | b'%'))
}

fn is_template(name: &[u8]) -> bool {
    name.iter().any(|byte| matches!(byte, b'%' | b'{' | b'\''))
}

/// What the first argument of set_config names, and whether it holds for the transaction only.
pub(super) fn after_set_config(place: SqlPlace<'_>) -> (Named, bool) {
    let rest = place.after();
    let rest = skip(rest.strip_prefix(b"\"").unwrap_or(rest));
    let Some(arguments) = rest.strip_prefix(b"(") else {
        let named = match place.is_cut(rest) {
            true => Named::Unknown,
            false => Named::Nothing,
        };
        return (named, false);
    };
    let is_local = third(arguments).is_some_and(is_true);
    let arguments = skip(arguments);
    let (name, rest) = match (literal(arguments), parameter(arguments)) {
        (Some((name, rest)), _) if name.contains(&b'.') => (Named::Custom(name.to_vec()), rest),
        (Some((name, rest)), _) => (plain(name), rest),
        (None, Some((number, rest))) => (Named::Parameter(number), rest),
        (None, None) => return (Named::Unknown, is_local),
    };
    let is_template = matches!(&name, Named::Custom(name) if is_template(name));
    match skip(without_cast(skip(rest))).starts_with(b",") && !is_template {
        true => (name, is_local),
        false => (Named::Unknown, is_local),
    }
}

/// `$1`
fn parameter(text: &[u8]) -> Option<(u16, &[u8])> {
    let rest = text.strip_prefix(b"$")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
    Some((number, &rest[digits..]))
}

/// The third of the arguments in parentheses, and what follows it.
fn third(arguments: &[u8]) -> Option<&[u8]> {
    let (mut depth, mut quoted, mut commas) = (0_u32, false, 0);
    for (at, byte) in arguments.iter().enumerate() {
        match byte {
            b'\'' => quoted = !quoted,
            _ if quoted => {}
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.checked_sub(1)?,
            b',' if depth == 0 => commas += 1,
            _ => {}
        }
        if commas == 2 {
            return Some(skip(&arguments[at + 1..]));
        }
    }
    None
}

fn is_true(argument: &[u8]) -> bool {
    let value = word(argument);
    let rest = skip(without_cast(skip(&argument[value.len()..])));
    value.eq_ignore_ascii_case(b"true") && rest.starts_with(b")")
}

/// Drivers write `'app.tenant'::text`.
fn without_cast(rest: &[u8]) -> &[u8] {
    let kind = rest.strip_prefix(b"::").map(skip);
    kind.and_then(identifier).map_or(rest, |(_, rest)| rest)
}

/// What set_config makes of the value of its first argument.
pub(super) fn of_value(name: &[u8]) -> Named {
    let is_name = |byte: &u8| is_name_byte(*byte) || matches!(byte, b'.' | b'$');
    match name.contains(&b'.') {
        _ if !name.iter().all(is_name) => Named::Unknown,
        true => Named::Custom(name.to_vec()),
        false => plain(name),
    }
}
