//! Who is compared: each starts in front of one server, and is gone when it is dropped.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use rustls::ClientConfig;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::client::Target;
use super::failure::{Failure, io};
use super::kind::Kind;
use super::support::{
    As, Authority, Port, Postgres, Process, Swivel, command, hand_over, temporary_directory,
};

/// As many clients as any workload has, and a few.
const CONNECTIONS_MAX: u32 = 6_000;

const START_PATIENCE: Duration = Duration::from_secs(10);

/// The server behind a peer.
pub struct Upstream<'a> {
    pub port: u16,
    /// Who signed the certificate that the server is reached with; None: without TLS.
    pub tls: Option<&'a Authority>,
    /// What the server knows the password of [`Postgres::USER`] by.
    pub verifier: String,
    /// Where a Unix socket of the server itself is.
    pub socket_directory: Option<&'a Path>,
}

/// How peers are started.
pub struct Starter<'a> {
    pub runtime: &'a Runtime,
    pub haproxy_threads: u32,
    /// Other than the default of pgswivel.
    pub scram_iterations: Option<u32>,
    /// The program of [`Kind::Other`].
    pub other: Option<&'a Path>,
}

pub struct Peer {
    pub kind: Kind,
    pub target: Target,
    socket_directory: PathBuf,
    running: Running,
    /// Configuration, sockets and logs; after what uses them.
    _directory: TempDir,
}

enum Running {
    Nothing,
    Process { process: Process, _port: Port },
    Swivel(Box<Swivel>),
}

impl Peer {
    /// None: nothing stands between the client and the server.
    pub fn pid(&self) -> Option<Pid> {
        match &self.running {
            Running::Nothing => None,
            Running::Process { process, .. } => Some(process.pid()),
            Running::Swivel(swivel) => Some(Pid::from_raw(swivel.pid().cast_signed())),
        }
    }

    /// The directory of its Unix socket, which has the name that libpq looks for.
    pub fn socket_directory(&self) -> &Path {
        &self.socket_directory
    }
}

impl Starter<'_> {
    pub fn start(&self, kind: Kind, upstream: &Upstream<'_>) -> Result<Peer, Failure> {
        let directory = temporary_directory();
        hand_over(directory.path());
        let (running, port) = match kind {
            Kind::Direct => (Running::Nothing, upstream.port),
            Kind::Haproxy => self.haproxy(upstream, directory.path())?,
            Kind::Pgbouncer => pgbouncer(upstream, directory.path())?,
            Kind::Other => self.pgswivel(upstream, directory.path(), self.other),
            Kind::Pgswivel => self.pgswivel(upstream, directory.path(), None),
        };
        let own = upstream.socket_directory.filter(|_| kind == Kind::Direct);
        Ok(Peer {
            kind,
            target: target(kind, upstream, port),
            socket_directory: own.unwrap_or(directory.path()).to_owned(),
            running,
            _directory: directory,
        })
    }

    fn haproxy(&self, upstream: &Upstream<'_>, directory: &Path) -> Result<(Running, u16), Failure> {
        let port = Port::free();
        let (number, server, threads) = (port.number(), upstream.port, self.haproxy_threads);
        let config = format!(
            "global\n    nbthread {threads}\n    maxconn {}\n\
             defaults\n    mode tcp\n    timeout connect 10s\n    timeout client 1h\n    timeout server 1h\n\
             listen postgres\n    bind 127.0.0.1:{number} backlog 4096\n    bind unix@{} mode 777\n    \
             server postgres 127.0.0.1:{server}\n",
            CONNECTIONS_MAX,
            socket(directory, number).display()
        );
        let file = write(directory, "haproxy.cfg", &config)?;
        let mut haproxy = command(&find("haproxy")?, As::Unprivileged);
        haproxy.args(["-db", "-f"]).arg(file);
        let process = Process::start(haproxy, &directory.join("log"));
        until_it_accepts("haproxy", process, port)
    }

    /// This checkout's build, unless it is another program.
    fn pgswivel(&self, upstream: &Upstream<'_>, directory: &Path, program: Option<&Path>) -> (Running, u16) {
        let unix = format!("unix:{}/.s.PGSQL.PORT", directory.display());
        let mut swivel = Swivel::in_front_of_port(upstream.port)
            .also_on(&unix)
            .upstream_line(&format!("connections_max = {CONNECTIONS_MAX}"))
            .upstream_line("warm = 1")
            .upstream_line("reuse = true");
        if let Some(iterations) = self.scram_iterations {
            swivel = swivel.listen_line(&format!("scram_iterations = {iterations}"));
        }
        if let Some(authority) = upstream.tls {
            swivel = swivel.verifying(authority);
        }
        if let Some(program) = program {
            swivel = swivel.program(program);
        }
        // It is killed when the thread that starts it ends, so this has to be the main thread.
        let swivel = self.runtime.block_on(swivel.start());
        let port = swivel.port();
        (Running::Swivel(Box::new(swivel)), port)
    }
}

