//! A PostgreSQL server of one test's own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use super::place::{Port, Version, cache, hand_over, postgres_home, server_directory};
use super::process::{As, Process, command, run};
use super::{Authority, PATIENCE, TlsConnector, eventually};

/// A running server with a superuser `postgres`, a database `orders`, and its owner
/// [`Postgres::USER`] with the password [`Postgres::PASSWORD`].
///
/// Over TCP it speaks TLS when asked and wants SCRAM; over its Unix socket it trusts everyone.
pub struct Postgres {
    version: Version,
    directory: TempDir,
    authority: Authority,
    port: Port,
    settings: Vec<(String, String)>,
    process: Process,
}

/// A server that is still being described.
pub struct Unstarted {
    version: Version,
    hba: String,
    settings: Vec<(String, String)>,
}

/// How a server is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// When the last client has left.
    Smart,
    /// Now, every client hears 57P01.
    Fast,
    /// At once, every client hears 57P02.
    Immediate,
}

impl Unstarted {
    /// Replaces what pg_hba.conf says about connections over TCP.
    pub fn hba(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.hba);
        self
    }

    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn start(self) -> Postgres {
        let directory = server_directory();
        let data = directory.path().join("data");
        hand_over(directory.path());
        let mut copy = command(Path::new("cp"), As::Unprivileged);
        copy.args(["--archive", "--reflink=auto"]);
        run(copy, [template(self.version), data.clone()]);

        let authority = Authority::new();
        let (certificate, key) = authority
            .server(&["localhost", "127.0.0.1"])
            .write(directory.path(), "server");
        let root = directory.path().join("root.pem");
        std::fs::write(&root, authority.pem()).unwrap();
        for file in [&certificate, &key, &root] {
            hand_over(file);
        }
        write_hba(&data, &self.hba);

        let mut port = Port::free();
        let process = loop {
            match launch(self.version, directory.path(), port.number(), &self.settings) {
                Ok(process) => break process,
                Err(log) if log.contains("Address already in use") => port = Port::free(),
                Err(log) => panic!("PostgreSQL {} did not start:\n{log}", self.version),
            }
        };
        Postgres {
            version: self.version,
            directory,
            authority,
            port,
            settings: self.settings,
            process,
        }
    }
}

impl Postgres {
    pub const USER: &str = "orders_v1";
    pub const PASSWORD: &str = "upstream-secret-1";
    pub const DATABASE: &str = "orders";

    const SCRAM_OVER_TCP: &str = "host all all all scram-sha-256\nhost replication all all scram-sha-256";

    /// A server with nothing special about it.
    pub fn start(version: Version) -> Self {
        Self::version(version).start()
    }

    /// A server to describe further.
    pub fn version(version: Version) -> Unstarted {
        Unstarted {
            version,
            hba: Self::SCRAM_OVER_TCP.to_owned(),
            settings: Vec::new(),
        }
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    pub fn major(&self) -> Version {
        self.version
    }

    /// `127.0.0.1:<port>`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// Who signed this server's certificate, and whose client certificates it believes.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The directory that holds its Unix socket.
    pub fn socket_directory(&self) -> &Path {
        self.directory.path()
    }

    /// Everything it logged so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// A superuser's session, over the Unix socket.
    pub async fn admin(&self) -> Client {
        self.admin_of("postgres").await
    }

    /// A superuser's session in `database`, over the Unix socket.
    pub async fn admin_of(&self, database: &str) -> Client {
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.socket_directory()).port(self.port());
        connect(config.user("postgres").dbname(database)).await.unwrap()
    }

