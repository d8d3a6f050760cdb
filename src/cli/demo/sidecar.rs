//! The pgswivel that is shown: this very binary, as `pgswivel run`.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::cluster::DATABASE;
use super::failure::{self, Failure};
use super::place::{DemoPlace, random_word};
use super::program::{Program, bare, tethered};

/// What the application logs in as, whatever becomes of the credentials upstream.
pub(super) const ROLE: &str = "app";

const START_PATIENCE: Duration = Duration::from_secs(20);

/// Of its log, for when it does not start.
const LINES_KEPT: usize = 12;

pub(super) struct Sidecar {
    password: String,
    seen: watch::Receiver<Seen>,
    _program: Program,
    _reader: AbortOnDropHandle<()>,
}

/// What its log says, as far as the demo wants to know.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    address: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    leading: Option<Leading>,
    last: VecDeque<String>,
    has_ended: bool,
}

/// The credential that it logs in with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leading {
    pub(super) version: String,
    pub(super) position: String,
}

/// One line of its log.
#[derive(Deserialize)]
struct Line {
    message: Option<String>,
    event: Option<String>,
    address: Option<String>,
    version: Option<String>,
    position: Option<String>,
}

impl Sidecar {
    /// In front of the Postgres on this port, with the credentials that the file holds.
    pub(super) async fn start(place: &DemoPlace, upstream_port: u16, secret: &str) -> Result<Self, Failure> {
        let password = random_word();
        let config = write_config(place, upstream_port, secret, &password)?;
        let binary = std::env::current_exe().map_err(failure::io("find this program"))?;
        let mut command = tethered(&binary, "KILL");
        command.args(["run", "--config"]).arg(config);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        bare(&mut command);
        let mut program = Program::start(&mut command, Signal::TERM)?;
        let log = program.stdout().map(OwnedFd::from);
        let log = log.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
        let log = log
            .and_then(Receiver::from_owned_fd)
            .map_err(failure::io("read its log"))?;
        let (sender, seen) = watch::channel(Seen::default());
        let mut sidecar = Self {
            password,
            seen,
            _program: program,
            _reader: AbortOnDropHandle::new(tokio::spawn(listen(log, sender))),
        };
        sidecar.wait().await?;
        Ok(sidecar)
    }

    /// Until it listens and holds a proven credential.
    async fn wait(&mut self) -> Result<(), Failure> {
        let is_up = |seen: &Seen| seen.address.is_some() && seen.admin.is_some() && seen.leading.is_some();
        let is_ready = |seen: &Seen| seen.has_ended || is_up(seen);
        let waited = tokio::time::timeout(START_PATIENCE, self.seen.wait_for(is_ready)).await;
        let ready = waited.is_ok_and(|seen| seen.is_ok_and(|seen| !seen.has_ended));
        if ready {
            return Ok(());
        }
        let said = Vec::from(self.seen.borrow().last.clone()).join("\n");
        let program = "pgswivel run";
        Err(Failure::NotReady { program, said })
    }

    pub(super) fn port(&self) -> u16 {
        self.seen.borrow().address.map_or(0, |address| address.port())
    }

    /// Where its status and its page are.
    pub(super) fn admin(&self) -> SocketAddr {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        self.seen.borrow().admin.unwrap_or(nowhere)
    }

    pub(super) fn password(&self) -> &str {
        &self.password
    }

    pub(super) fn leading(&self) -> Option<Leading> {
        self.seen.borrow().leading.clone()
    }
}

/// Default settings, but for a secret that rotates every few seconds: then as many logins are refused as would
/// lock somebody out anywhere else, and half a minute is too long for sessions to leave a user.
fn write_config(place: &DemoPlace, port: u16, secret: &str, password: &str) -> Result<PathBuf, Failure> {
    let text = format!(
        r#"drain = "1s"

[listen]
address = "127.0.0.1:0"

[role.{ROLE}]
password = "{password}"
upstream = "orders"
secret = "orders"

[upstream.orders]
hosts = ["127.0.0.1:{port}"]
database = "{DATABASE}"
tls = {{ mode = "disable" }}

[secret.orders]
store = "file"
id = {secret}
grace = "2s"

[limits]
refused_logins_per_minute = 1000

[admin]
address = "127.0.0.1:0"

[log]
format = "json"
"#,
        // TOML's basic strings are written as JSON's are.
        secret = serde_json::Value::from(secret),
    );
    let path = place.file("pgswivel.toml");
    fs::write(&path, text).map_err(failure::io("write the configuration"))?;
    Ok(path)
}

async fn listen(log: Receiver, seen: watch::Sender<Seen>) {
    let mut lines = BufReader::new(log).lines();
    while let Ok(Some(text)) = lines.next_line().await {
        let line = serde_json::from_str::<Line>(&text).ok();
        seen.send_modify(|seen| {
            if let Some(line) = line {
                seen.take_in(line);
            }
            seen.last.push_back(text);
            if seen.last.len() > LINES_KEPT {
                seen.last.pop_front();
            }
        });
    }
    seen.send_modify(|seen| seen.has_ended = true);
}

impl Seen {
    fn take_in(&mut self, line: Line) {
        let address = line.address.and_then(|address| address.parse().ok());
        match line.message.as_deref() {
            Some("listening") => self.address = self.address.or(address),
            Some("admin server listening") => self.admin = self.admin.or(address),
            _ => {}
        }
        if line.event.as_deref() == Some("credential.leading") {
            self.leading = line
                .version
                .zip(line.position)
                .map(|(version, position)| Leading { version, position });
        }
    }
}
