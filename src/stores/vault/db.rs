use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::wire::{Request, understand};
use super::{Answer, VaultClient};
use crate::config::Vault;
use crate::credentials::{Credential, Position};
use crate::stores::payload::Pair;
use crate::stores::{Calls, DigestKey, Lease, Operation, Reading, Store, StoreError, StoreFuture};

/// A dynamic role of the database engine: a user of our own, which lives as long as its lease.
///
/// The lease is renewed at half its time, and at each poll, which so finds out that somebody revoked it. A new user is asked for when renewal stops extending, when a lease
/// that can't be renewed has used two thirds of its time, and when the token that owns the lease was
/// replaced, because the lease ends with it. Nothing is revoked here: sessions may still need it.
pub struct VaultDbStore {
    client: VaultClient,
    mount: String,
    role: String,
    digests: DigestKey,
    held: Option<Held>,
    /// A login with the held user was refused.
    is_refused: bool,
}

struct Held {
    credential: Credential,
    lease_id: String,
    granted: Duration,
    ends_at: Instant,
    issued_at: Instant,
    is_renewable: bool,
    /// The token that owns the lease.
    generation: u64,
}

/// `GET /v1/<mount>/creds/<role>`
#[derive(Deserialize)]
struct LeaseAnswer {
    lease_id: String,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
    data: LeasedCredential,
}

#[derive(Deserialize)]
struct LeasedCredential {
    username: String,
    password: String,
}

/// `PUT /v1/sys/leases/renew`
#[derive(Deserialize)]
struct RenewAnswer {
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
}

#[derive(Serialize)]
struct RenewLease<'a> {
    lease_id: &'a str,
}

/// However often logins are refused, users are not made faster than this.
const ISSUE_GAP_MIN: Duration = Duration::from_secs(30);

const NEXT_READ_MIN: Duration = Duration::from_secs(1);

impl VaultDbStore {
    pub fn new(vault: Vault, mount: String, role: String, digests: DigestKey) -> Result<Self, StoreError> {
        Ok(Self {
            client: VaultClient::new(vault)?,
            mount,
            role,
            digests,
            held: None,
            is_refused: false,
        })
    }

    async fn take(&mut self) -> Result<Reading, StoreError> {
        self.client.ensure_session().await?;
        if !self.keep_held().await? {
            let held = self.issue().await?;
            self.held = Some(held);
            self.is_refused = false;
        }
        let held = self.held.as_ref().expect("kept or issued just above");
        Ok(self.reading(held))
    }

    /// Whether the user at hand goes on to be the one. Renews its lease when that is possible.
    async fn keep_held(&mut self) -> Result<bool, StoreError> {
        let Some(held) = &mut self.held else {
            return Ok(false);
        };
        if held.granted.is_zero() {
            return Ok(!self.is_refused || held.issued_at.elapsed() < ISSUE_GAP_MIN);
        }
        let is_distrusted = self.is_refused && held.issued_at.elapsed() >= ISSUE_GAP_MIN;
        if held.generation != self.client.generation || held.left().is_zero() || is_distrusted {
            return Ok(false);
        }
        if !held.is_renewable {
            return Ok(held.left() > held.granted / 3);
        }
        let body = RenewLease {
            lease_id: &held.lease_id,
        };
        let request = Request::post(&["sys", "leases", "renew"], &body);
        let answer = self
            .client
            .call_once(Operation::VaultRenewLease, &request)
            .await?;
        let answer: RenewAnswer = match understand(answer)? {
            Answer::Given(answer) => answer,
            // The lease is gone, or not ours to renew: a new one settles both.
            Answer::Refused(refusal) if (400..429).contains(&refusal.status) => return Ok(false),
            Answer::Refused(refusal) => return Err(refusal.into_error()),
        };
        let extended = Duration::from_secs(answer.lease_duration);
        held.ends_at = Instant::now() + extended;
        held.is_renewable = answer.renewable;
        Ok(extended * 3 >= held.granted * 2)
    }

    async fn issue(&mut self) -> Result<Held, StoreError> {
        let path = [self.mount.as_str(), "creds", self.role.as_str()];
        let request = Request::get(&path);
        let answer: LeaseAnswer = self.client.call(Operation::VaultIssue, &request).await?.given()?;
        let password = Zeroizing::new(answer.data.password);
        let pair = Pair::new(Position::Current, &answer.data.username, password.as_bytes())?;
        let granted = Duration::from_secs(answer.lease_duration);
        let now = Instant::now();
        Ok(Held {
            credential: pair.digested(&self.digests),
            lease_id: answer.lease_id,
            granted,
            ends_at: now + granted,
            issued_at: now,
            is_renewable: answer.renewable,
            generation: self.client.generation,
        })
    }

    fn reading(&self, held: &Held) -> Reading {
        let credentials = Reading::of(vec![held.credential.clone()]);
        if held.granted.is_zero() {
            return Reading {
                read_by: self.client.upkeep_in(),
                ..credentials
            };
        }
        let left = held.left();
        let due = match held.is_renewable {
            true => left / 2,
            false => left.saturating_sub(held.granted / 3),
        };
        let wishes = [Some(due), self.client.renewal_in()];
        let ends = [Some(left), self.client.token_left()];
        Reading {
            read_by: wishes
                .into_iter()
                .flatten()
                .min()
                .map(|wish| wish.max(NEXT_READ_MIN)),
            lease: ends.into_iter().flatten().min().map(|left| Lease { left }),
            ..credentials
        }
    }
}

impl Held {
    fn left(&self) -> Duration {
        self.ends_at.saturating_duration_since(Instant::now())
    }
}

impl Store for VaultDbStore {
    fn read(&mut self) -> StoreFuture<'_, Result<Reading, StoreError>> {
        Box::pin(self.take())
    }

    fn refused(&mut self, version: &str) {
        let held = self.held.as_ref();
        self.is_refused |= held.is_some_and(|held| *held.credential.version == *version);
    }

    fn calls(&self) -> Arc<Calls> {
        Arc::clone(&self.client.calls)
    }
}
