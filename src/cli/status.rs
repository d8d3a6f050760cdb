//! `pgswivel status`: what a running pgswivel holds.

mod text;
mod unused;

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use super::ask::{self, AskError};
use super::exit::Exit;
use super::flags::Whom;
use super::table;
use crate::admin::report::Report;

/// Show what a running pgswivel holds, and whether the old credential is safe to revoke
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    whom: Whom,

    /// Print the document of /status instead of tables
    #[arg(long)]
    json: bool,

    /// Show it again every second
    #[arg(long)]
    watch: bool,

    /// Say whether nothing here is on this upstream user nor will be: exit code 0 if so, else 1
    #[arg(long, value_name = "USER", conflicts_with = "watch")]
    unused: Option<String>,

    /// Have the stores read first
    #[arg(long, requires = "unused")]
    fresh: bool,
}

const WATCH_EVERY: Duration = Duration::from_secs(1);
/// To the upper left corner, and everything below is gone.
const CLEAR: &str = "\x1b[H\x1b[J";

pub(super) fn run(arguments: Arguments) -> Exit {
    let address = match ask::address(arguments.whom) {
        Ok(address) => address,
        Err(problems) => {
            eprintln!("{problems}");
            return Exit::BadConfiguration;
        }
    };
    if let Some(user) = &arguments.unused {
        return unused::run(address, user, arguments.fresh, arguments.json);
    }
    if !arguments.watch {
        return once(address, arguments.json);
    }
    let is_screen = io::stdout().is_terminal() && !arguments.json;
    loop {
        let shown = show(address, arguments.json).unwrap_or_else(|error| format!("{error}\n"));
        let clear = if is_screen { CLEAR } else { "" };
        let mut stdout = io::stdout();
        let written = write!(stdout, "{clear}{shown}").and_then(|()| stdout.flush());
        // Whoever watched has left.
        if written.is_err() {
            return Exit::Fine;
        }
        sleep(WATCH_EVERY);
    }
}

fn once(address: SocketAddr, as_json: bool) -> Exit {
    match show(address, as_json) {
        Ok(text) => {
            // Whoever reads it may have left (`| head`).
            let _ = io::stdout().write_all(text.as_bytes());
            Exit::Fine
        }
        Err(error) => {
            eprintln!("{error}");
            Exit::Unreachable
        }
    }
}

fn show(address: SocketAddr, as_json: bool) -> Result<String, AskError> {
    let answer = ask::get(address, "/status")?;
    let report: Report = serde_json::from_str(&answer.body).map_err(|_| AskError::Stranger(address))?;
    Ok(match as_json {
        true => answer.body,
        false => text::write(&report, table::width()),
    })
}
