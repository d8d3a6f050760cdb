//! Reaching an endpoint.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

use super::socket::{self, Peer, Socket};
use crate::config::{Keepalive, Upstream};
use crate::names::Endpoint;

/// How upstream sockets are opened and kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DialOptions {
    /// For everything together: the name, and every address it has.
    pub connect_timeout: Duration,
    pub keepalive: Keepalive,
    pub user_timeout: Duration,
}

impl From<&Upstream> for DialOptions {
    fn from(upstream: &Upstream) -> Self {
        Self {
            connect_timeout: upstream.connect_timeout,
            keepalive: upstream.keepalive,
            user_timeout: upstream.user_timeout,
        }
    }
}

/// No address of the endpoint could be reached. It says nothing about any credential.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("can't resolve {host}: {source}")]
    Resolve { host: Arc<str>, source: io::Error },
    #[error("{host} has no address")]
    NoAddress { host: Arc<str> },
    #[error("can't reach {peer}: {source}")]
    Unreachable { peer: Peer, source: io::Error },
    #[error("{peer} did not answer in time")]
    NoAnswer { peer: Peer },
    #[error("{endpoint} could not be reached within {limit:?} (connect_timeout)")]
    TimedOut { endpoint: Endpoint, limit: Duration },
}

/// The first address that answers, in the resolver's order. [`Socket::peer`] says which it was.
pub async fn dial(endpoint: &Endpoint, options: &DialOptions) -> Result<Socket, DialError> {
    let attempt = async {
        match endpoint {
            Endpoint::Tcp { host, port } => {
                let addresses = resolve(host, *port).await?;
                dial_any(host, &addresses, options).await
            }
            Endpoint::Unix(path) => dial_unix(path).await,
        }
    };
    match timeout(options.connect_timeout, attempt).await {
        Ok(result) => result,
        Err(_) => Err(DialError::TimedOut {
            endpoint: endpoint.clone(),
            limit: options.connect_timeout,
        }),
    }
}

/// The very same place again, whatever its name may mean by now: a cancel request has to go to the
/// server that runs the query.
pub async fn dial_again(peer: &Peer, options: &DialOptions) -> Result<Socket, DialError> {
    let attempt = async {
        match peer {
            Peer::Tcp(address) => dial_tcp(*address, options).await,
            Peer::Unix(path) => dial_unix(path).await,
        }
    };
    match timeout(options.connect_timeout, attempt).await {
        Ok(result) => result,
        Err(_) => Err(DialError::NoAnswer { peer: peer.clone() }),
    }
}

