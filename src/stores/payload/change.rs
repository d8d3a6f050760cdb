//! A payload with one credential of it changed: whatever its shape, it keeps it, and every byte that is not about the
//! change stays as it was.

use zeroize::Zeroizing;

use super::dotenv::DotEnv;
use super::outline::{Edits, Node, NodeKind, added, quoted};
use super::shapes::{Shape, USER_KEYS, variable_fields};
use super::{Json, Pair, Payload, PayloadError, ShapeName, parse};
use crate::config::{FieldPair, Fields};
use crate::credentials::{Password, Position};
use crate::stores::write::{Change, Login, NextPlace, WriteError};

/// What a payload holds for a rotation.
pub(in crate::stores) struct Found {
    pub(in crate::stores) current: Login,
    pub(in crate::stores) next: Option<Login>,
    pub(in crate::stores) previous: Option<Login>,
    pub(in crate::stores) next_place: NextPlace,
}

/// Text as bytes, wiped when dropped.
pub(in crate::stores) type Bytes = Zeroizing<Vec<u8>>;

pub(in crate::stores) fn find(bytes: &[u8], fields: Option<&Fields>) -> Result<Found, PayloadError> {
    let payload = parse(bytes, fields)?;
    let next_place = match Form::of(text_of(bytes)?, fields)? {
        Form::Fields(fields) => next_place(&fields),
        Form::Shape(ShapeName::Plain | ShapeName::Variables) => NextPlace::None,
        Form::Shape(ShapeName::Positions | ShapeName::List) => NextPlace::AnyUser,
    };
    Ok(Found::of(&payload, next_place))
}

impl Found {
    fn of(payload: &Payload, next_place: NextPlace) -> Self {
        let mut found = Self {
            current: Login::of(&payload.pairs[0]),
            next: None,
            previous: None,
            next_place,
        };
        for pair in &payload.pairs[1..] {
            match pair.position {
                Position::Next | Position::Index(1) => found.next = Some(Login::of(pair)),
                Position::Previous => found.previous = Some(Login::of(pair)),
                Position::Current | Position::Index(_) => {}
            }
        }
        found
    }
}

impl Login {
    fn of(pair: &Pair) -> Self {
        Self {
            user: pair.user.clone(),
            password: pair.password.clone(),
        }
    }
}

pub(in crate::stores) fn next_place(fields: &Fields) -> NextPlace {
    match &fields.next {
        None => NextPlace::None,
        Some(next) if next.user == fields.current.user => NextPlace::SameUser,
        Some(_) => NextPlace::AnyUser,
    }
}

/// The payload after the change.
pub(in crate::stores) fn change(
    bytes: &[u8],
    fields: Option<&Fields>,
    change: &Change,
) -> Result<Bytes, WriteError> {
    let found = find(bytes, fields)?;
    let text = text_of(bytes)?;
    check(&found, change)?;
    let changed = match Form::of(text, fields)? {
        Form::Fields(fields) if is_json(text) => {
            let mut json = JsonText(Zeroizing::new(text.to_owned()));
            by_fields(&mut json, &fields, &found, change)?;
            json.0
        }
        Form::Fields(fields) => {
            let mut variables = Variables(Zeroizing::new(text.to_owned()));
            by_fields(&mut variables, &fields, &found, change)?;
            variables.0
        }
        Form::Shape(ShapeName::Positions) => positions(text, &found, change)?,
        Form::Shape(ShapeName::List) => list(text, change)?,
        Form::Shape(ShapeName::Plain | ShapeName::Variables) => match change {
            Change::Replace(login) => with_login(text, login)?,
            Change::Stage(_) | Change::Withdraw(_) | Change::Promote(_) => {
                return Err(WriteError::NoPlaceForNext);
            }
        },
    };
    Ok(Zeroizing::new(changed.as_bytes().to_vec()))
}

