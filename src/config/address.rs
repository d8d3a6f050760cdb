//! `host:port`, `[::1]:port`, `unix:/directory`, as listeners and upstreams write them.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

/// A Unix socket's path must fit into `sockaddr_un` with its NUL.
const SOCKET_PATH_MAX: usize = 107;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Tcp {
        host: String,
        port: u16,
    },
    /// A directory for a socket, or the socket file itself.
    Unix(PathBuf),
}

/// None of these quotes the text: somebody may have put a password into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AddressError {
    #[error("an address is host:port, [IPv6]:port or unix:/directory")]
    Shape,
    #[error("the address names no host; 0.0.0.0 and [::] are every interface")]
    NoHost,
    #[error("a port is a number from 0 to 65535")]
    Port,
    #[error("an IPv6 address is written in brackets, such as [::1]:5432")]
    Ipv6,
    #[error("no user and no password belong into an address; they come from the secret")]
    Credentials,
    #[error("systemd: is followed by the name of a socket (FileDescriptorName)")]
    NoName,
    #[error("a socket's path is at most {SOCKET_PATH_MAX} bytes long")]
    PathTooLong,
}

pub(super) fn parse(text: &str, default_port: u16) -> Result<Address, AddressError> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(path);
    }
    if text.starts_with('/') {
        return unix(text);
    }
    if text.contains('@') {
        return Err(AddressError::Credentials);
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(AddressError::Ipv6);
    }
    if let Some(bracketed) = text.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']').ok_or(AddressError::Ipv6)?;
        let literal = host.split_once('%').map_or(host, |(literal, _zone)| literal);
        literal.parse::<Ipv6Addr>().map_err(|_| AddressError::Ipv6)?;
        let port = match rest.strip_prefix(':') {
            Some(port) => parse_port(port)?,
            None if rest.is_empty() => default_port,
            None => return Err(AddressError::Shape),
        };
        return Ok(tcp(host, port));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, parse_port(port)?),
        None => (text, default_port),
    };
    if host.is_empty() {
        return Err(AddressError::NoHost);
    }
    if !is_host_name(host) {
        return Err(AddressError::Shape);
    }
    Ok(tcp(host, port))
}

pub(super) fn is_host_name(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 253
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

/// The socket file that Postgres and libpq agree on; a path that is one already stays as it is.
pub(super) fn socket_file(path: &Path, port: u16) -> Result<PathBuf, AddressError> {
    let is_file = path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with(".s.PGSQL."));
    let file = if is_file {
        path.to_owned()
    } else {
        path.join(format!(".s.PGSQL.{port}"))
    };
    if file.as_os_str().len() > SOCKET_PATH_MAX {
        return Err(AddressError::PathTooLong);
    }
    Ok(file)
}

fn tcp(host: &str, port: u16) -> Address {
    Address::Tcp {
        host: host.to_owned(),
        port,
    }
}

fn unix(path: &str) -> Result<Address, AddressError> {
    if path.is_empty() || path.contains('\0') {
        return Err(AddressError::Shape);
    }
    Ok(Address::Unix(PathBuf::from(path)))
}

fn parse_port(text: &str) -> Result<u16, AddressError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(AddressError::Port);
    }
    text.parse().map_err(|_| AddressError::Port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let table = [
            ("db.internal:5433", tcp("db.internal", 5433)),
            ("db.internal", tcp("db.internal", 5432)),
            ("127.0.0.1:0", tcp("127.0.0.1", 0)),
            ("[::1]:6432", tcp("::1", 6432)),
            ("[::1]", tcp("::1", 5432)),
            ("[fe80::1%eth0]:1", tcp("fe80::1%eth0", 1)),
            ("unix:/run/pgswivel", Address::Unix("/run/pgswivel".into())),
            ("/run/pgswivel", Address::Unix("/run/pgswivel".into())),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text, 5432), Ok(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let table = [
            ("", AddressError::NoHost),
            (":5432", AddressError::NoHost),
            ("unix:", AddressError::Shape),
            ("db:", AddressError::Port),
            ("db:65536", AddressError::Port),
            ("db:+1", AddressError::Port),
            ("db:tcp://10.0.0.1:5432", AddressError::Port),
            ("::1", AddressError::Ipv6),
            ("[::1", AddressError::Ipv6),
            ("[db]:1", AddressError::Ipv6),
            ("[::1]x", AddressError::Shape),
            ("d b:1", AddressError::Shape),
            ("me:hunter2@db:5432", AddressError::Credentials),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text, 5432), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_socket_directory_becomes_the_file_that_libpq_looks_for() {
        let file = |path: &str| socket_file(Path::new(path), 6432);
        assert_eq!(file("/run"), Ok("/run/.s.PGSQL.6432".into()));
        assert_eq!(file("/run/.s.PGSQL.1"), Ok("/run/.s.PGSQL.1".into()));
        assert_eq!(file(&"/x".repeat(60)), Err(AddressError::PathTooLong));
    }
}
