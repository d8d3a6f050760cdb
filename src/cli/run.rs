//! `pgswivel run`: the proxy itself.

use crate::config;
use crate::server::{self, Failure};

use super::exit::Exit;
use super::flags::Flags;
use super::logging;
use super::process::Process;

/// Serve clients until told to stop
#[derive(clap::Args)]
#[command(after_help = stores())]
pub(super) struct Arguments {
    #[command(flatten)]
    flags: Flags,
}

fn stores() -> String {
    let mut text = "Stores, for --secret:\n".to_owned();
    for (example, meaning) in config::stores() {
        text += &format!("  {example:<40} {meaning}\n");
    }
    text + "\nThe password that clients log in with comes from PGSWIVEL_PASSWORD, PGSWIVEL_PASSWORD_FILE or the file."
}

pub(super) fn run(arguments: Arguments) -> Exit {
    let config = match config::load(&arguments.flags.into(), &Process) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return Exit::BadConfiguration;
        }
    };
    logging::start(&config.log);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "can't start");
            return Exit::Failed;
        }
    };
    match runtime.block_on(server::run(config)) {
        Ok(()) => Exit::Fine,
        Err(Failure::Configuration(problems)) => {
            eprintln!("{problems}");
            Exit::BadConfiguration
        }
        Err(failure) => {
            tracing::error!(error = %failure, "ended");
            Exit::Failed
        }
    }
}
