//! Telling systemd how things are: the datagrams of `sd_notify`, where `NOTIFY_SOCKET` asks for them.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use crate::config::Surroundings;

/// How often the status line is looked at.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// A datagram is lost rather than waited for any longer.
const TELL_TIME_MAX: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct Systemd {
    line: Option<(UnixDatagram, SocketAddr)>,
    /// Silence after which the service is killed.
    watchdog: Option<Duration>,
}

impl Systemd {
    /// What the environment says of it; without `NOTIFY_SOCKET` nobody listens.
    pub fn of(surroundings: &dyn Surroundings) -> Self {
        let number = |name| {
            surroundings
                .variable(name)?
                .into_string()
                .ok()?
                .parse::<u64>()
                .ok()
        };
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|micros| is_ours && *micros > 0);
        let named = surroundings
            .variable("NOTIFY_SOCKET")
            .filter(|name| !name.is_empty());
        let line = named.and_then(|name| match open(&name) {
            Ok(line) => Some(line),
            Err(error) => {
                warn!(%error, "NOTIFY_SOCKET can't be used");
                None
            }
        });
        Self {
            line,
            watchdog: watchdog.map(Duration::from_micros),
        }
    }

    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// `ready` has to follow. systemd compares the time with that of its signal.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Says that the event loop runs, by running in it, and how things are. For ever.
    pub async fn keep_telling(&self, status: impl Fn() -> String) {
        if self.line.is_none() {
            return;
        }
        let watchdog = self.watchdog.map(|watchdog| watchdog / 2);
        let mut alive = interval(watchdog.unwrap_or(STATUS_EVERY).max(Duration::from_millis(1)));
        let mut look = interval(STATUS_EVERY);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = String::new();
        loop {
            tokio::select! {
                _ = alive.tick() => {
                    if watchdog.is_some() {
                        self.tell("WATCHDOG=1");
                    }
                }
                _ = look.tick() => {
                    let now = status();
                    if now != told {
                        self.tell(&format!("STATUS={now}"));
                        told = now;
                    }
                }
            }
        }
    }

    /// One that is not heard is no reason to do anything else.
    fn tell(&self, message: &str) {
        if let Some((socket, address)) = &self.line {
            let _ = socket.send_to_addr(message.as_bytes(), address);
        }
    }
}

fn open(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(TELL_TIME_MAX))?;
    Ok((socket, address))
}
