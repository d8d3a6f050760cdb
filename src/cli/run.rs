//! `pgswivel run`: the proxy itself.

use std::time::Duration;
use std::{io, panic};

use tokio::runtime::{Builder, Runtime};

use crate::config::{self, Config};
use crate::net::listen::Passed;
use crate::server::{self, Failure, Given, Signals, Sources, Systemd};

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

/// For whoever reads the log, at the end.
const LAST_LINES: Duration = Duration::from_secs(1);

pub(super) fn run(arguments: Arguments) -> Exit {
    // Before there is a second thread.
    let passed = match Passed::take() {
        Ok(passed) => passed,
        Err(error) => return fail(&error),
    };
    let own = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    // Before files are read: SIGHUP never ends it, however early it comes.
    let signals = match own.block_on(async { Signals::new() }) {
        Ok(signals) => signals,
        Err(error) => return fail(&error),
    };
    let exit = serve(&own, arguments, signals, passed);
    // A store on a file system that does not answer must not hold up the end.
    own.shutdown_background();
    exit
}

fn serve(own: &Runtime, arguments: Arguments, signals: Signals, passed: Passed) -> Exit {
    let sources = Sources::new(arguments.flags.into(), Process);
    let config = match sources.load().config {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return Exit::BadConfiguration;
        }
    };
    let (level, lines) = match logging::start(&config.log) {
        Ok(started) => started,
        Err(error) => return fail(&error),
    };
    let given = Given {
        signals,
        sources,
        passed,
        systemd: Systemd::of(&Process),
        set_log: Box::new(move |log| level.set(log)),
        log_dropped: lines.dropped(),
    };
    let exit = serve_with(own, config, given);
    lines.flush(LAST_LINES);
    exit
}

fn serve_with(own: &Runtime, config: Config, given: Given) -> Exit {
    let crew = match crew(config.workers) {
        Ok(crew) => crew,
        Err(error) => return fail(&error),
    };
    let served = match &crew {
        None => own.block_on(server::run(config, given)),
        Some(crew) => own.block_on(async {
            let running = crew.spawn(server::run(config, given));
            running
                .await
                .unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))
        }),
    };
    if let Some(crew) = crew {
        crew.shutdown_background();
    }
    match served {
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

/// The threads that everything runs on, if one is not enough: with one, whatever a socket has to say is heard where it
/// is acted upon, and no other thread has to be woken for it.
fn crew(workers: u32) -> io::Result<Option<Runtime>> {
    if workers == 1 {
        return Ok(None);
    }
    let threads = Builder::new_multi_thread()
        .worker_threads(workers as usize)
        .thread_name("worker")
        .enable_all()
        .build()?;
    Ok(Some(threads))
}

fn fail(error: &dyn std::error::Error) -> Exit {
    eprintln!("{error}");
    Exit::Failed
}
