//! How a command finds the admin address of a process that runs with the same configuration file, whatever the file says
//! by now, or if it is gone: the process tells it on a socket that has a name and no file. The kernel takes the name
//! away with the process, so nothing is left behind that could be wrong.

use std::fs::read_link;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, UnixListener, UnixStream};
use std::path::{Path, absolute};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use rustix::net::sockopt::socket_peercred;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::AsyncWriteExt;

/// Whoever has the name answers at once, or is not well.
const TIME: Duration = Duration::from_secs(1);
/// An address in brackets with a scope and a port.
const ANSWER_BYTES_MAX: u64 = 128;
/// Of the name of a file.
const DIGEST_BYTES: usize = 16;

/// For processes that see the same files: two containers may have two files under one path.
fn name(file: &Path) -> io::Result<Vec<u8>> {
    let (files, path) = (read_link("/proc/self/ns/mnt")?, absolute(file)?);
    let what = [files.as_os_str(), path.as_os_str()].map(|part| part.as_encoded_bytes());
    let digest = digest(&SHA256, &what.join(&0));
    let digest: String = digest.as_ref()[..DIGEST_BYTES]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(format!("pgswivel/admin/{digest}").into_bytes())
}

/// Takes the name for this process.
pub(super) fn claim(file: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind_addr(&net::SocketAddr::from_abstract_name(name(file)?)?)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Tells everybody who asks. For ever.
pub(super) async fn tell(listener: UnixListener, address: SocketAddr) {
    let Ok(listener) = tokio::net::UnixListener::from_std(listener) else {
        return;
    };
    let answer = address.to_string();
    loop {
        match listener.accept().await {
            // It fits into the buffer of a new socket: nobody is waited for.
            Ok((mut stream, _)) => {
                let _ = stream.write_all(answer.as_bytes()).await;
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Where the process that runs with this file has its admin server, if there is one that may be believed.
pub fn of_process_with(file: &Path) -> Option<SocketAddr> {
    ask(&name(file).ok()?).ok().flatten()
}

fn ask(name: &[u8]) -> io::Result<Option<SocketAddr>> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_write_timeout(Some(TIME))?;
    socket.set_read_timeout(Some(TIME))?;
    let path = [b"\0", name].concat();
    let path = str::from_utf8(&path).map_err(|_| io::ErrorKind::InvalidInput)?;
    socket.connect(&SockAddr::unix(path)?)?;
    // Names are anybody's to take: somebody else's process is not asked how ours is.
    let (own, other) = (rustix::process::geteuid(), socket_peercred(&socket)?.uid);
    if other != own && !own.is_root() {
        return Ok(None);
    }
    let mut answer = String::new();
    let stream = UnixStream::from(std::os::fd::OwnedFd::from(socket));
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_runs_with_a_file_is_found_by_it_while_it_runs_and_not_longer() {
        let directory = tempfile::tempdir().unwrap();
        let (file, other) = (
            directory.path().join("one.toml"),
            directory.path().join("two.toml"),
        );
        let address: SocketAddr = "[fe80::1%3]:65535".parse().unwrap();
        let telling = tokio::spawn(tell(claim(&file).unwrap(), address));
        assert!(claim(&file).is_err(), "one name, one process");
        let found = |file: &Path| {
            let file = file.to_owned();
            tokio::task::spawn_blocking(move || of_process_with(&file))
        };
        assert_eq!(found(&file).await.unwrap(), Some(address));
        assert_eq!(found(&other).await.unwrap(), None);
        telling.abort();
        let _ = telling.await;
        assert_eq!(found(&file).await.unwrap(), None);
    }
}
