//! `pgswivel health`: for container health checks, which have neither a shell nor curl.

use std::net::SocketAddr;

use serde::Deserialize;

use super::ask::{self, AskError};
use super::exit::Exit;
use super::flags::Whom;

/// Ask a running pgswivel whether it is ready: exit code 0, or 1 and a line that says why not
#[derive(clap::Args)]
#[command(after_help = EXIT)]
pub(super) struct Arguments {
    #[command(flatten)]
    whom: Whom,

    /// Ask whether it is alive, ready or not
    #[arg(long)]
    live: bool,

    /// Ask whether it has started, which it has for good once every secret was read, and is alive
    #[arg(long, conflicts_with = "live")]
    started: bool,
}

const EXIT: &str = "\
Exit codes: 0 if it is, 1 if it is not, can't be asked, or the question is wrong. Never another: orchestrators take 1 for
unhealthy, and others for who knows what.

A process that runs is found by the configuration file that it runs with, wherever it has bound its address: a file that
is broken, changed or gone by now does not make it unhealthy.";

/// Whatever else has the address by now answers something else.
#[derive(Deserialize)]
struct Health {
    ok: bool,
    #[serde(default)]
    reasons: Vec<String>,
}

pub(super) fn run(arguments: Arguments) -> Exit {
    let questions = match (arguments.live, arguments.started) {
        (true, _) => &[LIVE][..],
        (false, true) => &[("/startupz", "not started"), LIVE],
        (false, false) => &[("/readyz", "not ready")],
    };
    let not = questions[0].1;
    let address = match ask::address(arguments.whom) {
        Ok(address) => address,
        Err(problems) => {
            for problem in problems.iter() {
                eprintln!("{not}: nobody to ask: {problem}");
            }
            return Exit::Failed;
        }
    };
    match questions.iter().all(|(page, not)| is_so(address, page, not)) {
        true => Exit::Fine,
        false => Exit::Failed,
    }
}

const LIVE: (&str, &str) = ("/livez", "not alive");

/// And why not, to whoever reads it.
fn is_so(address: SocketAddr, page: &str, not: &str) -> bool {
    let answer = match ask::get(address, page) {
        Ok(answer) => answer,
        Err(error) => {
            eprintln!("{not}: {error}");
            return false;
        }
    };
    let why = match serde_json::from_str(&answer.body) {
        Ok(Health { ok: true, .. }) if answer.status == 200 => return true,
        Ok(Health { reasons, .. }) if !reasons.is_empty() => reasons.join("; "),
        Err(_) if answer.status == 200 => AskError::Stranger(address).to_string(),
        _ => format!("{address} answered {}", answer.status),
    };
    eprintln!("{not}: {why}");
    false
}
