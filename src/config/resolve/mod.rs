//! From what was written to what the rest of the program sees: values typed, names resolved, and what
//! must not go together refused.

mod listen;
mod role;
mod rotation;
mod secret;
pub(super) mod sensitive;
mod settings;
mod upstream;

pub(super) use role::no_password;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::keys::{ADMIN, FLEET, LIMITS, LISTEN, LOG, LOGIN, ROOT};
use super::loading::Loading;
use super::reader::Reader;
use super::typed::Config;
use super::written::{Origin, Section};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const WORKERS_MAX: u32 = 1024;
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Whole only when no problem was reported.
pub(super) fn config(root: &Section, loading: &Loading<'_>) -> Config {
    let reader = Reader::new(root, &ROOT, loading);
    let upstreams = named(&reader, "upstream", upstream::upstream);
    let secrets = named(&reader, "secret", secret::secret);
    let absent = Section::new(Origin::root().child("listen"));
    let listen_reader = reader
        .section("listen", &LISTEN)
        .unwrap_or_else(|| Reader::new(&absent, &LISTEN, loading));
    let (listen, default_auth) = listen::listen(listen_reader);
    let given = role::Given {
        upstreams: &upstreams,
        secrets: &secrets,
        listen: &listen,
        default_auth,
    };
    let roles: BTreeMap<_, _> = reader
        .named_sections("role")
        .into_iter()
        .filter_map(|(name, section)| role::role(name, section?, &given, loading))
        .map(|role| (role.name.clone(), Arc::new(role)))
        .collect();
    let fleet = reader.section("fleet", &FLEET).and_then(settings::fleet);
    let rotations: BTreeMap<_, _> = reader
        .named_sections("rotation")
        .into_iter()
        .filter_map(|(name, section)| {
            rotation::rotation(name, section?, &upstreams, &secrets, fleet.as_ref(), loading)
        })
        .map(|rotation| (rotation.name.clone(), Arc::new(rotation)))
        .collect();
    let absent = Section::new(Origin::root());
    let part = |key, keys| {
        reader
            .section(key, keys)
            .unwrap_or_else(|| Reader::new(&absent, keys, loading))
    };
    let config = Config {
        login: settings::login(part("login", &LOGIN)),
        limits: settings::limits(part("limits", &LIMITS)),
        fleet,
        admin: settings::admin(part("admin", &ADMIN)),
        log: settings::log(part("log", &LOG)),
        drain: reader.duration("drain", Duration::ZERO..=HOUR),
        workers: reader.number("workers", 1..=WORKERS_MAX),
        version_key: sensitive::value(&reader, "version_key"),
        roles,
        listen,
        upstreams: typed(upstreams),
        secrets: typed(secrets),
        rotations,
    };
    reader.finish();
    config
}

/// The part of it that finds the admin server.
pub(super) fn admin_address(root: &Section, loading: &Loading<'_>) -> SocketAddr {
    let absent = Section::new(Origin::root());
    let reader = Reader::new(root, &ROOT, loading);
    let admin = reader.section("admin", &ADMIN);
    settings::admin_address_alone(&admin.unwrap_or_else(|| Reader::new(&absent, &ADMIN, loading)))
}

/// What the user gave a name. None: its problems are reported.
type Named<T> = BTreeMap<String, Option<Resolved<T>>>;

struct Resolved<T> {
    value: Arc<T>,
    origin: Origin,
}

fn named<T>(
    reader: &Reader<'_>,
    key: &'static str,
    read: impl Fn(&str, &Section, &Loading<'_>) -> Option<T>,
) -> Named<T> {
    let resolved = |name: &str, section: &Section| {
        let value = Arc::new(read(name, section, reader.loading)?);
        let origin = section.origin.clone();
        Some(Resolved { value, origin })
    };
    let sections = reader.named_sections(key).into_iter();
    sections
        .map(|(name, section)| {
            (
                name.to_owned(),
                section.and_then(|section| resolved(name, section)),
            )
        })
        .collect()
}

fn typed<N: for<'a> From<&'a str> + Ord, T>(named: Named<T>) -> BTreeMap<N, Arc<T>> {
    named
        .into_iter()
        .filter_map(|(name, resolved)| Some((N::from(name.as_str()), resolved?.value)))
        .collect()
}
