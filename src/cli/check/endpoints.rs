//! Looks at every endpoint, and logs in with every credential that is meant for it.
//!
//! No account is locked by it: a login (user and password) that an endpoint refused is not sent to it again,
//! whatever else it is configured for, and after as many refusals as `run` allows in a minute no more are
//! asked for.

use std::sync::Arc;

use super::findings::{EndpointFinding, LoginFinding, LoginResult, SetRoleFinding, TlsFinding, Trouble};
use super::login_advice::{self, Question};
use crate::access::log_in::AttemptError;
use crate::config::Source;
use crate::credentials::Credential;
use crate::names::{Endpoint, SecretName};
use crate::net::tls::TlsFacts;
use crate::postgres::{self, Admission, LoginError, Reached, Target, database};

/// One endpoint of one upstream, and what to try there.
pub(super) struct Visit {
    /// Where its findings go.
    pub(super) order: usize,
    pub(super) target: Arc<Target>,
    pub(super) endpoint: Endpoint,
    pub(super) candidates: Vec<Candidate>,
}

#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) secret: SecretName,
    pub(super) source: Source,
    pub(super) credential: Credential,
    /// What roles want to become after this login.
    pub(super) set_roles: Vec<String>,
}

pub(super) struct Visited {
    pub(super) order: usize,
    pub(super) endpoint: EndpointFinding,
    pub(super) logins: Vec<LoginFinding>,
}

/// One after the other, all to the same endpoint.
pub(super) async fn visit_all(visits: Vec<Visit>, refusals_max: u32) -> Vec<Visited> {
    let mut memory = Memory {
        tried: Vec::new(),
        refusals_left: refusals_max,
    };
    let mut visited = Vec::new();
    for visit in visits {
        visited.push(memory.visit(visit).await);
    }
    visited
}

/// What one endpoint has said so far.
struct Memory {
    tried: Vec<Tried>,
    refusals_left: u32,
}

struct Tried {
    candidate: Candidate,
    finding: LoginFinding,
}

impl Memory {
    async fn visit(&mut self, visit: Visit) -> Visited {
        let mut endpoint = EndpointFinding {
            upstream: visit.target.upstream.name.to_string(),
            endpoint: visit.endpoint.to_string(),
            reachable: false,
            tls: None,
            server_version: None,
            is_standby: false,
            trouble: None,
            warnings: Vec::new(),
        };
        let mut logins = Vec::new();
        let mut was_reached = false;
        for candidate in &visit.candidates {
            let known = self.known(candidate, &endpoint.upstream);
            let finding = match known {
                Some(known) => repeated(known, &visit, candidate),
                None if endpoint.trouble.is_some() => unsent(&visit, candidate, &endpoint),
                None if self.refusals_left == 0 => governed(&visit, candidate),
                None => {
                    was_reached = true;
                    self.log_in(&visit, candidate, &mut endpoint).await
                }
            };
            logins.push(finding);
        }
        if !was_reached {
            let examination = postgres::examine(&visit.target, &visit.endpoint, None, &[]).await;
            describe(&mut endpoint, &visit, &examination.reached);
        }
        Visited {
            order: visit.order,
            endpoint,
            logins,
        }
    }

    async fn log_in(
        &mut self,
        visit: &Visit,
        candidate: &Candidate,
        endpoint: &mut EndpointFinding,
    ) -> LoginFinding {
        let Visit {
            target, endpoint: at, ..
        } = visit;
        let credential = Some(&candidate.credential);
        let examination = postgres::examine(target, at, credential, &candidate.set_roles).await;
        describe(endpoint, visit, &examination.reached);
        let finding = match &examination.login {
            None => unsent(visit, candidate, endpoint),
            Some(login) => {
                if let Ok(admission) = login {
                    endpoint.server_version.clone_from(&admission.server_version);
                    endpoint.is_standby = admission.is_standby;
                    endpoint.warnings.extend(lacking(&admission.survey_lacks));
                }
                judged(visit, candidate, login)
            }
        };
        if finding.result == LoginResult::Refused {
            self.refusals_left = self.refusals_left.saturating_sub(1);
        }
        if examination.login.is_some() {
            self.tried.push(Tried {
                candidate: candidate.clone(),
                finding: finding.clone(),
            });
        }
        finding
    }

