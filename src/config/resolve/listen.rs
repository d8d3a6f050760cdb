use crate::names::is_loopback_host;

use super::super::address::{self, Address, AddressError};
use super::super::keys::LISTEN_TLS;
use super::super::reader::Reader;
use super::super::typed::{CertifiedKeyFiles, Listen, ListenAddress};
use super::super::written::At;

const DEFAULT_PORT: u16 = 6432;
const ITERATIONS_MAX: u32 = 1_000_000;
/// In the place of an address: systemd passes the sockets.
const SYSTEMD: &str = "systemd";

enum ListenPlace {
    Address(Address),
    Passed(Option<String>),
}

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
        .map(ListenAddress::to_string)
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
    let parsed: Vec<At<ListenPlace>> = written
        .iter()
        .filter_map(|text| match place(&text.value) {
            Ok(place) => Some(At::new(place, &text.origin)),
            Err(error) => {
                reader.loading.problem(&text.origin, error.to_string());
                None
            }
        })
        .collect();
    let port = parsed
        .iter()
        .find_map(|address| match address.value {
            ListenPlace::Address(Address::Tcp { port, .. }) => Some(port),
            ListenPlace::Address(Address::Unix(_)) | ListenPlace::Passed(_) => None,
        })
        .unwrap_or(DEFAULT_PORT);
    let mut addresses: Vec<ListenAddress> = Vec::new();
    for At { value, origin } in parsed {
        let address = match value {
            ListenPlace::Passed(name) => ListenAddress::Passed(name),
            ListenPlace::Address(Address::Tcp { host, port }) => ListenAddress::Tcp { host, port },
            ListenPlace::Address(Address::Unix(path)) => match address::socket_file(&path, port) {
                Ok(path) => ListenAddress::Unix(path),
                Err(error) => {
                    reader.loading.problem(&origin, error.to_string());
                    continue;
                }
            },
        };
        if addresses.contains(&address) {
            let message = format!("{address} is given twice");
            reader.loading.problem(&origin, message);
        } else {
            addresses.push(address);
        }
    }
    addresses
}

fn place(text: &str) -> Result<ListenPlace, AddressError> {
    match text.strip_prefix(SYSTEMD) {
        Some("") => Ok(ListenPlace::Passed(None)),
        Some(rest) if rest.starts_with(':') => match &rest[1..] {
            "" => Err(AddressError::NoName),
            name => Ok(ListenPlace::Passed(Some(name.to_owned()))),
        },
        _ => address::parse(text, DEFAULT_PORT).map(ListenPlace::Address),
    }
}

/// Where systemd listens is seen when the sockets are.
fn stays_here(address: &ListenAddress) -> bool {
    match address {
        ListenAddress::Tcp { host, .. } => is_loopback_host(host),
        ListenAddress::Unix(_) | ListenAddress::Passed(_) => true,
    }
}
