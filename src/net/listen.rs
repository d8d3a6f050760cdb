//! Waiting for clients.

mod passed;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::{TcpListener, UnixListener, UnixStream, lookup_host};

pub use self::passed::{Passed, PassedError};
use self::passed::{PassedKind, PassedSocket};
use super::socket::{self, Peer, Socket};
use crate::config::{Keepalive, ListenAddress};

/// Clients that may wait to be accepted. The kernel has a cap of its own (`net.core.somaxconn`).
const BACKLOG: i32 = 4_096;

/// Who may log in is for SCRAM to say, as with Postgres's own socket. The directory can say more.
const UNIX_MODE: u32 = 0o777;

const CLIENT_KEEPALIVE: Keepalive = Keepalive {
    idle: Duration::from_secs(60),
    interval: Duration::from_secs(10),
    count: 6,
};

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("can't resolve {host}: {source}")]
    Resolve { host: String, source: io::Error },
    #[error("can't listen on {at}: {source}")]
    Bind { at: Peer, source: io::Error },
    #[error("can't listen on {at}: another process already does")]
    InUse { at: Peer },
    /// Both at once can't be, and neither should be given up before the other can be had.
    #[error("can't listen on {at} while this process listens on {held}")]
    Overlaps { at: Peer, held: Peer },
    #[error("systemd has passed no socket")]
    NothingPassed,
    #[error("systemd has passed no socket named {name:?} (FileDescriptorName)")]
    NotPassed { name: String },
}

impl BindError {
    fn new(at: Peer, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { at },
            _ => Self::Bind { at, source },
        }
    }
}

/// A bound socket that accepts. A Unix socket's file goes with it, if we made it.
#[derive(Debug)]
pub struct Listener {
    kind: ListenerKind,
    at: Peer,
    wanted: Peer,
}

#[derive(Debug)]
enum ListenerKind {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        path: Arc<PathBuf>,
        _file: Option<SocketFile>,
    },
}

/// What came of a list of addresses.
#[derive(Debug, Default)]
pub struct Bound {
    pub fresh: Vec<Listener>,
    /// Those that were held before and still are on the list.
    pub kept: Vec<Peer>,
}

impl Listener {
    /// Where it listens. A port that was given as 0 is the real one here.
    pub fn at(&self) -> &Peer {
        &self.at
    }

    /// Where it was told to listen.
    pub fn wanted(&self) -> &Peer {
        &self.wanted
    }

    /// The next client. An error is not the client's (out of descriptors, say): wait before the next try.
    /// Cancel-safe.
    pub async fn accept(&self) -> io::Result<Socket> {
        loop {
            match self.accept_one().await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                accepted => return accepted,
            }
        }
    }

    async fn accept_one(&self) -> io::Result<Socket> {
        match &self.kind {
            ListenerKind::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok(Socket::tcp(stream, peer))
            }
            ListenerKind::Unix { listener, path, .. } => {
                let (stream, _unnamed) = listener.accept().await?;
                Ok(Socket::unix(stream, Arc::clone(path)))
            }
        }
    }
}

/// Listens on every address of the list that is not `held` already, as it was wanted. A name may have addresses that
/// this machine lacks (`localhost` without IPv6), as long as one of them can be had.
pub async fn bind(addresses: &[ListenAddress], passed: &Passed, held: &[Peer]) -> Result<Bound, BindError> {
    let mut bound = Bound::default();
    let mut groups: Vec<Vec<SocketAddr>> = Vec::new();
    for address in addresses {
        match address {
            ListenAddress::Passed(name) => take_passed(name.as_deref(), passed, held, &mut bound)?,
            ListenAddress::Unix(path) => {
                let at = Peer::Unix(Arc::new(path.clone()));
                if !bound.has(&at, held) {
                    bound.fresh.push(bind_unix(path).await?);
                }
            }
            ListenAddress::Tcp { host, port } => {
                let found = lookup_host((host.as_str(), *port)).await;
                let found = found.map_err(|source| BindError::Resolve {
                    host: host.clone(),
                    source,
                })?;
                groups.push(found.collect());
            }
        }
    }
    let v4_ports: Vec<u16> = groups
        .iter()
        .flatten()
        .filter(|a| a.is_ipv4())
        .map(SocketAddr::port)
        .collect();
    for group in &groups {
        bind_group(group, &v4_ports, held, &mut bound)?;
    }
    Ok(bound)
}

impl Bound {
    /// Whether nothing is left to do for this address.
    fn has(&mut self, wanted: &Peer, held: &[Peer]) -> bool {
        if held.contains(wanted) && !self.kept.contains(wanted) {
            self.kept.push(wanted.clone());
        }
        self.kept.contains(wanted) || self.fresh.iter().any(|listener| listener.wanted == *wanted)
    }
}