    /// What needs no other login to be known.
    fn known(&self, candidate: &Candidate, upstream: &str) -> Option<&LoginFinding> {
        let same = |tried: &&Tried| tried.candidate.credential.is_same_login(&candidate.credential);
        let tells = |tried: &&Tried| {
            let is_refused = tried.finding.result == LoginResult::Refused;
            let asks_the_same = tried.candidate.set_roles == candidate.set_roles;
            is_refused || (tried.finding.upstream == upstream && asks_the_same)
        };
        let tried = self.tried.iter().filter(same).find(tells)?;
        Some(&tried.finding)
    }
}

fn describe(
    finding: &mut EndpointFinding,
    visit: &Visit,
    reached: &Result<Reached, AttemptError<LoginError>>,
) {
    let reached = match reached {
        Ok(reached) => reached,
        Err(error) => {
            finding.reachable = !matches!(error, AttemptError::NotYet(_));
            let (AttemptError::NotYet(error)
            | AttemptError::Fatal { error, .. }
            | AttemptError::Refused(_, error)) = error;
            finding.trouble = Some(login_advice::trouble(error, question(visit, None)));
            return;
        }
    };
    finding.reachable = true;
    finding.tls = reached.tls.as_ref().map(|tls| TlsFinding {
        protocol: tls.protocol.to_string(),
        verified: tls.verified,
        certificate: tls.leaf.map(|leaf| leaf.to_string()),
    });
    finding.warnings.clear();
    if !reached.is_local {
        finding.warnings.extend(insecurity(finding, reached.tls.as_ref()));
    }
}

fn insecurity(finding: &EndpointFinding, tls: Option<&TlsFacts>) -> Option<Trouble> {
    let upstream = &finding.upstream;
    let Some(tls) = tls else {
        return Some(Trouble {
            kind: "not_encrypted",
            message: "the connection leaves this machine without TLS".to_owned(),
            advice: format!("turn ssl on in the server, and set upstream.{upstream}.tls.mode"),
        });
    };
    if tls.verified {
        return None;
    }
    let pin = tls.leaf.map_or_else(String::new, |leaf| {
        format!("; if the server's own disk has the certificate with this fingerprint, upstream.{upstream}.tls.pin = \"{leaf}\" will do")
    });
    Some(Trouble {
        kind: "not_verified",
        message: "the server's certificate is not verified: anybody between could pose as the server"
            .to_owned(),
        advice: format!("set upstream.{upstream}.tls.mode = \"verify-full\"{pin}"),
    })
}

/// Sessions whose state can't be asked for.
fn lacking(functions: &[String]) -> Option<Trouble> {
    let list = functions.join(", ");
    (!functions.is_empty()).then(|| Trouble {
        kind: "survey_lacks",
        message: format!("the login may not execute {list}: what these tell of a session is not known"),
        advice: format!(
            "sessions that may have it stay where they are; or GRANT EXECUTE ON FUNCTION {list} to the login"
        ),
    })
}

fn judged(
    visit: &Visit,
    candidate: &Candidate,
    login: &Result<Admission, AttemptError<LoginError>>,
) -> LoginFinding {
    let mut finding = blank(visit, candidate);
    let error = match login {
        Ok(admission) => {
            finding.result = LoginResult::Accepted;
            let set_roles = admission.set_roles.iter();
            finding.set_roles = set_roles
                .map(|(role, answer)| set_role(visit, candidate, role, answer))
                .collect();
            return finding;
        }
        Err(AttemptError::Refused(_, error)) => {
            finding.result = LoginResult::Refused;
            error
        }
        Err(AttemptError::NotYet(error)) => {
            finding.result = LoginResult::Unreachable;
            error
        }
        Err(AttemptError::Fatal {
            error,
            authenticated: true,
        }) if is_about_proofs_only(visit, error) => {
            finding.result = LoginResult::Accepted;
            return finding;
        }
        Err(AttemptError::Fatal { error, authenticated }) => {
            finding.result = if *authenticated {
                LoginResult::Unusable
            } else {
                LoginResult::Failed
            };
            error
        }
    };
    finding.sqlstate = error.sqlstate().map(str::to_owned);
    finding.trouble = Some(login_advice::trouble(error, question(visit, Some(candidate))));
    finding
}

