//! Sees that something moved near a file. The kernel's hint makes it quick; looking at the content every two
//! seconds, which is for the caller to do, makes it certain, because watches die with the directories that a
//! kubelet replaces.

use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify;
use tokio::net::unix::pipe::Receiver;

/// How long a change may go unnoticed when the kernel gives no hint.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Who writes several files writes them in one go: the look comes after the last of them.
pub const SETTLE: Duration = Duration::from_millis(50);

/// An inotify instance, which is read like any pipe, or nothing where there is none to have: then the looks
/// alone must do.
#[derive(Debug)]
pub struct Lookout(Option<Receiver>);

impl Lookout {
    /// Within a tokio runtime.
    #[expect(clippy::new_without_default, reason = "it takes something from the system")]
    pub fn new() -> Self {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let watch = inotify::init(flags).ok();
        Self(watch.and_then(|fd| Receiver::from_owned_fd_unchecked(fd).ok()))
    }

    /// Watches every directory whose entries decide what the path means. Adding one again is free. Before a look:
    /// what changes between the two is then seen either way.
    pub fn cover(&self, path: &Path) {
        let Some(fd) = &self.0 else { return };
        let finished = inotify::WatchFlags::CLOSE_WRITE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::DELETE
            | inotify::WatchFlags::ONLYDIR;
        let real = std::fs::canonicalize(path).ok();
        let parents = [path.parent(), real.as_deref().and_then(Path::parent)];
        for directory in parents.into_iter().flatten().chain([path]).chain(real.as_deref()) {
            let directory = if directory.as_os_str().is_empty() {
                Path::new(".")
            } else {
                directory
            };
            let _ = inotify::add_watch(fd, directory, finished);
        }
    }

    /// Until it is worth looking again.
    pub async fn pause(&self) {
        if tokio::time::timeout(LOOK_EVERY, self.hint()).await.is_ok() {
            tokio::time::sleep(SETTLE).await;
        }
    }

    /// Something moved near a path. What it was does not matter: the content is looked at.
    async fn hint(&self) {
        let Some(fd) = &self.0 else {
            return std::future::pending().await;
        };
        if fd.readable().await.is_err() {
            return std::future::pending().await;
        }
        let mut events = [0; 4096];
        while fd.try_read(&mut events).is_ok_and(|bytes| bytes > 0) {}
    }
}