async fn resolve(host: &Arc<str>, port: u16) -> Result<Vec<SocketAddr>, DialError> {
    let found = lookup_host((&**host, port)).await;
    let found = found.map_err(|source| DialError::Resolve {
        host: Arc::clone(host),
        source,
    })?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// Each address but the last gets its share of the time, so that a silent one cannot use up the turn
/// of those behind it. The last has all that is left.
async fn dial_any(
    host: &Arc<str>,
    addresses: &[SocketAddr],
    options: &DialOptions,
) -> Result<Socket, DialError> {
    let Some((last, before)) = addresses.split_last() else {
        return Err(DialError::NoAddress {
            host: Arc::clone(host),
        });
    };
    let shares = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in before {
        if let Ok(Ok(socket)) = timeout(options.connect_timeout / shares, dial_tcp(*address, options)).await {
            return Ok(socket);
        }
    }
    dial_tcp(*last, options).await
}

async fn dial_tcp(address: SocketAddr, options: &DialOptions) -> Result<Socket, DialError> {
    let connected = TcpStream::connect(address).await.and_then(|stream| {
        socket::tune(&stream, options.keepalive, Some(options.user_timeout))?;
        Ok(Socket::tcp(stream, address))
    });
    connected.map_err(|source| DialError::Unreachable {
        peer: Peer::Tcp(address),
        source,
    })
}

async fn dial_unix(path: &Arc<PathBuf>) -> Result<Socket, DialError> {
    match UnixStream::connect(path.as_path()).await {
        Ok(stream) => Ok(Socket::unix(stream, Arc::clone(path))),
        Err(source) => Err(DialError::Unreachable {
            peer: Peer::Unix(Arc::clone(path)),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::TcpListener;

    use super::*;

    const OPTIONS: DialOptions = DialOptions {
        connect_timeout: Duration::from_secs(10),
        keepalive: Keepalive {
            idle: Duration::from_secs(41),
            interval: Duration::from_secs(7),
            count: 3,
        },
        user_timeout: Duration::from_secs(29),
    };

    fn loopback(last: u8, port: u16) -> SocketAddr {
        (Ipv4Addr::new(127, 0, 0, last), port).into()
    }

    /// An address where nothing listens now and nothing will: the test keeps the port bound.
    async fn refusing() -> (SocketAddr, tokio::net::TcpSocket) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(loopback(1, 0)).unwrap();
        (socket.local_addr().unwrap(), socket)
    }

    #[tokio::test]
    async fn an_address_that_refuses_does_not_hide_the_one_that_answers() {
        let (refused, _kept) = refusing().await;
        let listener = TcpListener::bind(loopback(1, 0)).await.unwrap();
        let answering = listener.local_addr().unwrap();
        let host = "db".into();
        for addresses in [[refused, answering], [answering, refused]] {
            let socket = dial_any(&host, &addresses, &OPTIONS).await.unwrap();
            assert_eq!(*socket.peer(), Peer::Tcp(answering));
        }
        let again = dial_again(&Peer::Tcp(answering), &OPTIONS).await.unwrap();
        assert!(again.peer().is_local());
        let error = dial_any(&host, &[refused], &OPTIONS).await.unwrap_err();
        assert!(matches!(error, DialError::Unreachable { .. }), "{error}");
        let none = dial_any(&host, &[], &OPTIONS).await.unwrap_err();
        assert!(matches!(none, DialError::NoAddress { .. }), "{none}");
    }

    /// A listener whose queue is full drops connection requests, as a firewall would.
    #[tokio::test]
    async fn a_silent_address_leaves_time_for_the_one_behind_it() {
        let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        silent.bind(&loopback(1, 0).into()).unwrap();
        silent.listen(0).unwrap();
        let silent_address = silent.local_addr().unwrap().as_socket().unwrap();
        let _queued = TcpStream::connect(silent_address).await.unwrap();

        let listener = TcpListener::bind(loopback(1, 0)).await.unwrap();
        let answering = listener.local_addr().unwrap();
        let options = DialOptions {
            connect_timeout: Duration::from_millis(500),
            ..OPTIONS
        };
        let addresses = [silent_address, answering];
        let socket = dial_any(&"db".into(), &addresses, &options).await.unwrap();
        assert_eq!(*socket.peer(), Peer::Tcp(answering));

        let endpoint = Endpoint::Tcp {
            host: "127.0.0.1".into(),
            port: silent_address.port(),
        };
        let error = dial(&endpoint, &options).await.unwrap_err();
        assert!(matches!(error, DialError::TimedOut { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_name_and_both_families_are_reached_with_options_set() {
        let listener = TcpListener::bind(loopback(1, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let endpoint = Endpoint::Tcp {
            host: "localhost".into(),
            port,
        };
        let socket = dial(&endpoint, &OPTIONS).await.unwrap();
        let options = socket2::SockRef::from(&socket);
        assert!(options.tcp_nodelay().unwrap());
        assert!(options.keepalive().unwrap());
        assert_eq!(options.tcp_keepalive_time().unwrap(), OPTIONS.keepalive.idle);
        assert_eq!(options.tcp_user_timeout().unwrap(), Some(OPTIONS.user_timeout));

        let endpoint = Endpoint::Tcp {
            host: "no-such-host.invalid".into(),
            port,
        };
        let error = dial(&endpoint, &OPTIONS).await.unwrap_err();
        assert!(matches!(error, DialError::Resolve { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_quiet_socket_is_told_from_one_that_spoke_or_closed() {
        use tokio::io::AsyncWriteExt;

        let listener = TcpListener::bind(loopback(1, 0)).await.unwrap();
        let peer = Peer::Tcp(listener.local_addr().unwrap());
        let spoke = dial_again(&peer, &OPTIONS).await.unwrap();
        let (mut far_spoke, _) = listener.accept().await.unwrap();
        let closed = dial_again(&peer, &OPTIONS).await.unwrap();
        let (far_closed, _) = listener.accept().await.unwrap();
        assert!(spoke.is_quiet() && closed.is_quiet());
        far_spoke.write_all(b"E").await.unwrap();
        drop(far_closed);
        for socket in [spoke, closed] {
            std::future::poll_fn(|cx| socket.poll_read_ready(cx))
                .await
                .unwrap();
            assert!(!socket.is_quiet());
        }
    }
}
