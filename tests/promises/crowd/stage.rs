//! A PostgreSQL whose users take turns, all of them members of the role that owns everything, and a pgswivel.

use std::fs::File;
use std::io::Read;

use tokio_postgres::Client;

use super::{Crowd, receipts};
use crate::support::swivel::Unstarted;
use crate::support::{Postgres, Stop, Swivel, Version, eventually};

/// Those of a crowd who can be told to rest: not pgbench, whose sessions do not last anyway.
pub const CALLABLE: &str = "application_name ~ '^crowd ([1-9]|[12][0-9])$'";
const CALLABLES: i64 = 29;

pub struct Stage {
    pub postgres: Postgres,
    pub swivel: Swivel,
    pub admin: Client,
    log: Log,
}

/// What pgswivel says, as it comes.
struct Log {
    file: File,
    /// The beginning of a line.
    rest: String,
    leaders: usize,
    revocable: usize,
}

impl Stage {
    pub const OTHER: &str = "orders_v2";

    /// `describe` says what else is special about the pgswivel.
    pub async fn set(version: Version, describe: impl FnOnce(Unstarted) -> Unstarted) -> Self {
        let postgres = Postgres::version(version)
            .setting("max_connections", "200")
            // What was acknowledged outlives the server.
            .setting("synchronous_commit", "on")
            .start();
        let user = Postgres::USER;
        postgres
            .execute(&format!(
                "CREATE ROLE orders_owner; GRANT ALL ON SCHEMA public TO orders_owner; \
                 GRANT orders_owner TO {user}; {}; ALTER TABLE writes OWNER TO orders_owner",
                receipts::TABLE
            ))
            .await;
        let swivel = Swivel::in_front_of(&postgres)
            .trusting()
            .role_line("set_role = \"orders_owner\"")
            .upstream_line("connections_max = 90");
        let swivel = describe(swivel).start().await;
        let admin = postgres.admin_of(Postgres::DATABASE).await;
        let mut log = Log::of(&swivel);
        eventually("a credential leads", async || log.leaders() == 1).await;
        Self {
            postgres,
            swivel,
            admin,
            log,
        }
    }

    /// One more user that may do what the others may do.
    pub async fn hire(&self, user: &str, password: &str) {
        let sql = format!("CREATE ROLE {user} LOGIN PASSWORD '{password}' IN ROLE orders_owner");
        self.admin.batch_execute(&sql).await.unwrap();
    }

    pub async fn change_password(&self, user: &str, password: &str) {
        let sql = format!("ALTER ROLE {user} PASSWORD '{password}'");
        self.admin.batch_execute(&sql).await.unwrap();
    }

    /// Puts it into the store, and waits until it leads.
    pub async fn rotate_to(&mut self, user: &str, password: &str) {
        let before = self.log.leaders();
        self.swivel.write_secret(user, password);
        eventually("a new credential leads", async || self.log.leaders() > before).await;
    }

    /// How often pgswivel has said that what was replaced is safe to revoke.
    pub fn revocable(&mut self) -> usize {
        self.log.revocable()
    }

    /// Two users take turns: the one whose turn it is has a password that it never had. The old one and the new.
    pub async fn next_turn(&mut self, round: u32) -> [&'static str; 2] {
        let users = [Postgres::USER, Self::OTHER];
        let [old, new] = if round.is_multiple_of(2) {
            users
        } else {
            [users[1], users[0]]
        };
        let password = format!("password {round}");
        let sql = format!("ALTER ROLE {new} LOGIN PASSWORD '{password}'");
        self.admin.batch_execute(&sql).await.unwrap();
        self.rotate_to(new, &password).await;
        [old, new]
    }

    /// How many backends there are that this says of.
    pub async fn backends(&self, condition: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE {condition}");
        self.admin.query_one(&sql, &[]).await.unwrap().get(0)
    }

    /// Whose backends those are, and what they do.
    pub async fn who(&self, condition: &str) -> Vec<String> {
        let sql = format!(
            "SELECT concat_ws(' ', application_name, state, clock_timestamp() - state_change, query) \
             FROM pg_stat_activity WHERE {condition}"
        );
        let rows = self.admin.query(&sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Everybody in a crowd that was hushed has a backend, and has been at rest for so long that it was surveyed.
    pub async fn all_is_quiet(&self, crowd: &Crowd) {
        let at_rest =
            format!("{CALLABLE} AND state = 'idle' AND state_change < clock_timestamp() - interval '0.3 s'");
        eventually("all is quiet", async || {
            crowd.is_well();
            self.backends(&at_rest).await == CALLABLES
        })
        .await;
    }

    /// Ends the backends that this says of; how many there were.
    pub async fn throw_out(&self, condition: &str) -> i64 {
        let sql = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE pid <> pg_backend_pid() AND {condition}"
        );
        self.admin.query_one(&sql, &[]).await.unwrap().get(0)
    }

    pub async fn restart(&mut self, how: Stop) {
        self.postgres.restart(how);
        self.admin = self.postgres.admin_of(Postgres::DATABASE).await;
    }

    /// The database's own clock.
    pub async fn now(&self) -> String {
        let row = self.admin.query_one("SELECT clock_timestamp()::text", &[]).await;
        row.unwrap().get(0)
    }
}

impl Log {
    fn of(swivel: &Swivel) -> Self {
        Self {
            file: File::open(swivel.directory().join("log")).unwrap(),
            rest: String::new(),
            leaders: 0,
            revocable: 0,
        }
    }

    /// How many credentials have led so far.
    fn leaders(&mut self) -> usize {
        self.read();
        self.leaders
    }

    /// How many were safe to revoke, each when nobody was left on it.
    fn revocable(&mut self) -> usize {
        self.read();
        self.revocable
    }

    fn read(&mut self) {
        let mut news = Vec::new();
        self.file.read_to_end(&mut news).unwrap();
        self.rest.push_str(&String::from_utf8_lossy(&news));
        let end = self.rest.rfind('\n').map_or(0, |end| end + 1);
        let lines: String = self.rest.drain(..end).collect();
        self.leaders += lines.matches("credential.leading").count();
        self.revocable += lines.matches("credential.safe_to_revoke").count();
    }
}
