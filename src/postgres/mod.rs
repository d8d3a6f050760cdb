//! The Postgres wing. The only door is [`serve`].

mod auth;
mod by_the_book;
mod cancel;
mod converse;
mod course;
mod crossing;
mod entry;
mod errors;
mod examine;
mod exchange;
mod lane;
mod ledger;
mod lender;
mod links;
mod login;
mod lore;
mod move_;
mod notes;
mod rebuilding;
mod relay;
mod replay;
mod rescue;
mod roster;
mod salted;
mod session;
mod startup;
mod survey;
mod talk;
#[cfg(test)]
mod tests;
mod turnstile;
pub mod wire;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use crate::config::{Auth, Limits, Listen, Role};
use crate::credentials::{Credential, Page, Verdicts};
use crate::metrics::Metrics;
use crate::names::{Endpoint, RoleName, SecretName};
use crate::net::Socket;
use crate::net::tls::ServerTls;
pub use by_the_book::AttemptError;
use by_the_book::ByTheBook;
use cancel::Cancels;
pub use course::{Course, Policy};
pub use examine::{Admission, Examination, Reached, database, examine};
pub use ledger::Pin;
use lender::Kind;
pub use login::{LoginError, Target};
use lore::Library;
pub use roster::{Aboard, Pinned, Roster};
use turnstile::Turnstiles;
use wire::opening::Startup;
use wire::scram::server::{SaltSecret, Verifier};

/// A connection that a listener accepted.
#[derive(Debug)]
pub struct Client {
    pub socket: Socket,
    /// Names its session in the log.
    pub id: u64,
    /// The listener can be reached from elsewhere.
    pub must_encrypt: bool,
}

/// What a role is mapped to.
pub struct Mapping {
    role: Arc<Role>,
    target: Arc<Target>,
    book: ByTheBook,
    roster: Arc<Roster>,
    policy: Policy,
    /// None: `trust`.
    verifier: Option<Arc<Verifier>>,
}

/// One secret, as seen from here: what to try, and whom to tell.
#[derive(Clone)]
pub struct Credentials {
    pub page: watch::Receiver<Arc<Page>>,
    pub verdicts: Arc<dyn Verdicts>,
    /// How long a client is held while none of them works.
    pub patience: Duration,
    /// What happens to sessions when one of them is replaced.
    pub policy: Policy,
}

/// What all sessions of one configuration share.
pub struct Wing {
    mappings: BTreeMap<RoleName, Arc<Mapping>>,
    tls: Option<ServerTls>,
    limits: Limits,
    scram_iterations: NonZeroU32,
    lobby: Lobby,
}

/// What outlives a configuration: the sessions there are, and what their clients were told.
#[derive(Clone)]
pub struct Lobby {
    salts: SaltSecret,
    cancels: Arc<Cancels>,
    turnstiles: Arc<Turnstiles>,
    startups: Arc<Semaphore>,
    seats: Arc<Semaphore>,
    moves: Arc<Semaphore>,
    library: Arc<Library>,
    roster: Arc<Roster>,
    metrics: Arc<Metrics>,
    /// True: sessions end now.
    stop: watch::Receiver<bool>,
}

impl Lobby {
    /// Who is logged in with what.
    pub fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    pub fn new(limits: &Limits, stop: watch::Receiver<bool>, metrics: Arc<Metrics>) -> Self {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).expect("the system's random source does not fail");
        Self {
            salts: SaltSecret::from_random(secret),
            cancels: Cancels::new(limits.cancels),
            turnstiles: Arc::new(Turnstiles::new(limits, Arc::clone(&metrics))),
            startups: Arc::new(Semaphore::new(limits.startups as usize)),
            seats: Arc::new(Semaphore::new(limits.clients as usize)),
            moves: Arc::new(Semaphore::new(limits.moves as usize)),
            library: Arc::default(),
            roster: Roster::new(),
            metrics,
            stop,
        }
    }
}

