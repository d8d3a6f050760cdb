//! How a token is had, how long it lasts, and when it wants to be renewed.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Answer;
use super::wire::{Request, Wire};
use crate::config::{VaultAuth, VaultSecretId};
use crate::credentials::Password;
#[cfg(not(feature = "aws"))]
use crate::stores::Unsuitable;
use crate::stores::{Said, StoreError};

/// A token and its time.
pub(super) struct Session {
    pub(super) token: Password,
    /// The life it was first given; None: it does not end.
    granted: Option<Duration>,
    ends_at: Option<Instant>,
    due_at: Option<Instant>,
    pub(super) is_renewable: bool,
    /// Another one can be had in its place.
    is_replaceable: bool,
}

/// A way to a token.
pub(super) struct Login(pub(super) VaultAuth);

/// `{"auth":{…}}`: the answer to logins and renewals.
#[derive(Deserialize)]
pub(super) struct AuthAnswer {
    auth: AuthGrant,
}

#[derive(Deserialize)]
struct AuthGrant {
    #[serde(default)]
    client_token: String,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
}

/// `{"data":{…}}`: what a token says about itself.
#[derive(Deserialize)]
struct LookupAnswer {
    data: Lookup,
}

#[derive(Deserialize)]
struct Lookup {
    #[serde(default)]
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

#[derive(Serialize)]
struct AppRoleLogin<'a> {
    role_id: &'a str,
    secret_id: &'a str,
}

#[derive(Serialize)]
struct KubernetesLogin<'a> {
    role: &'a str,
    jwt: &'a str,
}

impl Session {
    fn new(token: Password, life_seconds: u64, is_renewable: bool, is_replaceable: bool) -> Self {
        let granted = (life_seconds > 0).then(|| Duration::from_secs(life_seconds));
        let mut session = Self {
            token,
            granted,
            ends_at: None,
            due_at: None,
            is_renewable,
            is_replaceable,
        };
        if let Some(life) = granted {
            session.lives_from_now(life);
        }
        session
    }

    /// Renewed at half its life or replaced at two thirds, so that there is time to try it again.
    fn lives_from_now(&mut self, life: Duration) {
        let now = Instant::now();
        self.ends_at = Some(now + life);
        self.due_at = match (self.is_renewable, self.is_replaceable) {
            (true, _) => Some(now + life / 2),
            (false, true) => Some(now + life * 2 / 3),
            (false, false) => None,
        };
    }

    /// Takes over a renewal. False when it gave clearly less than the login: the end is near.
    pub(super) fn renew(&mut self, renewed: &AuthAnswer) -> bool {
        let life = Duration::from_secs(renewed.auth.lease_duration);
        self.is_renewable = renewed.auth.renewable;
        self.lives_from_now(life);
        self.granted.is_none_or(|granted| life * 3 >= granted * 2)
    }

    pub(super) fn is_over(&self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }

    pub(super) fn is_due(&self) -> bool {
        self.due_in().is_some_and(|wait| wait.is_zero())
    }

    pub(super) fn left(&self) -> Option<Duration> {
        self.ends_at
            .map(|end| end.saturating_duration_since(Instant::now()))
    }

    pub(super) fn due_in(&self) -> Option<Duration> {
        self.due_at
            .map(|due| due.saturating_duration_since(Instant::now()))
    }
}

impl Login {
    /// Whether it can be done again at any time, with a new token each time.
    pub(super) fn can_repeat(&self) -> bool {
        !matches!(self.0, VaultAuth::Token(_) | VaultAuth::TokenFile(_))
    }

    /// Somebody, such as Vault's agent, put another token into the file. A file that can't be read replaces
    /// nothing.
    pub(super) async fn is_replaced(&self, session: Option<&Session>) -> bool {
        let (VaultAuth::TokenFile(path), Some(session)) = (&self.0, session) else {
            return false;
        };
        read_word(path).await.is_ok_and(|token| token != session.token)
    }

    /// Files are read anew each time: what they hold rotates too.
    pub(super) async fn perform(&self, wire: &mut Wire) -> Result<Session, StoreError> {
        match &self.0 {
            VaultAuth::Token(token) => look_up(wire, token.clone()).await,
            VaultAuth::TokenFile(path) => look_up(wire, read_word(path).await?).await,
            VaultAuth::AppRole {
                mount,
                role_id,
                secret_id,
            } => {
                let secret_id = match secret_id {
                    VaultSecretId::Literal(secret_id) => secret_id.clone(),
                    VaultSecretId::File(path) => read_word(path).await?,
                };
                let secret_id = text(&secret_id)?;
                exchange(wire, mount, &AppRoleLogin { role_id, secret_id }).await
            }
            VaultAuth::Kubernetes {
                mount,
                role,
                token_file,
            } => {
                let jwt = read_word(token_file).await?;
                let jwt = text(&jwt)?;
                exchange(wire, mount, &KubernetesLogin { role, jwt }).await
            }
            #[cfg(feature = "aws")]
            VaultAuth::Aws {
                mount,
                role,
                region,
                server_id,
            } => {
                let proof = super::aws_login::proof(role, region.as_deref(), server_id.as_deref()).await?;
                exchange(wire, mount, &proof).await
            }
            #[cfg(not(feature = "aws"))]
            VaultAuth::Aws { .. } => Err(StoreError::Unsuitable(Unsuitable::NotBuiltIn { feature: "aws" })),
        }
    }
}

async fn exchange(wire: &mut Wire, mount: &str, proof: &impl Serialize) -> Result<Session, StoreError> {
    let answer = wire
        .send(&Request::post(&["auth", mount, "login"], proof), None)
        .await?;
    let AuthAnswer { auth } = match answer {
        Answer::Given(answer) => answer,
        Answer::Refused(refusal) => return Err(refusal.into_login_error()),
    };
    let token = Password::new(auth.client_token);
    Ok(Session::new(token, auth.lease_duration, auth.renewable, true))
}

/// A token that may not look at itself may still be good for what it is needed for.
async fn look_up(wire: &mut Wire, token: Password) -> Result<Session, StoreError> {
    let request = Request::get(&["auth", "token", "lookup-self"]);
    match wire.send(&request, Some(&token)).await? {
        Answer::Given(LookupAnswer { data }) => Ok(Session::new(token, data.ttl, data.renewable, false)),
        Answer::Refused(refusal) if refusal.status == 403 => Ok(Session::new(token, 0, false, false)),
        Answer::Refused(refusal) => Err(refusal.into_error()),
    }
}

/// The one word that a token file, JWT file or secret id file holds.
async fn read_word(path: &Path) -> Result<Password, StoreError> {
    let failure = |reason: &dyn std::fmt::Display| {
        StoreError::Denied(Said::new(format_args!("{}: {reason}", path.display())))
    };
    let bytes = tokio::fs::read(path).await.map_err(|error| failure(&error))?;
    let word = zeroize::Zeroizing::new(bytes);
    match word.trim_ascii() {
        b"" => Err(failure(&"it is empty")),
        word => Ok(Password::new(word)),
    }
}

fn text(word: &Password) -> Result<&str, StoreError> {
    std::str::from_utf8(word.expose())
        .map_err(|_| StoreError::Denied(Said::new("what it logs in to Vault with is not text")))
}
