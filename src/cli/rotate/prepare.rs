//! What every command needs that works on one rotation.

use std::sync::Arc;

use super::super::exit::Exit;
use super::super::logging;
use super::super::process::Process;
use super::which::Which;
use crate::config::{self, Config, Problem, Problems, Rotation};
use crate::rotate::Opened;
use crate::stores::WritableStore;

pub(super) struct Prepared {
    pub(super) opened: Opened,
    pub(super) store: Box<dyn WritableStore>,
}

/// The rotation of this name, with its store. What is wrong is said.
pub(super) fn prepare(which: &Which) -> Result<Prepared, Exit> {
    opened(which, |config, opened| {
        let store = opened.open_store(config).map_err(|error| {
            Problems::from(vec![Problem {
                path: format!("secret.{}", opened.rotation.secret),
                message: error.to_string(),
            }])
        })?;
        Ok(Prepared { opened, store })
    })
}

/// The same for who does not change it. What `then` makes of it.
pub(super) fn opened<T>(
    which: &Which,
    then: impl FnOnce(&Config, Opened) -> Result<T, Problems>,
) -> Result<T, Exit> {
    let loaded = config::load_for_rotation(&which.flags(), &Process).and_then(|config| {
        logging::start_beside_output(&config.log);
        let rotation = find(&config, &which.name)?;
        let opened = Opened::load(&config, &rotation)?;
        then(&config, opened)
    });
    loaded.map_err(|problems| {
        eprintln!("{problems}");
        Exit::BadConfiguration
    })
}

fn find(config: &Config, name: &str) -> Result<Arc<Rotation>, Problems> {
    config.rotations.get(name).cloned().ok_or_else(|| {
        let names: Vec<&str> = config.rotations.keys().map(|name| name.as_str()).collect();
        let message = match names.as_slice() {
            [] => format!("there is no [rotation.{name}] in the file, and no other"),
            names => format!("no rotation named {name:?}; there are {}", names.join(", ")),
        };
        Problems::from(vec![Problem {
            path: "rotation".to_owned(),
            message,
        }])
    })
}

pub(super) fn on_a_runtime(work: impl Future<Output = Exit>) -> Exit {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => {
            eprintln!("can't start: {error}");
            Exit::Failed
        }
    }
}
