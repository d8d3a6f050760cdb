//! What all sessions share: of one configuration, and beyond it.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::access::gate::Gates;
use crate::access::leave::Policy;
use crate::access::log_in::Access;
use crate::access::roster::Roster;
use crate::config::{Auth, Limits, Listen, Role};
use crate::credentials::{Page, Verdicts};
use crate::limit::Limit;
use crate::metrics::{self, Metrics};
use crate::names::RoleName;
use crate::net::tls::ServerTls;
use crate::postgres::link::cancel::{CancelError, Cancels};
use crate::postgres::link::complaints::Complaints;
use crate::postgres::link::fleet_link::ServedDatabase;
use crate::postgres::link::learn::PerDatabase;
use crate::postgres::link::pool::Pool;
use crate::postgres::link::way::Way;
use crate::postgres::wire::opening::Startup;
use crate::postgres::wire::scram::server::{SaltSecret, Verifier};
use crate::random;

/// What a client's role stands for.
#[derive(Clone)]
pub struct LocalRole {
    pub way: Arc<Way>,
    /// None: `trust`.
    pub verifier: Option<Arc<Verifier>>,
}

type LocalRoles = BTreeMap<RoleName, LocalRole>;

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
pub struct Service {
    pub roles: LocalRoles,
    pub tls: Option<ServerTls>,
    pub limits: Limits,
    scram_iterations: NonZeroU32,
    insecure: bool,
    pub shared: Shared,
}

/// What outlives a configuration: the sessions there are, and what their clients were told.
#[derive(Clone)]
pub struct Shared {
    salts: SaltSecret,
    pub cancels: Arc<Cancels>,
    pub gates: Arc<Gates>,
    pub startups: Arc<Limit>,
    pub seats: Arc<Limit>,
    pub moves: Arc<Limit>,
    warm: Arc<Limit>,
    pub risky_names: Arc<PerDatabase>,
    roster: Arc<Roster>,
    pub metrics: Arc<Metrics>,
    pub complaints: Arc<Complaints>,
    /// Of the service that new clients come to.
    roles: Arc<watch::Sender<LocalRoles>>,
    /// True: sessions end now.
    pub stop: watch::Receiver<bool>,
}

impl Shared {
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
            risky_names: Arc::default(),
            roster: Roster::new(),
            metrics,
            complaints: Arc::default(),
            roles: Arc::default(),
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
    pub async fn stopped(&self) {
        let mut stop = self.stop.clone();
        if stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// To be called now and then.
    pub fn say_what_is_over(&self) {
        self.complaints.say_what_is_over();
    }

    /// A client is turned away by it.
    pub fn limit_hit(&self, limit: metrics::Limit, error: &dyn Error) {
        self.metrics.hit(limit);
        self.complaints.limit_reached(limit, error);
    }

    pub fn not_cancelled(&self, error: &CancelError) {
        if matches!(error, CancelError::TooMany) {
            self.limit_hit(metrics::Limit::Cancels, error);
        }
    }

    /// By which way the role goes by now, if it is another one to the same database with the same secret.
    pub fn successor(&self, way: &Arc<Way>) -> Option<Arc<Way>> {
        let roles = self.roles.borrow();
        let latest = &roles.get(&way.role.name)?.way;
        (latest.leads_where(way) && !Arc::ptr_eq(latest, way)).then(|| Arc::clone(latest))
    }
}

impl Service {
    pub fn new(listen: &Listen, tls: Option<ServerTls>, limits: Limits, shared: Shared) -> Self {
        Self {
            roles: BTreeMap::new(),
            tls,
            limits,
            scram_iterations: NonZeroU32::new(listen.scram_iterations).unwrap_or(NonZeroU32::MIN),
            insecure: listen.insecure,
            shared,
        }
    }

    /// Lets clients in as `role`. Expensive: a password is made into a verifier.
    pub fn add(&mut self, role: Arc<Role>, pool: Arc<Pool>, credentials: Credentials) {
        let verifier = self.verifier(&role);
        let name = role.name.clone();
        let way = Arc::new(Way {
            role,
            pool,
            access: Access {
                page: credentials.page,
                verdicts: credentials.verdicts,
                gates: Arc::clone(&self.shared.gates),
                patience: credentials.patience,
                metrics: Arc::clone(&self.shared.metrics),
            },
            roster: Arc::clone(&self.shared.roster),
            policy: credentials.policy,
            complaints: Arc::clone(&self.shared.complaints),
            warm: Arc::clone(&self.shared.warm),
            replaced: CancellationToken::new(),
        });
        self.roles.insert(name, LocalRole { way, verifier });
    }

    /// Sessions that there are already follow it from now on, where it leads to the same place. Links that no session
    /// is on do not: they were made as the configuration before wanted it.
    pub fn open(self) -> Arc<Self> {
        let before = self.shared.roles.send_replace(self.roles.clone());
        before.values().for_each(|role| role.way.replaced.cancel());
        Arc::new(self)
    }

    /// Each database that some role leads to, once.
    pub fn databases(&self) -> Vec<ServedDatabase> {
        let mut known = BTreeSet::new();
        let mut is_new = |way: &Arc<Way>| {
            let startup = way.upstream_startup(&Startup::default());
            let database = startup.get(b"database").unwrap_or_default().to_vec();
            known.insert((way.role.upstream.clone(), database))
        };
        let ways = self.roles.values().map(|role| &role.way);
        ways.filter(|way| is_new(way)).map(ServedDatabase::new).collect()
    }

    /// A client over a listener that others can reach has to speak TLS.
    pub fn guards_exposed_listeners(&self) -> bool {
        !self.insecure
    }

    fn verifier(&self, role: &Role) -> Option<Arc<Verifier>> {
        let Auth::Scram(password) = &role.auth else {
            return None;
        };
        let roles = self.shared.roles.borrow();
        let before = roles
            .get(&role.name)
            .filter(|before| before.way.role.auth == role.auth);
        let known = before.and_then(|before| before.verifier.clone());
        let verifier = known.filter(|known| known.iterations() == self.scram_iterations);
        Some(verifier.unwrap_or_else(|| {
            let name = role.name.as_str().as_bytes();
            let verifier =
                Verifier::derive(&self.shared.salts, name, password.expose(), self.scram_iterations);
            Arc::new(verifier)
        }))
    }

    /// Nothing satisfies it, and nothing tells it from a role's own.
    pub fn mock_verifier(&self, name: &[u8]) -> Arc<Verifier> {
        Arc::new(Verifier::mock(&self.shared.salts, name, self.scram_iterations))
    }
}
