//! One rotation as `pgswivel rotate` does it: with a configuration of its own, as somebody else's machine would have.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::cluster::{Cluster, DATABASE, USERS};
use super::failure::{Failure, io};
use super::place::DemoPlace;
use super::program::{Program, bare, last_lines, tethered};

pub(super) struct Runbook {
    config: PathBuf,
    log: PathBuf,
    admin: PathBuf,
    port: u16,
}

impl Runbook {
    pub(super) fn new(place: &DemoPlace, cluster: &Cluster) -> Result<Self, Failure> {
        let (user, password) = cluster.admin_login();
        let admin = place.file("rotator.json");
        let payload = json!({ "username": user, "password": password }).to_string();
        fs::write(&admin, payload).map_err(io("write the rotator's secret"))?;
        Ok(Self {
            config: place.file("rotate.toml"),
            log: place.file("rotate.log"),
            admin,
            port: cluster.port(),
        })
    }

    /// To its end.
    pub(super) async fn run(&self, store: &Path, sidecar: SocketAddr) -> Result<(), Failure> {
        self.write_config(store, sidecar)
            .map_err(io("write the configuration"))?;
        let binary = std::env::current_exe().map_err(io("find this program"))?;
        let mut command: Command = tethered(&binary, "TERM");
        command.args(["rotate", "run", "orders", "--yes", "--within", "20s", "--config"]);
        command.arg(&self.config);
        bare(&mut command);
        let log = fs::File::options().create(true).append(true).open(&self.log);
        let log = log.map_err(io("write a log"))?;
        command
            .stderr(log.try_clone().map_err(io("write a log"))?)
            .stdout(log);
        let mut program = Program::start(&mut command, Signal::TERM)?;
        if program.finished().await? {
            return Ok(());
        }
        Err(Failure::Ended {
            program: "pgswivel rotate",
            said: last_lines(&self.log),
        })
    }

    fn write_config(&self, store: &Path, sidecar: SocketAddr) -> std::io::Result<()> {
        // TOML's basic strings are written as JSON's are.
        let text = |path: &Path| Value::from(path.display().to_string());
        let [one, other] = USERS;
        let (port, store, admin) = (self.port, text(store), text(&self.admin));
        let config = format!(
            r#"[upstream.orders]
hosts = ["127.0.0.1:{port}"]
database = "{DATABASE}"
tls = {{ mode = "disable" }}

[secret.orders]
store = "file"
id = {store}

[secret.rotator]
store = "file"
id = {admin}

[rotation.orders]
secret = "orders"
admin = "rotator"
upstreams = ["orders"]
users = ["{one}", "{other}"]
owner = "orders_owner"
soak = "0s"
sidecars = ["http://{sidecar}"]
"#
        );
        fs::write(&self.config, config)
    }
}
