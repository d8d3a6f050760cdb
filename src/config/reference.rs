//! The reference of the configuration and the example file, held against the tables of keys in both directions.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::keys::{FLAGS, Key, Keys, PARAMETERS, SECTIONS, Unset};
use super::source::STORES;
use super::tests::Stage;

const REFERENCE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md"));
#[cfg(feature = "aws")]
const EXAMPLE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/config/pgswivel.toml"));

/// Every key of every section at least once.
const EVERYTHING: &str = r#"
drain = "25s"
workers = 1
version_key = "v"

[listen]
address = ["0.0.0.0:6432", "unix:/run/pgswivel"]
tls = { certificate = "/pem", key = "/pem" }
auth = "scram"
insecure = false
scram_iterations = 4096

[role.a]
password = { file = "/password" }
auth = "scram"
upstream = "a"
secret = "a"
set_role = "owner"

[role.b]
password = { env = "PASSWORD" }
upstream = "a"
secret = "a"

[upstream.a]
hosts = ["db:5432"]
database = "orders"
other_database = "refuse"
tls = { mode = "verify-full", ca = "/pem", server_name = "db", certificate = "/pem", key = "/pem", negotiation = "postgres", channel_binding = "prefer", pin = "sha256:0000000000000000000000000000000000000000000000000000000000000000" }
md5 = "guarded"
connect_timeout = "10s"
keepalive = { idle = "60s", interval = "10s", count = 6 }
user_timeout = "60s"
connections_max = 100
warm = 1
reuse = true
again = true

[secret.a]
store = "file"
id = "/s"
poll = "5m"
sessions = "auto"
grace = "30s"
max_age = "90d"
fields = { user = "a", password = "b", next_user = "c", next_password = "d", previous_user = "e", previous_password = "f" }

[secret.b]
store = "env"
user = "PASSWORD"
password = "PASSWORD"

[secret.c]
store = "command"
id = ["/bin/get-secret", "orders"]
write = ["/bin/put-secret", "orders"]
timeout = "10s"

[rotation.a]
secret = "a"
admin = "b"
upstreams = ["a"]
users = ["orders_a", "orders_b"]
max_age = "90d"
sidecars = ["http://10.0.0.1:9632", "dns+http://pgswivel.orders.svc:9632"]
kind = "postgres"
style = "alternating"
owner = "orders_owner"
min_interval = "1h"
soak = "15m"
password = { length = 40, alphabet = "url-safe" }
keep_next = false
audit = "/var/log/pgswivel/rotations.jsonl"
report = "/var/log/pgswivel/rotations"

[login]
patience = "30s"
refused_retry = "30s"

[limits]
clients = 10000
startups = 1000
startup_time = "60s"
cancels = 64
logins_per_endpoint = 8
queue_wait = "30s"
statement_bytes = 1048576
again_bytes = 65536
moves = 8
warm = 50
admin_connections = 64
refused_logins_per_minute = 10

[fleet]
channel = "pgswivel"
instance = "orders-1"

[admin]
address = "127.0.0.1:9632"
hosts = ["pgswivel"]
token = { file = "/password" }

[log]
format = "json"
level = "info"
audit = "/var/log/pgswivel/audit"
"#;

const EVERYTHING_IN_CLOUDS: &str = r#"
[secret.d]
store = "aws-secretsmanager"
id = "prod/orders"
region = "eu-west-1"
endpoint = "https://localhost:4566"

[secret.e]
store = "vault-kv"
id = "orders"
mount = "kv/team"
address = "https://vault:8200"
namespace = "team"
ca = "/pem"
auth = { token = "t" }

[secret.f]
store = "vault-db"
id = "database/orders"
address = "https://vault:8200"
auth = { approle = { role_id = "r", secret_id = { file = "/id" }, mount = "approle" } }

[secret.g]
store = "vault-db-static"
id = "database/orders"
address = "https://vault:8200"
auth = { kubernetes = { role = "r", token_file = "/token", mount = "kubernetes" } }

[secret.h]
store = "vault-kv"
id = "secret/orders"
address = "https://vault:8200"
auth = { aws = { role = "r", mount = "aws", region = "eu-west-1", server_id = "vault" } }
"#;

fn default(key: &Key) -> String {
    match key.unset {
        Unset::Text(text) => format!("`\"{text}\"`"),
        Unset::Number(number) => format!("`{number}`"),
        Unset::Switch(switch) => format!("`{switch}`"),
        Unset::Means(words) => words.to_owned(),
    }
}

