//! Waits until a login can be taken away without anybody noticing, and takes nothing away.
//!
//! Nobody's word alone is enough. The store must hold the user neither as current nor as what comes next; every pgswivel
//! that is listed must have read it since and have no link on the user; and no server of the rotation may have a backend
//! of it, whoever opened that.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::fleet::Member;
use super::{Backend, Opened, Session, SidecarError};
use crate::credentials::{Credential, Position};

/// Between two rounds: each reads the stores of every sidecar.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Backends that are named one by one, per server; the rest are counted.
const NAMED_MAX: usize = 20;

/// Why a user can't go yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Who says so: `store`, `sidecar`, `server` or `fleet`.
    pub by: &'static str,
    /// Which of them.
    pub name: String,
    pub user: String,
    pub why: String,
    /// It could not be asked: nothing is known, rather than that somebody is on it.
    pub unreachable: bool,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            by, name, user, why, ..
        } = self;
        match user.as_str() {
            "" => write!(f, "{by} {name}: {why}"),
            user => write!(f, "{user}: {by} {name}: {why}"),
        }
    }
}

/// How the waiting ended.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    pub safe: bool,
    pub users: Vec<String>,
    pub waited_seconds: f64,
    /// Who is left, by the last round. Empty: nobody.
    pub left: Vec<Reason>,
}

impl Outcome {
    /// Nobody was found on it, but somebody could not be asked.
    pub fn is_only_unreachable(&self) -> bool {
        !self.left.is_empty() && self.left.iter().all(|reason| reason.unreachable)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum GateError {
    #[error(
        "nothing says whose end is waited for: name it with --user, or list the logins that take turns in `users`"
    )]
    NoUsers,
    #[error("no server knows a role named {0:?}: there is nothing to wait for")]
    NoSuchRole(String),
}

/// Waits until nobody is on these users, or on those that the rotation's store does not hold. `tell` hears who is left
/// whenever that changes.
pub async fn gate(
    opened: &mut Opened,
    users: Vec<String>,
    within: Duration,
    mut tell: impl FnMut(&[Reason]),
) -> Result<Outcome, GateError> {
    if users.is_empty() && opened.rotation.users.is_empty() {
        return Err(GateError::NoUsers);
    }
    let begun = Instant::now();
    let mut gate = Gate {
        opened,
        users,
        known: false,
    };
    let mut told: Vec<Reason> = Vec::new();
    loop {
        let left = gate.round().await?;
        if left != told {
            tell(&left);
            told.clone_from(&left);
        }
        let safe = left.is_empty();
        if safe || begun.elapsed() >= within {
            return Ok(Outcome {
                safe,
                users: gate.users,
                waited_seconds: begun.elapsed().as_secs_f64(),
                left,
            });
        }
        sleep(LOOK_EVERY.min(within.saturating_sub(begun.elapsed()))).await;
    }
}

struct Gate<'a> {
    opened: &'a mut Opened,
    /// Settled by the first round that could read the store: what is waited for does not change on the way.
    users: Vec<String>,
    /// Every user is known to some server.
    known: bool,
}

