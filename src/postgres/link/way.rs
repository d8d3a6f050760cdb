//! How a role's sessions come to a database: by which login, over which pool, under which policy.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::complaints::Complaints;
use super::pool::{LinkKind, Pool, Terms};
use crate::access::leave::Policy;
use crate::access::log_in::Access;
use crate::access::roster::Roster;
use crate::config::Role;
use crate::limit::Limit;
use crate::metrics::Metrics;
use crate::postgres::wire::opening::Startup;

pub struct Way {
    pub role: Arc<Role>,
    pub pool: Arc<Pool>,
    pub access: Access,
    pub roster: Arc<Roster>,
    pub policy: Policy,
    pub complaints: Arc<Complaints>,
    /// Links that no session is on, of all upstreams.
    pub warm: Arc<Limit>,
    /// A changed configuration has another way for the role, or none.
    pub replaced: CancellationToken,
}

impl Way {
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.access.metrics
    }

    /// What to say upstream for a client that said `startup`. The user is filled in with each credential.
    pub fn upstream_startup(&self, startup: &Startup) -> Startup {
        let mut upstream = startup.clone();
        let configured = self.pool.target.upstream.database.as_deref().map(str::as_bytes);
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
    pub fn kind_of(&self, startup: &Startup) -> Option<LinkKind> {
        let upstream = &self.pool.target.upstream;
        let is_lent =
            (upstream.reuse || upstream.warm > 0) && startup.speaks_sql() && !limits_its_idleness(startup);
        is_lent.then(|| LinkKind::new(&self.role.name, startup))
    }

    pub fn terms(&self) -> Terms {
        Terms {
            page: self.access.page.clone(),
            warm: Arc::clone(&self.warm),
            metrics: Arc::clone(&self.access.metrics),
        }
    }

    /// Whether `other` leads to the same database with the same secret.
    pub fn leads_where(&self, other: &Self) -> bool {
        self.role.upstream == other.role.upstream
            && self.role.secret == other.role.secret
            && self.pool.target.upstream.database == other.pool.target.upstream.database
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
