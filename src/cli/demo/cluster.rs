//! A Postgres of the demo's own: SCRAM on a random loopback port, and nothing that outlives it.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio_postgres::{Client, Config, NoTls, Row};

use super::failure::{Failure, io};
use super::place::{DemoPlace, random_word};
use super::program::{Program, furnish, last_lines, tethered};

/// The users that the application's credentials alternate between.
pub(super) const USERS: [&str; 2] = ["orders_a", "orders_b"];
pub(super) const DATABASE: &str = "orders";

const ADMIN: &str = "postgres";
const START_PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A port that was free a moment ago may be taken.
const PORT_TRIES: u32 = 5;

/// Its data is thrown away, and a slow disk would only blur what is to be seen.
const SETTINGS: [&str; 6] = [
    "fsync=off",
    "full_page_writes=off",
    "max_connections=60",
    "password_encryption=scram-sha-256",
    "unix_socket_directories=",
    // In files, so that not even a kill leaves shared memory behind.
    "dynamic_shared_memory_type=mmap",
];

/// Both users write to tables of one owner, as alternating users have to.
const SCHEMA: &str = "
    CREATE ROLE orders_owner NOLOGIN;
    CREATE TABLE payment (side text NOT NULL, number bigint NOT NULL, made timestamptz NOT NULL DEFAULT now());
    CREATE TABLE account (side text PRIMARY KEY, payments bigint NOT NULL DEFAULT 0);
    ALTER TABLE payment OWNER TO orders_owner;
    ALTER TABLE account OWNER TO orders_owner;";

pub(super) struct Cluster {
    port: u16,
    admin_password: String,
    version: String,
    program: Program,
}

impl Cluster {
    pub(super) async fn start(bin: &Path, place: &DemoPlace) -> Result<Self, Failure> {
        let admin_password = random_word();
        let password_file = place.write("admin-password", &admin_password)?;
        initialise(bin, place, &password_file).await?;
        let log = place.file("postgres.log");
        for _ in 1..PORT_TRIES {
            match Self::launch(bin, place, &admin_password).await {
                Err(Failure::Ended { .. }) if last_lines(&log).contains("Address already in use") => {}
                other => return other,
            }
        }
        Self::launch(bin, place, &admin_password).await
    }

    async fn launch(bin: &Path, place: &DemoPlace, admin_password: &str) -> Result<Self, Failure> {
        let port = free_port()?;
        let log = place.file("postgres.log");
        let mut command = tethered(&bin.join("postgres"), "QUIT");
        command.arg("-D").arg(place.file("data"));
        command.args(["-h", "127.0.0.1", "-p", &port.to_string()]);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        furnish(&mut command, place, &log)?;
        // At once, whoever is connected: what it holds is thrown away.
        let mut cluster = Self {
            port,
            admin_password: admin_password.to_owned(),
            version: String::new(),
            program: Program::start(&mut command, Signal::QUIT)?,
        };
        let admin = cluster.wait(&log).await?;
        cluster.version = admin.query_one("SHOW server_version", &[]).await?.get(0);
        Ok(cluster)
    }

    async fn wait(&mut self, log: &PathBuf) -> Result<Client, Failure> {
        let start = Instant::now();
        loop {
            let error = match self.admin(ADMIN).await {
                Ok(admin) => return Ok(admin),
                Err(error) => error,
            };
            let name = "postgres";
            if self.program.has_ended() {
                let said = last_lines(log);
                return Err(Failure::Ended { program: name, said });
            }
            if start.elapsed() > START_PATIENCE {
                let said = format!("{}\n{error}", last_lines(log));
                return Err(Failure::NotReady { program: name, said });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Makes the application's database, and a user with each of these passwords.
    pub(super) async fn prepare(&self, passwords: &[String; 2]) -> Result<(), Failure> {
        let postgres = self.admin(ADMIN).await?;
        postgres
            .batch_execute(&format!("CREATE DATABASE {DATABASE}"))
            .await?;
        let orders = self.admin(DATABASE).await?;
        orders.batch_execute(SCHEMA).await?;
        for (user, password) in USERS.iter().zip(passwords) {
            let create = format!("CREATE ROLE {user} LOGIN IN ROLE orders_owner");
            orders.batch_execute(&create).await?;
            set_password(&orders, user, password).await?;
        }
        Ok(())
    }

    /// A superuser's session.
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        Ok(self.admin(DATABASE).await?)
    }

    /// The superuser and its password.
    pub(super) fn admin_login(&self) -> (&'static str, &str) {
        (ADMIN, &self.admin_password)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    async fn admin(&self, database: &str) -> Result<Client, tokio_postgres::Error> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).dbname(database);
        config.user(ADMIN).password(&self.admin_password);
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

/// Also for a user that may not log in so far. Sends the verifier: the password itself would end up in logs.
pub(super) async fn set_password(admin: &Client, user: &str, password: &str) -> Result<(), Failure> {
    let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
    let statement = format!("ALTER ROLE {user} LOGIN PASSWORD '{verifier}'");
    Ok(admin.batch_execute(&statement).await?)
}

/// Takes a user away from whoever still has it: no new session, and an end to those that are open. As many
/// backends were terminated, by the name that their application gave.
pub(super) async fn lock_out(admin: &Client, user: &str) -> Result<Vec<(String, u64)>, Failure> {
    admin.batch_execute(&format!("ALTER ROLE {user} NOLOGIN")).await?;
    let sql = "SELECT application_name, count(*) FILTER (WHERE pg_terminate_backend(pid))
               FROM pg_stat_activity WHERE usename = $1 GROUP BY 1";
    let rows = admin.query(sql, &[&user]).await?;
    let count = |row: &Row| (row.get(0), row.get::<_, i64>(1).cast_unsigned());
    Ok(rows.iter().map(count).collect())
}

async fn initialise(bin: &Path, place: &DemoPlace, password_file: &Path) -> Result<(), Failure> {
    let log = place.file("initdb.log");
    let mut command = Command::new(bin.join("initdb"));
    command
        .arg("-D")
        .arg(place.file("data"))
        .args(["-U", ADMIN, "-E", "UTF8"]);
    command.args(["--locale=C", "--auth=scram-sha-256", "--no-sync"]);
    command.arg("--pwfile").arg(password_file);
    furnish(&mut command, place, &log)?;
    let mut program = Program::start(&mut command, Signal::TERM)?;
    if program.finished().await? {
        return Ok(());
    }
    let (program, said) = ("initdb", last_lines(&log));
    Err(Failure::Ended { program, said })
}

fn free_port() -> Result<u16, Failure> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    Ok(bound.map_err(io("find a free port"))?.port())
}
