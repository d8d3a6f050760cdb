//! Runs one workload against one peer.

use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::client::{Keys, Session};
use super::failure::Failure;
use super::measure::{Cpu, Done, Tracer, Watch, now};
use super::peers::Peer;
use super::pgbench::{Runner, Until};
use super::results::Sample;
use super::support::wire::message;
use super::workloads::{Bulk, Load};

/// What one bulk transfer moves.
const BULK_MEGABYTES: u32 = 100;
const ROW: usize = 1_000;
const ROWS: usize = BULK_MEGABYTES as usize * 1_000_000 / ROW;
/// As many rows are sent at once.
const ROWS_ABREAST: usize = 64;
/// Fewer transfers than that say little.
const TRANSFERS_MIN: u32 = 2;

/// How much longer than asked for a run may become.
const LONGER_MAX: u32 = 8;

/// Transactions of the shorter of two runs that system calls are counted in, all clients together.
const TRACED: u32 = 4_000;
const TRACED_CONNECTS: u32 = 80;
/// The longer run is so many times as long.
const TRACED_LONGER: u32 = 3;

pub struct Loads<'a> {
    pub runner: Runner<'a>,
    pub seconds: u32,
}

impl Loads<'_> {
    /// One timed run.
    pub fn sample(&self, load: Load, peer: &Peer) -> Result<Sample, Failure> {
        let cpu = Cpu::of(peer.pid())?;
        match load {
            Load::Bulk(bulk) => self.sample_bulk(bulk, peer, cpu),
            _ => self.sample_long_enough(load, peer, cpu),
        }
    }

    /// Pgbench counts the time that its logins take, which on a busy machine may be all it has.
    fn sample_long_enough(&self, load: Load, peer: &Peer, cpu: Cpu) -> Result<Sample, Failure> {
        let mut seconds = self.seconds;
        loop {
            let watch = Watch::start(cpu);
            let done = self.run(load, peer, Until::Seconds(seconds))?;
            match watch.finish(&done) {
                Err(Failure::TooShort) if seconds < self.seconds * LONGER_MAX => seconds *= 2,
                finished => return finished,
            }
        }
    }

    /// System calls for each transaction or megabyte: what a longer run makes more than a shorter one, so that
    /// logins do not count.
    pub fn calls(&self, load: Load, peer: &Peer, pid: Pid, tracer: &Tracer) -> Result<f64, Failure> {
        let (clients, each) = match load {
            Load::Pgbench(pgbench) if pgbench.reconnect => (pgbench.clients, TRACED_CONNECTS),
            Load::Pgbench(pgbench) => (pgbench.clients, TRACED),
            Load::Connect { clients } => (clients, TRACED_CONNECTS),
            Load::Bulk(_) | Load::Idle { .. } => (1, 1),
        };
        let short = (each / clients).max(1);
        let count = |transactions| {
            tracer.count(pid, || {
                self.run(load, peer, Until::Transactions(transactions))?;
                Ok(())
            })
        };
        let more = count(TRACED_LONGER * short)? - count(short)?;
        let units = match load {
            Load::Bulk(_) => BULK_MEGABYTES,
            _ => clients,
        };
        Ok(more / f64::from((TRACED_LONGER - 1) * short * units))
    }

    fn run(&self, load: Load, peer: &Peer, until: Until) -> Result<Vec<Done>, Failure> {
        match load {
            Load::Pgbench(pgbench) => self
                .runner
                .run(&pgbench, &peer.target, peer.socket_directory(), until),
            Load::Connect { clients } => connect_again_and_again(peer, clients, until),
            Load::Bulk(bulk) => {
                let mut session = Session::open(&peer.target, &mut Keys::default())?;
                let done = again_and_again(until, || transfer(&mut session, bulk));
                session.close()?;
                done
            }
            Load::Idle { .. } => Ok(Vec::new()),
        }
    }

    /// One connection, and each transfer counts as a whole.
    fn sample_bulk(&self, bulk: Bulk, peer: &Peer, cpu: Cpu) -> Result<Sample, Failure> {
        let mut session = Session::open(&peer.target, &mut Keys::default())?;
        let limit = Duration::from_secs(self.seconds.into());
        let (start, spent) = (Instant::now(), cpu.spent());
        let mut transfers = 0;
        while transfers < TRANSFERS_MIN || start.elapsed() < limit {
            transfer(&mut session, bulk)?;
            transfers += 1;
        }
        let (elapsed, spent) = (start.elapsed(), cpu.spent() - spent);
        session.close()?;
        let megabytes = f64::from(transfers * BULK_MEGABYTES);
        Ok(Sample {
            rate: megabytes / elapsed.as_secs_f64(),
            latency: None,
            cpu: cpu.is_measured().then(|| spent / megabytes),
        })
    }
}

fn connect_again_and_again(peer: &Peer, clients: u32, until: Until) -> Result<Vec<Done>, Failure> {
    let client = || {
        let mut keys = Keys::default();
        again_and_again(until, || {
            let mut session = Session::open(&peer.target, &mut keys)?;
            session.run("SELECT 1")?;
            session.close()
        })
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        let mut all = Vec::new();
        for client in clients {
            let done = client.join().map_err(|_| Failure::TooShort)?;
            all.extend(done?);
        }
        Ok(all)
    })
}

fn again_and_again(until: Until, mut one: impl FnMut() -> Result<(), Failure>) -> Result<Vec<Done>, Failure> {
    let start = Instant::now();
    let mut done = Vec::new();
    loop {
        let over = match until {
            Until::Seconds(seconds) => start.elapsed() >= Duration::from_secs(seconds.into()),
            Until::Transactions(count) => done.len() >= count as usize,
        };
        if over {
            return Ok(done);
        }
        let begun = Instant::now();
        one()?;
        let latency = u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX);
        done.push(Done { at: now(), latency });
    }
}

fn transfer(session: &mut Session, bulk: Bulk) -> Result<(), Failure> {
    let row = "x".repeat(ROW - 1);
    let rows = format!("SELECT '{row}' FROM generate_series(1, {ROWS})");
    match bulk {
        Bulk::SelectOut => session.run(&rows),
        Bulk::CopyOut => session.run(&format!("COPY ({rows}) TO STDOUT")),
        Bulk::CopyIn => {
            let block = message(b'd', format!("{row}\n").as_bytes()).repeat(ROWS_ABREAST);
            // Read in full, and then thrown away: what a table would cost is the server's.
            let sql = "COPY sink FROM STDIN WHERE line = ''";
            session.copy_in(sql, &block, ROWS / ROWS_ABREAST)
        }
    }
}