fn take_passed(
    name: Option<&str>,
    passed: &Passed,
    held: &[Peer],
    bound: &mut Bound,
) -> Result<(), BindError> {
    let mut sockets = passed.named(name).peekable();
    if sockets.peek().is_none() {
        return Err(match name {
            None => BindError::NothingPassed,
            Some(name) => BindError::NotPassed {
                name: name.to_owned(),
            },
        });
    }
    for socket in sockets {
        let at = socket.at();
        if !bound.has(&at, held) {
            let listener = socket.listen(&at);
            let listener = listener.map_err(|source| BindError::new(at.clone(), source))?;
            bound.fresh.push(listener);
        }
    }
    Ok(())
}

impl PassedSocket {
    fn at(&self) -> Peer {
        match &self.kind {
            PassedKind::Tcp(_, address) => Peer::Tcp(*address),
            PassedKind::Unix(_, path) => Peer::Unix(Arc::new(path.clone())),
        }
    }

    fn listen(&self, at: &Peer) -> io::Result<Listener> {
        let kind = match &self.kind {
            PassedKind::Tcp(listener, _) => {
                let listener = listener.try_clone()?;
                listener.set_nonblocking(true)?;
                socket::tune(&listener, CLIENT_KEEPALIVE, None)?;
                ListenerKind::Tcp(TcpListener::from_std(listener)?)
            }
            PassedKind::Unix(listener, path) => {
                let listener = listener.try_clone()?;
                listener.set_nonblocking(true)?;
                ListenerKind::Unix {
                    listener: UnixListener::from_std(listener)?,
                    path: Arc::new(path.clone()),
                    _file: None,
                }
            }
        };
        Ok(Listener {
            kind,
            at: at.clone(),
            wanted: at.clone(),
        })
    }
}

/// All addresses of one name.
fn bind_group(
    group: &[SocketAddr],
    v4_ports: &[u16],
    held: &[Peer],
    bound: &mut Bound,
) -> Result<(), BindError> {
    let mut lacking = None;
    let mut is_bound = false;
    for address in group {
        let at = Peer::Tcp(*address);
        if bound.has(&at, held) {
            is_bound = true;
            continue;
        }
        // One IPv6 socket would take both families, and the IPv4 address could then not be bound.
        let only_v6 = v4_ports.contains(&address.port());
        match bind_tcp(*address, only_v6) {
            Ok(listener) => {
                bound.fresh.push(listener);
                is_bound = true;
            }
            Err(source) if is_lacking(&source) => lacking = Some(BindError::new(at, source)),
            Err(source) => return Err(in_the_way(BindError::new(at, source), *address, held)),
        }
    }
    match lacking {
        Some(error) if !is_bound => Err(error),
        _ => Ok(()),
    }
}

/// 0.0.0.0 can't be had beside 127.0.0.1.
fn in_the_way(error: BindError, address: SocketAddr, held: &[Peer]) -> BindError {
    let has_port = |peer: &&Peer| matches!(peer, Peer::Tcp(held) if held.port() == address.port());
    match (error, held.iter().find(has_port)) {
        (BindError::InUse { at }, Some(held)) => BindError::Overlaps {
            at,
            held: held.clone(),
        },
        (error, _) => error,
    }
}

fn is_lacking(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}

fn bind_tcp(address: SocketAddr, only_v6: bool) -> io::Result<Listener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket::tune(&socket, CLIENT_KEEPALIVE, None)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from_std(socket.into())?;
    let at = Peer::Tcp(listener.local_addr()?);
    Ok(Listener {
        kind: ListenerKind::Tcp(listener),
        at,
        wanted: Peer::Tcp(address),
    })
}

async fn bind_unix(path: &Path) -> Result<Listener, BindError> {
    let path = Arc::new(path.to_owned());
    let at = Peer::Unix(Arc::clone(&path));
    let bound = match UnixListener::bind(path.as_path()) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(&path).await => {
            fs::remove_file(path.as_path()).and_then(|()| UnixListener::bind(path.as_path()))
        }
        bound => bound,
    };
    let listener = bound.and_then(|listener| {
        fs::set_permissions(path.as_path(), fs::Permissions::from_mode(UNIX_MODE))?;
        let file = SocketFile::new(Arc::clone(&path))?;
        Ok(ListenerKind::Unix {
            listener,
            path,
            _file: Some(file),
        })
    });
    match listener {
        Ok(kind) => Ok(Listener {
            kind,
            wanted: at.clone(),
            at,
        }),
        Err(source) => Err(BindError::new(at, source)),
    }
}

/// A socket file that a dead process left. Anything else that bears the name is not ours to remove.
async fn is_stale(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && UnixStream::connect(path).await.is_err_and(refused)
}

