//! Whether `run` could bind what it is told to bind.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;

use tokio::net::TcpSocket;

use super::findings::{ListenerFinding, Trouble};
use crate::cli::ask;
use crate::config::{Config, ListenAddress};

/// Binds each for a moment. A running pgswivel with this admin address has them already, and that is as it should be.
pub(super) fn tried(config: &Config) -> Vec<ListenerFinding> {
    let mut findings: Vec<ListenerFinding> = (config.listen.addresses.iter())
        .map(|address| {
            let mut finding = ListenerFinding {
                purpose: "clients",
                address: address.to_string(),
                tls: config.listen.tls.is_some(),
                trouble: None,
                remark: None,
            };
            match address {
                ListenAddress::Passed(_) => {
                    finding.remark = Some("systemd binds it, so it was not tried".to_owned());
                }
                ListenAddress::Unix(path) => finding.trouble = about_socket_file(path),
                ListenAddress::Tcp { host, port } => finding.trouble = about((host.as_str(), *port)),
            }
            finding
        })
        .collect();
    findings.push(ListenerFinding {
        purpose: "admin",
        address: config.admin.address.to_string(),
        tls: false,
        trouble: about(config.admin.address),
        remark: None,
    });
    let is_taken = |finding: &&mut ListenerFinding| {
        (finding.trouble.as_ref()).is_some_and(|trouble| trouble.kind == TAKEN)
    };
    if is_running(config.admin.address) {
        for finding in findings.iter_mut().filter(is_taken) {
            finding.trouble = None;
            finding.remark = Some("a pgswivel that runs here has it".to_owned());
        }
    }
    findings
}

const TAKEN: &str = "address_taken";

/// Without listening there: who does the same at this moment is not in the way.
fn bind(address: impl ToSocketAddrs) -> io::Result<()> {
    for address in address.to_socket_addrs()? {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
    }
    Ok(())
}

fn about(address: impl ToSocketAddrs) -> Option<Trouble> {
    let error = bind(address).err()?;
    let (kind, advice) = match error.kind() {
        ErrorKind::AddrInUse => (
            TAKEN,
            "another program listens there: end it, or choose another address",
        ),
        ErrorKind::PermissionDenied => (
            "address_denied",
            "choose a port from 1024 on, or give the service CAP_NET_BIND_SERVICE",
        ),
        ErrorKind::AddrNotAvailable => ("address_elsewhere", "choose an address that this machine has"),
        _ => ("address_unusable", "correct the address"),
    };
    Some(Trouble {
        kind,
        message: format!("can't listen there: {error}"),
        advice: advice.to_owned(),
    })
}

fn about_socket_file(path: &Path) -> Option<Trouble> {
    // A file that nobody answers at is left from before, and replaced.
    if UnixStream::connect(path).is_ok() {
        return Some(Trouble {
            kind: TAKEN,
            message: "another program listens there".to_owned(),
            advice: "end it, or choose another directory".to_owned(),
        });
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    (!directory.is_dir()).then(|| Trouble {
        kind: "no_directory",
        message: format!("{} is not a directory", directory.display()),
        advice: "make it, or choose another".to_owned(),
    })
}

fn is_running(admin: SocketAddr) -> bool {
    let answer = ask::get(ask::reachable(admin), "/livez");
    answer.is_ok_and(|answer| answer.body.contains("\"ok\":"))
}
