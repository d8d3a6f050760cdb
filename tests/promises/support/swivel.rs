//! The real pgswivel, as its own process, in front of a server.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::{Client, NoTls};

use super::place::{Port, Version, temporary_directory};
use super::postgres::client_tool;
use super::process::{As, Process, command};
use super::{Authority, PATIENCE, Postgres, TlsConnector, Waited, Wire, eventually};

const BINARY: &str = env!("CARGO_BIN_EXE_pgswivel");

/// A running pgswivel: role `app` over upstream `orders` with the file secret `orders`.
pub struct Swivel {
    process: Process,
    directory: TempDir,
    authority: Authority,
    port: Port,
    admin: Port,
    database: String,
    tools: Version,
    password: String,
}

/// A pgswivel that is still being described.
pub struct Unstarted {
    upstream: String,
    database: Option<String>,
    tools: Version,
    authority: Authority,
    directory: TempDir,
    credential: (String, String),
    password: String,
    trusts: bool,
    listen: Vec<String>,
    role: Vec<String>,
    /// None: a file of its own.
    store: Option<(String, String)>,
    upstream_lines: Vec<String>,
    secret: Vec<String>,
    top: Vec<String>,
    addresses: Vec<String>,
    admin: Vec<String>,
    sections: Vec<String>,
    environment: Vec<(String, String)>,
    program: PathBuf,
    /// Names the socket that systemd passes.
    activated: Option<String>,
}

impl Unstarted {
    /// Another binary than that of this build.
    pub fn program(mut self, path: &Path) -> Self {
        path.clone_into(&mut self.program);
        self
    }

    /// What the secret's file holds at first.
    pub fn credential(mut self, user: &str, password: &str) -> Self {
        self.credential = (user.to_owned(), password.to_owned());
        self
    }

    /// What clients log in with, if it is not [`Swivel::PASSWORD`].
    pub fn password(mut self, password: &str) -> Self {
        password.clone_into(&mut self.password);
        self
    }

    /// What `tls` says about the upstream, as TOML: `{ mode = "verify-full", ca = "…" }`.
    pub fn upstream_tls(self, toml: &str) -> Self {
        let line = format!("tls = {toml}");
        self.upstream_line(&line)
    }

    /// TLS to the upstream that verifies `authority` and the name localhost.
    pub fn verifying(self, authority: &Authority) -> Self {
        let ca = authority.file();
        self.upstream_tls(&format!(
            "{{ mode = \"verify-full\", ca = \"{}\", server_name = \"localhost\" }}",
            ca.display()
        ))
    }

    /// TLS for its own clients, with a certificate for localhost.
    pub fn with_tls(self) -> Self {
        let certified = self.authority.server(&["localhost", "127.0.0.1"]);
        let (certificate, key) = certified.write(self.directory.path(), "listener");
        let (certificate, key) = (certificate.display(), key.display());
        let line = format!("tls = {{ certificate = \"{certificate}\", key = \"{key}\" }}");
        self.listen_line(&line)
    }

    /// The database of the upstream; None: what the client asks for.
    pub fn database(mut self, database: Option<&str>) -> Self {
        self.database = database.map(str::to_owned);
        self
    }

    /// Lets every client in as the role, without a password.
    pub fn trusting(mut self) -> Self {
        self.trusts = true;
        self
    }

    /// One more line of `[listen]`.
    pub fn listen_line(mut self, toml: &str) -> Self {
        self.listen.push(toml.to_owned());
        self
    }

    /// One more line of `[role.app]`.
    pub fn role_line(mut self, toml: &str) -> Self {
        self.role.push(toml.to_owned());
        self
    }

    /// One more line of `[upstream.orders]`.
    pub fn upstream_line(mut self, toml: &str) -> Self {
        self.upstream_lines.push(toml.to_owned());
        self
    }

    /// Another store and id for the secret than a file of its own.
    pub fn store(mut self, store: &str, id: &str) -> Self {
        self.store = Some((store.to_owned(), id.to_owned()));
        self
    }

    /// One more line of `[secret.orders]`.
    pub fn secret_line(mut self, toml: &str) -> Self {
        self.secret.push(toml.to_owned());
        self
    }

    /// A line that stands before all sections.
    pub fn top_line(mut self, toml: &str) -> Self {
        self.top.push(toml.to_owned());
        self
    }

    /// One more address to listen on; `PORT` in it stands for the port of the first.
    pub fn also_on(mut self, address: &str) -> Self {
        self.addresses.push(address.to_owned());
        self
    }

    /// Started by the first client, with this address bound already; `PORT` in it stands for its own port.
    pub fn activated_on(mut self, address: &str) -> Self {
        self.activated = Some(address.to_owned());
        self
    }

