//! One session whose backend can be looked up from outside, since the client itself is not to know.

use bytes::{BufMut, BytesMut};

use crate::support::wire::PROTOCOL_3_0;
use crate::support::{Message, Postgres, Swivel, Wire, eventually};

/// What a client can ask about its own session.
pub const EVERYTHING: &str = "SELECT s.name || '=' || s.setting || ' from ' || s.source FROM pg_catalog.pg_settings s \
     UNION ALL SELECT p.name || pg_catalog.md5(p.statement) || p.parameter_types::text || p.from_sql \
     FROM pg_catalog.pg_prepared_statements p \
     UNION ALL SELECT pg_catalog.pg_listening_channels() \
     UNION ALL SELECT c.name FROM pg_catalog.pg_cursors c \
     UNION ALL SELECT pg_catalog.current_setting('role') || session_user || current_user ORDER BY 1";

pub struct Carried {
    pub wire: Wire,
    name: String,
    backend: i32,
}

impl Carried {
    /// A session of the role `app` that began with these parameters.
    pub async fn through(
        swivel: &Swivel,
        postgres: &Postgres,
        name: &str,
        parameters: &[(&str, &str)],
    ) -> Self {
        let wire = login(
            &swivel.address(),
            Swivel::USER,
            name,
            parameters,
            Swivel::PASSWORD,
        )
        .await;
        let mut carried = Self {
            wire,
            name: name.to_owned(),
            backend: 0,
        };
        carried.backend = carried.found(postgres).await.expect("a backend of that name");
        carried
    }

    /// The same session without pgswivel.
    pub async fn direct(postgres: &Postgres, user: &str, name: &str, parameters: &[(&str, &str)]) -> Self {
        Self {
            wire: login(&postgres.address(), user, name, parameters, Postgres::PASSWORD).await,
            name: name.to_owned(),
            backend: 0,
        }
    }

    /// Waits until it is on another backend than it was.
    pub async fn moves(&mut self, postgres: &Postgres) {
        eventually("the session moves", async || {
            let found = self.found(postgres).await;
            let moved = found.is_some_and(|backend| backend != self.backend);
            if moved {
                self.backend = found.unwrap();
            }
            moved
        })
        .await;
    }

    /// Its process id, as the server knows it.
    pub fn backend(&self) -> i32 {
        self.backend
    }

    /// Waits until pgswivel has asked what it holds.
    pub async fn is_surveyed(&self, postgres: &Postgres) {
        self.is_seen(postgres, "state = 'idle' AND query LIKE '/* pgswivel */%'")
            .await;
    }

    /// With what its client has asked for.
    pub async fn is_busy(&self, postgres: &Postgres) {
        self.is_seen(
            postgres,
            "state = 'active' AND query NOT LIKE '/* pgswivel */%' AND query <> ''",
        )
        .await;
    }

    async fn is_seen(&self, postgres: &Postgres, state: &str) {
        let sql = format!("SELECT FROM pg_stat_activity WHERE pid = $1 AND {state}");
        eventually(state, async || {
            let rows = postgres.admin().await.query(&sql, &[&self.backend]).await;
            !rows.unwrap().is_empty()
        })
        .await;
    }

    /// Whether it is where it was, once it is on one backend only: an attempt to move it may be under way.
    pub async fn stayed(&self, postgres: &Postgres) -> bool {
        let mut found = None;
        eventually("the session is on one backend", async || {
            found = self.found(postgres).await;
            found.is_some()
        })
        .await;
        found == Some(self.backend)
    }

    /// None while it is on two at once, or on none.
    async fn found(&self, postgres: &Postgres) -> Option<i32> {
        let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = $1";
        let rows = postgres.admin().await.query(sql, &[&self.name]).await.unwrap();
        match rows.as_slice() {
            [one] => Some(one.get(0)),
            _ => None,
        }
    }

    /// The first column of every row; everything else must be in order.
    pub async fn query(&mut self, sql: &str) -> Vec<String> {
        self.wire.query(sql).await;
        let messages = self.wire.until(b'Z').await;
        let error = messages.iter().find(|message| message.tag == b'E');
        assert!(
            error.is_none(),
            "{}: {sql}: {:?}",
            self.name,
            error.unwrap().error()
        );
        let rows = messages.iter().filter(|message| message.tag == b'D');
        rows.map(|row| row.first_column().unwrap_or_else(|| "NULL".to_owned()))
            .collect()
    }

    /// Extended-protocol messages with a Sync behind them, and what they bring.
    pub async fn extended(&mut self, messages: &[(u8, &[u8])]) -> Vec<Message> {
        let mut out = BytesMut::new();
        for (tag, body) in messages.iter().chain(&[(b'S', &b""[..])]) {
            out.put_u8(*tag);
            out.put_u32(body.len() as u32 + 4);
            out.put_slice(body);
        }
        self.wire.send(&out).await;
        self.wire.until(b'Z').await
    }
}

async fn login(address: &str, user: &str, name: &str, parameters: &[(&str, &str)], password: &str) -> Wire {
    let mut wire = Wire::connect(address).await;
    let mut all = vec![("user", user), ("application_name", name)];
    if !parameters.iter().any(|(name, _)| *name == "database") {
        all.push(("database", Postgres::DATABASE));
    }
    all.extend_from_slice(parameters);
    wire.startup(PROTOCOL_3_0, &all).await;
    wire.authenticate(password.as_bytes()).await.unwrap();
    wire.until(b'Z').await;
    wire
}
