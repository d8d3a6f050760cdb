//! What every command is told that works on one rotation.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "brackets name an environment variable in the help that is made of these comments"
)]

use std::path::PathBuf;

use crate::config::Flags;

#[derive(clap::Args)]
pub(super) struct Which {
    /// The rotation, a [rotation.NAME] of the configuration
    pub(super) name: String,

    /// The configuration file, TOML [PGSWIVEL_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Which {
    pub(super) fn flags(&self) -> Flags {
        Flags {
            config: self.config.clone(),
            ..Flags::default()
        }
    }
}
