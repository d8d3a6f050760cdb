//! The flags.

use std::path::PathBuf;

use clap::Parser;

use super::failure::Failure;
use super::kind::Kind;
use super::workloads::{self, Workload};

const ABOUT: &str = "\
Compares pgswivel with a direct connection, HAProxy as a plain TCP relay and PgBouncer in session mode.";

const MORE: &str = "\
Everything runs on this machine: a PostgreSQL of its own, the peers in front of it, and the load. In each round every \
peer runs every workload once, one right after the other and in another order each time, so that what else happens on \
the machine happens to all of them. Ratios are taken within a round; shown are the median over the rounds and, behind \
it, the lowest and the highest.

CPU is the proxy's own, user and system, divided by what it served, and leaves the logins at the start out. System \
calls are counted in a pass of their own (by perf where it is allowed to, else by strace) as the difference between a \
long and a short run. Memory is the proxy's Pss, with idle clients that have each run one query and hold a link, minus \
what it was before they came; their server is a stand-in, since five thousand backends would fill the machine.

Results go to --output: results.json, results.md and plots; a README that has the marker lines gets the summary \
between them with --readme.";

#[derive(Debug, Parser)]
#[command(name = "compare", about = ABOUT, long_about = format!("{ABOUT}\n\n{MORE}"), after_help = workloads(), max_term_width = 110)]
pub struct Options {
    /// How often each peer runs each workload
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// How long each run lasts
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub seconds: u32,
    /// Workloads, or what their names have before a dash, separated by commas; all if absent
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Of direct, haproxy, pgbouncer, pgswivel; all if absent
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Every connection to PostgreSQL is encrypted, by whoever holds it
    #[arg(long)]
    pub tls: bool,
    /// Leave the pass that counts system calls out
    #[arg(long)]
    pub no_calls: bool,
    /// Another build of pgswivel, compared as the peer `other`
    #[arg(long, value_name = "PROGRAM")]
    pub other: Option<PathBuf>,
    /// Threads of HAProxy; the default of HAProxy itself is one a core
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub haproxy_threads: u32,
    /// What pgswivel announces to its clients; libpq derives a key with so many for each connection
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub scram_iterations: Option<u32>,
    /// Major version of PostgreSQL, as `tests/setup` has it
    #[arg(long, default_value_t = 18, value_name = "MAJOR")]
    pub postgres: u16,
    /// Where results are written [default: benches/results, or benches/results/tls]
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
    /// Rewrite the summary between the markers of this file
    #[arg(long, value_name = "FILE")]
    pub readme: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn workloads() -> String {
    let mut text = "Workloads:\n".to_owned();
    for workload in workloads::all() {
        text += &format!("  {:<16} {}\n", workload.name, workload.about);
    }
    text
}

impl Options {
    /// In the order that they are reported in; the direct connection first.
    pub fn kinds(&self) -> Result<Vec<Kind>, Failure> {
        for name in &self.peers {
            if Kind::ALL.iter().all(|kind| kind.name() != name) {
                return Err(Failure::Unknown(name.clone()));
            }
        }
        let asked = |kind: &Kind| match kind {
            Kind::Other => self.other.is_some(),
            _ => self.peers.is_empty() || self.peers.iter().any(|name| kind.name() == name),
        };
        Ok(Kind::ALL.into_iter().filter(asked).collect())
    }

    pub fn workloads(&self) -> Result<Vec<Workload>, Failure> {
        for name in &self.only {
            if name.is_empty() || !workloads::all().iter().any(|workload| workload.is(name)) {
                return Err(Failure::Unknown(name.clone()));
            }
        }
        let asked =
            |workload: &Workload| self.only.is_empty() || self.only.iter().any(|name| workload.is(name));
        Ok(workloads::all().into_iter().filter(asked).collect())
    }

    pub fn output(&self) -> PathBuf {
        let results = || PathBuf::from("benches/results");
        let own = || {
            if self.tls {
                results().join("tls")
            } else {
                results()
            }
        };
        self.output.clone().unwrap_or_else(own)
    }
}
