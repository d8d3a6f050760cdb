//! Every password of the configuration against its policy: how old the stores say it is, until when the servers let it
//! in, and whether it could be guessed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::sync::Semaphore;

use super::password;
use super::{Opened, Server, Session};
use crate::config::{Auth, Config, Secret, Source};
use crate::credentials::{Credential, Password, Position};
use crate::names::{Endpoint, SecretName};
use crate::stores::{self, DigestKey, Reading, StoreError, Surroundings};

/// Stores that are read at once.
const AT_ONCE: usize = 16;

/// How one of them stands. The worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    Fine,
    /// A new one is made at each login or lease: there is nothing to grow old.
    Renewed,
    /// There is a policy, and nothing says how old it is.
    Unknown,
    Unreachable,
    Unusable,
    Weak,
    Overdue,
}

impl Standing {
    /// Somebody has to do something.
    pub fn is_due(self) -> bool {
        matches!(self, Self::Unusable | Self::Weak | Self::Overdue)
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// `secret`, `role` (the application's own password), or `login` (a role of a server).
    pub kind: &'static str,
    pub name: String,
    pub standing: Standing,
    pub age_seconds: Option<u64>,
    pub max_age_seconds: Option<u64>,
    /// What is to be said of it. Nothing secret.
    pub words: String,
}

/// Everything there is to look at, in the order of the file.
pub async fn look(config: &Config) -> Vec<Finding> {
    let read = read_all(config).await;
    let now = SystemTime::now();
    let mut findings: Vec<Finding> = config
        .secrets
        .values()
        .map(|secret| of_secret(config, secret, read.get(&secret.name), now))
        .collect();
    findings.extend(config.roles.iter().filter_map(|(name, role)| match &role.auth {
        Auth::Scram(password) => Some(of_role(name.as_str(), password)),
        Auth::Trust => None,
    }));
    for rotation in config.rotations.values() {
        let path = format!("rotation {}", rotation.name);
        match Opened::load(config, rotation) {
            Ok(opened) => findings.extend(of_logins(opened, read.get(&rotation.secret)).await),
            Err(problems) => {
                let words = problems.to_string().trim().replace('\n', "; ");
                findings.push(Finding::new("login", path, Standing::Unusable, words));
            }
        }
    }
    findings
}

impl Finding {
    fn new(
        kind: &'static str,
        name: impl Into<String>,
        standing: Standing,
        words: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            name: name.into(),
            standing,
            age_seconds: None,
            max_age_seconds: None,
            words: words.into(),
        }
    }
}

type Read = BTreeMap<SecretName, Result<Reading, StoreError>>;