/// Removed at the end, unless another process has put its own in the place.
#[derive(Debug)]
struct SocketFile {
    path: Arc<PathBuf>,
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: Arc<PathBuf>) -> io::Result<Self> {
        let identity = identity(&path)?;
        Ok(Self { path, identity })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // Nobody is left to tell, and the next start replaces a stale file.
            let _ = fs::remove_file(self.path.as_path());
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener as StdUnixListener;

    use tokio::net::TcpStream;

    use super::*;

    fn tcp(host: &str, port: u16) -> ListenAddress {
        ListenAddress::Tcp {
            host: host.into(),
            port,
        }
    }

    async fn bind(addresses: &[ListenAddress]) -> Result<Vec<Listener>, BindError> {
        let bound = super::bind(addresses, &Passed::default(), &[]).await?;
        Ok(bound.fresh)
    }

    #[tokio::test]
    async fn what_is_held_already_is_kept_and_not_bound_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = ListenAddress::Unix(folder.path().join("socket"));
        let first = bind(&[tcp("127.0.0.1", 0), path.clone()]).await.unwrap();
        let held: Vec<Peer> = first.iter().map(|listener| listener.wanted().clone()).collect();
        let list = [path, tcp("127.0.0.2", 0)];
        let bound = super::bind(&list, &Passed::default(), &held).await.unwrap();
        assert_eq!(bound.kept.len(), 1);
        assert!(matches!(bound.kept[0], Peer::Unix(_)));
        assert_eq!(bound.fresh.len(), 1);
    }

    #[tokio::test]
    async fn an_address_that_takes_in_one_that_is_held_is_told_from_one_that_another_process_has() {
        let first = bind(&[tcp("127.0.0.1", 0)]).await.unwrap();
        let Peer::Tcp(address) = *first[0].at() else {
            panic!("a TCP listener")
        };
        let list = [tcp("0.0.0.0", address.port())];
        let error = super::bind(&list, &Passed::default(), &[Peer::Tcp(address)]).await;
        assert!(matches!(error, Err(BindError::Overlaps { .. })), "{error:?}");
    }

    #[tokio::test]
    async fn a_socket_that_nobody_passed_is_missed() {
        for name in [None, Some("web".to_owned())] {
            assert!(bind(&[ListenAddress::Passed(name)]).await.is_err());
        }
    }

    async fn connect(peer: &Peer) -> io::Result<()> {
        match peer {
            Peer::Tcp(address) => TcpStream::connect(address).await.map(drop),
            Peer::Unix(path) => UnixStream::connect(path.as_path()).await.map(drop),
        }
    }

    #[tokio::test]
    async fn a_client_that_dies_without_a_word_is_noticed() {
        let listeners = bind(&[tcp("127.0.0.1", 0)]).await.unwrap();
        let (connected, accepted) = tokio::join!(connect(listeners[0].at()), listeners[0].accept());
        connected.unwrap();
        let accepted = accepted.unwrap();
        let socket = socket2::SockRef::from(&accepted);
        assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), CLIENT_KEEPALIVE.idle);
        assert_eq!(
            socket.tcp_keepalive_interval().unwrap(),
            CLIENT_KEEPALIVE.interval
        );
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), CLIENT_KEEPALIVE.count);
    }

    #[tokio::test]
    async fn a_list_listens_on_each_of_its_addresses_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".s.PGSQL.6432");
        let list = [tcp("127.0.0.1", 0), ListenAddress::Unix(path.clone())];
        let listeners = bind(&list).await.unwrap();
        assert_eq!(listeners.len(), 2);
        for listener in &listeners {
            let (client, socket) = tokio::join!(connect(listener.at()), listener.accept());
            client.unwrap();
            assert!(socket.unwrap().peer().is_local());
        }
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, UNIX_MODE);
        drop(listeners);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn both_families_share_a_port() {
        // Bound but not listening, it keeps the port for this test.
        let reserved = tokio::net::TcpSocket::new_v4().unwrap();
        reserved.set_reuseaddr(true).unwrap();
        reserved.bind("0.0.0.0:0".parse().unwrap()).unwrap();
        let address = reserved.local_addr().unwrap();
        let list = [
            tcp("0.0.0.0", address.port()),
            tcp("::", address.port()),
            tcp("0.0.0.0", address.port()),
        ];
        let listeners = bind(&list).await.unwrap();
        assert!((1..=2).contains(&listeners.len()), "{listeners:?}");
    }

    #[tokio::test]
    async fn an_address_in_use_is_named() {
        let first = bind(&[tcp("127.0.0.1", 0)]).await.unwrap();
        let Peer::Tcp(address) = *first[0].at() else {
            panic!("a TCP listener")
        };
        let error = bind(&[tcp("127.0.0.1", address.port())]).await.unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error}");
        assert!(error.to_string().contains(&address.to_string()));
        let error = bind(&[tcp("192.0.2.1", 0)]).await.unwrap_err();
        assert!(matches!(error, BindError::Bind { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_stale_socket_file_is_replaced_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let list = [ListenAddress::Unix(path.clone())];
        drop(StdUnixListener::bind(&path).unwrap());
        let listeners = bind(&list).await.unwrap();
        let error = bind(&list).await.unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error}");
        connect(listeners[0].at()).await.unwrap();
        drop(listeners);

        fs::write(&path, "not a socket").unwrap();
        let error = bind(&list).await.unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"not a socket");
    }

    #[tokio::test]
    async fn a_file_that_another_process_put_in_the_place_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listeners = bind(&[ListenAddress::Unix(path.clone())]).await.unwrap();
        fs::remove_file(&path).unwrap();
        let _other = StdUnixListener::bind(&path).unwrap();
        drop(listeners);
        assert!(path.exists());
    }
}