    /// One more line of `[admin]`.
    pub fn admin_line(mut self, toml: &str) -> Self {
        self.admin.push(toml.to_owned());
        self
    }

    /// More sections at the end of the file.
    pub fn section(mut self, toml: &str) -> Self {
        self.sections.push(toml.to_owned());
        self
    }

    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it and waits until it accepts connections.
    pub async fn start(self) -> Swivel {
        let (port, admin) = (Port::free(), Port::free());
        let config = self.write(&port, &admin);
        let log = self.directory.path().join("log");
        let errors = self.directory.path().join("errors");
        let own = ["run".as_ref(), "--config".as_ref(), config.as_os_str()];
        let mut command = match &self.activated {
            None => Swivel::bare(&self.program),
            Some(address) => {
                let address = address.replace("PORT", &port.number().to_string());
                activating(&address, &self.program)
            }
        };
        command.args(own);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let process = Process::start_apart(command, &log, &errors);
        let mut swivel = Swivel {
            process,
            authority: self.authority,
            port,
            admin,
            database: self.database.unwrap_or_else(|| Postgres::DATABASE.to_owned()),
            tools: self.tools,
            password: self.password,
            directory: self.directory,
        };
        swivel.wait_until_it_accepts().await;
        swivel
    }

    /// Runs `pgswivel check` over this configuration to its end.
    pub fn check(&self, arguments: &[&str]) -> Output {
        let config = self.write(&Port::free(), &Port::free());
        let mut command = Swivel::binary();
        command.args(["check", "--config"]).arg(config).args(arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.output().unwrap()
    }

    /// Runs it, for a configuration that it does not start with: how it ended, and all that it said.
    pub fn run_to_its_end(&self) -> (ExitStatus, String) {
        let config = self.write(&Port::free(), &Port::free());
        let mut command = Swivel::bare(&self.program);
        command.args(["run", "--config"]).arg(config);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut process = Process::start(command, &self.directory.path().join("log"));
        let status = process.wait();
        (status, process.log())
    }

    /// Where its configuration and secret files are written.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn write(&self, port: &Port, admin: &Port) -> PathBuf {
        let path = |name: &str| self.directory.path().join(name);
        write_secret(&path("secret.json"), &self.credential.0, &self.credential.1);
        std::fs::write(path("password"), &self.password).unwrap();

        let mut toml = self.top.join("\n") + "\n";
        let mut section = |name: &str, first: &[String], more: &[String]| {
            writeln!(toml, "[{name}]\n{}\n{}\n", first.join("\n"), more.join("\n")).unwrap();
        };
        let text = |name: &str, value: &str| format!("{name} = {}", toml_string(value));
        let own = format!("127.0.0.1:{}", port.number());
        let more = self
            .addresses
            .iter()
            .map(|more| more.replace("PORT", &port.number().to_string()));
        let own = self
            .activated
            .as_ref()
            .map_or(own, |_| "systemd:clients".to_owned());
        let addresses: Vec<_> = std::iter::once(own)
            .chain(more)
            .map(|address| toml_string(&address))
            .collect();
        let addresses = format!("address = [{}]", addresses.join(", "));
        section("listen", &[addresses], &self.listen);
        let password = toml_string(&path("password").display().to_string());
        let role = [
            if self.trusts {
                text("auth", "trust")
            } else {
                format!("password = {{ file = {password} }}")
            },
            text("upstream", "orders"),
            text("secret", "orders"),
        ];
        section(&format!("role.{}", Swivel::USER), &role, &self.role);
        let is_written = |key: &str| self.upstream_lines.iter().any(|line| line.starts_with(key));
        let mut upstream = Vec::new();
        if !is_written("hosts") {
            upstream.push(format!("hosts = [{}]", toml_string(&self.upstream)));
        }
        upstream.extend(self.database.as_ref().map(|database| text("database", database)));
        if !is_written("tls") {
            upstream.push("tls = { mode = \"disable\" }".to_owned());
        }
        // So that backends can be counted: one a session, unless a promise is about the others.
        for (key, line) in [("warm", "warm = 0"), ("reuse", "reuse = false")] {
            if !self.upstream_lines.iter().any(|own| own.starts_with(key)) {
                upstream.push(line.to_owned());
            }
        }
        section("upstream.orders", &upstream, &self.upstream_lines);
        let file = ("file".to_owned(), path("secret.json").display().to_string());
        let (store, id) = self.store.as_ref().unwrap_or(&file);
        let secret = [text("store", store), text("id", id)];
        section("secret.orders", &secret, &self.secret);
        let admin = format!("127.0.0.1:{}", admin.number());
        section("admin", &[text("address", &admin)], &self.admin);
        toml.push_str(&self.sections.join("\n"));

        let config = path("pgswivel.toml");
        std::fs::write(&config, toml).unwrap();
        config
    }
}