/// Clients name their own database, and it is another one.
fn is_about_proofs_only(visit: &Visit, error: &LoginError) -> bool {
    let is_about_database = matches!(error.sqlstate(), Some("3D000" | "42501"));
    visit.target.upstream.database.is_none() && is_about_database
}

fn set_role(
    visit: &Visit,
    candidate: &Candidate,
    role: &str,
    answer: &Result<(), LoginError>,
) -> SetRoleFinding {
    let trouble = answer.as_ref().err().map(|error| {
        let user = &candidate.credential.user;
        let advice = match error.sqlstate() {
            Some("42501") => format!("let the user become it: GRANT {role:?} TO {user:?}"),
            Some("22023") => format!("create it, or correct set_role: CREATE ROLE {role:?}"),
            _ => login_advice::trouble(error, question(visit, Some(candidate))).advice,
        };
        Trouble {
            kind: "set_role",
            advice,
            ..login_advice::trouble(error, question(visit, Some(candidate)))
        }
    });
    SetRoleFinding {
        role: role.to_owned(),
        works: trouble.is_none(),
        sqlstate: answer
            .as_ref()
            .err()
            .and_then(|error| error.sqlstate())
            .map(str::to_owned),
        trouble,
    }
}

fn question<'a>(visit: &'a Visit, candidate: Option<&'a Candidate>) -> Question<'a> {
    Question {
        target: &visit.target,
        endpoint: &visit.endpoint,
        credential: candidate.map(|candidate| &candidate.credential),
        source: candidate.map(|candidate| &candidate.source),
    }
}

fn blank(visit: &Visit, candidate: &Candidate) -> LoginFinding {
    let Candidate {
        secret, credential, ..
    } = candidate;
    LoginFinding {
        upstream: visit.target.upstream.name.to_string(),
        endpoint: visit.endpoint.to_string(),
        secret: secret.to_string(),
        position: credential.position.to_string(),
        version: credential.version.to_string(),
        user: credential.user.to_string(),
        database: database(&visit.target).to_owned(),
        result: LoginResult::NotTried,
        sqlstate: None,
        trouble: None,
        set_roles: Vec::new(),
    }
}

/// The endpoint's own row says why.
fn unsent(visit: &Visit, candidate: &Candidate, endpoint: &EndpointFinding) -> LoginFinding {
    LoginFinding {
        result: if endpoint.reachable {
            LoginResult::Failed
        } else {
            LoginResult::Unreachable
        },
        ..blank(visit, candidate)
    }
}

fn governed(visit: &Visit, candidate: &Candidate) -> LoginFinding {
    let trouble = Trouble {
        kind: "governed",
        message:
            "not tried: this endpoint has refused as many logins as limits.refused_logins_per_minute allows"
                .to_owned(),
        advice: "repair what is refused above, and check again".to_owned(),
    };
    LoginFinding {
        trouble: Some(trouble),
        ..blank(visit, candidate)
    }
}

fn repeated(known: &LoginFinding, visit: &Visit, candidate: &Candidate) -> LoginFinding {
    let trouble = known.trouble.as_ref().map(|trouble| Trouble {
        message: format!("{} (not sent again)", trouble.message),
        ..trouble.clone()
    });
    LoginFinding {
        result: known.result,
        sqlstate: known.sqlstate.clone(),
        trouble,
        set_roles: known.set_roles.clone(),
        ..blank(visit, candidate)
    }
}
