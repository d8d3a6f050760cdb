//! What reaches the log, and in which form.

mod lines;

use std::io::{self, IsTerminal};
use std::panic::{self, PanicHookInfo};

use tracing::error;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterExt, Targets};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

pub(super) use self::lines::Lines;
use crate::config::{Log, LogFormat};

/// The level of the log, which may change.
pub(super) struct Level(reload::Handle<Targets, Registry>);

impl Level {
    pub(super) fn set(&self, log: &Log) {
        // It fails when the subscriber is gone, and then there is no log.
        let _ = self.0.reload(wanted(log));
    }
}

/// What a service has to say is its log. Once, before anything logs.
pub(super) fn start(log: &Log) -> io::Result<(Level, Lines)> {
    let lines = Lines::to(io::stdout())?;
    let writer = BoxMakeWriter::new(lines.clone());
    Ok((begin(log, writer, io::stdout().is_terminal()), lines))
}

/// The same where the output is for something else.
pub(super) fn start_beside_output(log: &Log) {
    begin(log, BoxMakeWriter::new(io::stderr), io::stderr().is_terminal());
}

fn begin(log: &Log, writer: BoxMakeWriter, is_terminal: bool) -> Level {
    let format = log.format.unwrap_or(if is_terminal {
        LogFormat::Text
    } else {
        LogFormat::Json
    });
    let (wanted_now, level) = reload::Layer::new(wanted(log));
    let filter = wanted_now.and(harmless());
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Json => layer.json().flatten_event(true).with_filter(filter).boxed(),
        LogFormat::Text => layer.with_ansi(is_terminal).with_filter(filter).boxed(),
    };
    tracing_subscriber::registry().with(layer).init();
    panic::set_hook(Box::new(say_panic));
    Level(level)
}

/// One line, as everything else. What a panic says may quote what somebody sent, unless it stands in the source.
fn say_panic(panic: &PanicHookInfo<'_>) {
    let words = panic.payload().downcast_ref::<&'static str>();
    let at = panic.location().map(ToString::to_string);
    let thread = std::thread::current();
    error!(
        at,
        thread = thread.name(),
        message = words.copied().unwrap_or("a fault in this program"),
    );
}

fn wanted(log: &Log) -> Targets {
    let filter = log.level.parse();
    filter.expect("the configuration takes only levels and module=level")
}

/// Whatever level is wanted: below warnings other crates print requests, SQL and notices.
fn harmless() -> Targets {
    Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("pgswivel", LevelFilter::TRACE)
        .with_target("audit", LevelFilter::INFO)
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
