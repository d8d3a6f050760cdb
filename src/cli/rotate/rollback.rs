//! `pgswivel rotate rollback`: back to what was current before.

use std::time::Duration;

use super::super::exit::Exit;
use super::prepare::{Prepared, on_a_runtime, prepare};
use super::say::{carry_out, may_begin, print, shown};
use super::which::Which;
use crate::config::parse_duration;
use crate::rotate::plan::Goal;
use crate::rotate::run::{Wish, foresee};

/// Take back what was begun; after the promotion, that is a rotation back
#[derive(clap::Args)]
#[command(after_help = EXIT)]
pub(super) struct Arguments {
    /// Begin without being asked
    #[arg(long)]
    yes: bool,

    /// Override what can be overridden, and end whoever is still on the other user
    #[arg(long)]
    force: bool,

    /// How long to wait for sidecars, and for those who are on the other user, such as 30m
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = parse_duration)]
    within: Duration,

    #[command(flatten)]
    which: Which,
}

const EXIT: &str = "\
Before the new credential is current, servers and store get back what was current all the while. After it, the user before is
made current again, if it can still log in and the store holds its password as previous.

Exit codes:
  0   done
  1   nothing was done
  2   stopped half-way: what goes on with it is said
  64  bad configuration
  69  nothing was done, since the store or a server can't be reached";

pub(super) fn run(arguments: &Arguments) -> Exit {
    let mut prepared = match prepare(&arguments.which) {
        Ok(prepared) => prepared,
        Err(exit) => return exit,
    };
    on_a_runtime(async move {
        if !arguments.yes {
            let Prepared { opened, store } = &mut prepared;
            match foresee(opened, &mut **store, &Goal::Back).await {
                Ok((_, plan)) => print(&shown(&arguments.which.name, &plan)),
                Err(error) => {
                    eprintln!("{error}");
                    return Exit::Unreachable;
                }
            }
        }
        match may_begin(arguments.yes, "go back?") {
            Ok(true) => {}
            Ok(false) => return Exit::Failed,
            Err(exit) => return exit,
        }
        let wish = Wish {
            goal: Goal::Back,
            force: arguments.force,
            within: arguments.within,
            password: None,
        };
        carry_out(prepared, wish).await
    })
}
