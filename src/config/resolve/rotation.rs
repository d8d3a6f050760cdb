use super::super::keys::ROTATION;
use super::super::loading::Loading;
use super::super::reader::Reader;
use super::super::suggest::did_you_mean;
use super::super::typed::{Rotation, Secret, Sidecar, Upstream};
use super::super::written::{At, Section};
use super::super::{address, address::Address};
use super::secret::YEARS;
use super::{Named, SECOND};

/// As `admin.address` is bound by default.
const ADMIN_PORT: u16 = 9632;

pub(super) fn rotation(
    name: &str,
    section: &Section,
    upstreams: &Named<Upstream>,
    secrets: &Named<Secret>,
    loading: &Loading<'_>,
) -> Option<Rotation> {
    let reader = Reader::new(section, &ROTATION, loading);
    let secret = reader.required_text("secret");
    let admin = reader.required_text("admin");
    reader.require("upstreams");
    let chosen = reader.texts("upstreams");
    let users = users(&reader);
    let max_age = reader.optional_duration("max_age", SECOND..=YEARS);
    let sidecars: Vec<_> = reader
        .texts("sidecars")
        .iter()
        .filter_map(|text| match sidecar(&text.value) {
            Ok(sidecar) => Some(sidecar),
            Err(message) => {
                loading.problem(&text.origin, message);
                None
            }
        })
        .collect();
    reader.finish();
    let known_secret = |named: Option<At<String>>| known("secret", &named?, secrets, loading);
    let (secret, admin) = (known_secret(secret), known_secret(admin));
    let upstreams: Vec<_> = chosen
        .iter()
        .filter_map(|named| known("upstream", named, upstreams, loading))
        .collect();
    Some(Rotation {
        name: name.into(),
        secret: secret?.as_str().into(),
        admin: admin?.as_str().into(),
        upstreams: upstreams.iter().map(|name| name.as_str().into()).collect(),
        users,
        max_age,
        sidecars,
    })
}

fn users(reader: &Reader<'_>) -> Vec<String> {
    let mut users: Vec<String> = Vec::new();
    for user in reader.texts("users") {
        if user.value.is_empty() || user.value.contains('\0') {
            reader.loading.problem(&user.origin, "is not the name of a user");
        } else if users.contains(&user.value) {
            reader.loading.problem(&user.origin, "stands there twice");
        } else {
            users.push(user.value);
        }
    }
    if users.len() == 1 {
        reader.problem("users", "one user takes no turns: name two, or none");
    }
    users
}

/// The name, if it is one. What became of it otherwise is reported where it stands.
fn known<T>(kind: &str, named: &At<String>, all: &Named<T>, loading: &Loading<'_>) -> Option<String> {
    let is_known = all.contains_key(&named.value);
    if !is_known {
        let hint = did_you_mean(&named.value, all.keys().map(String::as_str));
        let message = format!("no {kind} named {:?}{hint}", named.value);
        loading.problem(&named.origin, message);
    }
    is_known.then(|| named.value.clone())
}

/// `http://host:port`, or `dns+http://name:port` for every address that the name has.
fn sidecar(text: &str) -> Result<Sidecar, String> {
    let every_address = text.starts_with("dns+http://");
    let rest = text.strip_prefix("dns+").unwrap_or(text);
    let shape = || {
        "expected http://host:port, or dns+http://name:port for every address of a name: an admin address speaks no TLS"
            .to_owned()
    };
    let rest = rest.strip_prefix("http://").ok_or_else(shape)?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    match address::parse(rest, ADMIN_PORT) {
        Ok(Address::Tcp { host, port }) if port != 0 => Ok(Sidecar {
            every_address,
            host,
            port,
        }),
        _ => Err(shape()),
    }
}