impl Gate<'_> {
    async fn round(&mut self) -> Result<Vec<Reason>, GateError> {
        let mut left = self.by_store().await;
        // The servers come last: what the others let go in this round is not there any more.
        for user in self.users.clone() {
            left.extend(self.by_sidecars(&user).await);
        }
        left.extend(self.by_servers().await?);
        Ok(left)
    }

    async fn by_store(&mut self) -> Vec<Reason> {
        let name = self.opened.rotation.secret.to_string();
        let reason = |user: &str, why: String, unreachable| Reason {
            by: "store",
            name: name.clone(),
            user: user.to_owned(),
            why,
            unreachable,
        };
        let reading = match self.opened.read_secret().await {
            Ok(reading) => reading,
            Err(error) => return vec![reason("", error.to_string(), true)],
        };
        let holds = |user: &str| {
            let is_held = |held: &&Credential| *held.user == *user && is_wanted(held.position);
            reading.credentials.iter().find(is_held)
        };
        if self.users.is_empty() {
            let all = &self.opened.rotation.users;
            self.users = all.iter().filter(|user| holds(user).is_none()).cloned().collect();
        }
        if self.users.is_empty() {
            let why = "it holds every one of `users`, as current or as what comes next".to_owned();
            return vec![reason("", why, false)];
        }
        let held = self.users.iter().filter_map(|user| Some((user, holds(user)?)));
        let words = |position| match position {
            Position::Next => "it holds this user as what comes next",
            _ => "it holds this user as current: new logins begin with it",
        };
        held.map(|(user, held)| reason(user, words(held.position).to_owned(), false))
            .collect()
    }

    async fn by_sidecars(&self, user: &str) -> Vec<Reason> {
        let answers = self.opened.sidecars.ask(user).await;
        let reason = |name: String, why: String, unreachable| Reason {
            by: "sidecar",
            name,
            user: user.to_owned(),
            why,
            unreachable,
        };
        let left = answers.into_iter().filter_map(|(name, answer)| match answer {
            Ok(answer) if answer.unused => None,
            Ok(answer) => Some(reason(name, words(&answer), false)),
            Err(error) => {
                let unreachable = error.is_unreachable();
                Some(reason(name, said(&error), unreachable))
            }
        });
        left.collect()
    }

    async fn by_servers(&mut self) -> Result<Vec<Reason>, GateError> {
        let credentials = match self.opened.read_admin().await {
            Ok(credentials) => credentials,
            Err(error) => {
                return Ok(vec![Reason {
                    by: "store",
                    name: self.opened.rotation.admin.to_string(),
                    user: String::new(),
                    why: error.to_string(),
                    unreachable: true,
                }]);
            }
        };
        let mut left = Vec::new();
        let mut unknown = self.users.clone();
        let mut all_asked = true;
        for server in &self.opened.servers {
            let reason = |user: &str, why: String, unreachable| Reason {
                by: "server",
                name: server.endpoint.to_string(),
                user: user.to_owned(),
                why,
                unreachable,
            };
            let session = match server.log_in(&credentials).await {
                Ok(session) => session,
                Err(error) => {
                    all_asked = false;
                    left.push(reason("", format!("can't be asked: {error}"), true));
                    continue;
                }
            };
            let members = self.members(&session).await;
            let before = left.len();
            for user in &self.users {
                let found = async {
                    let has_role = self.known || session.has_role(user).await?;
                    Ok::<_, super::DatabaseError>((has_role, session.backends_of(user).await?))
                };
                match found.await {
                    Ok((has_role, backends)) => {
                        if has_role {
                            unknown.retain(|name| name != user);
                        }
                        let shown = backends.iter().take(NAMED_MAX);
                        left.extend(shown.map(|backend| reason(user, behind(backend, &members), false)));
                        if let Some(more @ 1..) = backends.len().checked_sub(NAMED_MAX) {
                            left.push(reason(user, format!("{more} more backends"), false));
                        }
                    }
                    Err(error) => {
                        all_asked = false;
                        left.push(reason(user, format!("can't be asked: {error}"), true));
                    }
                }
            }
            // Who says that somebody stays is believed where somebody does.
            if left.len() > before {
                left.extend(members.iter().filter_map(stays));
            }
        }
        // A name that was mistyped has no backends either.
        match unknown.into_iter().next() {
            Some(user) if all_asked && !self.known => Err(GateError::NoSuchRole(user)),
            _ => {
                self.known |= all_asked && !self.users.is_empty();
                Ok(left)
            }
        }
    }
}

impl Gate<'_> {
    /// What the fleet's processes say once they have read the secret, or would if they could.
    async fn members(&self, session: &Session) -> Vec<Member> {
        let Some(fleet) = &self.opened.fleet else {
            return Vec::new();
        };
        // A server that lets nobody notify has backends all the same.
        let _ = fleet.call(session).await;
        fleet.members(session).await.unwrap_or_default()
    }
}

/// A backend, and the processes that are logged in from where it is.
fn behind(backend: &Backend, members: &[Member]) -> String {
    let there = members.iter().filter(|member| member.client == backend.client);
    let names: Vec<&str> = there.map(|member| member.instance.as_str()).collect();
    match names.as_slice() {
        [] => backend.to_string(),
        names => format!("{backend}, where pgswivel {} is", names.join(", ")),
    }
}

fn stays(member: &Member) -> Option<Reason> {
    Some(Reason {
        by: "fleet",
        name: member.instance.clone(),
        user: String::new(),
        why: member.why_it_stays()?,
        unreachable: false,
    })
}

/// New logins begin with it, or soon will.
fn is_wanted(position: Position) -> bool {
    matches!(position, Position::Current | Position::Next | Position::Index(0))
}

/// Who has not read its stores since it was asked.
pub(super) fn unread(
    name: String,
    user: &str,
    answer: Result<super::Answer, SidecarError>,
) -> Option<Reason> {
    let (why, unreachable) = match answer {
        Ok(answer) if answer.unread.is_empty() => return None,
        Ok(answer) => (format!("not read yet: {}", answer.unread.join(", ")), false),
        Err(error) => {
            let unreachable = error.is_unreachable();
            (said(&error), unreachable)
        }
    };
    Some(Reason {
        by: "sidecar",
        name,
        user: user.to_owned(),
        why,
        unreachable,
    })
}

fn words(answer: &super::Answer) -> String {
    let mut why = Vec::new();
    if answer.links > 0 {
        let (links, sessions) = (answer.links, answer.sessions);
        let pinned = match answer.pinned {
            0 => String::new(),
            pinned => format!(", {pinned} of them pinned"),
        };
        why.push(format!(
            "connections on it: {links}, with sessions: {sessions}{pinned}"
        ));
    }
    if !answer.wanted_by.is_empty() {
        why.push(format!("new logins of {} use it", answer.wanted_by.join(", ")));
    }
    if !answer.unread.is_empty() {
        why.push(format!("not read yet: {}", answer.unread.join(", ")));
    }
    why.join("; ")
}

fn said(error: &SidecarError) -> String {
    match error {
        SidecarError::Refused(words) if words.contains("only from this machine") => {
            format!("it does not read its stores for us ({words}): set the same admin.token here and there")
        }
        error => error.to_string(),
    }
}
