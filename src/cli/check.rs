//! `pgswivel check`: does what is configured work, before anybody depends on it.

mod endpoints;
mod findings;
mod flag_words;
mod listeners;
mod login_advice;
mod look;
mod secrets;
mod store_advice;
mod text;

use std::collections::BTreeMap;
use std::io::{self, Write};

use self::findings::Findings;
use super::exit::Exit;
use super::flags::Flags;
use super::logging;
use super::process::Process;
use super::table;
use crate::config;
use crate::server::Loaded;
use crate::stores::DigestKey;

/// Read every secret, log in with every credential, and say what does not work
#[derive(clap::Args)]
#[command(after_help = EXIT)]
pub(super) struct Arguments {
    #[command(flatten)]
    flags: Flags,

    /// Print one JSON document instead of tables
    #[arg(long)]
    json: bool,
}

const EXIT: &str = "\
Reads every secret that a role uses, and tries each of its credentials once on every endpoint of every upstream that it
is for. A login that was refused is not tried again, and after limits.refused_logins_per_minute refusals an endpoint is
left alone, so no account gets locked. Nothing is changed, except that a vault-db secret is read by asking for a lease.

Exit codes:
  0   every role has a credential that works on every endpoint of its upstream (its database and set_role included), and
      every secret could be read, and `run` could listen where it is to; a refused credential beside one that works is
      shown, and is no failure
  1   that is not so, and at least one reason is another than an endpoint or a store that can't be reached:
      no credential is accepted, a secret makes no sense, a port is taken
  64  bad configuration: every problem is listed, nothing is tried
  69  that is not so, and the only reason is that an endpoint or a store can't be reached";

pub(super) fn run(arguments: Arguments) -> Exit {
    let flags = config::Flags::from(arguments.flags);
    let (config, unseen) = match config::load_as_bystander(&flags, &Process) {
        Ok(loaded) => loaded,
        Err(problems) => {
            eprintln!("{problems}");
            return Exit::BadConfiguration;
        }
    };
    logging::start_beside_output(&config.log);
    let loaded = match Loaded::load(&config, &DigestKey::random(), &BTreeMap::new()) {
        Ok(loaded) => loaded,
        Err(problems) => {
            eprintln!("{problems}");
            return Exit::BadConfiguration;
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "can't start");
            return Exit::Failed;
        }
    };
    let mut findings = runtime.block_on(look::look(&config, loaded, &unseen));
    if let Some(place) = upstream_flag(&flags) {
        flag_words::speak_of(place, &mut findings);
    }
    print(&findings, arguments.json);
    findings.result.into()
}

/// Where the upstream is described, if not in a file.
fn upstream_flag(flags: &config::Flags) -> Option<&'static str> {
    let variable = "PGSWIVEL_UPSTREAM";
    if flags.upstream.is_some() {
        return Some("--upstream");
    }
    std::env::var_os(variable)
        .is_some_and(|url| !url.is_empty())
        .then_some(variable)
}

fn print(findings: &Findings, as_json: bool) {
    let text = if as_json {
        let json = serde_json::to_string_pretty(findings);
        json.expect("findings are texts, numbers and lists of them") + "\n"
    } else {
        text::write(findings, table::width())
    };
    // Whoever reads it may have left (`| head`); the exit code still says what there is to say.
    let _ = io::stdout().write_all(text.as_bytes());
}