/// One read of each store whose passwords can grow old. The others make something for whoever reads them.
async fn read_all(config: &Config) -> Read {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let digests = DigestKey::random();
    let secrets = config.secrets.values().filter(|secret| !is_renewed(secret));
    let running: Vec<_> = secrets
        .map(|secret| {
            let around = Surroundings {
                endpoints: &[] as &[Endpoint],
                digests: &digests,
            };
            let opened = stores::open(secret, around);
            let (name, turns) = (secret.name.clone(), Arc::clone(&turns));
            tokio::spawn(async move {
                let _turn = turns.acquire().await;
                let reading = match opened {
                    Ok(mut store) => stores::read(&mut *store).await,
                    Err(error) => Err(error),
                };
                (name, reading)
            })
        })
        .collect();
    let mut read = Read::new();
    for reading in running {
        match reading.await {
            Ok((name, reading)) => drop(read.insert(name, reading)),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
    read
}

fn is_renewed(secret: &Secret) -> bool {
    matches!(secret.source, Source::AwsRdsIam { .. } | Source::VaultDb { .. })
}

fn of_secret(
    config: &Config,
    secret: &Secret,
    read: Option<&Result<Reading, StoreError>>,
    now: SystemTime,
) -> Finding {
    let finding = |standing, words: String| Finding::new("secret", secret.name.as_str(), standing, words);
    let reading = match read {
        None => return finding(Standing::Renewed, "made anew for each login or lease".to_owned()),
        Some(Ok(reading)) => reading,
        Some(Err(error)) => {
            let standing = match error {
                StoreError::Unreachable(_) | StoreError::Slow { .. } | StoreError::Throttled { .. } => {
                    Standing::Unreachable
                }
                _ => Standing::Unusable,
            };
            return finding(standing, error.to_string());
        }
    };
    let current = &reading.credentials[0];
    let made = reading.made.iter().find(|made| made.version == current.version);
    // A clock that is behind the store's makes nothing old.
    let age = made.map(|made| now.duration_since(made.at).unwrap_or_default());
    let max = max_age(config, secret);
    let (standing, words) = judge(current, age, max);
    Finding {
        age_seconds: age.map(|age| age.as_secs()),
        max_age_seconds: max.map(|max| max.as_secs()),
        ..finding(standing, words)
    }
}

/// The stricter of the secret's own and its rotations'.
fn max_age(config: &Config, secret: &Secret) -> Option<Duration> {
    let rotations = config.rotations.values();
    let of_rotations = rotations
        .filter(|rotation| rotation.secret == secret.name)
        .filter_map(|rotation| rotation.max_age);
    of_rotations.chain(secret.max_age).min()
}

fn judge(current: &Credential, age: Option<Duration>, max: Option<Duration>) -> (Standing, String) {
    match (age, max) {
        (Some(age), Some(max)) if age > max => {
            return (Standing::Overdue, "older than max_age".to_owned());
        }
        (None, Some(_)) => {
            return (
                Standing::Unknown,
                "it has a max_age, and its store does not say how old it is".to_owned(),
            );
        }
        _ => {}
    }
    match password::check(&current.password, &current.user) {
        Err(weak) => (Standing::Weak, weak.to_string()),
        Ok(()) => (Standing::Fine, String::new()),
    }
}

/// What the application logs in with: nothing says how old it is.
fn of_role(name: &str, password: &Password) -> Finding {
    match password::check(password, name) {
        Ok(()) => Finding::new("role", name, Standing::Fine, ""),
        Err(weak) => Finding::new("role", name, Standing::Weak, weak.to_string()),
    }
}

/// `VALID UNTIL` of everybody who takes part in a rotation, on the first server of each that can be asked.
async fn of_logins(mut opened: Opened, read: Option<&Result<Reading, StoreError>>) -> Vec<Finding> {
    let mut users = opened.rotation.users.clone();
    let current = read
        .and_then(|read| read.as_ref().ok())
        .map(|reading| &reading.credentials[0]);
    if let Some(current) = current.filter(|current| !users.contains(&current.user.to_string())) {
        debug_assert!(matches!(current.position, Position::Current | Position::Index(_)));
        users.push(current.user.to_string());
    }
    let unreachable = |name: String, words: String| Finding::new("login", name, Standing::Unreachable, words);
    let credentials = match opened.read_admin().await {
        Ok(credentials) => credentials,
        Err(error) => {
            return vec![unreachable(
                format!("secret {}", opened.rotation.admin),
                error.to_string(),
            )];
        }
    };
    let mut findings = Vec::new();
    for upstream in &opened.rotation.upstreams {
        let servers = opened.servers.iter().filter(|server| server.is_of(upstream));
        match first(servers, &credentials).await {
            None => {}
            Some((server, Ok(session))) => {
                for user in &users {
                    findings.extend(of_login(&session, &server.endpoint, user).await);
                }
            }
            Some((server, Err(error))) => {
                findings.push(unreachable(server.endpoint.to_string(), error.to_string()));
            }
        }
    }
    findings
}

/// The first that lets somebody in, or what the last one said.
async fn first<'a>(
    servers: impl Iterator<Item = &'a Server>,
    credentials: &[Credential],
) -> Option<(&'a Server, Result<Session, super::DatabaseError>)> {
    let mut answer = None;
    for server in servers {
        let session = server.log_in(credentials).await;
        let is_in = session.is_ok();
        answer = Some((server, session));
        if is_in {
            break;
        }
    }
    answer
}

async fn of_login(session: &Session, endpoint: &Endpoint, user: &str) -> Option<Finding> {
    let name = format!("{user} on {endpoint}");
    let finding = |standing, words: String| Some(Finding::new("login", name.clone(), standing, words));
    match session.valid_until(user).await {
        // A user that is not there has no time to be over.
        Ok(None) => None,
        Ok(Some((until, true))) => finding(Standing::Overdue, format!("valid until {until}, which is over")),
        Ok(Some((until, false))) => finding(Standing::Fine, format!("valid until {until}")),
        Err(error) => finding(Standing::Unreachable, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_password_is_overdue_and_a_weak_one_is_weak_however_young() {
        let credential = |password: &str| Credential {
            user: "orders_app".into(),
            password: Password::new(password),
            version: "1".into(),
            position: Position::Current,
        };
        let day = Duration::from_secs(24 * 3600);
        let strong = credential("kR9-vQ_2mZt7Lx0aBn4W");
        let standing = |credential, age: Option<u32>, max: Option<u32>| {
            judge(credential, age.map(|age| age * day), max.map(|max| max * day)).0
        };
        assert_eq!(standing(&strong, Some(91), Some(90)), Standing::Overdue);
        assert_eq!(standing(&strong, Some(90), Some(90)), Standing::Fine);
        assert_eq!(standing(&strong, Some(900), None), Standing::Fine);
        assert_eq!(standing(&strong, None, Some(90)), Standing::Unknown);
        assert_eq!(standing(&strong, None, None), Standing::Fine);
        let weak = credential("orders_app1");
        assert_eq!(standing(&weak, Some(1), Some(90)), Standing::Weak);
        assert_eq!(standing(&weak, Some(91), Some(90)), Standing::Overdue);
        assert!(Standing::Weak.is_due() && !Standing::Unknown.is_due());
    }
}
