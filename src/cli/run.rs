//! `pgswivel run`: the proxy itself.

use tokio::runtime::{Builder, Runtime};

use crate::config;
use crate::net::listen::Passed;
use crate::server::{self, Failure, Given, Signals, Sources, Systemd};

use super::exit::Exit;
use super::flags::Flags;
use super::logging::{self, Stream};
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
    // Before there is a second thread.
    let passed = match Passed::take() {
        Ok(passed) => passed,
        Err(error) => return fail(&error),
    };
    let runtime = match Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    // Before files are read: SIGHUP never ends it, however early it comes.
    let signals = match runtime.block_on(async { Signals::new() }) {
        Ok(signals) => signals,
        Err(error) => return fail(&error),
    };
    let exit = serve(&runtime, arguments, signals, passed);
    // A store on a file system that does not answer must not hold up the end.
    runtime.shutdown_background();
    exit
}

fn serve(runtime: &Runtime, arguments: Arguments, signals: Signals, passed: Passed) -> Exit {
    let sources = Sources::new(arguments.flags.into(), Process);
    let config = match sources.load().config {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return Exit::BadConfiguration;
        }
    };
    let level = logging::start(&config.log, Stream::Output);
    let given = Given {
        signals,
        sources,
        passed,
        systemd: Systemd::of(&Process),
        set_log: Box::new(move |log| level.set(log)),
    };
    match runtime.block_on(server::run(config, given)) {
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

fn fail(error: &dyn std::error::Error) -> Exit {
    eprintln!("{error}");
    Exit::Failed
}
