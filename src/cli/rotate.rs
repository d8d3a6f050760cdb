//! `pgswivel rotate`: what belongs to replacing a credential, from end to end.

mod age;
mod emergency;
mod gate;
mod plan;
mod prepare;
mod rollback;
mod run;
mod say;
mod show;
mod which;

use clap::Subcommand;

use super::exit::Exit;

/// What belongs to replacing a credential
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Plan(plan::Arguments),
    #[command(alias = "resume")]
    Run(run::Arguments),
    Rollback(rollback::Arguments),
    Emergency(emergency::Arguments),
    Show(show::Arguments),
    Gate(gate::Arguments),
    Age(age::Arguments),
}

pub(super) fn run(arguments: Arguments) -> Exit {
    match arguments.command {
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Rollback(arguments) => rollback::run(&arguments),
        Command::Emergency(arguments) => emergency::run(&arguments),
        Command::Show(arguments) => show::run(&arguments),
        Command::Gate(arguments) => gate::run(&arguments),
        Command::Age(arguments) => age::run(&arguments),
    }
}
