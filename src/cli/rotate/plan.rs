//! `pgswivel rotate plan`: what there is to do, and whether it can be done.

use serde_json::json;

use super::super::exit::Exit;
use super::prepare::{Prepared, on_a_runtime, prepare};
use super::say::{print, shown};
use super::which::Which;
use crate::rotate::plan::{Goal, Plan};
use crate::rotate::run::foresee;

/// Say what `run` would do, step by step, and change nothing
#[derive(clap::Args)]
#[command(after_help = EXIT)]
pub(super) struct Arguments {
    /// Print one JSON document
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    which: Which,
}

const EXIT: &str = "\
The store is read, every server is asked, and the known credentials log in once on each, and one with a password that can't
be right: a server that takes that would take anything. What is secret is ***.

Exit codes:
  0   it can be done
  1   it would be refused: each reason says what to do
  64  bad configuration
  69  the store or a server can't be reached";

pub(super) fn run(arguments: &Arguments) -> Exit {
    let name = &arguments.which.name;
    look(&arguments.which, |plan| match arguments.json {
        true => format!("{}\n", json_of(name, plan)),
        false => shown(name, plan),
    })
}

pub(super) fn look(which: &Which, text: impl Fn(&Plan) -> String) -> Exit {
    let Prepared {
        mut opened,
        mut store,
    } = match prepare(which) {
        Ok(prepared) => prepared,
        Err(exit) => return exit,
    };
    on_a_runtime(async move {
        match foresee(&mut opened, &mut *store, &Goal::Forward).await {
            Ok((_, plan)) => {
                print(&text(&plan));
                match plan.refusals.is_empty() {
                    true => Exit::Fine,
                    false => Exit::Failed,
                }
            }
            Err(error) => {
                eprintln!("{error}");
                Exit::Unreachable
            }
        }
    })
}

pub(super) fn json_of(name: &str, plan: &Plan) -> String {
    let steps = plan.steps.iter().map(|step| {
        json!({ "step": step.label(), "does": step.to_string(), "on": step.on().map(ToString::to_string) })
    });
    let refusals = plan
        .refusals
        .iter()
        .map(|refusal| json!({ "why": refusal.words, "can_be_forced": refusal.can_be_forced }));
    json!({
        "rotation": name, "situation": plan.situation.label(), "steps": steps.collect::<Vec<_>>(),
        "refusals": refusals.collect::<Vec<_>>(), "notes": plan.notes,
    })
    .to_string()
}
