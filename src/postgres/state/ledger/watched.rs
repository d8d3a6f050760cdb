//! Settings whose values a survey asks for whoever set them, and what they matter for.

use super::Text;
use crate::postgres::wire::read::reported;
use Follows::{Nothing, Server};

/// One of them.
struct Watched {
    name: &'static str,
    /// The version from which servers tell clients about it.
    told_since: u32,
    /// It changes what statements mean or give: an open session keeps it when the defaults change.
    kept: bool,
    follows: Follows,
}

/// Whether a literal's meaning is settled by it when its statement is parsed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Follows {
    Nothing,
    /// It is, and the server tells of every change.
    Server,
    /// It is, and nobody is told.
    Nobody,
}

const NEVER: u32 = u32::MAX;

const fn told(name: &'static str, told_since: u32) -> Watched {
    Watched {
        name,
        told_since,
        kept: false,
        follows: Nothing,
    }
}

const fn kept(name: &'static str, told_since: u32, follows: Follows) -> Watched {
    Watched {
        name,
        told_since,
        kept: true,
        follows,
    }
}

const WATCHED: [Watched; 37] = [
    told("application_name", 0),
    kept("client_encoding", 0, Nothing),
    kept("DateStyle", 0, Server),
    kept("default_transaction_read_only", 14_00_00, Nothing),
    told("in_hot_standby", 14_00_00),
    told("integer_datetimes", 0),
    kept("IntervalStyle", 0, Server),
    told("is_superuser", 0),
    told("scram_iterations", 16_00_00),
    kept("search_path", 18_00_00, Nothing),
    told("server_encoding", 0),
    told("server_version", 0),
    told("session_authorization", 0),
    kept("standard_conforming_strings", 0, Server),
    kept("TimeZone", 0, Server),
    // Says which of the others are told.
    told("server_version_num", NEVER),
    kept("array_nulls", NEVER, Follows::Nobody),
    kept("backslash_quote", NEVER, Follows::Nobody),
    kept("bytea_output", NEVER, Nothing),
    kept("default_text_search_config", NEVER, Nothing),
    kept("default_transaction_deferrable", NEVER, Nothing),
    kept("default_transaction_isolation", NEVER, Nothing),
    kept("extra_float_digits", NEVER, Nothing),
    kept("idle_in_transaction_session_timeout", NEVER, Nothing),
    kept("idle_session_timeout", NEVER, Nothing),
    kept("lc_monetary", NEVER, Follows::Nobody),
    kept("lc_numeric", NEVER, Nothing),
    kept("lc_time", NEVER, Nothing),
    kept("lock_timeout", NEVER, Nothing),
    kept("row_security", NEVER, Nothing),
    kept("session_replication_role", NEVER, Nothing),
    kept("statement_timeout", NEVER, Nothing),
    kept("timezone_abbreviations", NEVER, Follows::Nobody),
    kept("transaction_timeout", NEVER, Nothing),
    kept("transform_null_equals", NEVER, Follows::Nobody),
    kept("xmlbinary", NEVER, Nothing),
    kept("xmloption", NEVER, Follows::Nobody),
];

/// A survey, and a replay, may have to put them aside to get anywhere.
pub const LIMITS: [&[u8]; 3] = [b"statement_timeout", b"lock_timeout", b"transaction_timeout"];

fn place(name: &[u8]) -> Option<usize> {
    WATCHED.iter().position(|watched| watched.name.as_bytes() == name)
}

/// What to ask for when our own limits are in force already.
pub fn watched_names() -> impl Iterator<Item = &'static [u8]> {
    let names = WATCHED.iter().map(|watched| watched.name.as_bytes());
    names.filter(|name| !LIMITS.contains(name))
}

pub fn kept_names() -> impl Iterator<Item = &'static [u8]> {
    let kept = WATCHED.iter().filter(|watched| watched.kept);
    kept.map(|watched| watched.name.as_bytes())
}

/// Whether servers of this version tell clients about it.
pub fn is_told(name: &[u8], version: u32) -> bool {
    place(name).is_some_and(|at| WATCHED[at].told_since <= version)
}

/// Whether servers tell of it, and an open session keeps it.
pub fn is_told_and_kept(name: &[u8]) -> bool {
    place(name).is_some_and(|at| WATCHED[at].kept && WATCHED[at].told_since != NEVER)
}

/// What literals are read under, and servers tell of.
pub fn told_for_reading() -> impl Iterator<Item = &'static [u8]> {
    reading(Server)
}

pub fn is_told_for_reading(name: &[u8]) -> bool {
    place(name).is_some_and(|at| WATCHED[at].follows == Server)
}

/// What literals are read under, and nobody is told of.
pub fn untold_for_reading() -> impl Iterator<Item = &'static [u8]> {
    reading(Follows::Nobody)
}

