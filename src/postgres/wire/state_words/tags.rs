//! What a command's tag says of what it did, and the OID in a FunctionCall. No statement's text is known here.

use std::ops::RangeInclusive;

/// Whether the command that CommandComplete names may have changed what the session holds. `tag` is the
/// message's body, with or without its NUL.
///
/// Everything that is not known to leave a session as it was signals: tags come with new versions, and
/// commands that define something are rare, make or drop temporary objects, and fire event triggers.
/// An end of a transaction says nothing by itself: what it keeps or undoes was signalled when it was done.
#[inline]
pub fn tag_signals(tag: &[u8]) -> bool {
    // Nearly all of them, and with every query: known by their beginning.
    let is_usual = matches!(
        tag.first_chunk(),
        Some(b"SELECT " | b"INSERT " | b"UPDATE " | b"DELETE ")
    );
    !is_usual && rare_tag_signals(tag)
}

fn rare_tag_signals(tag: &[u8]) -> bool {
    let end = tag
        .iter()
        .rposition(|byte| !matches!(byte, b'0'..=b'9' | b' ' | 0));
    let name = &tag[..end.map_or(0, |end| end + 1)];
    !is_silent(name)
}

/// Whether a transaction may have ended, or gone back to a savepoint.
pub fn ends_transaction(tag: &[u8]) -> bool {
    tag.starts_with(b"COMMIT") || tag.starts_with(b"ROLLBACK")
}

/// Whether a rollback leaves what such a command did.
pub fn tag_lasts(tag: &[u8]) -> bool {
    const LASTING: [&[u8]; 6] = [b"PREPARE", b"DEALLOCATE", b"LOAD", b"DO", b"CALL", b"DISCARD"];
    LASTING.iter().any(|command| tag.starts_with(command))
}

/// Whether such a command does nothing but what a session lists of itself: settings, statements, channels.
pub fn tag_tells_all(tag: &[u8]) -> bool {
    const TELLING: [&[u8]; 7] = [
        b"SET",
        b"RESET",
        b"DISCARD",
        b"LISTEN",
        b"UNLISTEN",
        b"PREPARE",
        b"DEALLOCATE",
    ];
    TELLING.iter().any(|command| tag.starts_with(command))
}

/// Whether all that such a command can do is to take away what keeps a session from leaving its link.
pub fn tag_eases(tag: &[u8]) -> bool {
    tag.starts_with(b"CLOSE CURSOR")
}

/// Whether such a command may change what there is to learn of a database. Tables are left out: they come and go, and
/// what matters of them is learned again soon.
pub fn tag_redefines(tag: &[u8]) -> bool {
    const KINDS: [&[u8]; 14] = [
        b"FUNCTION",
        b"PROCEDURE",
        b"ROUTINE",
        b"AGGREGATE",
        b"TRIGGER",
        b"VIEW",
        b"RULE",
        b"POLICY",
        b"DOMAIN",
        b"EXTENSION",
        b"SCHEMA",
        b"OPERATOR",
        b"CAST",
        b"TYPE",
    ];
    let mut words = tag.split(|byte| matches!(byte, b' ' | 0));
    let defines = matches!(words.next(), Some(b"CREATE" | b"ALTER" | b"DROP"));
    defines && words.next().is_some_and(|kind| KINDS.contains(&kind))
}

fn is_silent(name: &[u8]) -> bool {
    matches!(
        name,
        // SELECT INTO, CREATE TABLE AS, and what functions and triggers do: their words are in the text.
        b"SELECT" | b"INSERT" | b"UPDATE" | b"DELETE" | b"MERGE" | b"COPY" | b"TRUNCATE TABLE"
            | b"REFRESH MATERIALIZED VIEW"
            // A cursor ends with its transaction unless its text says WITH HOLD. What it runs is in that text, too.
            | b"DECLARE CURSOR" | b"FETCH" | b"MOVE"
            // ROLLBACK TO has no tag of its own.
            | b"BEGIN" | b"START TRANSACTION" | b"COMMIT" | b"ROLLBACK" | b"SAVEPOINT" | b"RELEASE"
            | b"PREPARE TRANSACTION" | b"COMMIT PREPARED" | b"ROLLBACK PREPARED"
            // For the rest of the transaction only.
            | b"SET CONSTRAINTS" | b"LOCK TABLE"
            | b"SHOW" | b"EXPLAIN" | b"NOTIFY"
            // Functions in indexes run with every setting restored afterwards.
            | b"ANALYZE" | b"VACUUM" | b"CLUSTER" | b"REINDEX" | b"CHECKPOINT"
    )
}

