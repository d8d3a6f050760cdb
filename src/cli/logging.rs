//! What reaches the log, and in which form.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterExt, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::config::{Log, LogFormat};

/// Once, before anything logs.
pub(super) fn start(log: &Log) {
    let is_terminal = io::stderr().is_terminal();
    let format = log.format.unwrap_or(if is_terminal {
        LogFormat::Text
    } else {
        LogFormat::Json
    });
    let filter = wanted(log).and(harmless());
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Json => layer.json().flatten_event(true).with_filter(filter).boxed(),
        LogFormat::Text => layer.with_ansi(is_terminal).with_filter(filter).boxed(),
    };
    tracing_subscriber::registry().with(layer).init();
}

fn wanted(log: &Log) -> Targets {
    let filter = log.level.parse();
    filter.expect("the configuration takes only levels and module=level")
}

/// Whatever level is wanted: below warnings other crates print requests, SQL and notices, and these two
/// print tokens at any level.
fn harmless() -> Targets {
    Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("pgswivel", LevelFilter::TRACE)
        .with_target("audit", LevelFilter::INFO)
        .with_target("rustify", LevelFilter::OFF)
        .with_target("vaultrs", LevelFilter::OFF)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn no_level_lets_other_crates_print_secrets() {
        let harmless = harmless();
        assert!(harmless.would_enable("pgswivel::keeper", &Level::TRACE));
        assert!(harmless.would_enable("audit", &Level::INFO));
        assert!(harmless.would_enable("aws_config::imds", &Level::WARN));
        assert!(!harmless.would_enable("aws_smithy_runtime::client", &Level::DEBUG));
        assert!(!harmless.would_enable("tokio_postgres::query", &Level::DEBUG));
        assert!(!harmless.would_enable("rustify::client", &Level::ERROR));
        assert!(!harmless.would_enable("vaultrs::api", &Level::ERROR));
    }

    #[test]
    fn a_level_can_be_set_for_one_module() {
        let log = Log {
            format: None,
            level: "info,pgswivel::keeper=debug".to_owned(),
            audit: None,
        };
        let wanted = wanted(&log);
        assert!(wanted.would_enable("pgswivel::keeper", &Level::DEBUG));
        assert!(!wanted.would_enable("pgswivel::server", &Level::DEBUG));
    }
}