    /// How [`Postgres::USER`] logs in, over TCP.
    pub fn config(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port()).dbname(Self::DATABASE);
        config.user(Self::USER).password(Self::PASSWORD);
        config
    }

    /// A session of [`Postgres::USER`], over TCP.
    pub async fn connect(&self) -> Client {
        connect(&self.config()).await.unwrap()
    }

    /// A TLS client that verifies this server in full.
    pub fn tls(&self) -> TlsConnector {
        TlsConnector::new(self.authority.trusting_client(&[]), "localhost")
    }

    /// Runs statements as superuser in the database `orders`.
    pub async fn execute(&self, sql: &str) {
        self.admin_of(Self::DATABASE)
            .await
            .batch_execute(sql)
            .await
            .unwrap();
    }

    /// Makes a user that may do what [`Postgres::USER`] may do.
    pub async fn create_user(&self, name: &str, password: &str) {
        let password = password.replace('\'', "''");
        let owner = Self::USER;
        self.execute(&format!(
            "CREATE ROLE \"{name}\" LOGIN PASSWORD '{password}' IN ROLE \"{owner}\""
        ))
        .await;
    }

    pub async fn has_user(&self, name: &str) -> bool {
        let sql = "SELECT 1 FROM pg_roles WHERE rolname = $1";
        let found = self.admin().await.query_opt(sql, &[&name]).await;
        found.unwrap().is_some()
    }

    /// From the next login on.
    pub async fn change_password(&self, user: &str, password: &str) {
        let password = password.replace('\'', "''");
        self.execute(&format!("ALTER ROLE \"{user}\" PASSWORD '{password}'"))
            .await;
    }

    /// How many logins it refused for their password.
    pub fn refusals(&self) -> usize {
        self.log()
            .matches("FATAL:  password authentication failed")
            .count()
    }

    /// Replaces what pg_hba.conf says about TCP and waits until the server goes by it.
    pub async fn set_hba(&self, lines: &str) {
        write_hba(&self.data(), lines);
        let loaded = "SELECT pg_conf_load_time()::text";
        let before: String = self.admin().await.query_one(loaded, &[]).await.unwrap().get(0);
        self.process.signal(Signal::SIGHUP);
        // The postmaster reads pg_hba.conf; only a session that it starts afterwards tells.
        eventually("the server reads pg_hba.conf again", async || {
            let now: String = self.admin().await.query_one(loaded, &[]).await.unwrap().get(0);
            now != before
        })
        .await;
    }

    /// Stops it as asked and waits until it is gone.
    pub fn stop(&mut self, how: Stop) {
        self.process.signal(match how {
            Stop::Smart => Signal::SIGTERM,
            Stop::Fast => Signal::SIGINT,
            Stop::Immediate => Signal::SIGQUIT,
        });
        self.process.wait();
    }

    /// Starts it again where it was, on the same port, with the same data.
    pub fn start_again(&mut self) {
        let directory = self.directory.path();
        self.process = launch(self.version, directory, self.port(), &self.settings)
            .unwrap_or_else(|log| panic!("PostgreSQL {} did not come back:\n{log}", self.version));
    }

    /// It stands still, and is to begin as a standby that follows nobody.
    pub fn begin_as_a_standby(&self) {
        let signal = self.data().join("standby.signal");
        std::fs::write(&signal, "").unwrap();
        hand_over(&signal);
    }

    pub fn restart(&mut self, how: Stop) {
        self.stop(how);
        self.start_again();
    }

    /// One backend dies of SIGKILL: the server throws everyone out (57P02) and recovers (57P03).
    pub async fn crash(&self) {
        let victim = self.admin().await;
        let pid: i32 = victim
            .query_one("SELECT pg_backend_pid()", &[])
            .await
            .unwrap()
            .get(0);
        kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }

    /// The whole server dies at once, without a word to anyone.
    pub fn vanish(&mut self) {
        self.process.signal(Signal::SIGSTOP);
        let children = self.process.children();
        for child in &children {
            let _ = kill(*child, Signal::SIGKILL);
        }
        self.process.signal(Signal::SIGKILL);
        self.process.wait();
        // The next server will not start while one of them still holds the shared memory.
        let is_there = |child: &nix::unistd::Pid| Path::new(&format!("/proc/{child}/exe")).exists();
        while children.iter().any(is_there) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its port still takes connections, and nobody answers.
    pub fn pause(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    pub fn resume(&self) {
        self.process.signal(Signal::SIGCONT);
    }

    /// A client program of this version, set to log in as [`Postgres::USER`].
    pub fn tool(&self, name: &str) -> Command {
        let mut tool = client_tool(self.version, name);
        tool.env("PGPORT", self.port().to_string());
        tool.env("PGUSER", Self::USER).env("PGPASSWORD", Self::PASSWORD);
        tool.env("PGDATABASE", Self::DATABASE);
        tool
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Immediate, so that its children go too; what is left is killed with the process itself.
        self.process.signal(Signal::SIGQUIT);
        let start = Instant::now();
        while self.process.exited().is_none() && start.elapsed() < Duration::from_secs(6) {
            std::thread::sleep(Duration::from_millis(2));
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.lines().rev().take(30).collect::<Vec<_>>();
            eprintln!("the last that PostgreSQL {} logged:", self.version);
            for line in tail.iter().rev() {
                eprintln!("  {line}");
            }
        }
    }
}

/// A client program of one version, on loopback, with no user, password or port yet.
pub fn client_tool(version: Version, name: &str) -> Command {
    let home = postgres_home(version);
    let mut tool = command(&home.join("bin").join(name), As::Ourselves);
    tool.env("LD_LIBRARY_PATH", home.join("lib"));
    tool.env("PGHOST", "127.0.0.1").env("PGCONNECT_TIMEOUT", "20");
    tool.env("PGSSLMODE", "disable").env("PGPASSFILE", "/dev/null");
    tool
}

async fn connect(config: &tokio_postgres::Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn write_hba(data: &Path, lines: &str) {
    let path = data.join("pg_hba.conf");
    std::fs::write(
        &path,
        format!("local all all trust\nlocal replication all trust\n{lines}\n"),
    )
    .unwrap();
    hand_over(&path);
}

/// Starts the server and waits until it takes connections; what it logged if it does not.
fn launch(
    version: Version,
    directory: &Path,
    port: u16,
    settings: &[(String, String)],
) -> Result<Process, String> {
    let data = directory.join("data");
    let mut postgres = server_command(version, "postgres");
    postgres.arg("-D").arg(&data).arg("-k").arg(directory);
    postgres.args(["-h", "127.0.0.1", "-p", &port.to_string()]);
    let file = |name: &str| directory.join(name).display().to_string();
    let ours = [
        ("fsync", "off".to_owned()),
        ("synchronous_commit", "off".to_owned()),
        ("full_page_writes", "off".to_owned()),
        ("log_connections", "on".to_owned()),
        ("log_line_prefix", "%m [%p] %q%u@%d %e ".to_owned()),
        ("ssl", "on".to_owned()),
        ("ssl_cert_file", file("server.pem")),
        ("ssl_key_file", file("server.key")),
        ("ssl_ca_file", file("root.pem")),
    ];
    for (name, value) in ours {
        postgres.arg("-c").arg(format!("{name}={value}"));
    }
    for (name, value) in settings {
        postgres.arg("-c").arg(format!("{name}={value}"));
    }

    let pid_file = data.join("postmaster.pid");
    let _ = std::fs::remove_file(&pid_file);
    let mut process = Process::start(postgres, &directory.join("log"));
    let start = Instant::now();
    loop {
        // The eighth line is how pg_ctl learns it too.
        let status = std::fs::read_to_string(&pid_file).unwrap_or_default();
        if status.lines().nth(7).is_some_and(|line| line.trim() == "ready") {
            return Ok(process);
        }
        if process.exited().is_some() || start.elapsed() > PATIENCE {
            return Err(process.log());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn server_command(version: Version, program: &str) -> Command {
    let home = postgres_home(version);
    let mut command = command(&home.join("bin").join(program), As::Unprivileged);
    // Some of its modules look for libpq where they were built, not where they are.
    command.env("LD_LIBRARY_PATH", home.join("lib"));
    command.env("TZ", "UTC");
    command
}

/// A data directory to copy, made once per version and machine.
fn template(version: Version) -> PathBuf {
    // Raised when what is below changes.
    const EDITION: u32 = 1;

    let templates = cache().join("templates");
    std::fs::create_dir_all(&templates).unwrap();
    let finished = templates.join(format!("{version}-{EDITION}"));
    if finished.join("PG_VERSION").exists() {
        return finished;
    }
    let lock = File::create(templates.join(format!("{version}.lock"))).unwrap();
    lock.lock().unwrap();
    if finished.join("PG_VERSION").exists() {
        return finished;
    }
    let work = tempfile::Builder::new()
        .prefix("making-")
        .tempdir_in(&templates)
        .unwrap();
    hand_over(work.path());
    let data = work.path().join("data");
    let mut initdb = server_command(version, "initdb");
    initdb.arg("-D").arg(&data);
    run(
        initdb,
        [
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "-A",
            "trust",
            "--no-sync",
            "--wal-segsize=1",
        ],
    );
    let mut single = server_command(version, "postgres");
    single.arg("--single").arg("-D").arg(&data);
    single.args([
        "-c",
        "fsync=off",
        "-c",
        "password_encryption=scram-sha-256",
        "postgres",
    ]);
    let statements = work.path().join("statements");
    let (user, password, database) = (Postgres::USER, Postgres::PASSWORD, Postgres::DATABASE);
    std::fs::write(
        &statements,
        format!("CREATE ROLE {user} LOGIN PASSWORD '{password}'\nCREATE DATABASE {database} OWNER {user}\n"),
    )
    .unwrap();
    single.stdin(File::open(&statements).unwrap());
    run(single, [] as [&str; 0]);
    std::fs::rename(&data, &finished).unwrap();
    finished
}
