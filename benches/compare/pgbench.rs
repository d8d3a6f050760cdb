//! PostgreSQL's own load.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::client::Target;
use super::failure::{Failure, io};
use super::measure::Done;
use super::support::client_tool;
use super::workloads::{Over, Pgbench, Script};

/// How many accounts there are, in hundred thousands.
pub const SCALE: u32 = 10;

const SELECT: &str =
    "\\set aid random(1, 100000 * :scale)\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n";

/// So many queries in one pipeline.
const PIPELINED: usize = 10;

const HUNDRED_ROWS: &str = "SELECT filler FROM hundred_rows;\n";

/// More than any start, login and count of transactions takes.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Runs pgbench of one version, with its files in one directory.
pub struct Runner<'a> {
    pub version: u16,
    pub directory: &'a Path,
}

/// How long pgbench goes on.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    Seconds(u32),
    /// Of each client.
    Transactions(u32),
}

impl Runner<'_> {
    /// Makes pgbench's tables.
    pub fn prepare(&self, target: &Target) -> Result<(), Failure> {
        let mut command = self.command(target, None);
        command.args(["-i", "-q", "--unlogged-tables", "-s", &SCALE.to_string()]);
        self.finish(command, PATIENCE)
    }

    /// Every transaction that was done.
    pub fn run(
        &self,
        load: &Pgbench,
        target: &Target,
        socket: &Path,
        until: Until,
    ) -> Result<Vec<Done>, Failure> {
        let logs = self.directory.join("transactions");
        fs::create_dir_all(&logs).map_err(io("make a directory"))?;
        let mut command = self.command(target, (load.over == Over::Unix).then_some(socket));
        command.arg("-n").args(["-M", load.protocol]);
        match load.script {
            Script::SelectOnly => command.arg("-S"),
            Script::TpcbLike => &mut command,
            Script::Pipeline => {
                let text = format!("\\startpipeline\n{}\\endpipeline\n", SELECT.repeat(PIPELINED));
                command.arg("-f").arg(self.script("pipeline", &text)?)
            }
            Script::HundredRows => command.arg("-f").arg(self.script("hundred_rows", HUNDRED_ROWS)?),
        };
        let threads = load.clients.min(2);
        command.args(["-c", &load.clients.to_string(), "-j", &threads.to_string()]);
        command.args(["-s", &SCALE.to_string()]);
        match until {
            Until::Seconds(seconds) => command.args(["-T", &seconds.to_string()]),
            Until::Transactions(count) => command.args(["-t", &count.to_string()]),
        };
        if load.reconnect {
            command.arg("-C");
        }
        command.arg("-l").arg("--log-prefix").arg(logs.join("log"));
        let running = match until {
            Until::Seconds(seconds) => Duration::from_secs(seconds.into()),
            Until::Transactions(_) => Duration::ZERO,
        };
        self.finish(command, running + PATIENCE)?;
        let done = read_logs(&logs);
        fs::remove_dir_all(&logs).map_err(io("remove pgbench's logs"))?;
        done
    }

    fn command(&self, target: &Target, socket: Option<&Path>) -> Command {
        let mut command = client_tool(self.version, "pgbench");
        command.env("PGPORT", target.port.to_string());
        command
            .env("PGUSER", target.user)
            .env("PGPASSWORD", target.password);
        command.env("PGDATABASE", target.database);
        if target.tls.is_some() {
            command.env("PGSSLMODE", "require");
        }
        if let Some(socket) = socket {
            command.env("PGHOST", socket);
        }
        command
    }

    /// Waits for it, but not for ever: a peer that is stuck would hold it.
    fn finish(&self, mut command: Command, limit: Duration) -> Result<(), Failure> {
        let said = self.directory.join("said");
        let output = File::create(&said).map_err(io("write what pgbench says"))?;
        command.stdout(Stdio::null()).stderr(output);
        let mut child = command.spawn().map_err(io("start pgbench"))?;
        let start = Instant::now();
        let ended = loop {
            match child.try_wait().map_err(io("wait for pgbench"))? {
                Some(status) => break status.success(),
                None if start.elapsed() > limit => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(Failure::Stuck { limit });
                }
                None => sleep(LOOK_EVERY),
            }
        };
        if ended {
            return Ok(());
        }
        let said = fs::read(said).unwrap_or_default();
        Err(Failure::Pgbench(String::from_utf8_lossy(&said).into_owned()))
    }

    fn script(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let path = self.directory.join(name);
        fs::write(&path, text).map_err(io("write a script"))?;
        Ok(path)
    }
}

fn read_logs(directory: &Path) -> Result<Vec<Done>, Failure> {
    let mut done = Vec::new();
    for entry in fs::read_dir(directory).map_err(io("read pgbench's logs"))? {
        let path = entry.map_err(io("read pgbench's logs"))?.path();
        let text = fs::read_to_string(path).map_err(io("read pgbench's logs"))?;
        done.extend(text.lines().filter_map(read_line));
    }
    Ok(done)
}

/// client, transaction, microseconds it took, script, seconds, microseconds
fn read_line(line: &str) -> Option<Done> {
    let mut fields = line.split(' ').skip(2);
    let latency = fields.next()?.parse().ok()?;
    let seconds: u64 = fields.nth(1)?.parse().ok()?;
    let micros: u64 = fields.next()?.parse().ok()?;
    let at = seconds * 1_000_000 + micros;
    Some(Done { at, latency })
}
