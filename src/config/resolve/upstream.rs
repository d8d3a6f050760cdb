use std::sync::Arc;
use std::time::Duration;

use crate::names::Endpoint;

use super::super::address::{self, Address};
use super::super::keys::{KEEPALIVE, UPSTREAM, UPSTREAM_TLS};
use super::super::loading::Loading;
use super::super::reader::Reader;
use super::super::typed::{
    CertifiedKeyFiles, ChannelBinding, Keepalive, Md5, OtherDatabase, TlsMode, TlsNegotiation, Upstream,
    UpstreamTls,
};
use super::super::url::hex_digit;
use super::super::written::Section;
use super::{DAY, HOUR, MILLISECOND, SECOND};

const DEFAULT_PORT: u16 = 5432;
const CONNECTIONS_MAX: u32 = 100_000;
/// What Linux takes for TCP_KEEPCNT.
const PROBES_MAX: u32 = 127;
/// What Linux takes for TCP_KEEPIDLE and TCP_KEEPINTVL.
const PROBE_SECONDS_MAX: u64 = 32_767;

/// The word for the system's roots, as in libpq's `sslrootcert`.
const SYSTEM_ROOTS: &str = "system";

const MODES: [(&str, TlsMode); 5] = [
    ("disable", TlsMode::Disable),
    ("prefer", TlsMode::Prefer),
    ("require", TlsMode::Require),
    ("verify-ca", TlsMode::VerifyCa),
    ("verify-full", TlsMode::VerifyFull),
];

pub(super) fn upstream(name: &str, section: &Section, loading: &Loading<'_>) -> Option<Upstream> {
    let reader = Reader::new(section, &UPSTREAM, loading);
    let absent = Section::new(section.origin.clone());
    let part = |key, keys| {
        reader
            .section(key, keys)
            .unwrap_or_else(|| Reader::new(&absent, keys, loading))
    };
    let connections_max = reader.number("connections_max", 1..=CONNECTIONS_MAX);
    let warm = reader.number("warm", 0..=CONNECTIONS_MAX);
    if warm > connections_max {
        reader.problem(
            "warm",
            format!("must not be more than connections_max, {connections_max}"),
        );
    }
    let md5 = [
        ("guarded", Md5::Guarded),
        ("allow", Md5::Allow),
        ("deny", Md5::Deny),
    ];
    let other_database = [
        ("refuse", OtherDatabase::Refuse),
        ("ignore", OtherDatabase::Ignore),
    ];
    let upstream = Upstream {
        name: name.into(),
        hosts: hosts(&reader),
        database: reader.text("database").map(|database| database.value),
        other_database: reader.choice("other_database", &other_database),
        tls: tls(part("tls", &UPSTREAM_TLS)),
        md5: reader.choice("md5", &md5),
        connect_timeout: reader.duration("connect_timeout", MILLISECOND..=HOUR),
        keepalive: keepalive(part("keepalive", &KEEPALIVE)),
        user_timeout: reader.duration("user_timeout", MILLISECOND..=DAY),
        connections_max,
        warm,
        reuse: reader.switch("reuse"),
        again: reader.switch("again"),
    };
    reader.finish();
    (!upstream.hosts.is_empty()).then_some(upstream)
}

fn hosts(reader: &Reader<'_>) -> Vec<Endpoint> {
    reader.require("hosts");
    let mut endpoints = Vec::new();
    for text in reader.texts("hosts") {
        match endpoint(&text.value) {
            Ok(endpoint) if endpoints.contains(&endpoint) => {
                let message = format!("{endpoint} is given twice");
                reader.loading.problem(&text.origin, message);
            }
            Ok(endpoint) => endpoints.push(endpoint),
            Err(message) => reader.loading.problem(&text.origin, message),
        }
    }
    endpoints
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    match address::parse(text, DEFAULT_PORT).map_err(|error| error.to_string())? {
        Address::Tcp { port: 0, .. } => Err("no Postgres listens on port 0".to_owned()),
        Address::Tcp { host, port } => Ok(Endpoint::Tcp {
            host: host.into(),
            port,
        }),
        Address::Unix(path) => {
            let file = address::socket_file(&path, DEFAULT_PORT).map_err(|error| error.to_string())?;
            Ok(Endpoint::Unix(Arc::new(file)))
        }
    }
}

