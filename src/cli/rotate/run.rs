//! `pgswivel rotate run`: a rotation from its beginning, or from where the last one left it, to its end.

use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroizing;

use super::super::exit::Exit;
use super::super::process::Process;
use super::plan::look;
use super::prepare::{Prepared, on_a_runtime, prepare};
use super::say::{carry_out, may_begin, print, shown};
use super::which::Which;
use crate::config::{Surroundings, parse_duration};
use crate::credentials::Password;
use crate::rotate::password;
use crate::rotate::plan::{Goal, Plan, Situation};
use crate::rotate::run::{Wish, foresee};

/// Replace the credential, or go on with what was begun
#[derive(clap::Args)]
#[command(after_help = EXIT)]
pub(super) struct Arguments {
    /// Begin without being asked
    #[arg(long)]
    yes: bool,

    /// The same as `plan`: change nothing
    #[arg(long)]
    dry_run: bool,

    /// Override what can be overridden, and end whoever is still on the old user
    #[arg(long)]
    force: bool,

    /// Do nothing before the credential is as old as min_interval
    #[arg(long)]
    if_due: bool,

    /// How long to wait for sidecars, and for those who are on the old user, such as 30m
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = parse_duration)]
    within: Duration,

    /// A file with the new password, instead of one that is made here
    #[arg(long, value_name = "FILE")]
    password_from: Option<PathBuf>,

    #[command(flatten)]
    which: Which,
}

const EXIT: &str = "\
What is half done is found in the store and on the servers, not in a file: to go on is to run it again. Nothing becomes
current in the store before it has logged in on every server, and no user is closed while somebody is on it.

Exit codes:
  0   done, or nothing was due
  1   nothing was done, or what was done is taken back
  2   stopped half-way: what goes on with it is said
  64  bad configuration
  69  nothing was done, since the store or a server can't be reached";

pub(super) fn run(arguments: &Arguments) -> Exit {
    let which = &arguments.which;
    if arguments.dry_run {
        return look(which, |plan| shown(&which.name, plan));
    }
    let mut prepared = match prepare(which) {
        Ok(prepared) => prepared,
        Err(exit) => return exit,
    };
    let password = match brought(arguments, &prepared) {
        Ok(password) => password,
        Err(why) => {
            eprintln!("{why}");
            return Exit::BadConfiguration;
        }
    };
    on_a_runtime(async move {
        if let Some(exit) = not_begun(arguments, &mut prepared).await {
            return exit;
        }
        let wish = Wish {
            goal: Goal::Forward,
            force: arguments.force,
            within: arguments.within,
            password,
        };
        carry_out(prepared, wish).await
    })
}

/// Why it ends before it begins.
async fn not_begun(arguments: &Arguments, prepared: &mut Prepared) -> Option<Exit> {
    if arguments.yes && !arguments.if_due {
        return None;
    }
    let Prepared { opened, store } = prepared;
    let plan = match foresee(opened, &mut **store, &Goal::Forward).await {
        Ok((_, plan)) => plan,
        Err(error) => {
            eprintln!("{error}");
            return Some(Exit::Unreachable);
        }
    };
    if arguments.if_due && plan.situation == Situation::Rest {
        match is_due(prepared).await {
            Ok(true) => {}
            Ok(false) => {
                print("nothing is due\n");
                return Some(Exit::Fine);
            }
            Err((why, exit)) => {
                eprintln!("{why}");
                return Some(exit);
            }
        }
    }
    agree(arguments, &plan)
}

fn agree(arguments: &Arguments, plan: &Plan) -> Option<Exit> {
    if !arguments.yes {
        print(&shown(&arguments.which.name, plan));
    }
    match may_begin(arguments.yes, "go on?") {
        Ok(true) => None,
        Ok(false) => {
            print("nothing was done\n");
            Some(Exit::Failed)
        }
        Err(exit) => Some(exit),
    }
}

/// By the store's own date.
async fn is_due(prepared: &mut Prepared) -> Result<bool, (String, Exit)> {
    let rotation = &prepared.opened.rotation;
    let (name, limit) = (rotation.name.clone(), rotation.min_interval.or(rotation.max_age));
    let Some(limit) = limit else {
        let why = format!("rotation.{name}.min_interval: must be set for --if-due");
        return Err((why, Exit::BadConfiguration));
    };
    match prepared.opened.age().await {
        Ok(Some(age)) => Ok(age >= limit),
        Ok(None) => Err((
            "the store does not say how old the credential is: run it without --if-due".to_owned(),
            Exit::Failed,
        )),
        Err(error) => Err((error.to_string(), Exit::Unreachable)),
    }
}

/// From a file, and good enough.
fn brought(arguments: &Arguments, prepared: &Prepared) -> Result<Option<Password>, String> {
    let Some(path) = &arguments.password_from else {
        return Ok(None);
    };
    let shown = path.display();
    let bytes = Process
        .read(path)
        .map_err(|error| format!("can't read {shown}: {error}"))?;
    let bytes = Zeroizing::new(bytes);
    let end = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let end = end.strip_suffix(b"\r").unwrap_or(end);
    let password = Password::new(end.to_vec());
    if std::str::from_utf8(end).is_err() {
        return Err(format!("the password in {shown} is no text"));
    }
    let users = &prepared.opened.rotation.users;
    for user in users.iter().map(String::as_str).chain([""]) {
        password::check(&password, user)
            .map_err(|weak| format!("the password in {shown} can't be used: {weak}"))?;
    }
    Ok(Some(password))
}
