//! The Postgres wing. The only door is [`serve`].

mod auth;
mod bell;
mod cancel;
mod complaints;
mod converse;
mod crossing;
mod entry;
mod errors;
mod examine;
mod exchange;
mod farewell;
mod known;
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
mod salted;
mod seldom;
mod session;
mod startup;
mod survey;
mod talk;
#[cfg(test)]
mod tests;
pub mod wire;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::gate::Gates;
use crate::access::leave::Policy;
use crate::access::log_in::{self, Access, AttemptError};
use crate::access::roster::Roster;
use crate::config::{Auth, Limits, Listen, OtherDatabase, Role};
use crate::credentials::{Credential, Page, Verdicts};
use crate::limit::{Limit, Permit};
use crate::metrics::{self, Metrics};
use crate::names::{Endpoint, RoleName, SecretName};
use crate::net::Socket;
use crate::net::tls::ServerTls;
use crate::random;
use cancel::{CancelError, Cancels};
use complaints::Complaints;
use errors::ClientError;
pub use examine::{Admission, Examination, Reached, database, examine};
use lender::Kind;
pub use login::{LoginError, Target};
use lore::Library;
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
    access: Access,
    roster: Arc<Roster>,
    policy: Policy,
    complaints: Arc<Complaints>,
    /// Links that no session is on, of all upstreams.
    warm: Arc<Limit>,
    /// A changed configuration has another mapping for the role, or none.
    replaced: CancellationToken,
    /// None: `trust`.
    verifier: Option<Arc<Verifier>>,
}

type Mappings = BTreeMap<RoleName, Arc<Mapping>>;

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
    mappings: Mappings,
    tls: Option<ServerTls>,
    limits: Limits,
    scram_iterations: NonZeroU32,
    insecure: bool,
    lobby: Lobby,
}

/// What outlives a configuration: the sessions there are, and what their clients were told.
#[derive(Clone)]
pub struct Lobby {
    salts: SaltSecret,
    cancels: Arc<Cancels>,
    gates: Arc<Gates>,
    startups: Arc<Limit>,
    seats: Arc<Limit>,
    moves: Arc<Limit>,
    warm: Arc<Limit>,
    library: Arc<Library>,
    roster: Arc<Roster>,
    metrics: Arc<Metrics>,
    complaints: Arc<Complaints>,
    /// Of the wing that new clients come to.
    mappings: Arc<watch::Sender<Mappings>>,
    /// True: sessions end now.
    stop: watch::Receiver<bool>,
}

impl Lobby {
    /// Who is logged in with what.
    pub fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    pub fn new(limits: &Limits, stop: watch::Receiver<bool>, metrics: Arc<Metrics>) -> Self {
        Self {
            salts: SaltSecret::from_random(random::bytes()),
            cancels: Cancels::new(limits.cancels),
            gates: Arc::new(Gates::new(limits, Arc::clone(&metrics))),
            startups: Limit::new(limits.startups),
            seats: Limit::new(limits.clients),
            moves: Limit::new(limits.moves),
            warm: Limit::new(limits.warm),
            library: Arc::default(),
            roster: Roster::new(),
            metrics,
            complaints: Arc::default(),
            mappings: Arc::default(),
            stop,
        }
    }

    /// Who is in stays in, and counts.
    pub fn set_limits(&self, limits: &Limits) {
        self.cancels.turns.set(limits.cancels);
        self.gates.set_limits(limits);
        self.startups.set(limits.startups);
        self.seats.set(limits.clients);
        self.moves.set(limits.moves);
        self.warm.set(limits.warm);
    }

    /// Until sessions are told to end. Whoever waits for something else is told, too.
    async fn stopped(&self) {
        let mut stop = self.stop.clone();
        if stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// To be called now and then.
    pub fn say_what_is_over(&self) {
        self.complaints.say_what_is_over();
    }

    fn turned_away(&self, error: &ClientError) {
        if let Some(limit) = error.limit() {
            self.metrics.hit(limit);
            self.complaints.limit_reached(limit, error);
        }
        if let ClientError::WrongPassword { role } = error {
            self.complaints.stranger(role);
        }
    }

    fn not_cancelled(&self, error: &CancelError) {
        if matches!(error, CancelError::TooMany) {
            self.metrics.hit(metrics::Limit::Cancels);
            self.complaints.limit_reached(metrics::Limit::Cancels, error);
        }
    }

    /// What the role is mapped to by now, if it is another way to the same database with the same secret.
    fn successor(&self, mapping: &Arc<Mapping>) -> Option<Arc<Mapping>> {
        let mappings = self.mappings.borrow();
        let latest = mappings.get(&mapping.role.name)?;
        let leads_there = latest.role.upstream == mapping.role.upstream
            && latest.role.secret == mapping.role.secret
            && latest.target.upstream.database == mapping.target.upstream.database;
        (leads_there && !Arc::ptr_eq(latest, mapping)).then(|| Arc::clone(latest))
    }
}

impl Wing {
    pub fn new(listen: &Listen, tls: Option<ServerTls>, limits: Limits, lobby: Lobby) -> Self {
        Self {
            mappings: BTreeMap::new(),
            tls,
            limits,
            scram_iterations: NonZeroU32::new(listen.scram_iterations).unwrap_or(NonZeroU32::MIN),
            insecure: listen.insecure,
            lobby,
        }
    }

