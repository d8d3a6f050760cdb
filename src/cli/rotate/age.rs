//! `pgswivel rotate age`: what should have been rotated already.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "brackets name an environment variable in the help that is made of these comments"
)]

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use super::super::exit::Exit;
use super::super::logging;
use super::super::process::Process;
use super::super::table::{self, Table, rough};
use super::prepare::on_a_runtime;
use crate::config::{self, Flags};
use crate::rotate::age::{Finding, Standing, look};

/// Hold every password of the configuration against its policy, and change nothing
#[derive(clap::Args)]
#[command(after_help = EXIT)]
pub(super) struct Arguments {
    /// Print everything, and not only what should not be so
    #[arg(long)]
    all: bool,

    /// Print one JSON document with everything
    #[arg(long)]
    json: bool,

    /// The configuration file, TOML [PGSWIVEL_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

const EXIT: &str = "\
Reads every secret once, used or not, but for those that are made anew for each reader. The age is the store's own date of
the current credential, its limit is max_age of the secret or of its rotation, whichever is less. Passwords are looked at for
whether they could be guessed, those of local roles too. For each rotation, VALID UNTIL of its users is asked of a server.

Exit codes:
  0   nothing is overdue or weak, and every secret could be read
  1   something is overdue or weak, or a secret can't be read for another reason than that its store can't be reached
  64  bad configuration
  69  nothing is overdue as far as is known, but not everything could be reached";

pub(super) fn run(arguments: &Arguments) -> Exit {
    let flags = Flags {
        config: arguments.config.clone(),
        ..Flags::default()
    };
    let config = match config::load_for_rotation(&flags, &Process) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return Exit::BadConfiguration;
        }
    };
    logging::start_beside_output(&config.log);
    on_a_runtime(async {
        let findings = look(&config).await;
        say(&findings, arguments)
    })
}

fn say(findings: &[Finding], arguments: &Arguments) -> Exit {
    let text = match (arguments.json, arguments.all) {
        (true, _) => {
            let json = serde_json::to_string_pretty(findings);
            json.expect("findings are texts, numbers and lists of them") + "\n"
        }
        (false, true) => everything(findings),
        (false, false) => what_is_wrong(findings),
    };
    // Whoever reads it may have left; the exit code still says what there is to say.
    let _ = io::stdout().write_all(text.as_bytes());
    let is_any = |is: fn(Standing) -> bool| findings.iter().any(|finding| is(finding.standing));
    if is_any(Standing::is_due) {
        Exit::Failed
    } else if is_any(|standing| standing == Standing::Unreachable) {
        Exit::Unreachable
    } else {
        Exit::Fine
    }
}

fn what_is_wrong(findings: &[Finding]) -> String {
    let is_wrong = |finding: &&Finding| !matches!(finding.standing, Standing::Fine | Standing::Renewed);
    let lines: Vec<String> = findings.iter().filter(is_wrong).map(line).collect();
    match lines.as_slice() {
        [] => format!("nothing is overdue or weak of {}\n", findings.len()),
        lines => lines.concat(),
    }
}

fn line(finding: &Finding) -> String {
    let Finding {
        kind, name, words, ..
    } = finding;
    let (age, max) = (age(finding), max(finding));
    let times = match (age.as_str(), max.as_str()) {
        ("", _) => String::new(),
        (age, "") => format!(" ({age} old)"),
        (age, max) => format!(" ({age} old, max_age {max})"),
    };
    table::printable(&format!(
        "{kind} {name}: {}: {words}{times}",
        word(finding.standing)
    )) + "\n"
}

fn everything(findings: &[Finding]) -> String {
    let mut table = Table::new(["kind", "name", "standing", "age", "max_age"]);
    for finding in findings {
        let cells = [
            finding.kind.to_owned(),
            finding.name.clone(),
            word(finding.standing).to_owned(),
            age(finding),
            max(finding),
        ];
        let note = Some(finding.words.clone()).filter(|words| !words.is_empty());
        table.add(cells, note);
    }
    let mut text = String::new();
    table.write(table::width(), &mut text);
    text
}

fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Fine => "fine",
        Standing::Renewed => "renewed",
        Standing::Unknown => "unknown",
        Standing::Unreachable => "unreachable",
        Standing::Unusable => "unusable",
        Standing::Weak => "weak",
        Standing::Overdue => "overdue",
    }
}

fn age(finding: &Finding) -> String {
    seconds(finding.age_seconds)
}

fn max(finding: &Finding) -> String {
    seconds(finding.max_age_seconds)
}

fn seconds(seconds: Option<u64>) -> String {
    seconds.map_or_else(String::new, |seconds| rough(Duration::from_secs(seconds)))
}
