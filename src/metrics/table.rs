//! Every metric: its name, what kind it is, its labels, and what it says. docs/operate.md shows this table.

/// One metric, with all its label sets.
#[derive(Debug)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Counter,
    Gauge,
    /// With these buckets.
    Histogram(&'static [f64]),
}

const fn family(name: &'static str, kind: Kind, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind, labels, help }
}

use Kind::{Counter, Gauge, Histogram};

const HOLD_BUCKETS: &[f64] = &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0];
const MOVE_BUCKETS: &[f64] = &[0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
const ROTATION_BUCKETS: &[f64] = &[0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0];

pub const CREDENTIAL_INFO: Family = family("pgswivel_credential_info", Gauge, &["secret", "version", "position"],
    "The credential that new logins start with, and where the store holds it. Always 1; absent while none is known to work.");
pub const CREDENTIAL_GENERATION: Family = family("pgswivel_credential_generation", Gauge, &["secret"],
    "Grows by one whenever the leading credential or the order of tries changes.");
pub const CREDENTIAL_AGE: Family = family("pgswivel_credential_age_seconds", Gauge, &["secret"],
    "Age of the leading credential: since the store says that it was made, else since it was first seen here.");
pub const CREDENTIAL_MAX_AGE: Family = family("pgswivel_credential_max_age_seconds", Gauge, &["secret"],
    "The secret's max_age. Absent where none is configured.");
pub const CREDENTIAL_WORKING: Family = family("pgswivel_credential_working", Gauge, &["secret"],
    "1 if some credential of the secret is known to work, else 0: new logins are held and then fail.");
pub const USER_UNUSED: Family = family("pgswivel_user_unused", Gauge, &["user"],
    "1 if no connection of this process is on the upstream user, under any secret, and no new login will be, as of the read timestamps; else 0. Absent for a user that this process never had, which has nothing to keep.");
pub const USER_LINKS: Family = family("pgswivel_user_links", Gauge, &["secret", "user"],
    "Connections by upstream user: being opened, open, or being closed, and 0 for a user that the secret has or had and nobody is on. Revoke a user when the sum is 0 and every read timestamp is later than the change.");
pub const CREDENTIAL_READ: Family = family("pgswivel_credential_read_timestamp_seconds", Gauge, &["secret"],
    "When the last good read of the secret began, in seconds since 1970: what changed in the store since is not known here. Absent before the first time.");
pub const LOGINS: Family = family("pgswivel_logins_total", Counter, &["secret", "result", "sqlstate", "position"],
    "Logins to the database, proofs included, by result (accepted, refused, unreachable, failed), by what the server said, and by the credential's place in the store.");
pub const STORE_REFRESHES: Family = family("pgswivel_store_refreshes_total", Counter, &["secret", "store", "result"],
    "Reads of the secret store, by result (ok, failed).");
pub const STORE_LAST_SUCCESS: Family = family("pgswivel_store_last_success_timestamp_seconds", Gauge, &["secret"],
    "When the secret was last read well, in seconds since 1970. Absent before the first time. For alerts on a store that fails; to decide on a revocation use pgswivel_credential_read_timestamp_seconds.");
pub const STORE_POLL: Family = family("pgswivel_store_poll_seconds", Gauge, &["secret"],
    "The secret's poll: how often the store is read when nobody asks.");
pub const LOGINS_HELD: Family = family("pgswivel_logins_held", Gauge, &[],
    "Logins that wait at this moment because no credential works or no endpoint answers.");
pub const LOGIN_HOLD: Family = family("pgswivel_login_hold_seconds", Histogram(HOLD_BUCKETS), &[],
    "How long logins had to wait because no credential worked or no endpoint answered; those that did not wait are not in it.");
pub const SESSIONS: Family = family("pgswivel_sessions", Gauge, &["secret", "credential"],
    "Sessions by the credential that opened their connection: retired (it was replaced), or leading (any other, also one that only waits).");
pub const SESSIONS_PINNED: Family = family("pgswivel_sessions_pinned", Gauge, &["secret", "reason"],
    "Sessions on a retired credential that hold something which can't be carried to another connection, by what it is.");
pub const SESSIONS_PINNED_PAST_GRACE: Family = family("pgswivel_sessions_pinned_past_grace", Gauge, &["secret"],
    "Pinned sessions whose credential was retired longer ago than the secret's grace.");
pub const MOVES: Family = family("pgswivel_moves_total", Counter, &["secret", "result"],
    "Sessions that were to leave a retired credential: moved, pinned (once, until that changes), put_off (one attempt that is repeated later), cut (ended at their deadline).");
pub const MOVE: Family = family("pgswivel_move_seconds", Histogram(MOVE_BUCKETS), &[],
    "How long moves took that succeeded, from survey and login to the last step.");
pub const RESCUES: Family = family("pgswivel_rescues_total", Counter, &["secret", "result"],
    "Sessions that lost their connection, by what became of them: unnoticed (by the client), interrupted (work in flight got an error, the session goes on), lost.");
pub const ROTATION: Family = family("pgswivel_rotation_seconds", Histogram(ROTATION_BUCKETS), &[],
    "From the store's change to the first login with the new credential, as far as the store says when it changed, else from when the change was seen.");
pub const GOVERNOR_HITS: Family = family("pgswivel_governor_hits_total", Counter, &["endpoint"],
    "Logins not sent because the endpoint had refused enough in the last minute: limits.refused_logins_per_minute, or half of that for a login that it had refused before. Also counted in pgswivel_limit_hits_total.");
pub const LIMIT_HITS: Family = family("pgswivel_limit_hits_total", Counter, &["limit"],
    "How often a limit turned somebody away or made them wait, by the limit's name in the configuration.");
pub const CLIENTS: Family = family("pgswivel_clients", Gauge, &[],
    "Clients that have logged in here and are being served, or wait for a connection.");
pub const LINKS: Family = family("pgswivel_links", Gauge, &["upstream"],
    "Connections to the upstream: being opened, open, or being closed.");
pub const LINKS_NOT_LENT: Family = family("pgswivel_links_not_lent_total", Counter, &["reason"],
    "Connections that were not lent again, by why a session on them would not have been as a new one is (unfinished, session_state, custom_setting, temporary_objects, unknown_functions, changed_defaults, cancel, failed).");
pub const LOG_LINES_DROPPED: Family = family("pgswivel_log_lines_dropped_total", Counter, &[],
    "Log lines that were dropped because whoever reads the log did not keep up.");
pub const TASK_RESTARTS: Family = family("pgswivel_task_restarts_total", Counter, &["task"],
    "Background tasks that broke off because of a fault in this program, and were begun again, by what they do (reader, prover, story, revocable, listener, configuration, systemd, limits, learning, warm, admin, samples, fleet).");

pub const FLEET_LISTENING: Family = family("pgswivel_fleet_listening", Gauge, &[],
    "Databases where this process listens for what the others of its fleet have heard.");
pub const FLEET_WAKES: Family = family("pgswivel_fleet_wakes_total", Counter, &["by"],
    "What others of the fleet said, and what came of it: notification (a store was read at once), put_off (with the next read, at most one a second), nonsense (nothing was read), reconnected (read because something may have been missed).");
pub const FLEET_TOLD: Family = family("pgswivel_fleet_told_total", Counter, &[],
    "How often this process was the first to hear of a change, and told the others.");

pub const ALL: [&Family; 31] = [
    &CREDENTIAL_INFO, &CREDENTIAL_GENERATION, &CREDENTIAL_AGE, &CREDENTIAL_MAX_AGE, &CREDENTIAL_WORKING,
    &USER_UNUSED, &USER_LINKS, &CREDENTIAL_READ, &LOGINS, &STORE_REFRESHES, &STORE_LAST_SUCCESS,
    &STORE_POLL, &LOGINS_HELD, &LOGIN_HOLD, &SESSIONS, &SESSIONS_PINNED, &SESSIONS_PINNED_PAST_GRACE, &MOVES,
    &MOVE, &RESCUES, &ROTATION, &GOVERNOR_HITS, &LIMIT_HITS, &CLIENTS, &LINKS, &LINKS_NOT_LENT,
    &LOG_LINES_DROPPED, &TASK_RESTARTS, &FLEET_LISTENING, &FLEET_WAKES, &FLEET_TOLD,
];