fn reading(follows: Follows) -> impl Iterator<Item = &'static [u8]> {
    let all = WATCHED.iter().filter(move |watched| watched.follows == follows);
    all.map(|watched| watched.name.as_bytes())
}

/// Some of them, by their place in the table.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Names(u64);

impl Names {
    pub fn insert(&mut self, name: &[u8]) {
        self.0 |= place(name).map_or(0, |at| 1 << at);
    }

    pub fn contains(self, name: &[u8]) -> bool {
        place(name).is_some_and(|at| self.0 & 1 << at != 0)
    }
}

/// A value or none for each of them, in one piece: a session keeps it for as long as it lives.
#[derive(Clone, PartialEq, Eq)]
pub struct Values(Box<[u8]>);

/// In the place of a length.
const NONE: u16 = u16::MAX;

impl Values {
    fn get(&self, wanted: usize) -> Option<&[u8]> {
        let mut rest = &self.0[..];
        let mut at = 0;
        while let Some((length, after)) = rest.split_first_chunk() {
            let length = u16::from_be_bytes(*length);
            let (value, after) = match length {
                NONE => (None, after),
                length => {
                    let (value, after) = after.split_at_checked(length.into())?;
                    (Some(value), after)
                }
            };
            if at == wanted {
                return value;
            }
            (rest, at) = (after, at + 1);
        }
        None
    }

    /// What a server told of them, message by message.
    pub fn told(messages: &[u8]) -> Self {
        let told = |watched: &Watched| {
            let value = (watched.kept && watched.told_since != NEVER)
                .then(|| reported(messages, watched.name.as_bytes()))?;
            value.map(Into::into)
        };
        WATCHED.iter().map(told).collect()
    }

    /// These, and of the others what is there.
    pub fn over(&self, others: &Self) -> Self {
        let either = (0..WATCHED.len()).map(|at| self.get(at).or_else(|| others.get(at)));
        either.map(|value| value.map(Into::into)).collect()
    }

    /// Those of these names.
    pub fn only(&self, names: impl Fn(&[u8]) -> bool) -> Self {
        let all = WATCHED.iter().enumerate();
        let value = |at| self.get(at).map(Into::into);
        all.map(|(at, watched)| names(watched.name.as_bytes()).then(|| value(at)).flatten())
            .collect()
    }

    pub fn of(&self, name: &[u8]) -> Option<&[u8]> {
        self.get(place(name)?)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static [u8], &[u8])> {
        let all = WATCHED.iter().enumerate();
        all.filter_map(|(at, watched)| Some((watched.name.as_bytes(), self.get(at)?)))
    }

    /// Gives `name` another value, if it is one of them.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        let Some(place) = place(name) else {
            return;
        };
        if self.get(place) == Some(value) {
            return;
        }
        let mut all: Vec<Option<Text>> = (0..WATCHED.len())
            .map(|at| self.get(at).map(Into::into))
            .collect();
        all[place] = Some(value.into());
        *self = all.into_iter().collect();
    }
}

impl Default for Values {
    fn default() -> Self {
        WATCHED.iter().map(|_| None).collect()
    }
}

impl FromIterator<Option<Text>> for Values {
    fn from_iter<I: IntoIterator<Item = Option<Text>>>(values: I) -> Self {
        let mut all = Vec::new();
        for value in values {
            // Of the many settings there are, these have short values.
            let value = value.filter(|value| value.len() < NONE.into());
            all.extend_from_slice(
                &value
                    .as_ref()
                    .map_or(NONE, |value| value.len() as u16)
                    .to_be_bytes(),
            );
            all.extend_from_slice(value.as_deref().unwrap_or_default());
        }
        Self(all.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_found_by_its_name() {
        let mut values = Values::default();
        assert_eq!((values.of(b"TimeZone"), values.iter().count()), (None, 0));
        for (name, value) in [
            (&b"TimeZone"[..], &b"UTC"[..]),
            (b"DateStyle", b""),
            (b"xmloption", b"content"),
        ] {
            values.set(name, value);
        }
        values.set(b"TimeZone", b"Asia/Tokyo");
        values.set(b"none_of_them", b"x");
        let all: Vec<_> = values.iter().collect();
        let expected = [
            (&b"DateStyle"[..], &b""[..]),
            (b"TimeZone", b"Asia/Tokyo"),
            (b"xmloption", b"content"),
        ];
        assert_eq!(all, expected);
        assert_eq!(values.of(b"IntervalStyle"), None);
    }

    #[test]
    fn every_name_has_its_own_place_in_a_set() {
        for name in watched_names() {
            let mut names = Names::default();
            names.insert(name);
            names.insert(b"none_of_them");
            assert!(watched_names().filter(|other| names.contains(other)).eq([name]));
        }
        assert!(WATCHED.len() <= u64::BITS as usize);
    }
}