fn keepalive(reader: Reader<'_>) -> Keepalive {
    let longest = Duration::from_secs(PROBE_SECONDS_MAX);
    let keepalive = Keepalive {
        idle: reader.duration("idle", SECOND..=longest),
        interval: reader.duration("interval", SECOND..=longest),
        count: reader.number("count", 1..=PROBES_MAX),
    };
    reader.finish();
    keepalive
}

fn tls(reader: Reader<'_>) -> UpstreamTls {
    let is_system = reader.text("ca").is_some_and(|ca| ca.value == SYSTEM_ROOTS);
    let ca = if is_system { None } else { reader.readable("ca") };
    let mut mode = reader.choice("mode", &MODES);
    if is_system && !reader.is_written("mode") {
        mode = TlsMode::VerifyFull;
    } else if is_system && mode != TlsMode::VerifyFull {
        reader.problem(
            "mode",
            "the system's roots need verify-full: anybody can have a certificate from them",
        );
    } else if mode == TlsMode::Require && ca.is_some() {
        mode = TlsMode::VerifyCa;
    }
    let negotiation = [
        ("postgres", TlsNegotiation::Postgres),
        ("direct", TlsNegotiation::Direct),
    ];
    let binding = [
        ("disable", ChannelBinding::Disable),
        ("prefer", ChannelBinding::Prefer),
        ("require", ChannelBinding::Require),
    ];
    let tls = UpstreamTls {
        mode,
        negotiation: reader.choice("negotiation", &negotiation),
        channel_binding: reader.choice("channel_binding", &binding),
        ca: ca.map(|ca| ca.value),
        server_name: server_name(&reader),
        pin: pin(&reader),
        client: client_certificate(&reader),
    };
    let may_be_plain = matches!(mode, TlsMode::Disable | TlsMode::Prefer);
    if may_be_plain && tls.negotiation == TlsNegotiation::Direct {
        reader.problem(
            "negotiation",
            "direct needs mode require, verify-ca or verify-full",
        );
    }
    if may_be_plain && reader.is_written("pin") {
        reader.problem("pin", "a pin needs mode require, verify-ca or verify-full");
    }
    if mode == TlsMode::Disable && tls.channel_binding == ChannelBinding::Require {
        reader.problem("channel_binding", "require needs TLS, and the mode is disable");
    }
    reader.finish();
    tls
}

fn server_name(reader: &Reader<'_>) -> Option<String> {
    let name = reader.text("server_name")?;
    let is_name = address::is_host_name(&name.value) || name.value.parse::<std::net::IpAddr>().is_ok();
    if !is_name {
        reader
            .loading
            .problem(&name.origin, "is not the name of a server");
    }
    Some(name.value)
}

fn client_certificate(reader: &Reader<'_>) -> Option<CertifiedKeyFiles> {
    let certificate = reader.readable("certificate");
    let key = reader.readable("key");
    match (reader.is_written("certificate"), reader.is_written("key")) {
        (true, false) => reader.problem("key", "must be set, since certificate is"),
        (false, true) => reader.problem("certificate", "must be set, since key is"),
        _ => {}
    }
    Some(CertifiedKeyFiles {
        certificate: certificate?.value,
        key: key?.value,
    })
}

fn pin(reader: &Reader<'_>) -> Option<[u8; 32]> {
    let text = reader.text("pin")?;
    let pin = sha256(&text.value);
    if pin.is_none() {
        let message = "expected \"sha256:\" and 64 hexadecimal digits";
        reader.loading.problem(&text.origin, message);
    }
    pin
}

/// With or without the colons that `openssl x509 -fingerprint` prints.
fn sha256(text: &str) -> Option<[u8; 32]> {
    let digits = text
        .strip_prefix("sha256:")?
        .bytes()
        .filter(|byte| *byte != b':')
        .map(hex_digit)
        .collect::<Option<Vec<u8>>>()?;
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
        .collect();
    if digits.len() == 64 {
        bytes.try_into().ok()
    } else {
        None
    }
}
