//! What a process costs: its CPU, its memory, its system calls.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::time::ClockId;
use nix::unistd::Pid;

use super::failure::{Failure, io};
use super::results::{Latency, Sample};
use super::statistics::quantile;
use super::support::{As, command};

/// How often CPU is read while a load runs.
const READ_EVERY: Duration = Duration::from_millis(20);

/// The share of a run's beginning that does not count: its logins, and whatever was cold.
const WARM_UP: f64 = 0.2;

/// How long a tracer may take to attach, or to print what it counted.
const TRACER_PATIENCE: Duration = Duration::from_secs(10);

/// One thing that a client got.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// Microseconds since the epoch.
    pub at: u64,
    /// Microseconds it took.
    pub latency: u32,
}

pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}

/// The CPU time of a process, all its threads together, those that ended included.
#[derive(Clone, Copy, Debug)]
pub struct Cpu(Option<ClockId>);

impl Cpu {
    /// None: there is no process, and it never takes any time.
    pub fn of(pid: Option<Pid>) -> Result<Self, Failure> {
        let clock = pid.map(ClockId::pid_cpu_clock_id).transpose();
        let clock = clock.map_err(|error| io("read a process's clock")(error.into()))?;
        Ok(Self(clock))
    }

    pub fn is_measured(self) -> bool {
        self.0.is_some()
    }

    /// Microseconds.
    pub fn spent(self) -> f64 {
        let time = self.0.and_then(|clock| clock.now().ok());
        time.map_or(0.0, |time| Duration::from(time).as_secs_f64() * 1e6)
    }
}

/// Reads a CPU clock again and again while something runs.
pub struct Watch {
    stop: Sender<()>,
    reading: JoinHandle<Vec<(u64, f64)>>,
    measured: bool,
}

impl Watch {
    pub fn start(cpu: Cpu) -> Self {
        let (stop, stopped) = channel();
        let reading = std::thread::spawn(move || {
            let mut readings = vec![(now(), cpu.spent())];
            while stopped.recv_timeout(READ_EVERY) == Err(RecvTimeoutError::Timeout) {
                readings.push((now(), cpu.spent()));
            }
            readings
        });
        Self {
            stop,
            reading,
            measured: cpu.is_measured(),
        }
    }

    /// What happened between two readings well inside the run.
    pub fn finish(self, done: &[Done]) -> Result<Sample, Failure> {
        drop(self.stop);
        let readings = self.reading.join().map_err(|_| Failure::TooShort)?;
        let first = done.iter().map(|one| one.at).min().ok_or(Failure::TooShort)?;
        let last = done.iter().map(|one| one.at).max().ok_or(Failure::TooShort)?;
        let from = first + ((last - first) as f64 * WARM_UP) as u64;
        let inside: Vec<_> = readings
            .into_iter()
            .filter(|(at, _)| (from..=last).contains(at))
            .collect();
        let [(start, cpu_start), .., (end, cpu_end)] = inside[..] else {
            return Err(Failure::TooShort);
        };
        let mut latencies: Vec<u32> = done
            .iter()
            .filter(|one| (start..end).contains(&one.at))
            .map(|one| one.latency)
            .collect();
        if latencies.is_empty() {
            return Err(Failure::TooShort);
        }
        latencies.sort_unstable();
        let count = latencies.len() as f64;
        Ok(Sample {
            rate: count / (end - start) as f64 * 1e6,
            latency: Some(Latency {
                p50: quantile(&latencies, 0.50),
                p95: quantile(&latencies, 0.95),
                p99: quantile(&latencies, 0.99),
            }),
            cpu: self.measured.then(|| (cpu_end - cpu_start) / count),
        })
    }
}

