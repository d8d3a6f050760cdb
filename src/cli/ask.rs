//! Asks a running pgswivel, on its admin address.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::flags::Whom;
use super::process::Process;
use crate::admin::whereabouts;
use crate::config::{self, Problems};

/// For everything: a health check that takes longer has failed anyway.
const TIME: Duration = Duration::from_secs(5);
const ANSWER_MAX: usize = 64 << 20;

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("{address} can't be asked: {source}")]
    Unreachable { address: SocketAddr, source: io::Error },
    #[error("{0} does not answer as pgswivel does")]
    Stranger(SocketAddr),
}

/// Where to ask: as flag or variable say, else where the process that runs with the file has bound it, else as the file
/// says.
pub(super) fn address(whom: Whom) -> Result<SocketAddr, Problems> {
    let flags = whom.into();
    let file = config::admin_file(&flags, &Process);
    let bound = file.and_then(|file| whereabouts::of_process_with(&file));
    let address = match bound {
        Some(address) => address,
        None => config::admin_address(&flags, &Process)?,
    };
    Ok(reachable(address))
}

/// What stands for every address of the machine is reached on loopback.
pub(super) fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

pub(super) fn get(address: SocketAddr, path: &str) -> Result<Answer, AskError> {
    ask(address, "GET", path, TIME)
}

/// Something is done before the answer comes, for which there is this much time.
pub(super) fn post(address: SocketAddr, path: &str, time: Duration) -> Result<Answer, AskError> {
    ask(address, "POST", path, time)
}

fn ask(address: SocketAddr, method: &str, path: &str, time: Duration) -> Result<Answer, AskError> {
    let said =
        exchange(address, method, path, time).map_err(|source| AskError::Unreachable { address, source })?;
    parse(&said).ok_or(AskError::Stranger(address))
}

fn exchange(address: SocketAddr, method: &str, path: &str, time: Duration) -> io::Result<Vec<u8>> {
    let end = Instant::now() + time;
    let mut stream = TcpStream::connect_timeout(&address, TIME)?;
    stream.set_write_timeout(Some(TIME))?;
    // An old version of the protocol: its answers end when the connection does.
    write!(stream, "{method} {path} HTTP/1.0\r\nhost: {address}\r\n\r\n")?;
    let mut said = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece) {
            Ok(0) => return Ok(said),
            Ok(length) => said.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
        if said.len() > ANSWER_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
}

fn parse(said: &[u8]) -> Option<Answer> {
    let said = str::from_utf8(said).ok()?;
    let (head, body) = said.split_once("\r\n\r\n")?;
    let mut words = head.split([' ', '\r']);
    let is_http = words.next()?.starts_with("HTTP/1.");
    let status = words.next()?.parse().ok().filter(|_| is_http)?;
    Some(Answer {
        status,
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_from_anything_else() {
        let answer = parse(b"HTTP/1.0 503 Service Unavailable\r\na: b\r\n\r\n{}\n").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (503, "{}\n"));
        for other in [
            &b""[..],
            b"R\0\0\0\x08",
            b"SSH-2.0-x\r\n\r\n",
            b"HTTP/1.1 x\r\n\r\n",
        ] {
            assert!(parse(other).is_none());
        }
    }
}
