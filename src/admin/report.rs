//! What `/status` says: the document that `pgswivel status` and the page read. Nothing secret.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Report {
    pub version: String,
    /// When this was written, RFC 3339.
    pub time: String,
    pub uptime_seconds: u64,
    /// As `/readyz` answers.
    pub ready: bool,
    pub reasons: Vec<String>,
    pub stopping: bool,
    pub clients: u64,
    /// Logins that wait because nothing works or answers.
    pub held: u64,
    pub roles: Vec<RoleReport>,
    pub upstreams: Vec<UpstreamReport>,
    pub secrets: Vec<SecretReport>,
    /// Secrets that the configuration has no more, and connections are on.
    pub removed_secrets: Vec<RemovedSecretReport>,
    /// Every upstream user that some secret has, or some connection is on.
    pub users: Vec<UserReport>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RoleReport {
    pub role: String,
    /// `scram` or `trust`.
    pub auth: String,
    pub upstream: String,
    pub secret: String,
    pub set_role: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct UpstreamReport {
    pub upstream: String,
    pub endpoints: Vec<String>,
    pub database: Option<String>,
    /// Being opened, open, or being closed.
    pub links: u64,
    pub connections_max: u32,
}

/// What one upstream user is needed for here, over all secrets and roles.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct UserReport {
    pub user: String,
    /// No connection is on it, and new ones will not be, as of `as_of`: it may go as far as this process is concerned.
    pub unused: bool,
    /// When the oldest of the stores' last good reads began, RFC 3339; what changed there since is not known here.
    /// None: one of them was never read.
    pub as_of: Option<String>,
    /// Connections that are being opened, open, or being closed: one counts until its backend has ended.
    pub links: u64,
    pub sessions: u64,
    pub pinned: u64,
    /// Connections by secret, under the name that it had when they were opened: 0 where it has or had the user.
    pub links_by_secret: BTreeMap<String, u64>,
    /// Secrets that lead with it, put it first, or announce it.
    pub wanted_by: Vec<String>,
    /// Secrets that could not be read yet.
    pub unread: Vec<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SecretReport {
    pub secret: String,
    pub store: String,
    pub stage: Stage,
    /// What the stage means here, in a sentence.
    pub words: String,
    pub generation: u64,
    /// Some credential is known to work.
    pub working: bool,
    /// The users that were replaced can be revoked as far as this process is concerned, as of `users`.
    pub safe_to_revoke: bool,
    /// Users that led or worked before, and that no new login of this secret begins with.
    pub replaced_users: Vec<String>,
    /// Of the credential that leads.
    pub age_seconds: Option<u64>,
    pub max_age_seconds: Option<u64>,
    pub max_age_exceeded: bool,
    pub poll_seconds: f64,
    /// The policy: `auto`, `keep`, `move` or `cut`.
    pub sessions: String,
    pub grace_seconds: f64,
    pub reads: ReadsReport,
    pub moves: MovesReport,
    pub rescues: RescuesReport,
    /// In the order of tries, then those that only old links may still use.
    pub credentials: Vec<CredentialReport>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RemovedSecretReport {
    pub secret: String,
    pub words: String,
    pub credentials: Vec<CredentialReport>,
}

/// Where a rotation stands.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    NothingRead,
    NothingWorks,
    /// What the store puts first works nowhere yet; something else leads.
    Seen,
    /// It works somewhere, and does not lead yet.
    Proven,
    /// It leads; something here stays on a user that it replaced.
    Leading,
    /// It leads; sessions leave what it replaced.
    Moving,
    /// Nothing here is on the users that it replaced, nor will be.
    SafeToRevoke,
    /// It leads, and has replaced no user that is remembered. A password that it replaced revokes itself.
    Steady,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ReadsReport {
    pub ok: u64,
    pub failed: u64,
    pub last_success_seconds_ago: Option<f64>,
    pub last_failure_seconds_ago: Option<f64>,
    /// Since the last good read began.
    pub as_of_seconds_ago: Option<f64>,
    /// Until a read succeeds again.
    pub error: Option<String>,
    pub warning: Option<String>,
    /// Calls that the store made, by operation.
    pub calls: Vec<CallsReport>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CallsReport {
    pub operation: String,
    pub count: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct MovesReport {
    pub moved: u64,
    pub pinned: u64,
    pub put_off: u64,
    pub cut: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RescuesReport {
    pub unnoticed: u64,
    pub interrupted: u64,
    pub lost: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CredentialReport {
    pub user: String,
    pub version: String,
    pub position: String,
    /// `leading`, `waiting` or `retired`.
    pub standing: String,
    /// What that means, in a sentence.
    pub words: String,
    /// The store still has it.
    pub listed: bool,
    /// Retired, and nothing here is on its user, under any secret and with any password, nor will be.
    pub safe_to_revoke: bool,
    pub age_seconds: Option<f64>,
    pub retired_seconds_ago: Option<f64>,
    pub lease_left_seconds: Option<f64>,
    pub endpoints: Vec<EndpointReport>,
    pub sessions: u64,
    /// Links that are being opened, open, or being closed.
    pub links: u64,
    pub pinned: Vec<PinReport>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct EndpointReport {
    pub endpoint: String,
    pub proven: bool,
    /// The SQLSTATE.
    pub refused: Option<String>,
    /// Not tried again before this is over.
    pub blocked_seconds: Option<f64>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PinReport {
    /// The number that names it in the log.
    pub session: u64,
    pub reasons: Vec<String>,
    pub since_seconds: f64,
    /// Until it is ended nevertheless.
    pub left_seconds: Option<f64>,
}
