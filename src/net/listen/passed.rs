//! Sockets that systemd has opened and passes on: `LISTEN_FDS`, `LISTEN_PID`, `LISTEN_FDNAMES`.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use listenfd::ListenFd;
use socket2::SockRef;

/// Kept for as long as the process runs, so that a configuration may turn away from them and back.
#[derive(Debug, Default)]
pub struct Passed(Vec<PassedSocket>);

#[derive(Debug)]
pub(super) struct PassedSocket {
    name: Option<String>,
    pub(super) kind: PassedKind,
}

#[derive(Debug)]
pub(super) enum PassedKind {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, PathBuf),
}

#[derive(Debug, thiserror::Error)]
pub enum PassedError {
    #[error("LISTEN_FDS: socket {number} can't be listened on: {source}")]
    Unusable { number: usize, source: io::Error },
    #[error("LISTEN_FDS: socket {number} does not listen (in the socket unit, Accept= has to be no)")]
    Connected { number: usize },
}

impl Passed {
    /// Takes the variables out of the environment, so it has to come before there is a second thread.
    pub fn take() -> Result<Self, PassedError> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut passed = ListenFd::from_env();
        let sockets = (0..passed.len()).filter_map(|number| {
            let name = names.next().filter(|name| !name.is_empty());
            let kind = take_one(&mut passed, number).transpose()?;
            Some(kind.map(|kind| PassedSocket { name, kind }))
        });
        sockets.collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn named(&self, name: Option<&str>) -> impl Iterator<Item = &PassedSocket> {
        self.0
            .iter()
            .filter(move |socket| name.is_none() || socket.name.as_deref() == name)
    }
}

fn take_one(passed: &mut ListenFd, number: usize) -> Result<Option<PassedKind>, PassedError> {
    let unusable = |source| PassedError::Unusable { number, source };
    let (kind, listens) = if let Ok(taken) = passed.take_tcp_listener(number) {
        let Some(listener) = taken else { return Ok(None) };
        let listens = SockRef::from(&listener).is_listener();
        let address = listener.local_addr().map_err(unusable)?;
        (PassedKind::Tcp(listener, address), listens)
    } else {
        let taken = passed.take_unix_listener(number).map_err(unusable)?;
        let Some(listener) = taken else { return Ok(None) };
        let listens = SockRef::from(&listener).is_listener();
        let address = listener.local_addr().map_err(unusable)?;
        let path = address.as_pathname().map_or_else(|| "@".into(), PathBuf::from);
        (PassedKind::Unix(listener, path), listens)
    };
    match listens.map_err(unusable)? {
        true => Ok(Some(kind)),
        false => Err(PassedError::Connected { number }),
    }
}
