use std::process::ExitCode;

use pgswivel::cli;

fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("nothing runs before main that could have installed another");
    cli::forbid_core_dumps();
    cli::main(std::env::args_os()).into()
}
