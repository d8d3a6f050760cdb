//! A program that the demo started, and that ends with it.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::failure::{Failure, io};
use super::find::in_path;
use super::place::DemoPlace;

/// After that, what was asked to end is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(8);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Lines of a log that are worth showing when a program did not do what it should.
const LAST_LINES: usize = 12;

pub(super) struct Program {
    child: Child,
    stop: Signal,
}

impl Program {
    /// Starts it in a process group of its own, so that Ctrl-C on the terminal stops the demo and nothing
    /// else: what it started is stopped after the load, not under it.
    pub(super) fn start(command: &mut Command, stop: Signal) -> Result<Self, Failure> {
        command.process_group(0).stdin(Stdio::null());
        let child = command.spawn().map_err(io("start a program"))?;
        Ok(Self { child, stop })
    }

    pub(super) fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Whether it succeeded, when it is over.
    pub(super) async fn finished(&mut self) -> Result<bool, Failure> {
        loop {
            match self.child.try_wait().map_err(io("wait for a program"))? {
                Some(status) => return Ok(status.success()),
                None => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.has_ended() {
            return;
        }
        let _ = kill_process(Pid::from_child(&self.child), self.stop);
        let start = Instant::now();
        while start.elapsed() < STOP_PATIENCE {
            if self.has_ended() {
                return;
            }
            thread::sleep(LOOK_EVERY);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that the kernel sends `signal` to when the demo itself is killed, where there is a tool that
/// can arrange it.
pub(super) fn tethered(program: &Path, signal: &str) -> Command {
    // Busybox has one as well, which can't.
    let setpriv = in_path("setpriv").filter(|path| {
        fs::canonicalize(path).is_ok_and(|real| real.file_name().is_some_and(|name| name == "setpriv"))
    });
    match setpriv {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", signal, "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// Whatever it says goes to this file; it runs as whoever may run Postgres, and with nothing in its
/// environment that configures somebody else's.
pub(super) fn furnish(command: &mut Command, place: &DemoPlace, log: &Path) -> Result<(), Failure> {
    let output = File::options().create(true).append(true).open(log);
    let output = output.map_err(io("write a log"))?;
    command.stderr(output.try_clone().map_err(io("write a log"))?);
    command.stdout(output).current_dir(place.path());
    bare(command);
    if let Some(account) = place.account() {
        command.uid(account.uid).gid(account.gid);
    }
    Ok(())
}

/// Clears the environment down to where programs and libraries are.
pub(super) fn bare(command: &mut Command) {
    command.env_clear().env("LC_ALL", "C").env("TZ", "UTC");
    for name in ["PATH", "LD_LIBRARY_PATH"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
}

pub(super) fn last_lines(log: &PathBuf) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}
