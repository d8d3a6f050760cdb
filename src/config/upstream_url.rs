//! `--upstream postgres://db.internal:5432/orders?sslmode=verify-full`, with libpq's parameter names.

use super::address;
use super::keys::{PARAMETERS, Shape};
use super::loading::Loading;
use super::suggest::did_you_mean;
use super::url::{decode, split_query};
use super::written::{At, Origin, Section, Value};

/// Reads the URL into the keys of `[upstream.NAME]`. Nothing of the URL but the names and plain values
/// of known parameters is ever quoted: somebody may have put a password into it.
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
    let rest = ["postgres://", "postgresql://"]
        .iter()
        .find_map(|scheme| url.value.strip_prefix(scheme))
        .ok_or("expected a URL such as postgres://db.internal:5432/orders")?;
    // Before anything is split: an unescaped "/" or "?" in a password would leave parts of it elsewhere.
    if rest.contains('@') {
        let refusal = "no user and no password belong into this URL; they come from the secret";
        return Err(format!("{refusal} (any other @ is written %40)"));
    }
    let (location, parameters) = split_query(rest).map_err(|error| error.to_string())?;
    if let Some((name, _)) = parameters
        .iter()
        .find(|(name, _)| matches!(name.as_str(), "user" | "password" | "passfile"))
    {
        return Err(format!(
            "\"{name}\" does not belong into this URL; user and password come from the secret"
        ));
    }
    let (authority, database) = location.split_once('/').unwrap_or((location, ""));
    let database = decode(database).map_err(|error| error.to_string())?;
    if !database.is_empty() {
        section.put("database", Value::Text(database), &url.origin);
    }
    let mut host_parameter = None;
    let mut port_parameter = None;
    for (name, value) in parameters {
        match name.as_str() {
            "host" => host_parameter = Some(value),
            "port" => port_parameter = Some(value),
            _ => put_parameter(section, &name, &value, &url.origin, loading),
        }
    }
    let hosts = hosts(authority, host_parameter, port_parameter.as_deref())?;
    let hosts = hosts
        .into_iter()
        .map(|host| At::new(Value::Text(host), &url.origin));
    section.put("hosts", Value::List(hosts.collect()), &url.origin);
    Ok(())
}

fn put_parameter(section: &mut Section, name: &str, value: &str, url: &Origin, loading: &Loading<'_>) {
    let origin = url.child(name);
    let Some(parameter) = PARAMETERS.iter().find(|parameter| parameter.name == name) else {
        let message = match name {
            "application_name"
            | "fallback_application_name"
            | "client_encoding"
            | "options"
            | "replication" => "comes from the client, not from the upstream's URL".to_owned(),
            _ => {
                let known = PARAMETERS.iter().map(|parameter| parameter.name);
                format!("unknown parameter{}", did_you_mean(name, known))
            }
        };
        loading.problem(&origin, message);
        return;
    };
    let value = match shaped(value, parameter.shape) {
        Ok(value) => value,
        Err(wanted) => {
            loading.problem(&origin, format!("{value:?} is not {wanted}"));
            return;
        }
    };
    if section.put_at(parameter.key, value, &origin).is_some() {
        loading.problem(&origin, "is given twice");
    }
}

fn shaped(value: &str, shape: Shape) -> Result<Value, &'static str> {
    let number = value.parse::<u32>();
    match shape {
        Shape::Text => Ok(Value::Text(value.to_owned())),
        Shape::Number => number
            .map(|number| Value::Number(number.into()))
            .map_err(|_| "a whole number"),
        Shape::Seconds => number
            .map(|seconds| Value::Text(format!("{seconds}s")))
            .map_err(|_| "a whole number of seconds"),
        Shape::Milliseconds => number
            .map(|milliseconds| Value::Text(format!("{milliseconds}ms")))
            .map_err(|_| "a whole number of milliseconds"),
        Shape::Switch => match value {
            "1" | "true" => Ok(Value::Switch(true)),
            "0" | "false" => Ok(Value::Switch(false)),
            _ => Err("true or false"),
        },
    }
}

/// The hosts as `[upstream.NAME]` writes them.
fn hosts(authority: &str, host: Option<String>, port: Option<&str>) -> Result<Vec<String>, String> {
    let hosts = match (authority, host) {
        ("", None) => return Err("names no host".to_owned()),
        ("", Some(hosts)) => hosts,
        (_, Some(_)) => return Err("names its hosts twice: before the \"/\" and as \"host\"".to_owned()),
        (authority, None) => decode(authority).map_err(|error| error.to_string())?,
    };
    let hosts: Vec<&str> = hosts.split(',').collect();
    let ports: Vec<&str> = port.map_or(Vec::new(), |ports| ports.split(',').collect());
    if ports.len() > 1 && ports.len() != hosts.len() {
        return Err("names more or fewer ports than hosts".to_owned());
    }
    let port_of = |index: usize| ports.get(index).or(ports.first()).copied();
    hosts
        .iter()
        .enumerate()
        .map(|(index, host)| with_port(host, port_of(index)))
        .collect()
}

fn with_port(host: &str, port: Option<&str>) -> Result<String, String> {
    let Some(port) = port else {
        return Ok(host.to_owned());
    };
    let number: u16 = port.parse().map_err(|_| "\"port\" is not a port".to_owned())?;
    if host.starts_with('/') {
        let file = address::socket_file(host.as_ref(), number).map_err(|error| error.to_string())?;
        return Ok(file.display().to_string());
    }
    if host.parse::<std::net::Ipv6Addr>().is_ok() {
        return Ok(format!("[{host}]:{number}"));
    }
    if host.ends_with(']') || !host.contains(':') {
        return Ok(format!("{host}:{number}"));
    }
    Err("names a host's port twice".to_owned())
}