/// What a process holds alone and its share of what it holds with others (Pss), in kB.
pub fn memory(pid: Pid) -> Result<u64, Failure> {
    let text =
        fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).map_err(io("read a process's memory"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    number.ok_or(Failure::TooShort)
}

/// Counts system calls by kind while a closure runs. None: nothing here may trace.
pub struct Tracer {
    file: PathBuf,
    means: Means,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    /// Counts in the kernel and hardly disturbs.
    Perf,
    Strace,
}

impl Tracer {
    pub fn find(directory: &Path) -> Option<Self> {
        let ourselves = Pid::this();
        [Means::Perf, Means::Strace].into_iter().find_map(|means| {
            let tracer = Self {
                file: directory.join("calls"),
                means,
            };
            // Nobody may trace itself by strace; that it is there has to do.
            let works = match means {
                Means::Perf => tracer.count(ourselves, || Ok(())).is_ok(),
                Means::Strace => Command::new("strace").arg("-V").output().is_ok(),
            };
            works.then_some(tracer)
        })
    }

    pub fn name(&self) -> &'static str {
        match self.means {
            Means::Perf => "perf",
            Means::Strace => "strace",
        }
    }

    /// How many system calls the process made while `run` did.
    pub fn count(&self, pid: Pid, run: impl FnOnce() -> Result<(), Failure>) -> Result<f64, Failure> {
        let _ = fs::remove_file(&self.file);
        let mut child = self.command(pid).spawn().map_err(io("start a tracer"))?;
        let attached = self.wait_until_attached(&mut child, pid);
        let ran = attached.and_then(|()| run());
        let ended = end(&mut child);
        ran?;
        ended?;
        let text = fs::read_to_string(&self.file).map_err(io("read what was traced"))?;
        self.total(&text).ok_or(Failure::TooShort)
    }

    fn command(&self, pid: Pid) -> Command {
        let pid = pid.to_string();
        let mut tracer = match self.means {
            Means::Perf => {
                let mut perf = command(Path::new("perf"), As::Ourselves);
                perf.args([
                    "stat",
                    "-x",
                    ",",
                    "-e",
                    "raw_syscalls:sys_enter",
                    "-p",
                    &pid,
                    "-o",
                ]);
                perf
            }
            Means::Strace => {
                let mut strace = command(Path::new("strace"), As::Ourselves);
                strace.args(["-q", "-c", "-f", "-p", &pid, "-o"]);
                strace
            }
        };
        tracer.arg(&self.file).stdout(Stdio::null()).stderr(Stdio::null());
        tracer
    }

    /// Perf is attached when it has its counters and waits, strace when the kernel says that it traces.
    fn wait_until_attached(&self, child: &mut Child, pid: Pid) -> Result<(), Failure> {
        let tracer = child.id();
        let start = Instant::now();
        while start.elapsed() < TRACER_PATIENCE {
            if child.try_wait().map_err(io("wait for a tracer"))?.is_some() {
                return Err(Failure::Missing {
                    program: "a tracer that may trace",
                });
            }
            let attached = match self.means {
                Means::Perf => has_counters(tracer) && is_asleep(tracer),
                Means::Strace => traced_by(pid, tracer),
            };
            if attached {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(Failure::Missing {
            program: "a tracer that attaches",
        })
    }

    fn total(&self, text: &str) -> Option<f64> {
        let number = |text: &str| text.trim().parse().ok();
        match self.means {
            Means::Perf => {
                let line = text
                    .lines()
                    .find(|line| line.contains("raw_syscalls:sys_enter"))?;
                number(line.split(',').next()?)
            }
            Means::Strace => {
                let line = text.lines().find(|line| line.trim_end().ends_with("total"))?;
                // % time, seconds, usecs/call, calls, errors: the last is left out when it is none.
                line.split_whitespace().nth(3).and_then(number)
            }
        }
    }
}

fn has_counters(pid: u32) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    files
        .filter_map(|file| fs::read_link(file.path()).ok())
        .any(|target| target.to_string_lossy().contains("perf_event"))
}

fn is_asleep(pid: u32) -> bool {
    status(pid)
        .get("State")
        .is_some_and(|state| state.starts_with('S'))
}

fn traced_by(pid: Pid, tracer: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let ids = threads.filter_map(|thread| thread.file_name().to_str()?.parse().ok());
    let tracer = tracer.to_string();
    ids.into_iter()
        .all(|thread: u32| status(thread).get("TracerPid").is_some_and(|by| *by == tracer))
}

fn status(pid: u32) -> HashMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// Asks a tracer to print what it counted, and waits until it has.
fn end(child: &mut Child) -> Result<(), Failure> {
    let pid = Pid::from_raw(child.id().cast_signed());
    // It may have ended by itself, and then there is nothing to ask.
    let _ = kill(pid, Signal::SIGINT);
    let start = Instant::now();
    while start.elapsed() < TRACER_PATIENCE {
        if child.try_wait().map_err(io("wait for a tracer"))?.is_some() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(Failure::Missing {
        program: "a tracer that ends",
    })
}
