//! Live change: the configuration is read again when somebody asks, or when a file of it changes.

use std::future::pending;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use super::differences;
use super::running::Running;
use super::sources::Sources;
use super::systemd::Systemd;
use crate::config::{Config, Log, Problem, Problems};

/// A configuration that is valid and can't be applied is tried again this often: nothing tells that an address is free
/// again, or that a name can be resolved.
const TRY_AGAIN_EVERY: Duration = Duration::from_secs(5);

/// A file system that does not answer for so long holds up nothing else that was asked for.
const READ_TIME_MAX: Duration = Duration::from_secs(10);

/// Sets the level of the log.
pub type SetLog = Box<dyn Fn(&Log) + Send + Sync>;

pub struct Changes {
    pub running: Running,
    pub sources: Arc<Sources>,
    /// Somebody wants everything read again.
    pub asked: Arc<Notify>,
    pub systemd: Arc<Systemd>,
    pub set_log: SetLog,
    /// What is wrong with the configuration as it is written; nothing while it is in use.
    pub refused: watch::Sender<Option<Problems>>,
}

impl Changes {
    /// For ever.
    pub async fn follow(&mut self) {
        let mut is_put_off = false;
        loop {
            let is_asked = tokio::select! {
                () = self.asked.notified() => true,
                () = self.sources.changed() => false,
                () = try_again(is_put_off) => {
                    is_put_off = self.read(false).await.is_err();
                    continue;
                }
            };
            self.systemd.reloading();
            is_put_off = self.read(is_asked).await.is_err();
            if is_asked {
                self.running.refresh();
            }
            self.systemd.ready();
        }
    }

    async fn read(&mut self, is_asked: bool) -> Result<(), PutOff> {
        let Ok(loaded) = timeout(READ_TIME_MAX, self.sources.load_again()).await else {
            self.refuse(too_slow(), is_asked);
            return Err(PutOff);
        };
        let before = self.config();
        let config = match loaded.config {
            Ok(config) => config,
            Err(problems) => {
                self.refuse(problems, is_asked);
                return Ok(());
            }
        };
        match self.running.change(config).await {
            Ok(()) => {
                if self.refused.send_replace(None).is_some() {
                    info!("configuration valid again");
                }
                let after = self.config();
                say(&before, &after, &loaded.changed, is_asked);
                (self.set_log)(&after.log);
                Ok(())
            }
            Err(problems) => {
                self.refuse(problems, is_asked);
                Err(PutOff)
            }
        }
    }

    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.running.active().borrow().config)
    }

    fn refuse(&self, problems: Problems, is_asked: bool) {
        let is_news = self.refused.borrow().as_ref() != Some(&problems);
        if !is_news && !is_asked {
            return;
        }
        for problem in problems.iter() {
            error!(
                path = problem.path,
                problem = problem.message,
                "configuration not valid"
            );
        }
        let count = problems.iter().count();
        warn!(
            problems = count,
            "changed configuration ignored: what was in use before stays in use"
        );
        self.refused.send_replace(Some(problems));
    }
}

/// What is written is valid, and does not fit what is there.
struct PutOff;

fn too_slow() -> Problems {
    Problems::from(vec![Problem {
        path: "--config".to_owned(),
        message: format!("its files could not be read within {READ_TIME_MAX:?}"),
    }])
}

async fn try_again(is_put_off: bool) {
    match is_put_off {
        true => sleep(TRY_AGAIN_EVERY).await,
        false => pending().await,
    }
}

fn say(before: &Config, after: &Config, files: &[impl AsRef<Path>], is_asked: bool) {
    let changes = differences::between(before, after).join(", ");
    let files: Vec<_> = files
        .iter()
        .map(|file| file.as_ref().display().to_string())
        .collect();
    if !changes.is_empty() || !files.is_empty() {
        info!(changes, files = files.join(", "), "configuration changed");
    } else if is_asked {
        info!("configuration read again: nothing has changed");
    }
    let keys = differences::that_need_a_restart(before, after);
    if !keys.is_empty() {
        warn!(keys = keys.join(", "), "a change needs a restart");
    }
}
