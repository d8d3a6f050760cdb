//! The command line: one file a command, and what they share.

mod ask;
mod check;
mod demo;
mod exit;
mod flags;
mod health;
mod logging;
mod process;
mod rotate;
mod run;
mod status;
mod table;

use std::ffi::OsString;

use clap::{Parser, Subcommand};

pub use exit::Exit;
pub use process::forbid_core_dumps;

/// A Postgres sidecar proxy: credentials rotate upstream, the application's sessions stay.
#[derive(Parser)]
#[command(name = "pgswivel", version, after_help = EXIT_CODES, max_term_width = 110)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Arguments),
    Check(check::Arguments),
    Status(status::Arguments),
    Health(health::Arguments),
    Demo(demo::Arguments),
    Rotate(rotate::Arguments),
}

const EXIT_CODES: &str = "\
Exit codes: 0 fine, 1 failed, 2 a rotation is half done, 64 bad configuration or usage, 69 what is asked (upstream, store, a running pgswivel) can't be reached.
Of health: 0 and 1 only.";

/// Runs one command to its end.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    match CommandLine::try_parse_from(&arguments) {
        Ok(CommandLine { command }) => match command {
            Command::Run(arguments) => run::run(arguments),
            Command::Check(arguments) => check::run(arguments),
            Command::Status(arguments) => status::run(arguments),
            Command::Health(arguments) => health::run(arguments),
            Command::Demo(arguments) => demo::run(&arguments),
            Command::Rotate(arguments) => rotate::run(arguments),
        },
        Err(answer) => {
            // Nobody is left to tell when even this can't be written.
            let _ = answer.print();
            exit_of(&answer, &arguments)
        }
    }
}

/// Asking for help or the version is no mistake.
fn exit_of(answer: &clap::Error, arguments: &[OsString]) -> Exit {
    if !answer.use_stderr() {
        Exit::Fine
    } else if arguments.get(1).is_some_and(|command| command == "health") {
        Exit::Failed
    } else {
        Exit::BadConfiguration
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn answer(arguments: &[&str]) -> Exit {
        let arguments = ["pgswivel"].iter().chain(arguments);
        let arguments: Vec<OsString> = arguments.map(OsString::from).collect();
        match CommandLine::try_parse_from(&arguments) {
            Ok(_) => panic!("it was understood"),
            Err(answer) => exit_of(&answer, &arguments),
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn help_is_fine_and_wrong_usage_is_not() {
        assert_eq!(answer(&["--help"]), Exit::Fine);
        assert_eq!(answer(&["run", "--help"]), Exit::Fine);
        assert_eq!(answer(&["--version"]), Exit::Fine);
        assert_eq!(answer(&[]), Exit::BadConfiguration);
        assert_eq!(answer(&["rn"]), Exit::BadConfiguration);
        assert_eq!(answer(&["run", "--upstrem", "x"]), Exit::BadConfiguration);
    }

    #[test]
    fn health_knows_no_exit_code_but_0_and_1() {
        assert_eq!(answer(&["health", "--help"]), Exit::Fine);
        assert_eq!(answer(&["health", "--lvie"]), Exit::Failed);
        assert_eq!(answer(&["health", "extra"]), Exit::Failed);
        for arguments in [
            ["health", "--config", "/nonexistent/pgswivel.toml"],
            ["health", "--config", "/dev/null/x"],
            ["health", "--admin", "nowhere"],
            ["health", "--admin", "127.0.0.1:1"],
        ]
        .map(|[command, flag, value]| ["pgswivel", command, flag, value])
        {
            assert_eq!(main(arguments.map(OsString::from)), Exit::Failed, "{arguments:?}");
        }
    }

    #[test]
    fn a_bad_configuration_is_told_from_a_failure() {
        let arguments = ["pgswivel", "run", "--config", "/nonexistent/pgswivel.toml"];
        assert_eq!(main(arguments.map(OsString::from)), Exit::BadConfiguration);
    }

    #[test]
    fn every_flag_of_the_configuration_is_offered_with_its_variable() {
        let command = CommandLine::command();
        let offered = crate::config::flag_names().flat_map(|flag| [("run", flag), ("check", flag)]);
        for (name, (flag, variable)) in offered {
            let command = command.find_subcommand(name).expect("it is a command");
            let argument = command
                .get_arguments()
                .find(|argument| argument.get_long().map(|long| format!("--{long}")).as_deref() == Some(flag))
                .unwrap_or_else(|| panic!("{flag} is not offered"));
            let help = argument.get_help().expect("it has a help text").to_string();
            assert!(help.ends_with(&format!("[{variable}]")), "{help}");
        }
    }
}
