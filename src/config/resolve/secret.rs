use std::time::Duration;

use super::super::keys::{FIELDS, SECRET, STORES};
use super::super::loading::Loading;
use super::super::reader::Reader;
use super::super::suggest::did_you_mean;
use super::super::typed::{Aws, FieldPair, Fields, Secret, SessionsPolicy, Source};
use super::super::url::check_web;
use super::super::written::{Section, Value};
use super::{DAY, HOUR, MILLISECOND, SECOND, vault};

/// Quick enough for a file in a test, slow enough for a store that charges for each read.
const POLL_MIN: Duration = Duration::from_millis(100);
pub(super) const YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

const SESSIONS: [(&str, SessionsPolicy); 4] = [
    ("auto", SessionsPolicy::Auto),
    ("keep", SessionsPolicy::Keep),
    ("move", SessionsPolicy::Move),
    ("cut", SessionsPolicy::Cut),
];

pub(super) fn secret(name: &str, section: &Section, loading: &Loading<'_>) -> Option<Secret> {
    let reader = Reader::new(section, &SECRET, loading);
    let store = reader.required_text("store").and_then(|store| {
        let known = STORES.iter().find(|known| known.name == store.value);
        if known.is_none() {
            let names: Vec<&str> = STORES.iter().map(|store| store.name).collect();
            let hint = did_you_mean(&store.value, names.iter().copied());
            let message = format!("no store named {:?}{hint}", store.value);
            let list = if hint.is_empty() {
                format!("; one of {}", names.join(", "))
            } else {
                String::new()
            };
            loading.problem(&store.origin, message + &list);
        }
        known.map(|known| known.name)
    });
    let poll = reader.duration("poll", POLL_MIN..=DAY);
    let sessions = reader.choice("sessions", &SESSIONS);
    let grace = reader.duration("grace", Duration::ZERO..=DAY);
    let max_age = reader.optional_duration("max_age", SECOND..=YEARS);
    let fields = reader.section("fields", &FIELDS).and_then(fields);
    // Without a known store nothing says which of the other keys belong.
    let source = source(store?, &reader);
    reader.finish();
    Some(Secret {
        name: name.into(),
        source: source?,
        fields,
        poll,
        sessions,
        grace,
        max_age,
    })
}

fn source(store: &'static str, reader: &Reader<'_>) -> Option<Source> {
    check_feature(store, reader);
    match store {
        "file" => {
            reader.require("id");
            let path = reader.path("id")?.value;
            Some(Source::File { path })
        }
        "env" => env(reader),
        "aws-secretsmanager" => {
            let (id, aws) = aws(reader, "secretsmanager")?;
            Some(Source::AwsSecretsManager { id, aws })
        }
        "aws-ssm" => {
            let (id, aws) = aws(reader, "ssm")?;
            Some(Source::AwsSsm { id, aws })
        }
        "aws-rds-iam" => {
            let (user, aws) = aws(reader, "rds-db")?;
            Some(Source::AwsRdsIam { user, aws })
        }
        "vault-kv" | "vault-db-static" | "vault-db" => vault::source(store, reader),
        "command" => command(reader),
        other => unreachable!("{other} is in the table of stores and has no reading"),
    }
}

fn check_feature(store: &str, reader: &Reader<'_>) {
    let (feature, is_built) = match store.split('-').next() {
        Some("aws") => ("aws", cfg!(feature = "aws")),
        Some("vault") => ("vault", cfg!(feature = "vault")),
        _ => return,
    };
    if !is_built {
        let message = format!("this pgswivel was built without the feature {feature:?} that {store} needs");
        reader.problem("store", message);
    }
}

/// The environment of a process never changes, so what is missing now is missing for ever.
fn env(reader: &Reader<'_>) -> Option<Source> {
    let variable = |key| {
        let name = match reader.text(key) {
            Some(name) => name.value,
            None if reader.is_written(key) => return None,
            None => reader.text_default(key).to_owned(),
        };
        if reader.loading.raw_variable(&name).is_none() {
            let message = if reader.is_written(key) {
                "the environment variable it names is not set".to_owned()
            } else {
                format!("the environment variable {name} is not set")
            };
            reader.problem(key, message);
        }
        Some(name)
    };
    let (user, password) = (variable("user"), variable("password"));
    Some(Source::Env {
        user: user?,
        password: password?,
    })
}

fn aws(reader: &Reader<'_>, service: &str) -> Option<(String, Aws)> {
    let id = reader.required_text("id");
    let region = reader.text("region");
    if let Some(region) = &region
        && !region
            .value
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-')
    {
        reader
            .loading
            .problem(&region.origin, "is not the name of a region");
    }
    let endpoint = reader.text("endpoint");
    if let Some(endpoint) = &endpoint
        && let Err(error) = check_web(&endpoint.value)
    {
        reader.loading.problem(&endpoint.origin, error.to_string());
    }
    let id = id?.value;
    let mut region = region.map(|region| region.value);
    if id.starts_with("arn:") {
        let mut words = id.split(':').skip(2);
        let (named, in_region) = (words.next(), words.next().filter(|region| !region.is_empty()));
        if named != Some(service) || in_region.is_none() {
            reader.problem("id", format!("is not the ARN of {service}"));
        }
        match (&region, in_region) {
            (Some(region), Some(in_region)) if region != in_region => {
                reader.problem("region", format!("differs from the ARN's, {in_region:?}"));
            }
            _ => region = in_region.map(str::to_owned),
        }
    }
    let endpoint = endpoint.map(|endpoint| endpoint.value);
    Some((id, Aws { region, endpoint }))
}

fn command(reader: &Reader<'_>) -> Option<Source> {
    reader.require("id");
    let timeout = reader.duration("timeout", MILLISECOND..=HOUR);
    let write = program(reader, "write");
    let argv = program(reader, "id")?;
    Some(Source::Command { argv, write, timeout })
}

/// A program with its arguments: a list, or words.
fn program(reader: &Reader<'_>, key: &'static str) -> Option<Vec<String>> {
    let words = reader.texts(key);
    let value = reader.value(key)?;
    let argv: Vec<String> = if matches!(value.value, Value::List(_)) {
        words.into_iter().map(|word| word.value).collect()
    } else {
        let text = words.into_iter().next()?;
        if text.value.contains(['"', '\'', '\\']) {
            let message = "no shell reads this: write a list in the file for arguments that need quotes";
            reader.loading.problem(&text.origin, message);
        }
        text.value.split_whitespace().map(str::to_owned).collect()
    };
    if argv.first().is_none_or(String::is_empty) {
        reader.problem(key, "names no program");
    }
    Some(argv)
}

fn fields(reader: Reader<'_>) -> Option<Fields> {
    let user = reader.required_text("user");
    let password = reader.required_text("password");
    let pair = |user_key, password_key| {
        let other = reader.text(user_key);
        let password = reader.text(password_key);
        if other.is_some() && !reader.is_written(password_key) {
            reader.problem(password_key, format!("must be set, since {user_key} is"));
        }
        let user = other.or(user.clone())?.value;
        Some(FieldPair {
            user,
            password: password?.value,
        })
    };
    let next = pair("next_user", "next_password");
    let previous = pair("previous_user", "previous_password");
    reader.finish();
    let current = FieldPair {
        user: user?.value,
        password: password?.value,
    };
    Some(Fields {
        current,
        next,
        previous,
    })
}