fn section(keys: &Keys) -> String {
    let mut text = format!(
        "### `{}`\n\n| key | default | meaning |\n|---|---|---|\n",
        keys.title
    );
    for key in keys.keys {
        writeln!(text, "| `{}` | {} | {} |", key.name, default(key), key.meaning).expect("a String takes it");
    }
    text
}

/// Every table that the reference has to hold.
fn tables() -> Vec<String> {
    let flags = FLAGS.iter().fold(
        "| flag | variable | stands for |\n|---|---|---|\n".to_owned(),
        |table, flag| table + &format!("| `{}` | `{}` | {} |\n", flag.flag, flag.variable, flag.meaning),
    );
    let parameters = PARAMETERS.iter().fold(
        "| parameter | key of `[upstream.NAME]` |\n|---|---|\n".to_owned(),
        |table, parameter| table + &format!("| `{}` | `{}` |\n", parameter.name, parameter.key),
    );
    let stores = STORES.iter().fold(
        "| store | `--secret` | what it is |\n|---|---|---|\n".to_owned(),
        |table, store| table + &format!("| `{}` | `{}` | {} |\n", store.name, store.example, store.meaning),
    );
    let mut tables = vec![flags, parameters, stores];
    tables.extend(SECTIONS.iter().map(|keys| section(keys)));
    tables
}

fn rows(text: &str) -> BTreeSet<&str> {
    text.lines().filter(|line| line.starts_with('|')).collect()
}

#[test]
fn the_reference_says_what_the_code_does() {
    let tables = tables();
    for table in &tables {
        assert!(
            REFERENCE.contains(table.as_str()),
            "docs/configuration.md lacks this table:\n{table}"
        );
    }
    let declared: BTreeSet<&str> = tables.iter().flat_map(|table| rows(table)).collect();
    for row in rows(REFERENCE) {
        assert!(
            declared.contains(row),
            "docs/configuration.md has a row that the code does not:\n{row}"
        );
    }
}

/// The section that a table of the file belongs to, by its title.
fn title(path: &[&str]) -> String {
    let is_sensitive = matches!(path.last(), Some(&("password" | "token" | "secret_id")));
    if is_sensitive && path.len() > 1 && path[0] != "rotation" {
        return "password, token, secret_id, version_key".to_owned();
    }
    let mut path = path.to_vec();
    if let [first, rest @ ..] = path.as_mut_slice()
        && matches!(*first, "role" | "upstream" | "secret" | "rotation")
        && let Some(name) = rest.first_mut()
    {
        *name = "NAME";
    }
    if path.is_empty() {
        "Top level".to_owned()
    } else {
        format!("[{}]", path.join("."))
    }
}

fn written_keys(table: &toml::Table, path: &[&str], found: &mut BTreeSet<(String, String)>) {
    for (key, value) in table {
        let is_name = matches!(path, ["role" | "upstream" | "secret" | "rotation"]);
        if !is_name {
            found.insert((title(path), key.clone()));
        }
        if let toml::Value::Table(inside) = value {
            written_keys(inside, &[path, &[key.as_str()]].concat(), found);
        }
    }
}

#[test]
fn every_key_of_the_reference_is_accepted() {
    let is_built = cfg!(feature = "aws") && cfg!(feature = "vault");
    let text = if is_built {
        EVERYTHING.to_owned() + EVERYTHING_IN_CLOUDS
    } else {
        EVERYTHING.to_owned()
    };
    let stage = Stage::with_file(&text)
        .file("/pem", "")
        .file("/password", "hunter2")
        .variable("PASSWORD", "hunter2");
    stage.loaded();
    if is_built {
        let mut written = BTreeSet::new();
        let table: toml::Table = text.parse().expect("it was loaded");
        written_keys(&table, &[], &mut written);
        let declared: BTreeSet<(String, String)> = SECTIONS
            .iter()
            .flat_map(|keys| keys.names().map(|name| (keys.title.to_owned(), name.to_owned())))
            .collect();
        assert_eq!(written, declared);
    }
}

#[cfg(feature = "aws")]
#[test]
fn the_example_file_loads() {
    let stage = Stage::with_file(EXAMPLE)
        .file("/etc/ssl/rds.pem", "")
        .file("/run/secrets/app-password", "hunter2\n");
    let config = stage.loaded();
    assert_eq!(config.roles.len(), 1);
}
