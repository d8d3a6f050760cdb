//! What a check found out. Everything that is printed, as text or as JSON, is in here, and nothing secret is.

use serde::Serialize;

use crate::cli::Exit;

#[derive(Debug, Serialize)]
pub(super) struct Findings {
    pub(super) result: Outcome,
    pub(super) roles: Vec<RoleFinding>,
    pub(super) listeners: Vec<ListenerFinding>,
    pub(super) secrets: Vec<SecretFinding>,
    pub(super) endpoints: Vec<EndpointFinding>,
    pub(super) logins: Vec<LoginFinding>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Fine,
    /// Nothing is known to be wrong, but something could not be asked.
    Unreachable,
    Failed,
}

impl From<Outcome> for Exit {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Fine => Self::Fine,
            Outcome::Unreachable => Self::Unreachable,
            Outcome::Failed => Self::Failed,
        }
    }
}

/// Something that does not work, or that somebody should know.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Trouble {
    /// A stable word.
    pub(super) kind: &'static str,
    pub(super) message: String,
    /// What to do about it.
    pub(super) advice: String,
}

#[derive(Debug, Serialize)]
pub(super) struct RoleFinding {
    pub(super) role: String,
    /// How clients prove who they are: `scram` or `trust`.
    pub(super) auth: &'static str,
    pub(super) upstream: String,
    pub(super) secret: String,
    /// None: what the client asks for.
    pub(super) database: Option<String>,
    pub(super) set_role: Option<String>,
    pub(super) result: Outcome,
    pub(super) trouble: Option<Trouble>,
    /// What can't be seen from here.
    pub(super) unseen: Option<Trouble>,
}

#[derive(Debug, Serialize)]
pub(super) struct ListenerFinding {
    /// `clients` or `admin`.
    pub(super) purpose: &'static str,
    pub(super) address: String,
    pub(super) tls: bool,
    /// Why `run` could not listen there.
    pub(super) trouble: Option<Trouble>,
    pub(super) remark: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct SecretFinding {
    pub(super) secret: String,
    pub(super) store: &'static str,
    pub(super) state: SecretState,
    /// Best first.
    pub(super) credentials: Vec<CredentialFinding>,
    pub(super) host_in_secret: Option<HostFinding>,
    /// Why it could not be read.
    pub(super) trouble: Option<Trouble>,
    pub(super) warnings: Vec<Trouble>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SecretState {
    Read,
    /// No role uses it, so it was not read.
    Unused,
    Unreachable,
    Failed,
}

#[derive(Debug, Serialize)]
pub(super) struct CredentialFinding {
    pub(super) position: String,
    pub(super) version: String,
    pub(super) user: String,
    /// Since the store made this version, if it says.
    pub(super) age_seconds: Option<u64>,
    /// How long the user lives (a lease), or the password opens sessions (a token).
    pub(super) left_seconds: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct HostFinding {
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) is_configured: bool,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct EndpointFinding {
    pub(super) upstream: String,
    pub(super) endpoint: String,
    pub(super) reachable: bool,
    /// None: no TLS, or not reached.
    pub(super) tls: Option<TlsFinding>,
    pub(super) server_version: Option<String>,
    pub(super) is_standby: bool,
    pub(super) trouble: Option<Trouble>,
    pub(super) warnings: Vec<Trouble>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct TlsFinding {
    pub(super) protocol: String,
    pub(super) verified: bool,
    /// As `tls.pin` takes it.
    pub(super) certificate: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct LoginFinding {
    pub(super) upstream: String,
    pub(super) endpoint: String,
    pub(super) secret: String,
    pub(super) position: String,
    pub(super) version: String,
    pub(super) user: String,
    pub(super) database: String,
    pub(super) result: LoginResult,
    pub(super) sqlstate: Option<String>,
    pub(super) trouble: Option<Trouble>,
    pub(super) set_roles: Vec<SetRoleFinding>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LoginResult {
    Accepted,
    /// Not this credential.
    Refused,
    /// The credential is accepted, and then something else is not: the database, a limit.
    Unusable,
    /// Nothing was said about the credential.
    Failed,
    /// The endpoint could not be asked.
    Unreachable,
    /// It might have locked the account.
    NotTried,
}

impl LoginResult {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Unusable => "unusable",
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
            Self::NotTried => "not tried",
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct SetRoleFinding {
    pub(super) role: String,
    pub(super) works: bool,
    pub(super) sqlstate: Option<String>,
    pub(super) trouble: Option<Trouble>,
}
