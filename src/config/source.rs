//! The stores that a secret can name: what they are called, how each is written, and what is known of it then.

mod vault;

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::reader::Reader;
use super::suggest::did_you_mean;
use super::url::check_web;
use super::written::Value;
use crate::credentials::Password;

/// How long a program may be given to print a payload.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60 * 60);

/// A store that a secret can name.
pub(super) struct Store {
    pub(super) name: &'static str,
    pub(super) example: &'static str,
    pub(super) meaning: &'static str,
}

const fn store(name: &'static str, example: &'static str, meaning: &'static str) -> Store {
    Store {
        name,
        example,
        meaning,
    }
}

#[rustfmt::skip]
pub(super) const STORES: [Store; 9] = [
    store("file", "file:/run/secrets/orders.json", "a file, or a mounted directory with `username` and `password` in it"),
    store("env", "env:", "environment variables: `POSTGRES_USER` and `POSTGRES_PASSWORD`, or `?user=VAR&password=VAR`"),
    store("aws-secretsmanager", "aws-secretsmanager:prod/orders", "AWS Secrets Manager, by name or ARN"),
    store("aws-ssm", "aws-ssm:/prod/orders", "AWS Parameter Store, by name or ARN"),
    store("aws-rds-iam", "aws-rds-iam:app?region=eu-west-1", "a signed token as password of this user"),
    store("vault-kv", "vault-kv:secret/prod/orders", "Vault, KV version 2: mount and path"),
    store("vault-db-static", "vault-db-static:database/orders", "Vault, static role of the database engine: mount and role"),
    store("vault-db", "vault-db:database/orders", "Vault, role of the database engine with leases: mount and role"),
    store("command", "command:/usr/local/bin/get-secret orders", "a program that prints a payload"),
];

/// Which store, and where in it.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// One file, or a directory with `username` and `password` in it.
    File {
        path: PathBuf,
    },
    Env {
        user: String,
        password: String,
    },
    AwsSecretsManager {
        id: String,
        aws: Aws,
    },
    AwsSsm {
        id: String,
        aws: Aws,
    },
    AwsRdsIam {
        user: String,
        aws: Aws,
    },
    VaultKv {
        mount: String,
        path: String,
        vault: Vault,
    },
    VaultDbStatic {
        mount: String,
        role: String,
        vault: Vault,
    },
    VaultDb {
        mount: String,
        role: String,
        vault: Vault,
    },
    Command {
        argv: Vec<String>,
        /// Takes a new payload; without it, the secret is only read.
        write: Option<Vec<String>>,
        timeout: Duration,
    },
}

impl Source {
    /// Whether others read the same values there, and it gives them no versions.
    pub fn gives_no_versions(&self) -> bool {
        matches!(
            self,
            Self::File { .. } | Self::Env { .. } | Self::Command { .. } | Self::VaultDbStatic { .. }
        )
    }

    /// What it yields is for the endpoints that it was opened for, and no other.
    pub fn names_its_endpoints(&self) -> bool {
        matches!(self, Self::AwsRdsIam { .. })
    }

    /// As `store` is written.
    pub fn store(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Env { .. } => "env",
            Self::AwsSecretsManager { .. } => "aws-secretsmanager",
            Self::AwsSsm { .. } => "aws-ssm",
            Self::AwsRdsIam { .. } => "aws-rds-iam",
            Self::VaultKv { .. } => "vault-kv",
            Self::VaultDbStatic { .. } => "vault-db-static",
            Self::VaultDb { .. } => "vault-db",
            Self::Command { .. } => "command",
        }
    }

    /// As `id` may be written: what it names there.
    pub fn id(&self) -> String {
        match self {
            Self::File { path } => path.display().to_string(),
            Self::Env { user, password } => format!("{user} {password}"),
            Self::AwsSecretsManager { id, .. } | Self::AwsSsm { id, .. } => id.clone(),
            Self::AwsRdsIam { user, .. } => user.clone(),
            Self::VaultKv { mount, path, .. } => format!("{mount}/{path}"),
            Self::VaultDbStatic { mount, role, .. } | Self::VaultDb { mount, role, .. } => {
                format!("{mount}/{role}")
            }
            Self::Command { argv, .. } => argv.join(" "),
        }
    }
}

/// What the AWS SDK's own chain would not find by itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Aws {
    pub region: Option<String>,
    pub endpoint: Option<String>,
}

/// How to reach and log in to a Vault. What is absent comes from Vault's own variables.
#[derive(Clone, Debug, PartialEq)]
pub struct Vault {
    pub address: String,
    pub namespace: Option<String>,
    pub ca: Option<PathBuf>,
    pub auth: VaultAuth,
}

#[derive(Clone, Debug, PartialEq)]
pub enum VaultAuth {
    Token(Password),
    TokenFile(PathBuf),
    AppRole {
        mount: String,
        role_id: String,
        secret_id: VaultSecretId,
    },
    Kubernetes {
        mount: String,
        role: String,
        token_file: PathBuf,
    },
    /// By who this machine is at AWS.
    Aws {
        mount: String,
        role: String,
        /// Of the STS endpoint that Vault asks; None: the global one.
        region: Option<String>,
        /// What Vault wants to see signed, so that a proof for another Vault is worth nothing.
        server_id: Option<String>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum VaultSecretId {
    Literal(Password),
    File(PathBuf),
}

/// The store that a secret names.
pub(super) fn named_store(reader: &Reader<'_>) -> Option<&'static Store> {
    let store = reader.required_text("store")?;
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
        reader.loading.problem(&store.origin, message + &list);
    }
    known
}

/// Where in it.
pub(super) fn source(store: &Store, reader: &Reader<'_>) -> Option<Source> {
    check_feature(store.name, reader);
    match store.name {
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
        "vault-kv" | "vault-db-static" | "vault-db" => vault::source(store.name, reader),
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
    let timeout = reader.duration("timeout", TIMEOUT);
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
