//! One writer at a time: an advisory lock on each server for each role, held by a session that does nothing else. It is
//! gone with whoever held it.

use super::{DatabaseError, Server, Session};
use crate::credentials::Credential;
use crate::names::Endpoint;

/// "pgsw": what else takes advisory locks there takes others.
const CLASS: i32 = 0x7067_7377;

pub struct Lock {
    sessions: Vec<(Endpoint, Session)>,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("{role} is being rotated by somebody else: {holder} holds the lock on {endpoint}")]
    Held {
        role: String,
        endpoint: Endpoint,
        holder: String,
    },
    #[error("{endpoint}: {error}")]
    Server {
        endpoint: Endpoint,
        error: DatabaseError,
    },
    #[error("the lock on {endpoint} is lost ({error}): somebody else may have gone on")]
    Lost {
        endpoint: Endpoint,
        error: DatabaseError,
    },
}

impl Lock {
    /// All of it, or the name of whoever has a part.
    pub async fn take(
        servers: &[&Server],
        credentials: &[Credential],
        roles: &[String],
    ) -> Result<Self, LockError> {
        let mut sessions = Vec::new();
        for server in servers {
            let failed = |error| LockError::Server {
                endpoint: server.endpoint.clone(),
                error,
            };
            let session = server.log_in(credentials).await.map_err(failed)?;
            session.stay().await.map_err(failed)?;
            for role in roles {
                let is_mine = session.try_lock(role).await.map_err(failed)?;
                let holder = session.holder(role).await.map_err(failed)?;
                let missed = || "somebody who has just let it go".to_owned();
                if let Some(holder) = holder.or_else(|| (!is_mine).then(missed)) {
                    return Err(LockError::Held {
                        role: role.clone(),
                        endpoint: server.endpoint.clone(),
                        holder,
                    });
                }
            }
            sessions.push((server.endpoint.clone(), session));
        }
        Ok(Self { sessions })
    }

    /// What is changed is changed over the session that holds the lock there: a change that is still under way when
    /// whoever asked for it is gone keeps everybody else away until it is over.
    pub fn session(&self, endpoint: &Endpoint) -> Option<&Session> {
        let mut all = self.sessions.iter();
        all.find(|(of, _)| of == endpoint).map(|(_, session)| session)
    }

    /// It lives as long as its sessions.
    pub async fn is_held(&self) -> Result<(), LockError> {
        for (endpoint, session) in &self.sessions {
            let asked = session.one("SELECT 1", &[]).await;
            asked.map_err(|error| LockError::Lost {
                endpoint: endpoint.clone(),
                error,
            })?;
        }
        Ok(())
    }
}

impl Session {
    /// A server that ends idle sessions would end the lock. Older ones know no such setting.
    async fn stay(&self) -> Result<(), DatabaseError> {
        const STATEMENT: &str = "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings \
             WHERE name = 'idle_session_timeout'";
        self.query(STATEMENT, &[]).await.map(drop)
    }

    async fn try_lock(&self, role: &str) -> Result<bool, DatabaseError> {
        let row = self
            .one(
                "SELECT pg_catalog.pg_try_advisory_lock($1, $2)",
                &[&CLASS, &key(role)],
            )
            .await?;
        Ok(row.try_get(0)?)
    }

    /// Somebody else. Postgres keeps such locks apart by database, and roles are those of all of them: two that come by
    /// different databases at once see each other, and both give way.
    async fn holder(&self, role: &str) -> Result<Option<String>, DatabaseError> {
        const STATEMENT: &str = "SELECT coalesce(nullif(a.application_name, ''), a.usename::text, '?'), \
             coalesce(host(a.client_addr), 'a Unix socket'), \
             coalesce(to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), '?') \
             FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid) \
             WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 \
             AND l.classid::int8::int4 = $1 AND l.objid::int8 = $2 AND l.pid <> pg_catalog.pg_backend_pid()";
        let object = i64::from(key(role).cast_unsigned());
        let rows = self.query(STATEMENT, &[&CLASS, &object]).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let (name, from, since): (String, String, String) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(Some(format!("{name:?} from {from} since {since}")))
    }
}

/// FNV-1a: the same in every version of the program.
fn key(role: &str) -> i32 {
    let hash = role.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash.cast_signed()
}