impl Swivel {
    /// The role that clients log in as.
    pub const USER: &str = "app";
    pub const PASSWORD: &str = "local-secret";

    /// In front of a real server, logging in as [`Postgres::USER`], without TLS on either side.
    pub fn in_front_of(postgres: &Postgres) -> Unstarted {
        let mut swivel = Self::in_front_of_port(postgres.port());
        swivel.tools = postgres.major();
        swivel
    }

    /// In front of whatever listens on a port of loopback.
    pub fn in_front_of_port(port: u16) -> Unstarted {
        Unstarted {
            upstream: format!("127.0.0.1:{port}"),
            database: Some(Postgres::DATABASE.to_owned()),
            tools: 18,
            authority: Authority::new(),
            directory: temporary_directory(),
            credential: (Postgres::USER.to_owned(), Postgres::PASSWORD.to_owned()),
            password: Swivel::PASSWORD.to_owned(),
            trusts: false,
            listen: Vec::new(),
            role: Vec::new(),
            store: None,
            upstream_lines: Vec::new(),
            secret: Vec::new(),
            top: Vec::new(),
            addresses: Vec::new(),
            admin: Vec::new(),
            sections: Vec::new(),
            environment: Vec::new(),
            program: PathBuf::from(BINARY),
            activated: None,
        }
    }

    /// The binary, with nothing in its environment that configures somebody else's.
    pub fn binary() -> Command {
        Self::bare(Path::new(BINARY))
    }

