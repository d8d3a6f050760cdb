//! What is said to the servers, and asked of them.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::StepError;
use crate::names::Endpoint;
use crate::rotate::Backend;
use crate::rotate::database::{Session, Statement};
use crate::rotate::facts::{Facts, ServerFacts};
use crate::rotate::password;
use crate::rotate::plan::{Goal, Step, Which};
use crate::rotate::run::{Event, Run, on_server};
use crate::stores::Login;

/// For a replica to replay what its primary was told, and for a backend to hear that it is to end.
const CATCH_UP_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl Run<'_> {
    /// The twin as the other one is.
    pub(super) async fn alike(
        &mut self,
        step: &Step,
        facts: &Facts,
        sessions: &[Session],
    ) -> Result<String, StepError> {
        let on = step.on().expect("it is a step on one server");
        let (server, session) = at(on, facts, sessions)?;
        let made = match step {
            Step::Create { role, like, .. } => {
                let like = &server.roles[like];
                session.change(&Statement::create(role, like)).await
            }
            Step::Grant { group, role, .. } => session.change(&Statement::grant(group, role)).await,
            Step::Set { role, setting, .. } => session.set_for(role, setting).await,
            _ => unreachable!("{step} makes no role alike"),
        };
        made.map_err(|error| on_server(on, error))?;
        Ok(String::new())
    }

    /// The verifier is made here. The server never hears the password, and so neither does its log.
    pub(super) async fn password(
        &mut self,
        step: &Step,
        facts: &Facts,
        sessions: &[Session],
    ) -> Result<String, StepError> {
        let Step::Password {
            user,
            which,
            login,
            on,
        } = step
        else {
            unreachable!("{step} sets no password");
        };
        let (_, session) = at(on, facts, sessions)?;
        let session = self.locked(on).unwrap_or(session);
        let verifier = password::verifier(&credential(*which, facts)?.password);
        let statement = Statement::password(user, *login, &verifier);
        session
            .change(&statement)
            .await
            .map_err(|error| on_server(on, error))?;
        self.done.restored |= *which == Which::Current;
        Ok("told a SCRAM-SHA-256 verifier".to_owned())
    }

    pub(super) async fn close(
        &mut self,
        user: &str,
        on: &Endpoint,
        facts: &Facts,
        sessions: &[Session],
    ) -> Result<String, StepError> {
        let (_, session) = at(on, facts, sessions)?;
        let session = self.locked(on).unwrap_or(session);
        let closed = session.change(&Statement::close(user)).await;
        closed.map_err(|error| on_server(on, error))?;
        Ok(String::new())
    }

    /// By a real login, everywhere.
    pub(super) async fn prove(
        &mut self,
        which: Which,
        facts: &Facts,
        sessions: &[Session],
    ) -> Result<String, StepError> {
        let login = credential(which, facts)?.clone();
        let mut behind = Vec::new();
        for server in &facts.servers {
            let waited = self.let_in(server, &login, true).await?;
            if waited > LOOK_EVERY && !server.greeting.is_primary {
                behind.push(format!("{} after {:.1} s", server.endpoint, waited.as_secs_f64()));
            }
        }
        if matches!(self.wish.goal, Goal::Emergency { .. }) {
            // Nobody gets in with the old password from here on: who is in now is all there is.
            for (server, session) in facts.servers.iter().zip(sessions) {
                let on_it = self.backends(server, session, &login.user).await?;
                self.done.on_it.push((server.endpoint.clone(), on_it));
            }
        }
        self.done.proven = true;
        let where_ = servers(facts.servers.len());
        Ok(match behind.as_slice() {
            [] => format!("logged in on {where_}"),
            behind => format!("logged in on {where_}, {}", behind.join(", ")),
        })
    }

    /// Until a server does with a login what it should. A replica may be behind.
    async fn let_in(&self, server: &ServerFacts, login: &Login, wanted: bool) -> Result<Duration, StepError> {
        let endpoint = &server.endpoint;
        let there = self
            .opened
            .servers
            .iter()
            .find(|there| there.endpoint == *endpoint);
        let there = there.expect("facts are of these servers");
        let begun = Instant::now();
        loop {
            let answer = there.lets_in(login).await;
            let answer = answer.map_err(|error| StepError::Failed(format!("{endpoint}: {error}")))?;
            if answer.is_ok() == wanted {
                return Ok(begun.elapsed());
            }
            let can_change = !server.greeting.is_primary && begun.elapsed() < CATCH_UP_MAX;
            if !can_change {
                let words = match answer {
                    Ok(()) => format!("{endpoint} still lets {} in with the old credential", login.user),
                    Err(words) => format!("{endpoint} does not let {} in: {words}", login.user),
                };
                return Err(StepError::Failed(words));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn locked(&self, on: &Endpoint) -> Option<&Session> {
        self.lock.as_ref()?.session(on)
    }

    /// Without those of this process, which are there where the admin's own credential is rotated. A name is anybody's to
    /// take, so it counts nowhere else.
    async fn backends(
        &self,
        server: &ServerFacts,
        session: &Session,
        user: &str,
    ) -> Result<Vec<Backend>, StepError> {
        let mut found = session
            .backends_of(user)
            .await
            .map_err(|error| on_server(&server.endpoint, error))?;
        let is_admin = *user == *server.greeting.admin;
        found.retain(|backend| !is_admin || backend.application != *self.opened.application);
        Ok(found)
    }

    /// Each is named before it is ended.
    pub(super) async fn end(
        &mut self,
        user: &str,
        facts: &Facts,
        sessions: &[Session],
    ) -> Result<String, StepError> {
        let is_current = *facts.holding.current.user == *user;
        let mut named = 0;
        for (server, session) in facts.servers.iter().zip(sessions) {
            let of_old = self
                .done
                .on_it
                .iter()
                .find(|(endpoint, _)| *endpoint == server.endpoint);
            let is_old = |backend: &Backend| {
                !is_current
                    || of_old.is_some_and(|(_, old)| {
                        old.iter()
                            .any(|old| old.pid == backend.pid && old.since == backend.since)
                    })
            };
            let begun = Instant::now();
            let mut told = false;
            loop {
                let mut left = self.backends(server, session, user).await?;
                left.retain(is_old);
                if left.is_empty() {
                    break;
                }
                if begun.elapsed() > CATCH_UP_MAX {
                    let shown: Vec<String> = left.iter().map(ToString::to_string).collect();
                    return Err(StepError::Failed(format!(
                        "{}: {user} is still there: {}",
                        server.endpoint,
                        shown.join("; ")
                    )));
                }
                if !told {
                    named += left.len();
                    for backend in &left {
                        let words = format!("{}: ending {} of {user}", server.endpoint, backend);
                        self.evidence.say(&words);
                        (self.tell)(Event::Note(&words));
                    }
                    told = true;
                }
                let ended = session.end(user, &left).await;
                ended.map_err(|error| on_server(&server.endpoint, error))?;
                sleep(LOOK_EVERY).await;
            }
        }
        self.done.ended.push(user.to_owned());
        let after = self.begun.elapsed().as_secs_f64();
        Ok(match named {
            0 => format!("nobody was left, {after:.1} s after the command"),
            named => format!("{named} ended, the last was gone {after:.1} s after the command"),
        })
    }

    /// The proof that the old one is dead.
    pub(super) async fn refused(
        &mut self,
        user: &str,
        facts: &Facts,
        sessions: &[Session],
    ) -> Result<String, StepError> {
        let previous = facts.holding.previous.as_ref();
        let old = self.done.promoted.as_ref().or(previous);
        let current = &facts.holding.current;
        let old = old.filter(|old| *old.user == *user && *old != current).cloned();
        if let Some(old) = &old {
            for server in &facts.servers {
                self.let_in(server, old, false).await?;
            }
            self.done.refused.push(user.to_owned());
            return Ok(format!("refused by {}", servers(facts.servers.len())));
        }
        for (server, session) in facts.servers.iter().zip(sessions) {
            let begun = Instant::now();
            loop {
                let role = session.role(user).await;
                let role = role.map_err(|error| on_server(&server.endpoint, error))?;
                if role.is_none_or(|role| !role.can_login) {
                    break;
                }
                if server.greeting.is_primary || begun.elapsed() > CATCH_UP_MAX {
                    return Err(StepError::Failed(format!(
                        "{user} can still log in on {}",
                        server.endpoint
                    )));
                }
                sleep(LOOK_EVERY).await;
            }
        }
        self.done.refused.push(user.to_owned());
        Ok(format!(
            "{user} is NOLOGIN on {}; its old password is not known here any more, so no login was tried",
            servers(facts.servers.len())
        ))
    }
}

fn servers(count: usize) -> String {
    match count {
        1 => "the one server".to_owned(),
        count => format!("all {count} servers"),
    }
}

fn credential(which: Which, facts: &Facts) -> Result<&Login, StepError> {
    match which {
        Which::Current => Ok(&facts.holding.current),
        Which::Next => facts
            .next()
            .ok_or_else(|| StepError::Failed("what comes next is not there any more".to_owned())),
    }
}

fn at<'a>(
    on: &Endpoint,
    facts: &'a Facts,
    sessions: &'a [Session],
) -> Result<(&'a ServerFacts, &'a Session), StepError> {
    let mut both = facts.servers.iter().zip(sessions);
    both.find(|(server, _)| server.endpoint == *on)
        .ok_or_else(|| StepError::Failed(format!("{on} is not among the servers any more")))
}
