//! Names that deployments already speak, understood when pgswivel's own are absent.

use super::loading::Loading;
use super::written::{Section, Value};

/// `POSTGRES_HOST` and its companions.
pub(super) fn upstream(loading: &Loading<'_>) -> Option<Section> {
    let host = loading.variable("POSTGRES_HOST")?;
    let mut section = Section::new(host.origin.clone());
    // For a service named "postgres" Kubernetes sets POSTGRES_PORT to "tcp://10.0.0.1:5432".
    let port = loading
        .variable("POSTGRES_PORT")
        .filter(|port| !port.value.starts_with("tcp://"));
    let mut origin = host.origin.clone();
    let mut address = host.value;
    if address.parse::<std::net::Ipv6Addr>().is_ok() {
        address = format!("[{address}]");
    }
    if let Some(port) = port {
        if address.starts_with('/') {
            address = format!("{address}/.s.PGSQL.{}", port.value);
        } else {
            address = format!("{address}:{}", port.value);
        }
        origin = port.origin;
    }
    section.put("hosts", Value::Text(address), &origin);
    if let Some(database) = loading.variable("POSTGRES_DB") {
        section.put("database", Value::Text(database.value), &database.origin);
    }
    if let Some(ssl) = loading.variable("POSTGRES_SSL") {
        let mode = tls_mode(&ssl.value).to_owned();
        section.put_at("tls.mode", Value::Text(mode), &ssl.origin);
    }
    if let Some(size) = loading.variable("POSTGRES_POOL_SIZE") {
        match size.value.parse::<u32>() {
            Ok(number) => {
                section.put("connections_max", Value::Number(number.into()), &size.origin);
            }
            Err(_) => loading.problem(&size.origin, "is not a whole number"),
        }
    }
    Some(section)
}

/// What drivers and frameworks write for `sslmode`; libpq's own words pass.
fn tls_mode(ssl: &str) -> &str {
    match ssl.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" | "no-verify" => "require",
        "false" | "0" | "no" | "off" => "disable",
        _ => ssl,
    }
}

/// `DB_SECRET_ID`, else `POSTGRES_USER` and `POSTGRES_PASSWORD`.
pub(super) fn secret(loading: &Loading<'_>) -> Option<Section> {
    if let Some(id) = loading.variable("DB_SECRET_ID") {
        let mut section = Section::new(id.origin.clone());
        section.put("store", Value::Text("aws-secretsmanager".to_owned()), &id.origin);
        section.put("id", Value::Text(id.value), &id.origin);
        if let Some(interval) = loading.variable("DB_SECRET_REFRESH_INTERVAL_MS") {
            match interval.value.parse::<u64>() {
                Ok(number) => {
                    section.put("poll", Value::Text(format!("{number}ms")), &interval.origin);
                }
                Err(_) => loading.problem(&interval.origin, "is not a whole number of milliseconds"),
            }
        }
        return Some(section);
    }
    let user = loading.variable("POSTGRES_USER")?;
    loading.raw_variable("POSTGRES_PASSWORD")?;
    let mut section = Section::new(user.origin.clone());
    section.put("store", Value::Text("env".to_owned()), &user.origin);
    Some(section)
}