    /// Lets clients in as `role`. Expensive: a password is made into a verifier.
    pub fn add(&mut self, role: Arc<Role>, target: Arc<Target>, credentials: Credentials) {
        let verifier = self.verifier(&role);
        let name = role.name.clone();
        let mapping = Mapping {
            role,
            target,
            access: Access {
                page: credentials.page,
                verdicts: credentials.verdicts,
                gates: Arc::clone(&self.lobby.gates),
                patience: credentials.patience,
                metrics: Arc::clone(&self.lobby.metrics),
            },
            roster: Arc::clone(&self.lobby.roster),
            policy: credentials.policy,
            complaints: Arc::clone(&self.lobby.complaints),
            warm: Arc::clone(&self.lobby.warm),
            replaced: CancellationToken::new(),
            verifier,
        };
        self.mappings.insert(name, Arc::new(mapping));
    }

    /// Sessions that there are already follow it from now on, where it leads to the same place. Links that no session
    /// is on do not: they were made as the configuration before wanted it.
    pub fn open(self) -> Arc<Self> {
        let before = self.lobby.mappings.send_replace(self.mappings.clone());
        before.values().for_each(|mapping| mapping.replaced.cancel());
        Arc::new(self)
    }

    /// A client over a listener that others can reach has to speak TLS.
    pub fn guards_exposed_listeners(&self) -> bool {
        !self.insecure
    }

    fn verifier(&self, role: &Role) -> Option<Arc<Verifier>> {
        let Auth::Scram(password) = &role.auth else {
            return None;
        };
        let mappings = self.lobby.mappings.borrow();
        let before = mappings
            .get(&role.name)
            .filter(|before| before.role.auth == role.auth);
        let known = before.and_then(|before| before.verifier.clone());
        let verifier = known.filter(|known| known.iterations() == self.scram_iterations);
        Some(verifier.unwrap_or_else(|| {
            let name = role.name.as_str().as_bytes();
            let verifier =
                Verifier::derive(&self.lobby.salts, name, password.expose(), self.scram_iterations);
            Arc::new(verifier)
        }))
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

    /// Who asks for another database than there is here would do there what was meant for elsewhere. Drivers that were told
    /// of none ask for one that is called as their user.
    fn check_database(&self, startup: &Startup) -> Result<(), ClientError> {
        let upstream = &self.target.upstream;
        let Some(database) = &upstream.database else {
            return Ok(());
        };
        let asked = startup.get(b"database").unwrap_or_default();
        let is_here = [&b""[..], database.as_bytes(), self.role.name.as_str().as_bytes()].contains(&asked);
        if is_here || upstream.other_database == OtherDatabase::Ignore || has_no_database(startup) {
            return Ok(());
        }
        Err(ClientError::OtherDatabase {
            asked: String::from_utf8_lossy(asked).into_owned(),
            role: self.role.name.to_string(),
            database: database.clone(),
            upstream: upstream.name.to_string(),
        })
    }

    /// None: links of such clients are not lent again.
    fn kind_of(&self, startup: &Startup) -> Option<Kind> {
        let upstream = &self.target.upstream;
        let is_lent =
            (upstream.reuse || upstream.warm > 0) && speaks_sql(startup) && !limits_its_idleness(startup);
        is_lent.then(|| Kind::new(&self.role.name, startup))
    }
}

/// The time for which a session may be idle counts from the last answer, and that may be for somebody else.
fn limits_its_idleness(startup: &Startup) -> bool {
    const SETTING: &[u8] = b"idle_session_timeout";
    let names = |text: &[u8]| {
        text.windows(SETTING.len())
            .any(|part| part.eq_ignore_ascii_case(SETTING))
    };
    startup
        .parameters
        .iter()
        .any(|(name, value)| names(name) || name == b"options" && names(value))
}

/// Physical replication: Postgres itself ignores what is asked for.
fn has_no_database(startup: &Startup) -> bool {
    !speaks_sql(startup)
        && startup
            .get(b"replication")
            .is_some_and(|value| !value.eq_ignore_ascii_case(b"database"))
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

/// Serves one accepted connection. A session is a task of its own: nothing of how it began stays in memory, and
/// little code stands between its sockets and what it does with them.
pub async fn serve(client: Client, wing: Arc<Wing>, admission: Permit, tasks: TaskTracker) {
    if let Some(session) = session::begin(client, wing).await {
        tasks.spawn(session.converse(admission));
    }
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
        let registration = lobby.roster.enter(secret, &target.upstream.name, credential);
        let proof = examine::prove(target, endpoint, credential).await;
        links::count(&lobby.metrics, secret, credential, &proof);
        let link = proof.map_err(AttemptError::from)?;
        // What a proof says does not wait for its backend's end.
        tokio::spawn(farewell::leave(link.stream, registration));
        Ok(())
    };
    log_in::prove(&lobby.gates, verdicts, credential, endpoint, attempt).await
}
