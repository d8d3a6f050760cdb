//! `pgswivel rotate gate NAME`: only waits.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use super::super::exit::Exit;
use super::prepare::{on_a_runtime, opened};
use super::which::Which;
use crate::config::parse_duration;
use crate::journal::rfc3339;
use crate::rotate::Opened;
use crate::rotate::gate::{GateError, Outcome, Reason, gate};

/// Wait until nobody is on the old login any more, and change nothing
#[derive(clap::Args)]
#[command(after_help = EXIT)]
pub(super) struct Arguments {
    /// Whose end is waited for; without it, those of the rotation's users that the store does not hold
    #[arg(long, value_name = "USER")]
    user: Vec<String>,

    /// How long to wait, such as 30m; 0s to look once
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = parse_duration)]
    within: Duration,

    /// Print one JSON document at the end
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    which: Which,
}

const EXIT: &str = "\
A user is safe to take away when the rotation's store holds it neither as current nor as what comes next, when every
pgswivel of `sidecars` has read its stores since and has no connection on it, and when no server of `upstreams` has a
backend of it, whoever opened that. Who is left is said as it changes.

Exit codes:
  0   nobody is on it
  1   somebody is, or may be, and the time is over: they are named
  64  bad configuration, or a user that no server knows
  69  the time is over, and all that is left could not be reached";

pub(super) fn run(arguments: &Arguments) -> Exit {
    let opened = match opened(&arguments.which, |_, opened| Ok(opened)) {
        Ok(opened) => opened,
        Err(exit) => return exit,
    };
    on_a_runtime(async move {
        match wait(opened, arguments).await {
            Ok(outcome) => end(&outcome, arguments),
            Err(error) => {
                eprintln!("{error}");
                Exit::BadConfiguration
            }
        }
    })
}

async fn wait(mut opened: Opened, arguments: &Arguments) -> Result<Outcome, GateError> {
    let users = arguments.user.clone();
    gate(&mut opened, users, arguments.within, say).await
}

/// To the error stream: what is printed at the end is for programs.
fn say(left: &[Reason]) {
    let now = rfc3339(SystemTime::now());
    let mut lines = String::new();
    for reason in left {
        lines.push_str(&format!("{now} waiting: {reason}\n"));
    }
    // Whoever read it may have left; the exit code still says what there is to say.
    let _ = io::stderr().write_all(lines.as_bytes());
}

fn end(outcome: &Outcome, arguments: &Arguments) -> Exit {
    let text = match arguments.json {
        true => serde_json::to_string(outcome).expect("an outcome is texts, numbers and lists of them"),
        false => words(outcome),
    };
    let _ = writeln!(io::stdout(), "{text}");
    match outcome {
        outcome if outcome.safe => Exit::Fine,
        outcome if outcome.is_only_unreachable() => Exit::Unreachable,
        _ => Exit::Failed,
    }
}

fn words(outcome: &Outcome) -> String {
    let users = match outcome.users.as_slice() {
        [] => "the old login".to_owned(),
        users => users.join(", "),
    };
    if outcome.safe {
        return format!("safe: nobody is on {users}");
    }
    let left: Vec<String> = outcome
        .left
        .iter()
        .map(|reason| format!("\n  {reason}"))
        .collect();
    format!("not safe: {users} can't go{}", left.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_names_who_is_left() {
        let reason = Reason {
            by: "server",
            name: "db:5432".into(),
            user: "app_a".into(),
            why: "backend 7".into(),
            unreachable: false,
        };
        let mut outcome = Outcome {
            safe: false,
            users: vec!["app_a".into()],
            waited_seconds: 1.0,
            left: vec![reason],
        };
        assert_eq!(
            words(&outcome),
            "not safe: app_a can't go\n  app_a: server db:5432: backend 7"
        );
        outcome.left.clear();
        outcome.safe = true;
        assert_eq!(words(&outcome), "safe: nobody is on app_a");
    }
}
