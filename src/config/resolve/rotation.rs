use super::super::keys::{ROTATION, ROTATION_PASSWORD};
use super::super::loading::Loading;
use super::super::reader::Reader;
use super::super::suggest::did_you_mean;
use super::super::typed::{Alphabet, Fleet, PasswordRecipe, Rotation, Secret, Sidecar, Style, Upstream};
use super::super::written::{At, Section};
use super::super::{address, address::Address};
use super::secret::YEARS;
use super::{DAY, Named, SECOND};
use std::ops::RangeInclusive;
use std::time::Duration;

/// As `admin.address` is bound by default.
const ADMIN_PORT: u16 = 9632;
/// The shortest is more than anybody can guess, of either alphabet.
const LENGTHS: RangeInclusive<u32> = 20..=200;
const ALPHABETS: [(&str, Alphabet); 2] = [
    ("url-safe", Alphabet::UrlSafe),
    ("alphanumeric", Alphabet::Alphanumeric),
];

/// As the user writes it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StyleName {
    Single,
    Next,
    Alternating,
}

const STYLES: [(&str, StyleName); 3] = [
    ("single", StyleName::Single),
    ("next", StyleName::Next),
    ("alternating", StyleName::Alternating),
];

pub(super) fn rotation(
    name: &str,
    section: &Section,
    upstreams: &Named<Upstream>,
    secrets: &Named<Secret>,
    fleet: Option<&Fleet>,
    loading: &Loading<'_>,
) -> Option<Rotation> {
    let reader = Reader::new(section, &ROTATION, loading);
    let secret = reader.required_text("secret");
    let admin = reader.required_text("admin");
    reader.require("upstreams");
    let chosen = reader.texts("upstreams");
    let users = users(&reader);
    let max_age = reader.optional_duration("max_age", SECOND..=YEARS);
    let (style, keep_next) = style(&reader, &users);
    let owner = owner(&reader, style);
    let min_interval = reader.optional_duration("min_interval", SECOND..=YEARS);
    let soak = reader.duration("soak", Duration::ZERO..=7 * DAY);
    let recipe = reader.section("password", &ROTATION_PASSWORD).map(recipe);
    let path = |key| Some(reader.path(key)?.value);
    let (audit, report) = (path("audit"), path("report"));
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
        style,
        owner,
        min_interval,
        soak,
        recipe: recipe.unwrap_or_default(),
        keep_next,
        audit,
        report,
        fleet: fleet.cloned(),
    })
}

/// The style, and whether the one after the new one stays in the secret.
fn style(reader: &Reader<'_>, users: &[String]) -> (Style, bool) {
    let kind = reader.text("kind");
    if let Some(kind) = kind.filter(|kind| kind.value != reader.text_default("kind")) {
        let message = "only \"postgres\" can be rotated".to_owned();
        reader.loading.problem(&kind.origin, message);
    }
    let named = reader.optional_choice("style", &STYLES);
    let keep_next = reader.switch("keep_next") || named == Some(StyleName::Next);
    let takes_turns = !reader.is_written("users") && users.is_empty();
    match named {
        Some(StyleName::Alternating) if takes_turns => {
            reader.problem("users", "must be set: the logins that take turns");
        }
        Some(StyleName::Single | StyleName::Next) if !users.is_empty() => {
            reader.problem("users", "take turns, and this style has one user: leave them out");
        }
        _ => {}
    }
    let style = match named {
        Some(StyleName::Alternating) => Style::Alternating,
        None if !users.is_empty() => Style::Alternating,
        _ => Style::Single,
    };
    if style == Style::Alternating && keep_next {
        reader.problem(
            "keep_next",
            "is for one user: with users that take turns there is nothing to keep",
        );
    }
    (style, keep_next)
}

fn owner(reader: &Reader<'_>, style: Style) -> Option<String> {
    let owner = reader.text("owner")?;
    if style != Style::Alternating {
        let message = "is for users that take turns: one user owns what it makes";
        reader.loading.problem(&owner.origin, message);
    }
    Some(owner.value)
}

#[allow(clippy::needless_pass_by_value, reason = "a reader is finished by who has it")]
fn recipe(reader: Reader<'_>) -> PasswordRecipe {
    let recipe = PasswordRecipe {
        length: reader.number("length", LENGTHS) as usize,
        alphabet: reader.choice("alphabet", &ALPHABETS),
    };
    reader.finish();
    recipe
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
