use std::process::ExitCode;

fn main() -> ExitCode {
    pgswivel::cli::main()
}
