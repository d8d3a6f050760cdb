//! A program that a test started, and that ends with it.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::PATIENCE;
use super::place::unprivileged;

/// Whom a program runs as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum As {
    Ourselves,
    /// `nobody` when the tests run as root.
    Unprivileged,
}

/// A command that runs as `user` and is killed by the kernel when the thread that starts it ends, so
/// that nothing outlives a test that was itself killed. Start it on the test's own thread.
pub fn command(program: &Path, user: As) -> Command {
    let mut command = Command::new("setpriv");
    if let (As::Unprivileged, Some((uid, gid))) = (user, unprivileged()) {
        command.args([format!("--reuid={uid}"), format!("--regid={gid}")]);
        command.arg("--clear-groups");
    }
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command.stdin(Stdio::null());
    command
}

pub struct Process {
    child: Child,
    log: PathBuf,
    /// What it says on its error stream, if that is kept apart.
    errors: Option<PathBuf>,
    exit: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` with everything it says appended to `log`.
    pub fn start(mut command: Command, log: &Path) -> Self {
        let output = File::options().create(true).append(true).open(log).unwrap();
        command.stdout(output.try_clone().unwrap()).stderr(output);
        Self::spawn(command, log, None)
    }

    /// The same, with its error stream in a file of its own.
    pub fn start_apart(mut command: Command, log: &Path, errors: &Path) -> Self {
        command
            .stdout(File::create(log).unwrap())
            .stderr(File::create(errors).unwrap());
        Self::spawn(command, log, Some(errors.to_owned()))
    }

    fn spawn(mut command: Command, log: &Path, errors: Option<PathBuf>) -> Self {
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("can't start {command:?}: {error}"));
        Self {
            child,
            log: log.to_owned(),
            errors,
            exit: None,
        }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid fits"))
    }

    /// All that it said.
    pub fn log(&self) -> String {
        self.wait_for_its_log();
        text(&self.log) + &self.errors()
    }

    /// A thread of its own writes what it said before: it rests when there is nothing left to write.
    fn wait_for_its_log(&self) {
        let start = Instant::now();
        while self.writes_its_log() && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn writes_its_log(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid()));
        let states = tasks.into_iter().flatten().flatten();
        let mut states = states.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
        states.any(|state| state.contains(" (log) ") && !state.contains(" (log) S "))
    }

    pub fn errors(&self) -> String {
        self.errors.as_deref().map(text).unwrap_or_default()
    }

    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().unwrap();
        }
        self.exit
    }

    pub fn signal(&self, signal: Signal) {
        if self.exit.is_none() {
            // It may have ended a moment ago, which is no failure of whoever wants it to end.
            let _ = kill(self.pid(), signal);
        }
    }

    /// Waits until it has ended by itself or by a signal sent before.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.exited() {
                return status;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "process {} did not end; it said:\n{}",
                self.pid(),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Every process that this one started and that still runs.
    pub fn children(&self) -> Vec<Pid> {
        let pid = self.pid();
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
            .unwrap_or_default()
            .split_whitespace()
            .map(|child| Pid::from_raw(child.parse().expect("the kernel writes numbers")))
            .collect()
    }

    /// A line of `/proc/<pid>/status` in bytes, `VmRSS` for one.
    pub fn memory(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let kilobytes = status
            .lines()
            .find_map(|text| text.strip_prefix(line)?.strip_prefix(':'))
            .unwrap_or_else(|| panic!("no {line} in the status of a running process"));
        let number = kilobytes.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
        number * 1024
    }
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exited().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Runs `program` to its end and returns what it printed, or stops the test with it.
pub fn run(mut command: Command, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> String {
    command.args(arguments.into_iter().map(Into::into));
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