/// What must hold whatever the shape.
pub(in crate::stores) fn check(found: &Found, change: &Change) -> Result<(), WriteError> {
    let is_next = |login: &Login| found.next.as_ref() == Some(login);
    match change {
        Change::Stage(_) if found.next_place == NextPlace::None => Err(WriteError::NoPlaceForNext),
        Change::Stage(login)
            if found.next_place == NextPlace::SameUser && login.user != found.current.user =>
        {
            Err(WriteError::NextIsOfSameUser)
        }
        Change::Stage(_) if found.next.is_some() => Err(WriteError::NextIsTaken),
        Change::Promote(login) | Change::Withdraw(login) if !is_next(login) => Err(WriteError::NextIsAnother),
        _ => Ok(()),
    }
}

enum Form {
    /// Named by the user, or by the shape of variables.
    Fields(Fields),
    Shape(ShapeName),
}

impl Form {
    fn of(text: &str, fields: Option<&Fields>) -> Result<Self, PayloadError> {
        if let Some(fields) = fields {
            return Ok(Self::Fields(fields.clone()));
        }
        let Shape(name) = Shape::recognise(&Json::parse(text)?)?;
        Ok(match name {
            ShapeName::Variables => Self::Fields(variable_fields()),
            name => Self::Shape(name),
        })
    }
}

/// Without the mark that some editors put first. It is not put back: no reader misses it.
fn text_of(bytes: &[u8]) -> Result<&str, PayloadError> {
    let text = std::str::from_utf8(bytes).map_err(|_| PayloadError::NotText)?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn is_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
}

/// Something with named values.
pub(in crate::stores) trait Values {
    fn set(&mut self, name: &str, value: &str) -> Result<(), WriteError>;
    fn has(&self, name: &str) -> bool;
}

pub(in crate::stores) fn by_fields(
    values: &mut impl Values,
    fields: &Fields,
    found: &Found,
    change: &Change,
) -> Result<(), WriteError> {
    let next = fields.next.as_ref();
    match change {
        Change::Stage(login) => {
            let next = next.ok_or(WriteError::NoPlaceForNext)?;
            if next.user != fields.current.user {
                values.set(&next.user, &login.user)?;
            }
            values.set(&next.password, text(&login.password)?)
        }
        Change::Withdraw(_) => clear(values, next),
        Change::Promote(login) | Change::Replace(login) => {
            if let Some(previous) = &fields.previous {
                let was = &found.current;
                let keeps_user = previous.user != fields.current.user;
                if keeps_user && values.has(&previous.user) {
                    values.set(&previous.user, &was.user)?;
                }
                if values.has(&previous.password) && (keeps_user || was.user == login.user) {
                    values.set(&previous.password, text(&was.password)?)?;
                } else if values.has(&previous.password) {
                    // It would be the password of a user that it is not of.
                    values.set(&previous.password, "")?;
                }
            }
            if login.user != found.current.user {
                values.set(&fields.current.user, &login.user)?;
            }
            values.set(&fields.current.password, text(&login.password)?)?;
            clear(values, next.filter(|_| found.next.is_some()))
        }
    }
}

/// What has no password is not there.
fn clear(values: &mut impl Values, next: Option<&FieldPair>) -> Result<(), WriteError> {
    match next {
        Some(next) => values.set(&next.password, ""),
        None => Ok(()),
    }
}

/// A payload is text, so what goes into it has to be.
fn text(password: &Password) -> Result<&str, WriteError> {
    std::str::from_utf8(password.expose()).map_err(|_| WriteError::PasswordIsNotText)
}

struct JsonText(Zeroizing<String>);

impl Values for JsonText {
    fn set(&mut self, path: &str, value: &str) -> Result<(), WriteError> {
        let node = Node::of(&self.0)?;
        let value = quoted(value);
        let (span, by) = match node.at(path) {
            Some(there) => (there.span.clone(), value),
            None => {
                let (parent, key) = match path.rsplit_once('.') {
                    Some((parent, key)) => (node.at(parent), key),
                    None => (Some(&node), path),
                };
                let parent = parent.ok_or(WriteError::NoPlaceForNext)?;
                added(&self.0, parent, key, &value).ok_or(WriteError::NoPlaceForNext)?
            }
        };
        let mut edits = Edits::default();
        edits.replace(span, by);
        self.0 = edits.apply(&self.0);
        Ok(())
    }

