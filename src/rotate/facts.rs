//! What is so at this moment: what the store holds, and what every server says. Nothing else is known of a rotation, so
//! whoever comes next finds it where the last one left it.

use std::collections::BTreeMap;

use super::database::{Drift, Greeting, Role};
use super::{Backend, DatabaseError, Opened, Server, Session, password};
use crate::config::Style;
use crate::credentials::Credential;
use crate::names::{Endpoint, UpstreamName};
use crate::stores::{self, Holding, Login, StoreError, WritableStore};

pub struct Facts {
    pub holding: Holding,
    /// Was made by this process, where a store has no place for what comes next.
    pub minted: Option<Login>,
    pub servers: Vec<ServerFacts>,
}

/// One endpoint.
#[derive(Clone, Debug)]
pub struct ServerFacts {
    pub endpoint: Endpoint,
    pub upstream: UpstreamName,
    pub greeting: Greeting,
    /// Those that take part and exist.
    pub roles: BTreeMap<String, Role>,
    pub backends: BTreeMap<String, Vec<Backend>>,
    /// Between the current user and whose turn is next.
    pub drift: Vec<Drift>,
    pub current: Standing,
    pub next: Standing,
    /// Where users take turns: the one before the current one.
    pub previous: Standing,
    /// It lets the user in whatever the password: then no login proves anything.
    pub trusts: bool,
}

/// How a login stands with one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    In,
    /// In the server's words.
    Refused(String),
    NotTried,
}

/// Why there are no facts.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    #[error("the secret {name}: {error}")]
    Store { name: String, error: StoreError },
    #[error("{endpoint}: {error}")]
    Server {
        endpoint: Endpoint,
        error: DatabaseError,
    },
}

impl Facts {
    /// What comes next, wherever it waits.
    pub fn next(&self) -> Option<&Login> {
        self.holding.next.as_ref().or(self.minted.as_ref())
    }

    pub fn primaries(&self) -> impl Iterator<Item = &ServerFacts> {
        self.servers.iter().filter(|server| server.greeting.is_primary)
    }

    /// On any primary.
    pub fn can_log_in(&self, user: &str) -> bool {
        self.primaries().any(|server| server.can_log_in(user))
    }

    pub fn is_on(&self, user: &str) -> bool {
        self.servers
            .iter()
            .any(|server| !server.backends_of(user).is_empty())
    }
}

impl ServerFacts {
    pub fn can_log_in(&self, user: &str) -> bool {
        self.roles.get(user).is_some_and(|role| role.can_login)
    }

    pub fn backends_of(&self, user: &str) -> &[Backend] {
        self.backends.get(user).map_or(&[], Vec::as_slice)
    }
}

/// What to look for besides what the store says.
pub struct Looked<'a> {
    pub minted: Option<&'a Login>,
    /// One login with a password that can't be right, where nobody has tried that yet.
    pub tries_trust: bool,
}

/// Looks everywhere. Answers with a session on each server, in their order.
pub async fn look(
    opened: &mut Opened,
    store: &mut dyn WritableStore,
    looked: &Looked<'_>,
) -> Result<(Facts, Vec<Session>), LookError> {
    let named = |name: &crate::names::SecretName| name.to_string();
    let holding = stores::look(store).await.map_err(|error| LookError::Store {
        name: named(&opened.rotation.secret),
        error,
    })?;
    let admin = opened.read_admin().await.map_err(|error| LookError::Store {
        name: named(&opened.rotation.admin),
        error,
    })?;
    let mut servers = Vec::new();
    let mut sessions = Vec::new();
    for server in &opened.servers {
        let found = look_at(server, opened, &holding, &admin, looked).await;
        let (facts, session) = found.map_err(|error| LookError::Server {
            endpoint: server.endpoint.clone(),
            error,
        })?;
        servers.push(facts);
        sessions.push(session);
    }
    let facts = Facts {
        holding,
        minted: looked.minted.cloned(),
        servers,
    };
    Ok((facts, sessions))
}

async fn look_at(
    server: &Server,
    opened: &Opened,
    holding: &Holding,
    admin: &[Credential],
    looked: &Looked<'_>,
) -> Result<(ServerFacts, Session), DatabaseError> {
    let session = server.log_in(admin).await?;
    let user = &*holding.current.user;
    let users = users_of(&opened.rotation.users, user);
    let mut roles = BTreeMap::new();
    let mut backends = BTreeMap::new();
    for user in &users {
        // Before anybody logs in from here.
        backends.insert(user.clone(), session.backends_of(user).await?);
        if let Some(role) = session.role(user).await? {
            roles.insert(user.clone(), role);
        }
    }
    let drift = match (opened.rotation.style, twin(&users, user)) {
        (Style::Alternating, Some(twin)) => session.drift(user, twin).await?,
        _ => Vec::new(),
    };
    let next = match holding.next.as_ref().or(looked.minted) {
        Some(next) => try_login(server, next).await?,
        None => Standing::NotTried,
    };
    // A user has one password: where the next one is let in, the current one of the same user is not.
    let is_settled = next == Standing::In && opened.rotation.style == Style::Single;
    let current = match is_settled {
        true => Standing::NotTried,
        false => try_login(server, &holding.current).await?,
    };
    let previous = match &holding.previous {
        Some(previous) if opened.rotation.style == Style::Alternating => try_login(server, previous).await?,
        _ => Standing::NotTried,
    };
    let impossible = Login {
        user: holding.current.user.clone(),
        password: password::generate(opened.rotation.recipe),
    };
    let trusts = looked.tries_trust && try_login(server, &impossible).await? == Standing::In;
    let facts = ServerFacts {
        endpoint: server.endpoint.clone(),
        upstream: server.upstream().clone(),
        greeting: session.greeting().await?,
        roles,
        backends,
        drift,
        current,
        next,
        previous,
        trusts,
    };
    Ok((facts, session))
}

async fn try_login(server: &Server, login: &Login) -> Result<Standing, DatabaseError> {
    Ok(match server.lets_in(login).await? {
        Ok(()) => Standing::In,
        Err(words) => Standing::Refused(words),
    })
}

/// Those that take turns, or the one that the store holds.
pub fn users_of(listed: &[String], current: &str) -> Vec<String> {
    match listed {
        [] => vec![current.to_owned()],
        listed => listed.to_vec(),
    }
}

/// Whose turn is next.
pub fn twin<'a>(users: &'a [String], current: &str) -> Option<&'a str> {
    let at = users.iter().position(|user| user == current)?;
    let next = &users[(at + 1) % users.len()];
    (next != current).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_take_turns_in_their_order() {
        let users = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(twin(&users, "a"), Some("b"));
        assert_eq!(twin(&users, "c"), Some("a"));
        assert_eq!(twin(&users, "x"), None);
        assert_eq!(twin(&users[..1], "a"), None);
    }
}
