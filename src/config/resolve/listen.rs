use crate::names::is_loopback_host;

use super::super::address::{self, Address};
use super::super::keys::LISTEN_TLS;
use super::super::reader::Reader;
use super::super::typed::{CertifiedKeyFiles, Listen, ListenAddress};
use super::super::written::At;

const DEFAULT_PORT: u16 = 6432;
const ITERATIONS_MAX: u32 = 1_000_000;

/// How a role without a password lets its clients in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AuthWord {
    Scram,
    Trust,
}

pub(super) const AUTH_WORDS: [(&str, AuthWord); 2] = [("scram", AuthWord::Scram), ("trust", AuthWord::Trust)];

pub(super) fn listen(reader: Reader<'_>) -> (Listen, AuthWord) {
    let is_tls_written = reader.is_written("tls");
    let tls = reader.section("tls", &LISTEN_TLS).and_then(certified_key);
    let listen = Listen {
        addresses: addresses(&reader),
        tls,
        scram_iterations: reader.number("scram_iterations", 1..=ITERATIONS_MAX),
        insecure: reader.switch("insecure"),
    };
    let auth = reader.choice("auth", &AUTH_WORDS);
    if let Some(exposed) = exposed(&listen) {
        if !is_tls_written && !listen.insecure {
            reader.problem(
                "address",
                format!(
                    "others can reach {exposed}: set listen.tls, or listen.insecure = true to go without"
                ),
            );
        }
        if auth == AuthWord::Trust {
            let message =
                format!("trust is only for loopback and Unix listeners, and others can reach {exposed}");
            reader.problem("auth", message);
        }
    }
    reader.finish();
    (listen, auth)
}

/// The first address that others can reach, as the user would recognise it.
pub(super) fn exposed(listen: &Listen) -> Option<String> {
    listen
        .addresses
        .iter()
        .find(|address| !stays_here(address))
        .map(shown)
}

fn certified_key(reader: Reader<'_>) -> Option<CertifiedKeyFiles> {
    reader.require("certificate");
    reader.require("key");
    let certificate = reader.readable("certificate");
    let key = reader.readable("key");
    reader.finish();
    Some(CertifiedKeyFiles {
        certificate: certificate?.value,
        key: key?.value,
    })
}

fn addresses(reader: &Reader<'_>) -> Vec<ListenAddress> {
    let mut written = reader.texts("address");
    if !reader.is_written("address") {
        let default = reader.text_default("address").to_owned();
        written.push(At::new(default, reader.origin()));
    }
    let parsed: Vec<At<Address>> = written
        .iter()
        .filter_map(|text| match address::parse(&text.value, DEFAULT_PORT) {
            Ok(address) => Some(At::new(address, &text.origin)),
            Err(error) => {
                reader.loading.problem(&text.origin, error.to_string());
                None
            }
        })
        .collect();
    let port = parsed
        .iter()
        .find_map(|address| match address.value {
            Address::Tcp { port, .. } => Some(port),
            Address::Unix(_) => None,
        })
        .unwrap_or(DEFAULT_PORT);
    let mut addresses: Vec<ListenAddress> = Vec::new();
    for At { value, origin } in parsed {
        let address = match value {
            Address::Tcp { host, port } => ListenAddress::Tcp { host, port },
            Address::Unix(path) => match address::socket_file(&path, port) {
                Ok(path) => ListenAddress::Unix(path),
                Err(error) => {
                    reader.loading.problem(&origin, error.to_string());
                    continue;
                }
            },
        };
        if addresses.contains(&address) {
            let message = format!("{} is given twice", shown(&address));
            reader.loading.problem(&origin, message);
        } else {
            addresses.push(address);
        }
    }
    addresses
}

fn stays_here(address: &ListenAddress) -> bool {
    match address {
        ListenAddress::Tcp { host, .. } => is_loopback_host(host),
        ListenAddress::Unix(_) => true,
    }
}

fn shown(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
        ListenAddress::Tcp { host, port } => format!("{host}:{port}"),
        ListenAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}
