//! The words that are risky everywhere.

use super::Unseen;

/// What has to be around a word for it to be meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bounds {
    /// A name of its own.
    Whole,
    /// The beginning of a name.
    Beginning,
    /// The end of a name.
    End,
    Anywhere,
}

/// What a word, once it is certain that it is meant, says about the statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Something that no tag tells.
    Risky(Unseen),
    /// Its tag tells; the text tells the name.
    Set,
    SetConfig,
    Load,
    /// It runs the text that it is given.
    Runs,
    /// The language of a DO may be one that keeps data of its own.
    Language,
    Temporary,
    Advisory,
    /// An update of this view sets what it shows.
    Settings,
    /// A name that can't be read.
    Escaped,
    /// In a client's text, a statement prepared under a name: it may be any. What functions make of it is
    /// looked into elsewhere.
    Execute,
    /// It asks what a sequence gave to this session.
    Asks,
    /// A statement whose tag tells, unless a function runs it.
    Statement,
    /// WITH HOLD. In a client's text, in doubt.
    Hold,
}

#[derive(Debug)]
pub(super) struct Fixed {
    /// In lower case.
    pub text: &'static str,
    pub bounds: Bounds,
    pub meaning: Meaning,
}

const fn fixed(text: &'static str, bounds: Bounds, meaning: Meaning) -> Fixed {
    Fixed {
        text,
        bounds,
        meaning,
    }
}

const fn risky(text: &'static str, bounds: Bounds, unseen: Unseen) -> Fixed {
    fixed(text, bounds, Meaning::Risky(unseen))
}

use Bounds::{Anywhere, Beginning, End, Whole};

/// In any text. Not here: nextval and setval, since nothing can carry what they leave; what ends with its transaction
/// (pg_export_snapshot, lo_open, transaction-level locks); NOTIFY, which leaves nothing behind.
pub(super) const STATE_WORDS: [Fixed; 42] = [
    fixed("set", Whole, Meaning::Set),
    fixed("reset", Whole, Meaning::Set),
    fixed("set_config", Whole, Meaning::SetConfig),
    fixed("pg_settings", Whole, Meaning::Settings),
    fixed("load", Whole, Meaning::Load),
    fixed("temp", Whole, Meaning::Temporary),
    fixed("temporary", Whole, Meaning::Temporary),
    risky("pg_temp", Beginning, Unseen::NONE),
    fixed("advisory_", Anywhere, Meaning::Advisory),
    fixed("execute", Whole, Meaning::Execute),
    fixed("hold", Whole, Meaning::Hold),
    fixed("currval", Whole, Meaning::Asks),
    fixed("lastval", Whole, Meaning::Asks),
    fixed("u&\"", Beginning, Meaning::Escaped),
    // And query_to_xmlschema, query_to_xml_and_xmlschema.
    fixed("query_to_xml", Beginning, Meaning::Runs),
    fixed("cursor_to_xml", Beginning, Meaning::Runs),
    fixed("ts_stat", Whole, Meaning::Runs),
    fixed("ts_rewrite", Whole, Meaning::Runs),
    fixed("xpath_table", Whole, Meaning::Runs),
    // tablefunc
    fixed("crosstab", Beginning, Meaning::Runs),
    fixed("connectby", Whole, Meaning::Runs),
    fixed("plpython", Beginning, Meaning::Language),
    fixed("plperl", Beginning, Meaning::Language),
    fixed("pltcl", Beginning, Meaning::Language),
    fixed("plv8", Beginning, Meaning::Language),
    fixed("pllua", Beginning, Meaning::Language),
    risky("setseed", Whole, Unseen::SEED),
    risky("replication_origin_session_setup", Anywhere, Unseen::ORIGIN),
    // Temporary ones end with the session; pg_replication_slots shows them.
    risky("replication_slot", End, Unseen::NONE),
    risky("pg_backup_start", Whole, Unseen::BACKUP),
    risky("pg_start_backup", Whole, Unseen::BACKUP),
    risky("dblink", Beginning, Unseen::NONE),
    risky("dblink_connect", Beginning, Unseen::DBLINK),
    // pg_trgm: a setting that pg_settings shows.
    risky("set_limit", Whole, Unseen::NONE),
    // pg_variables
    risky("pgv_", Beginning, Unseen::EXTENSION),
    risky("hypopg", Beginning, Unseen::EXTENSION),
    // set_user
    risky("set_user", Whole, Unseen::EXTENSION),
    risky("reset_user", Whole, Unseen::EXTENSION),
    risky("set_session_auth", Whole, Unseen::EXTENSION),
    risky("isn_weak", Whole, Unseen::EXTENSION),
    // orafce
    risky("dbms_", Beginning, Unseen::EXTENSION),
    risky("sepgsql_setcon", Whole, Unseen::EXTENSION),
];

/// In the body of a function, where no tag comes back, besides the above.
pub(super) const BODY_WORDS: [Fixed; 5] = [
    fixed("listen", Whole, Meaning::Statement),
    fixed("unlisten", Whole, Meaning::Statement),
    fixed("prepare", Whole, Meaning::Statement),
    fixed("deallocate", Whole, Meaning::Statement),
    fixed("discard", Whole, Meaning::Statement),
];
