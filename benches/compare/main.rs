//! Compares pgswivel with what else could stand between a client and PostgreSQL.
//!
//! * [`workloads`] what is asked of every peer, [`kind`] who they are, [`peers`] starts them
//! * [`loads`] runs one workload once: [`pgbench`], or the [`client`] of our own; [`idle`] counts memory
//! * [`measure`] reads CPU, memory and system calls; [`statistics`] makes one figure of many
//! * [`results`] holds them; [`tables`] and [`plot`] show them, [`report`] writes them
#![allow(
    unreachable_pub,
    reason = "a bench exports nothing; `pub` here is between its modules"
)]

mod client;
mod failure;
mod idle;
mod kind;
mod light;
mod loads;
mod measure;
mod options;
mod peers;
mod pgbench;
mod plot;
mod report;
mod results;
mod statistics;
#[allow(
    clippy::unwrap_used,
    reason = "what the promises rest on stops where it stands"
)]
#[allow(unused_macros, reason = "they declare promises, and there are none here")]
#[path = "../../tests/promises/support/mod.rs"]
mod support;
mod tables;
mod workloads;

use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use failure::{Failure, io};
use kind::Kind;
use loads::Loads;
use measure::Tracer;
use options::Options;
use peers::{Peer, Starter, Upstream};
use pgbench::Runner;
use results::{Entry, Idle, Results, Timed};
use support::{Postgres, raise_open_files, temporary_directory};
use workloads::{Load, Workload};

/// What a second request to stop ends with, as a shell does.
const INTERRUPTED: i32 = 130;

fn main() -> ExitCode {
    // Only a second provider could fail, and there is none.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let (kinds, workloads) = (options.kinds()?, options.workloads()?);
    raise_open_files();
    let runtime = Runtime::new().map_err(io("start a runtime"))?;
    let comparison = Comparison {
        options,
        kinds: &kinds,
        starter: Starter {
            runtime: &runtime,
            haproxy_threads: options.haproxy_threads,
            scram_iterations: options.scram_iterations,
            other: options.other.as_deref(),
        },
        interrupted: listen_for_interrupts(&runtime)?,
    };
    let (idle, timed): (Vec<_>, Vec<_>) = workloads
        .into_iter()
        .partition(|workload| matches!(workload.load, Load::Idle { .. }));
    let results = Results {
        setting: setting(options, &kinds),
        timed: comparison.timed(&timed)?,
        idle: comparison.idle(&idle)?,
    };
    report::show(&results, &kinds);
    report::write(&results, &kinds, options)
}

struct Comparison<'a> {
    options: &'a Options,
    kinds: &'a [Kind],
    starter: Starter<'a>,
    interrupted: Arc<AtomicBool>,
}