fn pgbouncer(upstream: &Upstream<'_>, directory: &Path) -> Result<(Running, u16), Failure> {
    let port = Port::free();
    let path = |name: &str| directory.join(name).display().to_string();
    let tls = match upstream.tls {
        Some(authority) => {
            let ca = write(directory, "ca.pem", authority.pem())?;
            format!(
                "server_tls_sslmode = verify-full\nserver_tls_ca_file = {}\n",
                ca.display()
            )
        }
        None => "server_tls_sslmode = disable\n".to_owned(),
    };
    let config = format!(
        "[databases]\n{} = host=127.0.0.1 port={}\n[pgbouncer]\n\
         listen_addr = 127.0.0.1\nlisten_port = {}\nlisten_backlog = 4096\nunix_socket_dir = {}\n\
         auth_type = scram-sha-256\nauth_file = {}\npool_mode = session\nmax_client_conn = {CONNECTIONS_MAX}\n\
         default_pool_size = {CONNECTIONS_MAX}\nlog_connections = 0\nlog_disconnections = 0\n{tls}",
        Postgres::DATABASE,
        upstream.port,
        port.number(),
        directory.display(),
        path("users"),
    );
    // With the server's verifier and not the password: no keys are derived at a login, on either side, and
    // the salt stays. It can't have another name for its clients then.
    let users = format!("\"{}\" \"{}\"\n", Postgres::USER, upstream.verifier);
    write(directory, "users", &users)?;
    let file = write(directory, "pgbouncer.ini", &config)?;
    let mut pgbouncer = command(&find("pgbouncer")?, As::Unprivileged);
    pgbouncer.arg("-q").arg(file);
    let process = Process::start(pgbouncer, &directory.join("log"));
    until_it_accepts("pgbouncer", process, port)
}

fn target(kind: Kind, upstream: &Upstream<'_>, port: u16) -> Target {
    let (user, password) = match kind {
        Kind::Direct | Kind::Haproxy | Kind::Pgbouncer => (Postgres::USER, Postgres::PASSWORD),
        Kind::Other | Kind::Pgswivel => (Swivel::USER, Swivel::PASSWORD),
    };
    let tls: Option<Arc<ClientConfig>> = upstream
        .tls
        .filter(|_| kind.is_transparent())
        .map(|authority| authority.trusting_client(&[]));
    Target {
        port,
        user,
        password,
        database: Postgres::DATABASE,
        tls,
    }
}

fn until_it_accepts(
    program: &'static str,
    mut process: Process,
    port: Port,
) -> Result<(Running, u16), Failure> {
    let number = port.number();
    let start = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, number)).is_err() {
        if process.exited().is_some() || start.elapsed() > START_PATIENCE {
            let log = process.log();
            return Err(Failure::NotStarted { program, log });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok((Running::Process { process, _port: port }, number))
}

/// Debian keeps servers where not everyone's PATH leads.
pub fn find(program: &'static str) -> Result<PathBuf, Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
        .ok_or(Failure::Missing { program })
}

fn socket(directory: &Path, port: u16) -> PathBuf {
    directory.join(format!(".s.PGSQL.{port}"))
}

fn write(directory: &Path, name: &str, text: &str) -> Result<PathBuf, Failure> {
    let path = directory.join(name);
    fs::write(&path, text).map_err(io("write a configuration"))?;
    hand_over(&path);
    Ok(path)
}
