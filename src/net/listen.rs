//! Waiting for clients.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::{TcpListener, UnixListener, UnixStream, lookup_host};

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
}

impl BindError {
    fn new(at: Peer, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { at },
            _ => Self::Bind { at, source },
        }
    }
}

/// A bound socket that accepts. A Unix socket's file goes with it.
#[derive(Debug)]
pub struct Listener {
    kind: Kind,
    at: Peer,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// Where it listens. A port that was given as 0 is the real one here.
    pub fn at(&self) -> &Peer {
        &self.at
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
            Kind::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // It can only fail on a client that has left.
                socket::tune(&stream, CLIENT_KEEPALIVE, None)
                    .map_err(|_| io::ErrorKind::ConnectionAborted)?;
                Ok(Socket::tcp(stream, peer))
            }
            Kind::Unix(listener, file) => {
                let (stream, _unnamed) = listener.accept().await?;
                Ok(Socket::unix(stream, Arc::clone(&file.path)))
            }
        }
    }
}

/// Listens on every address of the list. A name may have addresses that this machine lacks (`localhost`
/// without IPv6), as long as one of them can be had.
pub async fn bind(addresses: &[ListenAddress]) -> Result<Vec<Listener>, BindError> {
    let mut listeners = Vec::new();
    let mut groups: Vec<Vec<SocketAddr>> = Vec::new();
    for address in addresses {
        match address {
            ListenAddress::Unix(path) => listeners.push(bind_unix(path).await?),
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
        bind_group(group, &v4_ports, &mut listeners)?;
    }
    Ok(listeners)
}

/// All addresses of one name.
fn bind_group(
    group: &[SocketAddr],
    v4_ports: &[u16],
    listeners: &mut Vec<Listener>,
) -> Result<(), BindError> {
    let mut lacking = None;
    let mut bound = false;
    for address in group {
        let at = Peer::Tcp(*address);
        if listeners.iter().any(|listener| listener.at == at) {
            bound = true;
            continue;
        }
        // One IPv6 socket would take both families, and the IPv4 address could then not be bound.
        let only_v6 = v4_ports.contains(&address.port());
        match bind_tcp(*address, only_v6) {
            Ok(listener) => {
                listeners.push(listener);
                bound = true;
            }
            Err(source) if is_lacking(&source) => lacking = Some(BindError::new(at, source)),
            Err(source) => return Err(BindError::new(at, source)),
        }
    }
    match lacking {
        Some(error) if !bound => Err(error),
        _ => Ok(()),
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
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from_std(socket.into())?;
    let at = Peer::Tcp(listener.local_addr()?);
    Ok(Listener {
        kind: Kind::Tcp(listener),
        at,
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
        Ok(Kind::Unix(listener, SocketFile::new(path)?))
    });
    match listener {
        Ok(kind) => Ok(Listener { kind, at }),
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

    async fn connect(peer: &Peer) -> io::Result<()> {
        match peer {
            Peer::Tcp(address) => TcpStream::connect(address).await.map(drop),
            Peer::Unix(path) => UnixStream::connect(path.as_path()).await.map(drop),
        }
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
