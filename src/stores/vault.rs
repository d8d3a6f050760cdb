//! What the Vault stores share: a client that keeps itself logged in. The answers are structs of our own,
//! since the useful parts (versions, leases, waits) are what ready-made clients drop.

#[cfg(feature = "aws")]
mod aws_login;
mod db;
mod db_static;
mod kv;
mod session;
mod time;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::db::VaultDbStore;
pub use self::db_static::VaultDbStaticStore;
pub use self::kv::VaultKvStore;
use self::session::{Login, Session};
use self::wire::{Body, Refusal, Request, Wire};
use super::{Calls, Operation, StoreError};
use crate::config::Vault;

struct VaultClient {
    wire: Wire,
    login: Login,
    session: Option<Session>,
    /// Counts the tokens: what one token was given ends with it.
    generation: u64,
    calls: Arc<Calls>,
}

/// What a call came to: an answer, or words of refusal that some callers understand.
enum Answer<T> {
    Given(T),
    Refused(Refusal),
}

impl<T> Answer<T> {
    fn given(self) -> Result<T, StoreError> {
        match self {
            Self::Given(value) => Ok(value),
            Self::Refused(refusal) => Err(refusal.into_error()),
        }
    }
}

/// A token at the end of its days is not renewed faster than this.
const RENEWAL_GAP_MIN: Duration = Duration::from_secs(1);

/// A request with no body.
const NOTHING: Option<&()> = None;

impl VaultClient {
    fn new(vault: Vault) -> Result<Self, StoreError> {
        Ok(Self {
            wire: Wire::new(&vault)?,
            login: Login(vault.auth),
            session: None,
            generation: 0,
            calls: Arc::default(),
        })
    }

    /// One call with a token that works, if there is one to have. A 403 may mean that the token has gone:
    /// then one new login and one more try.
    async fn call<T: DeserializeOwned>(
        &mut self,
        operation: Operation,
        request: &Request<'_, impl Serialize>,
    ) -> Result<Answer<T>, StoreError> {
        wire::understand(self.call_raw(operation, request).await?)
    }

    /// The same, with the answer as it is.
    async fn call_raw(
        &mut self,
        operation: Operation,
        request: &Request<'_, impl Serialize>,
    ) -> Result<Answer<Body>, StoreError> {
        let generation = self.generation;
        self.ensure_session().await?;
        let answer = self.call_once(operation, request).await?;
        match answer {
            Answer::Refused(refusal) if refusal.status == 403 && generation == self.generation => {
                if !self.log_in_again().await? {
                    return Ok(Answer::Refused(refusal));
                }
                self.call_once(operation, request).await
            }
            answer => Ok(answer),
        }
    }

    async fn call_once(
        &mut self,
        operation: Operation,
        request: &Request<'_, impl Serialize>,
    ) -> Result<Answer<Body>, StoreError> {
        self.calls.count(operation);
        let token = self.session.as_ref().map(|session| session.token.clone());
        self.wire.exchange(request, token.as_ref()).await
    }

    /// Logs in, notices a new token file, and renews in time.
    async fn ensure_session(&mut self) -> Result<(), StoreError> {
        let is_replaced = self.login.is_replaced(self.session.as_ref()).await;
        let Some(current) = self
            .session
            .as_ref()
            .filter(|session| !is_replaced && !session.is_over())
        else {
            return self.log_in().await;
        };
        if !current.is_due() {
            return Ok(());
        }
        if !current.is_renewable {
            return self.log_in().await;
        }
        self.calls.count(Operation::VaultRenewToken);
        let request = Request::post(&["auth", "token", "renew-self"], &Empty {});
        let token = current.token.clone();
        match self.wire.send(&request, Some(&token)).await {
            Ok(Answer::Given(renewed)) => {
                let stretched = self
                    .session
                    .as_mut()
                    .is_some_and(|session| session.renew(&renewed));
                match stretched || !self.login.can_repeat() {
                    true => Ok(()),
                    false => self.log_in().await,
                }
            }
            Ok(Answer::Refused(refusal)) if refusal.is_about_the_token() && self.login.can_repeat() => {
                self.log_in().await
            }
            // It may still be good: the call that needs it will tell.
            Ok(Answer::Refused(_)) | Err(_) => Ok(()),
        }
    }

    async fn log_in(&mut self) -> Result<(), StoreError> {
        self.calls.count(Operation::VaultLogin);
        let session = self.login.perform(&mut self.wire).await?;
        self.session = Some(session);
        self.generation += 1;
        Ok(())
    }

    /// Whether there is another token to try than the one that was just refused.
    async fn log_in_again(&mut self) -> Result<bool, StoreError> {
        let another = self.login.can_repeat() || self.login.is_replaced(self.session.as_ref()).await;
        if another {
            self.log_in().await?;
        }
        Ok(another)
    }

    /// When a token that can't be had again must be renewed.
    fn upkeep_in(&self) -> Option<Duration> {
        match self.login.can_repeat() {
            true => None,
            false => self.renewal_in(),
        }
    }

    /// When the token itself wants attention.
    fn renewal_in(&self) -> Option<Duration> {
        let due_in = self.session.as_ref().and_then(Session::due_in);
        due_in.map(|wait| wait.max(RENEWAL_GAP_MIN))
    }

    fn token_left(&self) -> Option<Duration> {
        self.session.as_ref().and_then(Session::left)
    }
}

/// `{}`
#[derive(Serialize)]
struct Empty {}