impl Wing {
    pub fn new(listen: &Listen, tls: Option<ServerTls>, limits: Limits, lobby: Lobby) -> Self {
        Self {
            mappings: BTreeMap::new(),
            tls,
            limits,
            scram_iterations: NonZeroU32::new(listen.scram_iterations).unwrap_or(NonZeroU32::MIN),
            lobby,
        }
    }

    /// Lets clients in as `role`.
    pub fn add(&mut self, role: Arc<Role>, target: Arc<Target>, credentials: Credentials) {
        let verifier = match &role.auth {
            Auth::Trust => None,
            Auth::Scram(password) => Some(Arc::new(Verifier::derive(
                &self.lobby.salts,
                role.name.as_str().as_bytes(),
                password.expose(),
                self.scram_iterations,
            ))),
        };
        let name = role.name.clone();
        let mapping = Mapping {
            role,
            target,
            book: ByTheBook {
                page: credentials.page,
                verdicts: credentials.verdicts,
                turnstiles: Arc::clone(&self.lobby.turnstiles),
                patience: credentials.patience,
                metrics: Arc::clone(&self.lobby.metrics),
            },
            roster: Arc::clone(&self.lobby.roster),
            policy: credentials.policy,
            verifier,
        };
        self.mappings.insert(name, Arc::new(mapping));
    }

    /// Nothing satisfies it, and nothing tells it from a role's own.
    fn mock_verifier(&self, name: &[u8]) -> Arc<Verifier> {
        Arc::new(Verifier::mock(&self.lobby.salts, name, self.scram_iterations))
    }
}

impl Mapping {
    /// What to say upstream for a client that said `startup`. The user is filled in with each credential.
    fn upstream_startup(&self, startup: &Startup) -> Startup {
        let mut upstream = startup.clone();
        let configured = self.target.upstream.database.as_deref().map(str::as_bytes);
        // Postgres takes the user's name for an absent database, and the client only knows its role's.
        let asked = startup.get(b"database").filter(|name| !name.is_empty());
        let database = configured.or(asked).unwrap_or(self.role.name.as_str().as_bytes());
        upstream.set(b"database", database);
        if let Some(role) = &self.role.set_role {
            // As a startup parameter it is what RESET ROLE and DISCARD ALL come back to.
            upstream.set(b"role", role.as_bytes());
        }
        upstream
    }

    /// None: links of such clients are not lent again.
    fn kind_of(&self, startup: &Startup) -> Option<Kind> {
        let upstream = &self.target.upstream;
        let is_lent = (upstream.reuse || upstream.warm > 0) && speaks_sql(startup);
        is_lent.then(|| Kind::new(&self.role.name, startup))
    }
}

/// Not the replication protocol.
fn speaks_sql(startup: &Startup) -> bool {
    // As Postgres reads a boolean.
    let is_off = |value: &[u8]| {
        let value = value.to_ascii_lowercase();
        let begins = |word: &[u8], least: usize| value.len() >= least && word.starts_with(&value);
        value == b"0" || begins(b"off", 2) || begins(b"false", 1) || begins(b"no", 1)
    };
    startup.get(b"replication").is_none_or(is_off)
}

/// The door: one client, from accept to close.
pub async fn serve(client: Client, wing: Arc<Wing>) {
    session::run(client, wing).await;
}

/// What is to be proven, and where.
#[derive(Clone, Copy)]
pub struct Proof<'a> {
    pub target: &'a Target,
    pub secret: &'a SecretName,
    pub credential: &'a Credential,
    pub endpoint: &'a Endpoint,
}

/// Proves a credential by a real login, and reports the verdict. None: somebody else's login told, or will.
pub async fn prove(
    lobby: &Lobby,
    proof: Proof<'_>,
    verdicts: &dyn Verdicts,
) -> Option<Result<(), AttemptError<LoginError>>> {
    let Proof {
        target,
        secret,
        credential,
        endpoint,
    } = proof;
    let attempt = async {
        let proof = examine::prove(target, endpoint, credential).await;
        links::count(&lobby.metrics, secret, credential, &proof);
        proof.map_err(AttemptError::from)
    };
    by_the_book::prove(&lobby.turnstiles, verdicts, credential, endpoint, attempt).await
}
