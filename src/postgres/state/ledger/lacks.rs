//! What a server does not let a survey ask. Its administrator may have taken the right to execute a function from
//! PUBLIC.

use super::Pin;

/// A set of functions that a survey and a replay can do without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lacks(u8);

/// A function, by its signature, and what is not known without it.
struct Optional {
    signature: &'static str,
    pin: Option<Pin>,
}

/// What is said with statements instead.
const SET_CONFIG: usize = 0;

const OPTIONAL: [Optional; 4] = [
    Optional {
        signature: "pg_catalog.set_config(pg_catalog.text,pg_catalog.text,pg_catalog.bool)",
        pin: None,
    },
    Optional {
        signature: "pg_catalog.pg_lock_status()",
        pin: Some(Pin::AdvisoryLocks),
    },
    Optional {
        signature: "pg_catalog.pg_cursor()",
        pin: Some(Pin::HeldCursors),
    },
    Optional {
        signature: "pg_catalog.pg_get_replication_slots()",
        pin: Some(Pin::ReplicationSlots),
    },
];

/// Asks for the signatures of what may not be executed, one a row.
pub const LACKS_QUERY: &str = "/* pgswivel */ SELECT f.name FROM pg_catalog.unnest('{\
     \"pg_catalog.set_config(pg_catalog.text,pg_catalog.text,pg_catalog.bool)\",pg_catalog.pg_lock_status(),\
     pg_catalog.pg_cursor(),pg_catalog.pg_get_replication_slots()}'::pg_catalog.text[]) AS f(name) \
     WHERE NOT pg_catalog.has_function_privilege(f.name, 'EXECUTE')";

impl Lacks {
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// By its signature.
    pub fn insert(&mut self, signature: &[u8]) {
        let found = OPTIONAL
            .iter()
            .position(|optional| optional.signature.as_bytes() == signature);
        self.0 |= found.map_or(0, |at| 1 << at);
    }

    pub fn set_config(self) -> bool {
        self.0 & 1 << SET_CONFIG != 0
    }

    /// State that nobody can ask about.
    pub fn unknown(self) -> impl Iterator<Item = Pin> {
        let lacking = OPTIONAL
            .iter()
            .enumerate()
            .filter(move |(at, _)| self.0 & 1 << at != 0);
        lacking.filter_map(|(_, optional)| optional.pin)
    }

    pub fn knows(self, pin: Pin) -> bool {
        self.unknown().all(|unknown| unknown != pin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_that_is_asked_for_is_known_by_its_signature() {
        let mut all = Lacks::default();
        for optional in &OPTIONAL {
            assert!(LACKS_QUERY.contains(optional.signature));
            all.insert(optional.signature.as_bytes());
        }
        all.insert(b"pg_catalog.other()");
        assert!(all.set_config() && !all.knows(Pin::AdvisoryLocks) && all.knows(Pin::TooLarge));
        assert_eq!(all.unknown().count(), 3);
        assert!(Lacks::default().is_empty() && Lacks::default().knows(Pin::AdvisoryLocks));
    }
}