    fn bare(program: &Path) -> Command {
        let mut command = command(program, As::Ourselves);
        // What configures a developer's own pgswivel must not reach ours.
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if ["PGSWIVEL_", "POSTGRES_", "VAULT_", "AWS_", "DB_SECRET_"]
                .iter()
                .any(|prefix| name_text.starts_with(prefix))
            {
                command.env_remove(&name);
            }
        }
        command
    }

    /// Runs the binary with these arguments to its end, with nothing of ours in its environment, and
    /// returns how it ended and all that it said.
    pub fn command(arguments: &[&str], environment: &[(&str, &str)]) -> (ExitStatus, String) {
        let mut command = Swivel::binary();
        command.args(arguments).envs(environment.iter().copied());
        let directory = temporary_directory();
        let mut process = Process::start(command, &directory.path().join("log"));
        let status = process.wait();
        (status, process.log())
    }

    /// The same, for a command that ends by itself, with what it printed and what it logged apart.
    pub fn output(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = Swivel::binary();
        command.args(arguments).envs(environment.iter().copied());
        command.output().unwrap()
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    pub fn admin_port(&self) -> u16 {
        self.admin.number()
    }

    /// The port of its admin server, when it chose one by itself.
    pub async fn admin_port_in_its_log(&self) -> u16 {
        let words = "admin server listening";
        eventually("it says where", async || self.said(words) > 0).await;
        let log = self.log();
        let line = log.lines().find(|line| line.contains(words));
        let line: serde_json::Value = serde_json::from_str(line.unwrap()).unwrap();
        let address: std::net::SocketAddr = line["address"].as_str().unwrap().parse().unwrap();
        address.port()
    }

    /// `127.0.0.1:<port>`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    pub fn url(&self) -> String {
        let (user, password, address) = (Self::USER, &self.password, self.address());
        format!("postgres://{user}:{password}@{address}/{}", self.database)
    }

    /// Who signed the certificate of its listener.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A TLS client that verifies its listener in full.
    pub fn tls(&self) -> TlsConnector {
        TlsConnector::new(self.authority.trusting_client(&[]), "localhost")
    }

    /// How the application logs in.
    pub fn config(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port()).dbname(&self.database);
        config.user(Self::USER).password(&self.password);
        config
    }

    /// A session of the application.
    pub async fn connect(&self) -> Client {
        self.try_connect()
            .await
            .unwrap_or_else(|error| panic!("can't connect: {error:?}\n{}", self.log()))
    }

    pub async fn try_connect(&self) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = self.config().connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// A session of the application, byte by byte.
    pub async fn wire(&self) -> Wire {
        Wire::login(&self.address(), Self::USER, &self.password, &self.database).await
    }

    /// Runs psql as the application and returns what it printed, errors included.
    pub fn psql(&self, arguments: &[&str]) -> Output {
        let mut psql = self.tool("psql");
        psql.args(["-X", "-A", "-t", "-q"]).args(arguments);
        psql.output().unwrap()
    }

    /// A client program of the upstream's version, set to log in as the application.
    pub fn tool(&self, name: &str) -> Command {
        let mut tool = client_tool(self.tools, name);
        tool.env("PGPORT", self.port().to_string());
        tool.env("PGUSER", Self::USER).env("PGPASSWORD", &self.password);
        tool.env("PGDATABASE", &self.database);
        tool
    }

    /// Replaces what the secret's file holds, in one step.
    pub fn write_secret(&self, user: &str, password: &str) {
        write_secret(&self.directory.path().join("secret.json"), user, password);
    }

    /// Its configuration and secret files are here.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The password that the application logs in with from now on; what pgswivel knows is another matter.
    pub fn set_password(&mut self, password: &str) {
        password.clone_into(&mut self.password);
    }

    pub fn config_file(&self) -> PathBuf {
        self.directory.path().join("pgswivel.toml")
    }

    /// The configuration as it is written at the moment.
    pub fn written(&self) -> String {
        std::fs::read_to_string(self.config_file()).unwrap()
    }

    /// Replaces the configuration in one step, and does not wait for anything.
    pub fn write_config(&self, toml: &str) {
        let beside = self.directory.path().join("pgswivel.new");
        std::fs::write(&beside, toml).unwrap();
        std::fs::rename(beside, self.config_file()).unwrap();
    }

    /// Replaces one text of the configuration, and waits until it is in use.
    pub async fn rewrite(&self, text: &str, by: &str) {
        let before = self.written();
        assert!(before.contains(text), "no {text} in:\n{before}");
        self.reconfigure(&before.replace(text, by)).await;
    }

    /// Adds sections to the configuration, and waits until they are in use.
    pub async fn add(&self, toml: &str) {
        let text = self.written() + "\n" + toml;
        self.reconfigure(&text).await;
    }

    /// Writes this configuration and waits until it is in use.
    pub async fn reconfigure(&self, toml: &str) {
        let before = self.said("configuration changed");
        self.write_config(toml);
        eventually("the change is applied", async || {
            self.said("configuration changed") > before
        })
        .await;
    }

    /// The status that the admin server answers with.
    pub async fn status_of(&self, path: &str) -> u16 {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin_port()))
            .await
            .unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// What it said on its error stream.
    pub fn errors(&self) -> String {
        self.process.errors()
    }

    /// Everything it said so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// How many lines of its log hold these words.
    pub fn said(&self, words: &str) -> usize {
        self.log().lines().filter(|line| line.contains(words)).count()
    }

    pub fn pid(&self) -> u32 {
        self.process.pid().as_raw().unsigned_abs()
    }

    /// Its resident memory in bytes.
    pub fn rss(&self) -> u64 {
        self.process.memory("VmRSS")
    }

    /// The most resident memory it ever had, in bytes.
    pub fn rss_peak(&self) -> u64 {
        self.process.memory("VmHWM")
    }

    pub fn is_running(&mut self) -> bool {
        self.process.exited().is_none()
    }

    /// Tells it to read every secret now.
    pub fn refresh(&self) {
        self.process.signal(Signal::SIGHUP);
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Asks it to end and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        self.process.signal(Signal::SIGTERM);
        self.process.wait()
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.process.signal(Signal::SIGKILL);
        self.process.wait();
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }

    async fn wait_until_it_accepts(&mut self) {
        let mut waited = Waited::for_whatever_comes();
        while TcpStream::connect(self.address()).await.is_err() {
            if let Some(status) = self.process.exited() {
                panic!("pgswivel ended at its start with {status}:\n{}", self.log());
            }
            assert!(
                waited.so_far() < PATIENCE,
                "pgswivel does not accept:\n{}",
                self.log()
            );
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }
}

impl Drop for Swivel {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("pgswivel said:\n{}", self.log());
        }
    }
}

/// systemd's own tool, which listens on `address` and starts the program when the first client comes.
fn activating(address: &str, program: &Path) -> Command {
    let mut command = Swivel::bare(Path::new("systemd-socket-activate"));
    command
        .args(["--fdname=clients", "--listen", address])
        .arg(program);
    command
}

/// Written beside and renamed over, so that nobody reads half of it.
fn write_secret(path: &Path, user: &str, password: &str) {
    let json = serde_json::json!({ "username": user, "password": password });
    let beside = path.with_extension("new");
    std::fs::write(&beside, json.to_string()).unwrap();
    std::fs::rename(beside, path).unwrap();
}

/// TOML's basic strings are written as JSON's are.
fn toml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
