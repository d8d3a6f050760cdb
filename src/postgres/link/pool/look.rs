//! What a new session would begin with, asked over a link at rest. DISCARD ALL goes back to what a backend began
//! with, and that may be long ago.

use std::time::Duration;

use bytes::BytesMut;

use crate::postgres::wire::read::{Malformed, row};
use crate::postgres::wire::say;
use crate::postgres::wire::state_words::{DEFINED, counted};

const LOOK: &str = include_str!("look.sql");
const WANTED: &str = include_str!("wanted.sql");
const OF: &str = "FROM pg_catalog.pg_roles r, pg_catalog.pg_database d \
     WHERE r.rolname OPERATOR(pg_catalog.=) session_user \
     AND d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()";

/// How much is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// What matters to who begins now.
    Beginning,
    /// Also whether anybody would rather have the link gone, which costs a server more.
    Everything,
}

/// What one server told of one user in one database.
#[derive(Debug)]
pub struct Look {
    pub extent: Extent,
    /// Whatever is read at login and nothing tells an open session of: another text when any of it was changed.
    pub beginning: Box<[u8]>,
    /// A session could begin now, and nothing would run as it does.
    pub lets_in: bool,
    /// How long ago the server has read its configuration.
    pub loaded: Duration,
    /// Somebody waits for the database to be empty, or the server has next to no connection left.
    pub is_wanted: bool,
    /// What functions and the like come to.
    pub defined: u64,
}

impl Look {
    /// Asks, with one simple Query.
    pub fn say(extent: Extent, out: &mut BytesMut) {
        let wanted = match extent {
            Extent::Beginning => "false",
            Extent::Everything => WANTED,
        };
        say::query(
            out,
            &format!("/* pgswivel */ SELECT\n{DEFINED},\n{LOOK}\n{wanted}\n{OF}"),
        );
    }

    pub fn read(body: &[u8], extent: Extent) -> Result<Self, Malformed> {
        let columns = row::<5>(body)?.map(Option::unwrap_or_default);
        let [defined, beginning, lets_in, loaded, is_wanted] = columns;
        let loaded = std::str::from_utf8(loaded)
            .ok()
            .and_then(|loaded| loaded.parse().ok());
        // Below zero after the server's clock was set back.
        let loaded = Duration::try_from_secs_f64(loaded.unwrap_or_default()).unwrap_or_default();
        Ok(Self {
            extent,
            beginning: beginning.into(),
            lets_in: lets_in == b"t",
            loaded,
            is_wanted: is_wanted == b"t",
            defined: counted(defined),
        })
    }

    /// Of a server that does not tell: no Postgres, or none that lets its users look.
    pub fn refused() -> Self {
        Self {
            extent: Extent::Everything,
            beginning: Box::default(),
            lets_in: false,
            loaded: Duration::ZERO,
            is_wanted: false,
            defined: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(columns: [Option<&str>; 5]) -> Vec<u8> {
        let mut body = vec![0, 5];
        for column in columns {
            let length = column.map_or(-1, |text| text.len() as i32);
            body.extend(length.to_be_bytes());
            body.extend(column.unwrap_or_default().as_bytes());
        }
        body
    }

    #[test]
    fn a_look_that_tells_less_than_everything_lets_nobody_in() {
        let full = [Some("1 2"), Some("16384 f"), Some("t"), Some("12.5"), Some("f")];
        let look = Look::read(&answer(full), Extent::Everything).unwrap();
        assert!(look.lets_in && !look.is_wanted && look.loaded == Duration::from_millis(12_500));
        let look = Look::read(&answer([None; 5]), Extent::Beginning).unwrap();
        assert!(!look.lets_in && look.loaded == Duration::ZERO);
        let back = [Some("1 2"), Some("16384 f"), Some("t"), Some("-3"), Some("f")];
        assert_eq!(
            Look::read(&answer(back), Extent::Beginning).unwrap().loaded,
            Duration::ZERO
        );
    }
}
