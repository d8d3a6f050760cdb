//! The audit file. A thread of its own writes it: a disk that is slow or full holds nobody up.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use tracing::{error, info};

/// Lines that wait for the disk. What comes beyond is lost, and counted.
const WAITING_MAX: usize = 1024;

pub(super) struct Sink {
    lines: SyncSender<Order>,
}

enum Order {
    Line(String),
    Answer(std::sync::mpsc::Sender<()>),
}

/// What is appended to. Opened for each line, so that whoever rotates or removes the file need not tell us.
struct File {
    path: PathBuf,
    lost: u64,
}

impl Sink {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = File {
            path: path.to_owned(),
            lost: 0,
        };
        // A file that can't be appended to now is a mistake to report now. Who reads a FIFO may come later.
        match file.append("") {
            Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {}
            result => result?,
        }
        let (lines, orders) = sync_channel(WAITING_MAX);
        let thread = std::thread::Builder::new().name("audit".to_owned());
        thread.spawn(move || file.keep(&orders))?;
        Ok(Self { lines })
    }

    /// False: the line is lost.
    pub(super) fn write(&self, line: String) -> bool {
        match self.lines.try_send(Order::Line(line)) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// Waits until everything is written, but no longer than this.
    pub(super) fn flush(&self, limit: Duration) {
        let (answer, answered) = channel();
        if self.lines.try_send(Order::Answer(answer)).is_ok() {
            // Late or in vain: the process ends all the same.
            let _ = answered.recv_timeout(limit);
        }
    }
}

impl File {
    fn keep(&mut self, orders: &Receiver<Order>) {
        while let Ok(order) = orders.recv() {
            match order {
                Order::Line(line) => self.take(&line),
                Order::Answer(answer) => {
                    // Whoever asked may be gone.
                    let _ = answer.send(());
                }
            }
        }
    }

    fn take(&mut self, line: &str) {
        let path = self.path.display();
        match self.append(line) {
            Ok(()) if self.lost > 0 => {
                info!(%path, lost = self.lost, "the audit file can be written again");
                self.lost = 0;
            }
            Ok(()) => {}
            Err(error) => {
                if self.lost == 0 {
                    error!(%path, %error, "the audit file can't be written; the lines are in the log only");
                }
                self.lost += 1;
            }
        }
    }

    fn append(&self, line: &str) -> io::Result<()> {
        // A FIFO that nobody reads is an error here, and no reason to wait.
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(&self.path)?;
        let flags = fcntl_getfl(&file)?;
        fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
        let length = file.metadata()?.len();
        file.write_all(line.as_bytes()).inspect_err(|_| {
            // Half a line would spoil the next one. If that fails as well, there is nobody left to tell.
            let _ = file.set_len(length);
        })
    }
}
