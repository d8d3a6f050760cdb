//! `pgswivel health`: for container health checks, which have neither a shell nor curl.

use serde::Deserialize;

use super::ask;
use super::exit::Exit;
use super::flags::Whom;

/// Ask a running pgswivel whether it is ready: exit code 0, or 1 and a line that says why not
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    whom: Whom,
}

#[derive(Deserialize)]
struct Readiness {
    #[serde(default)]
    reasons: Vec<String>,
}

pub(super) fn run(arguments: Arguments) -> Exit {
    let address = match ask::address(arguments.whom) {
        Ok(address) => address,
        Err(problems) => {
            eprintln!("{problems}");
            return Exit::BadConfiguration;
        }
    };
    // Orchestrators take 1 for unhealthy, and other codes for who knows what.
    match ask::get(address, "/readyz") {
        Ok(answer) if answer.status == 200 => return Exit::Fine,
        Ok(answer) => {
            let readiness = serde_json::from_str::<Readiness>(&answer.body);
            let reasons = readiness.map(|readiness| readiness.reasons).unwrap_or_default();
            let reasons = match reasons.as_slice() {
                [] => format!("{address} answered {}", answer.status),
                reasons => reasons.join("; "),
            };
            eprintln!("not ready: {reasons}");
        }
        Err(error) => eprintln!("not ready: {error}"),
    }
    Exit::Failed
}
