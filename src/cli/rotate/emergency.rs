//! `pgswivel rotate emergency`: somebody knows a credential who should not.

use std::time::Duration;

use super::super::exit::Exit;
use super::prepare::{Prepared, on_a_runtime, prepare};
use super::say::{carry_out, may_begin, print};
use super::which::Which;
use crate::rotate::facts::users_of;
use crate::rotate::plan::Goal;
use crate::rotate::run::{Wish, foresee};

/// Replace a credential at once, and end everybody who is on it
#[derive(clap::Args)]
#[command(after_help = EXIT)]
pub(super) struct Arguments {
    /// Whose credential somebody knows
    #[arg(long, value_name = "USER")]
    role: String,

    /// Begin without being asked
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    which: Which,
}

const EXIT: &str = "\
Who is on it, from where and since when is said before anything is changed. Sidecars have five seconds to read the store;
nobody else is waited for, and there is no soak. Sessions behind pgswivel live on.

Exit codes: as of `rotate run`.";

/// A pgswivel that does not answer is not waited for longer.
const WITHIN: Duration = Duration::from_secs(5);

pub(super) fn run(arguments: &Arguments) -> Exit {
    let mut prepared = match prepare(&arguments.which) {
        Ok(prepared) => prepared,
        Err(exit) => return exit,
    };
    let goal = Goal::Emergency {
        role: arguments.role.clone(),
    };
    on_a_runtime(async move {
        let Prepared { opened, store } = &mut prepared;
        let facts = match foresee(opened, &mut **store, &goal).await {
            Ok((facts, _)) => facts,
            Err(error) => {
                eprintln!("{error}");
                return Exit::Unreachable;
            }
        };
        let users = users_of(&opened.rotation.users, &facts.holding.current.user);
        if !users.contains(&arguments.role) {
            eprintln!(
                "{} is not of this rotation: it has {}",
                arguments.role,
                users.join(", ")
            );
            return Exit::BadConfiguration;
        }
        for server in &facts.servers {
            let there = server.backends_of(&arguments.role);
            print(&format!(
                "{}: {} connections on {}\n",
                server.endpoint,
                there.len(),
                arguments.role
            ));
            for backend in there {
                print(&format!("  {backend}\n"));
            }
        }
        match may_begin(
            arguments.yes,
            "end them, with a new credential for those who may have it?",
        ) {
            Ok(true) => {}
            Ok(false) => return Exit::Failed,
            Err(exit) => return exit,
        }
        let wish = Wish {
            goal,
            force: true,
            within: WITHIN,
            password: None,
        };
        carry_out(prepared, wish).await
    })
}