    fn has(&self, path: &str) -> bool {
        Node::of(&self.0).is_ok_and(|node| node.at(path).is_some())
    }
}

/// `NAME=value` text.
struct Variables(Zeroizing<String>);

impl Values for Variables {
    fn set(&mut self, name: &str, value: &str) -> Result<(), WriteError> {
        self.0 = DotEnv::parse(&self.0)?.with(&self.0, name, value);
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        DotEnv::parse(&self.0).is_ok_and(|variables| variables.get(name).is_some())
    }
}

/// One object with a user and a password, with these in their places.
fn with_login(object: &str, login: &Login) -> Result<Zeroizing<String>, WriteError> {
    let node = Node::of(object)?;
    let mut edits = Edits::default();
    let user = USER_KEYS.iter().find_map(|key| node.get(key));
    for (there, value) in [
        (user, &*login.user),
        (node.get("password"), text(&login.password)?),
    ] {
        let there = there.ok_or(PayloadError::Unrecognised)?;
        edits.replace(there.span.clone(), quoted(value));
    }
    Ok(edits.apply(object))
}

fn positions(text: &str, found: &Found, change: &Change) -> Result<Zeroizing<String>, WriteError> {
    let node = Node::of(text)?;
    let current = node.get("current").ok_or(PayloadError::Unrecognised)?;
    let current_text = &text[current.span.clone()];
    let mut edits = Edits::default();
    let mut put = |key: &str, value: Zeroizing<String>| -> Result<(), WriteError> {
        let (span, by) = match node.get(key) {
            Some(there) => (there.span.clone(), value),
            None => added(text, &node, key, &value).ok_or(PayloadError::Unrecognised)?,
        };
        edits.replace(span, by);
        Ok(())
    };
    let nothing = || Zeroizing::new("null".to_owned());
    match change {
        Change::Stage(login) => put("next", with_login(current_text, login)?)?,
        Change::Withdraw(_) => put("next", nothing())?,
        Change::Promote(login) | Change::Replace(login) => {
            if node.get("previous").is_some() {
                put("previous", with_login(current_text, &found.current)?)?;
            }
            put("current", with_login(current_text, login)?)?;
            if found.next.is_some() {
                put("next", nothing())?;
            }
        }
    }
    Ok(edits.apply(text))
}

/// The first of a list is what is current, the second what comes next; the others are nobody's business here.
fn list(text: &str, change: &Change) -> Result<Zeroizing<String>, WriteError> {
    let node = Node::of(text)?;
    let NodeKind::List(items) = &node.kind else {
        return Err(PayloadError::Unrecognised.into());
    };
    let first = items.first().ok_or(PayloadError::EmptyList)?;
    let first_text = &text[first.span.clone()];
    let mut edits = Edits::default();
    match change {
        Change::Stage(login) => {
            let next = with_login(first_text, login)?;
            let indent = &text[node.span.start + 1..first.span.start];
            let blanks = if indent.is_empty() { " " } else { indent };
            let added = Zeroizing::new(format!(",{blanks}{}", *next));
            edits.replace(first.span.end..first.span.end, added);
        }
        Change::Withdraw(_) => {
            let next = items.get(1).ok_or(WriteError::NextIsAnother)?;
            edits.replace(first.span.end..next.span.end, Zeroizing::default());
        }
        Change::Promote(_) => {
            let next = items.get(1).ok_or(WriteError::NextIsAnother)?;
            edits.replace(first.span.start..next.span.start, Zeroizing::default());
        }
        Change::Replace(login) => {
            let end = items.get(1).map_or(first.span.end, |next| next.span.end);
            edits.replace(first.span.start..end, with_login(first_text, login)?);
        }
    }
    Ok(edits.apply(text))
}

#[cfg(test)]
mod tests;