/// Large objects, which end with their transaction: lo_open, lo_close, loread, lowrite, lo_lseek, lo_creat,
/// lo_create, lo_tell, lo_unlink, lo_truncate, and those of 64 bits.
const LARGE_OBJECTS: [u32; 13] = [
    715, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171, 3172,
];

/// What a FunctionCall message does, as far as it matters: it names its function by OID alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    Nothing,
    SetConfig,
    SetSeed,
    /// What a survey sees.
    AdvisoryLock,
    Anything,
}

const SET_CONFIG: u32 = 2078;
const SET_SEED: u32 = 1599;
/// Of sessions and of transactions.
const ADVISORY_LOCKS: [RangeInclusive<u32>; 2] = [2880..=2892, 3089..=3096];

/// What is left of its users are drivers that work on large objects.
pub fn function_called(oid: u32) -> Called {
    match oid {
        SET_CONFIG => Called::SetConfig,
        SET_SEED => Called::SetSeed,
        _ if LARGE_OBJECTS.contains(&oid) => Called::Nothing,
        _ if ADVISORY_LOCKS.iter().any(|locks| locks.contains(&oid)) => Called::AdvisoryLock,
        _ => Called::Anything,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_change_a_session_signal() {
        for tag in [
            "SET",
            "RESET",
            "DISCARD ALL",
            "DISCARD TEMP",
            "LISTEN",
            "UNLISTEN",
            "PREPARE",
            "DEALLOCATE",
            "DEALLOCATE ALL",
            "CLOSE CURSOR",
            "CLOSE CURSOR ALL",
            "LOAD",
            "DO",
            "CALL",
            "CREATE TABLE",
            "CREATE TABLE AS",
            "CREATE VIEW",
            "CREATE FUNCTION",
            "DROP TABLE",
            "ALTER TABLE",
            "DROP OWNED",
            "GRANT",
            "",
            "???",
            "ANYTHING NEW",
            "SETS",
        ] {
            assert!(tag_signals(tag.as_bytes()), "{tag}");
            assert!(tag_signals(format!("{tag}\0").as_bytes()), "{tag}");
        }
    }

    #[test]
    fn commands_that_leave_a_session_as_it_was_are_silent() {
        for tag in [
            "SELECT 1",
            "INSERT 0 1",
            "UPDATE 12",
            "DELETE 0",
            "MERGE 3",
            "COPY 100",
            "DECLARE CURSOR",
            "FETCH 1",
            "MOVE 0",
            "BEGIN",
            "START TRANSACTION",
            "COMMIT",
            "ROLLBACK",
            "SAVEPOINT",
            "RELEASE",
            "SET CONSTRAINTS",
            "SHOW",
            "EXPLAIN",
            "NOTIFY",
            "TRUNCATE TABLE",
            "LOCK TABLE",
            "ANALYZE",
            "VACUUM",
        ] {
            assert!(!tag_signals(tag.as_bytes()), "{tag}");
            assert!(!tag_signals(format!("{tag}\0").as_bytes()), "{tag}");
        }
    }

    #[test]
    fn large_objects_end_with_their_transaction() {
        const LO_OPEN: u32 = 952;
        assert_eq!(function_called(LO_OPEN), Called::Nothing);
        assert_eq!(function_called(SET_CONFIG), Called::SetConfig);
        assert_eq!(function_called(16384), Called::Anything);
    }
}
