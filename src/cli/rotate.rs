//! `pgswivel rotate`: what belongs to replacing a credential, from end to end.

mod age;
mod gate;

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
    Gate(gate::Arguments),
    Age(age::Arguments),
}

pub(super) fn run(arguments: Arguments) -> Exit {
    match arguments.command {
        Command::Gate(arguments) => gate::run(&arguments),
        Command::Age(arguments) => age::run(&arguments),
    }
}
