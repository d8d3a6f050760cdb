use crate::config::{Flags, Surroundings};
use std::process::ExitCode;
struct Real;
impl Surroundings for Real {
    fn variable(&self, name: &str) -> Option<std::ffi::OsString> {
        std::env::var_os(name)
    }
    fn read(&self, path: &std::path::Path) -> std::io::Result<Vec<u8>> {
        std::fs::read(path)
    }
}
pub fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    tracing_subscriber::fmt()
        .with_env_filter(std::env::var("PGSWIVEL_LOG").unwrap_or("debug".into()))
        .with_writer(std::io::stderr)
        .init();
    let mut flags = Flags::default();
    let args: Vec<String> = std::env::args().collect();
    if let Some(at) = args.iter().position(|a| a == "--config") {
        flags.config = Some(args[at + 1].clone().into());
    }
    match crate::config::load(&flags, &Real) {
        Ok(config) => {
            let rt = tokio::runtime::Runtime::new().unwrap();
            match rt.block_on(crate::server::run(config)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(e) => {
                    eprintln!("{e}");
                    ExitCode::FAILURE
                }
            }
        }
        Err(p) => {
            eprintln!("{p}");
            ExitCode::from(64)
        }
    }
}
