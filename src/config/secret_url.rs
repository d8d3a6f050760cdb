//! `--secret aws-secretsmanager:prod/orders?region=eu-west-1`: a store, an id, and what the store takes.

use super::keys::FIELDS;
use super::loading::Loading;
use super::source::STORES;
use super::suggest::did_you_mean;
use super::url::{decode, split_query};
use super::written::{At, Origin, Section, Value};

/// What a URL may set besides the names of fields: the keys of `[secret.NAME]` that are plain text.
const PARAMETERS: [&str; 9] = [
    "poll",
    "sessions",
    "grace",
    "max_age",
    "region",
    "endpoint",
    "address",
    "namespace",
    "ca",
];
const MOUNT: &str = "mount";

/// Reads the URL into the keys of `[secret.NAME]`. Values are never quoted: somebody may have put a
/// password where the name of one belongs.
pub(super) fn read(url: &At<String>, loading: &Loading<'_>) -> Option<Section> {
    let mut section = Section::new(url.origin.clone());
    match read_into(&mut section, url, loading) {
        Ok(()) => Some(section),
        Err(message) => {
            loading.problem(&url.origin, message);
            None
        }
    }
}

fn read_into(section: &mut Section, url: &At<String>, loading: &Loading<'_>) -> Result<(), String> {
    let origin = &url.origin;
    let (store, rest) = store_of(&url.value)?;
    section.put("store", Value::Text(store.to_owned()), origin);
    if store == "command" {
        // A program's arguments may hold any "?" and "%".
        if !rest.is_empty() {
            section.put("id", Value::Text(rest.to_owned()), origin);
        }
        return Ok(());
    }
    let (id, parameters) = split_query(rest).map_err(|error| error.to_string())?;
    let id = match id.strip_prefix("//") {
        // `file:///run/secrets`: an empty authority. Any other could only be a host or a password.
        Some(path) if store == "file" && path.starts_with('/') => path,
        Some(_) => return Err(format!("write \"{store}:\" without \"//\" after it")),
        None => id,
    };
    let id = decode(id).map_err(|error| error.to_string())?;
    if !id.is_empty() {
        section.put("id", Value::Text(id), origin);
    }
    for parameter in parameters {
        put_parameter(section, store, parameter, origin, loading);
    }
    Ok(())
}

fn store_of(url: &str) -> Result<(&'static str, &str), String> {
    if url.starts_with("arn:") {
        return match url.split(':').nth(2) {
            Some("secretsmanager") => Ok(("aws-secretsmanager", url)),
            Some("ssm") => Ok(("aws-ssm", url)),
            _ => Err("expected the ARN of a secret or of a parameter".to_owned()),
        };
    }
    let expected = "expected a store and an id, such as file:/run/secrets/orders.json";
    let (scheme, rest) = url.split_once(':').ok_or(expected)?;
    if let Some(store) = STORES.iter().find(|store| store.name == scheme) {
        return Ok((store.name, rest));
    }
    let hint = did_you_mean(scheme, STORES.iter().map(|store| store.name));
    if hint.is_empty() {
        return Err(expected.to_owned());
    }
    Err(format!("no store named {scheme:?}{hint}"))
}

fn put_parameter(
    section: &mut Section,
    store: &str,
    (name, value): (String, String),
    url: &Origin,
    loading: &Loading<'_>,
) {
    let origin = url.child(&name);
    let is_field = FIELDS.names().any(|field| field == name);
    let key = if is_field && store != "env" {
        format!("fields.{name}")
    } else if is_field || name == MOUNT || PARAMETERS.contains(&name.as_str()) {
        name
    } else {
        let known = PARAMETERS.into_iter().chain([MOUNT]).chain(FIELDS.names());
        loading.problem(
            &origin,
            format!("unknown parameter{}", did_you_mean(&name, known)),
        );
        return;
    };
    if section.put_at(&key, Value::Text(value), &origin).is_some() {
        loading.problem(&origin, "is given twice");
    }
}
