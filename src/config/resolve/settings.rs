//! The sections that are nothing but numbers and words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::super::address::{self, Address};
use super::super::reader::Reader;
use super::super::suggest::did_you_mean;
use super::super::typed::{Admin, Fleet, Limits, Log, LogFormat, LoginPolicy};
use super::super::written::At;
use super::sensitive;
use super::{DAY, HOUR, MILLISECOND, SECOND};

const ADMIN_PORT: u16 = 9632;
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
const COUNT_MAX: u32 = 1_000_000;
/// As Postgres has it.
const CHANNEL_BYTES_MAX: usize = 63;

pub(super) fn login(reader: Reader<'_>) -> LoginPolicy {
    let policy = LoginPolicy {
        patience: reader.duration("patience", Duration::ZERO..=HOUR),
        refused_retry: reader.duration("refused_retry", SECOND..=DAY),
    };
    reader.finish();
    policy
}

pub(super) fn limits(reader: Reader<'_>) -> Limits {
    let limits = Limits {
        clients: reader.number("clients", 1..=COUNT_MAX),
        startups: reader.number("startups", 1..=COUNT_MAX),
        startup_time: reader.duration("startup_time", MILLISECOND..=HOUR),
        cancels: reader.number("cancels", 1..=COUNT_MAX),
        logins_per_endpoint: reader.number("logins_per_endpoint", 1..=COUNT_MAX),
        queue_wait: reader.duration("queue_wait", Duration::ZERO..=HOUR),
        statement_bytes: reader.number("statement_bytes", 0..=1 << 30),
        again_bytes: reader.number("again_bytes", 0..=1 << 20),
        moves: reader.number("moves", 1..=COUNT_MAX),
        warm: reader.number("warm", 0..=COUNT_MAX),
        admin_connections: reader.number("admin_connections", 1..=COUNT_MAX),
        refused_logins_per_minute: reader.number("refused_logins_per_minute", 1..=COUNT_MAX),
    };
    reader.finish();
    limits
}

pub(super) fn fleet(reader: Reader<'_>) -> Option<Fleet> {
    let channel = reader.required_text("channel");
    let instance = reader.text("instance");
    if let Some(channel) = &channel
        && (channel.value.is_empty()
            || channel.value.len() > CHANNEL_BYTES_MAX
            || channel.value.contains('\0'))
    {
        reader.problem(
            "channel",
            format!("is not the name of a channel: it has 1 to {CHANNEL_BYTES_MAX} bytes"),
        );
    }
    if instance
        .as_ref()
        .is_some_and(|instance| instance.value.is_empty())
    {
        reader.problem(
            "instance",
            "is empty: leave it out for the host and the process id",
        );
    }
    reader.finish();
    Some(Fleet {
        channel: channel?.value,
        instance: instance.map(|instance| instance.value),
    })
}

pub(super) fn admin(reader: Reader<'_>) -> Admin {
    let address = admin_address_alone(&reader);
    let token = sensitive::value(&reader, "token");
    if let Some(token) = &token
        && !token.expose().iter().all(u8::is_ascii_graphic)
    {
        reader.problem(
            "token",
            "can't be sent in a header: use printable ASCII without spaces",
        );
    }
    let hosts = reader.texts("hosts").into_iter();
    let hosts = hosts.filter_map(|text| host(&reader, text)).collect();
    reader.finish();
    Admin {
        address,
        hosts,
        token,
    }
}

/// A name or an address alone.
fn host(reader: &Reader<'_>, text: At<String>) -> Option<String> {
    let is_in_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.value.chars().all(is_in_name) {
        return Some(text.value);
    }
    if text.value.parse::<Ipv6Addr>().is_ok() {
        return Some(format!("[{}]", text.value));
    }
    let message = format!(
        "{:?} is no host: write its name alone, such as \"pgswivel\"",
        text.value
    );
    reader.loading.problem(&text.origin, message);
    None
}

/// The address alone, whatever else is written.
pub(super) fn admin_address_alone(reader: &Reader<'_>) -> SocketAddr {
    let written = reader.text("address");
    let address = written.and_then(|text| admin_address(reader, &text));
    address.unwrap_or_else(|| {
        let default = reader.text_default("address").parse();
        default.expect("a test reads every default of the table")
    })
}

fn admin_address(reader: &Reader<'_>, text: &At<String>) -> Option<SocketAddr> {
    let message = match address::parse(&text.value, ADMIN_PORT) {
        Ok(Address::Tcp { host, port }) if host.eq_ignore_ascii_case("localhost") => {
            return Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
        }
        Ok(Address::Tcp { host, port }) => match host.parse::<IpAddr>() {
            Ok(ip) => return Some(SocketAddr::new(ip, port)),
            Err(_) => "expected an IP address and a port, such as 0.0.0.0:9632".to_owned(),
        },
        Ok(Address::Unix(_)) => "expected an IP address and a port, such as 0.0.0.0:9632".to_owned(),
        Err(error) => error.to_string(),
    };
    reader.loading.problem(&text.origin, message);
    None
}

pub(super) fn log(reader: Reader<'_>) -> Log {
    let formats = [("json", LogFormat::Json), ("text", LogFormat::Text)];
    let format = reader.optional_choice("format", &formats);
    let level = reader.text("level").and_then(|text| filter(&reader, text));
    let level = level.unwrap_or_else(|| reader.text_default("level").to_owned());
    let audit = reader.path("audit").map(|path| path.value);
    reader.finish();
    Log { format, level, audit }
}

/// A level, or `module=level`, separated by commas.
fn filter(reader: &Reader<'_>, text: At<String>) -> Option<String> {
    for directive in text.value.split(',').map(str::trim) {
        let (module, level) = directive
            .split_once('=')
            .map_or((None, directive), |(module, level)| (Some(module), level));
        let is_module = |module: &str| {
            !module.is_empty()
                && module
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_:-".contains(c))
        };
        if !LEVELS.contains(&level) || !module.is_none_or(is_module) {
            let hint = did_you_mean(level, LEVELS);
            let message = format!("{directive:?} is not a level or module=level{hint}");
            reader.loading.problem(&text.origin, message);
            return None;
        }
    }
    Some(text.value)
}