impl Comparison<'_> {
    fn timed(&self, workloads: &[Workload]) -> Result<Vec<Timed>, Failure> {
        let mut all: Vec<Timed> = workloads
            .iter()
            .map(|workload| self.unmeasured(workload))
            .collect();
        if all.is_empty() {
            return Ok(all);
        }
        let postgres = self.postgres();
        let directory = temporary_directory();
        let upstream = Upstream {
            port: postgres.port(),
            tls: self.options.tls.then(|| postgres.authority()),
            verifier: self.starter.runtime.block_on(verifier(&postgres))?,
            socket_directory: Some(postgres.socket_directory()),
        };
        let loads = Loads {
            runner: Runner {
                version: self.options.postgres,
                directory: directory.path(),
            },
            seconds: self.options.seconds,
        };
        self.furnish(&postgres, &loads, &upstream)?;
        let started = self.kinds.iter().map(|kind| self.starter.start(*kind, &upstream));
        let peers = started.collect::<Result<Vec<_>, _>>()?;
        for round in 0..self.options.rounds {
            for (workload, timed) in workloads.iter().zip(&mut all) {
                eprintln!(
                    "round {} of {}: {}",
                    round + 1,
                    self.options.rounds,
                    workload.name
                );
                for turn in 0..peers.len() {
                    let place = (turn + round as usize) % peers.len();
                    self.check()?;
                    let sample = loads.sample(workload.load, &peers[place]);
                    timed.peers[place]
                        .samples
                        .push(sample.map_err(at(&peers[place], workload))?);
                }
            }
        }
        if !self.options.no_calls {
            self.calls(&loads, &peers, workloads, &mut all)?;
        }
        Ok(all)
    }

    fn calls(
        &self,
        loads: &Loads<'_>,
        peers: &[Peer],
        workloads: &[Workload],
        all: &mut [Timed],
    ) -> Result<(), Failure> {
        let Some(tracer) = Tracer::find(loads.runner.directory) else {
            eprintln!("system calls are not counted: neither perf nor strace may");
            return Ok(());
        };
        eprintln!("counting system calls with {}", tracer.name());
        for (workload, timed) in workloads.iter().zip(all) {
            for (peer, entry) in peers.iter().zip(&mut timed.peers) {
                self.check()?;
                if let Some(pid) = peer.pid() {
                    let calls = loads.calls(workload.load, peer, pid, &tracer);
                    entry.calls = Some(calls.map_err(at(peer, workload))?);
                }
            }
        }
        Ok(())
    }

    fn idle(&self, workloads: &[Workload]) -> Result<Vec<Idle>, Failure> {
        let mut all = Vec::new();
        for workload in workloads {
            let Load::Idle { clients, tls } = workload.load else {
                continue;
            };
            eprintln!("{}", workload.name);
            let mut peers = Vec::new();
            for kind in self.kinds {
                self.check()?;
                let each = idle::measure(*kind, clients, tls, &self.starter);
                peers.push((*kind, each?));
            }
            all.push(Idle {
                workload: workload.name,
                about: workload.about,
                peers,
            });
        }
        Ok(all)
    }

    fn unmeasured(&self, workload: &Workload) -> Timed {
        let entry = |kind: &Kind| Entry {
            peer: *kind,
            samples: Vec::new(),
            calls: None,
        };
        Timed {
            workload: workload.name,
            about: workload.about,
            unit: workload.unit(),
            peers: self.kinds.iter().map(entry).collect(),
        }
    }

    /// Nothing in it waits for a disk, or wakes up by itself.
    fn postgres(&self) -> Postgres {
        let settings = [
            ("shared_buffers", "512MB"),
            ("max_connections", "400"),
            ("max_wal_size", "8GB"),
            ("checkpoint_timeout", "1h"),
            ("autovacuum", "off"),
            ("log_connections", "off"),
        ];
        let described = Postgres::version(self.options.postgres);
        let described = settings
            .iter()
            .fold(described, |postgres, (name, value)| postgres.setting(name, value));
        described.start()
    }

    /// Tables, and a look at each of them.
    fn furnish(
        &self,
        postgres: &Postgres,
        loads: &Loads<'_>,
        upstream: &Upstream<'_>,
    ) -> Result<(), Failure> {
        let direct = self.starter.start(Kind::Direct, upstream)?;
        loads.runner.prepare(&direct.target)?;
        let sql = format!(
            "CREATE TABLE hundred_rows AS SELECT repeat('x', 100) AS filler FROM generate_series(1, 100);
             CREATE UNLOGGED TABLE sink (line text);
             GRANT ALL ON hundred_rows, sink TO {};
             VACUUM ANALYZE;",
            Postgres::USER
        );
        self.starter.runtime.block_on(async {
            let admin = postgres.admin_of(Postgres::DATABASE).await;
            for statement in sql.split_inclusive(';') {
                admin
                    .batch_execute(statement)
                    .await
                    .map_err(|error| Failure::Refused(error.to_string()))?;
            }
            Ok(())
        })
    }

    fn check(&self) -> Result<(), Failure> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Failure::Interrupted);
        }
        Ok(())
    }
}

async fn verifier(postgres: &Postgres) -> Result<String, Failure> {
    let admin = postgres.admin().await;
    let sql = "SELECT rolpassword FROM pg_authid WHERE rolname = $1";
    let found = admin.query_one(sql, &[&Postgres::USER]).await;
    let row = found.map_err(|error| Failure::Refused(error.to_string()))?;
    Ok(row.get(0))
}

fn at(peer: &Peer, workload: &Workload) -> impl FnOnce(Failure) -> Failure {
    let (peer, workload) = (peer.kind.name(), workload.name);
    move |source| Failure::At {
        peer,
        workload,
        source: Box::new(source),
    }
}

/// The first one ends the comparison between two runs, so that everything is taken down; the second at once.
fn listen_for_interrupts(runtime: &Runtime) -> Result<Arc<AtomicBool>, Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let seen = Arc::clone(&interrupted);
        let mut signals = {
            let _entered = runtime.enter();
            signal(kind).map_err(io("listen for signals"))?
        };
        runtime.spawn(async move {
            while signals.recv().await.is_some() {
                if seen.swap(true, Ordering::Relaxed) {
                    std::process::exit(INTERRUPTED);
                }
            }
        });
    }
    Ok(interrupted)
}

/// What the figures depend on.
fn setting(options: &Options, kinds: &[Kind]) -> Vec<(&'static str, String)> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut setting = vec![
        ("cores", cores.to_string()),
        ("rounds", options.rounds.to_string()),
        ("seconds", options.seconds.to_string()),
        ("upstream", if options.tls { "TLS" } else { "plain" }.to_owned()),
        ("PostgreSQL", options.postgres.to_string()),
    ];
    if let Some(iterations) = options.scram_iterations {
        setting.push(("SCRAM iterations of pgswivel", iterations.to_string()));
    }
    for (kind, program, flag) in [
        (Kind::Haproxy, "HAProxy", "-v"),
        (Kind::Pgbouncer, "PgBouncer", "--version"),
    ] {
        if let Some(version) = kinds.contains(&kind).then(|| version(kind, flag)).flatten() {
            setting.push((program, version));
        }
    }
    setting
}

/// The first number with a dot in it that a program prints about itself.
fn version(kind: Kind, flag: &str) -> Option<String> {
    let program = peers::find(kind.name()).ok()?;
    let output = Command::new(program).arg(flag).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = text.split_whitespace();
    words
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.'))
        .map(str::to_owned)
}
