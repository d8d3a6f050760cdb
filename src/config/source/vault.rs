use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::credentials::Password;

use super::super::keys::{APPROLE, KUBERNETES, VAULT_AUTH, VAULT_AWS};
use super::super::loading::Loading;
use super::super::reader::Reader;
use super::super::resolve::sensitive::{Sensitive, sensitive};
use super::super::url::check_web;
use super::{Source, Vault, VaultAuth, VaultSecretId};

pub(super) fn source(store: &str, reader: &Reader<'_>) -> Option<Source> {
    let place = mount_and_rest(reader);
    let vault = vault(reader);
    let ((mount, rest), vault) = (place?, vault?);
    Some(match store {
        "vault-kv" => Source::VaultKv {
            mount,
            path: rest,
            vault,
        },
        "vault-db-static" => Source::VaultDbStatic {
            mount,
            role: rest,
            vault,
        },
        _ => Source::VaultDb {
            mount,
            role: rest,
            vault,
        },
    })
}

/// `secret/prod/orders` is the mount `secret` and what is in it, unless the mount is said apart.
fn mount_and_rest(reader: &Reader<'_>) -> Option<(String, String)> {
    let mount = reader.text("mount");
    let id = reader.required_text("id")?;
    let trimmed = id.value.trim_matches('/');
    let (mount, rest) = match &mount {
        Some(mount) => (mount.value.trim_matches('/'), trimmed),
        None => trimmed.split_once('/').unwrap_or((trimmed, "")),
    };
    if mount.is_empty() || rest.is_empty() {
        let message = "expected the mount and what is in it, such as secret/prod/orders";
        reader.loading.problem(&id.origin, message);
        return None;
    }
    Some((mount.to_owned(), rest.to_owned()))
}

fn vault(reader: &Reader<'_>) -> Option<Vault> {
    let or_variable = |key, name| match reader.text(key) {
        None if !reader.is_written(key) => reader.loading.variable(name),
        written => written,
    };
    let address = or_variable("address", "VAULT_ADDR");
    if address.is_none() && !reader.is_written("address") {
        reader.problem("address", "must be set, or VAULT_ADDR");
    }
    if let Some(address) = &address
        && let Err(error) = check_web(&address.value)
    {
        reader.loading.problem(&address.origin, error.to_string());
    }
    let namespace = or_variable("namespace", "VAULT_NAMESPACE").map(|namespace| namespace.value);
    let ca = or_variable("ca", "VAULT_CACERT").map(|ca| {
        let path = PathBuf::from(ca.value);
        if let Err(error) = reader.loading.read(&path) {
            let message = format!("can't read {}: {error}", path.display());
            reader.loading.problem(&ca.origin, message);
        }
        path
    });
    let auth = match reader.section("auth", &VAULT_AUTH) {
        Some(auth) => auth_in_file(auth),
        None if reader.is_written("auth") => None,
        None => auth_in_environment(reader),
    };
    Some(Vault {
        address: address?.value,
        namespace,
        ca,
        auth: auth?,
    })
}

fn auth_in_file(reader: Reader<'_>) -> Option<VaultAuth> {
    let token = sensitive(&reader, "token").map(|token| match token.value {
        Sensitive::Literal(token) => VaultAuth::Token(token),
        Sensitive::File(path) => VaultAuth::TokenFile(path),
    });
    let approle = reader.section("approle", &APPROLE).and_then(approle);
    let kubernetes = reader.section("kubernetes", &KUBERNETES).and_then(kubernetes);
    let aws = reader.section("aws", &VAULT_AWS).and_then(aws);
    let written = ["token", "approle", "kubernetes", "aws"].into_iter();
    if written.filter(|key| reader.is_written(key)).count() != 1 {
        let message = "set exactly one of token, approle, kubernetes and aws";
        reader.loading.problem(reader.origin(), message);
    }
    reader.finish();
    token.or(approle).or(kubernetes).or(aws)
}

fn approle(reader: Reader<'_>) -> Option<VaultAuth> {
    let role_id = reader.required_text("role_id");
    reader.require("secret_id");
    let secret_id = sensitive(&reader, "secret_id").map(|secret_id| match secret_id.value {
        Sensitive::Literal(secret_id) => VaultSecretId::Literal(secret_id),
        Sensitive::File(path) => VaultSecretId::File(path),
    });
    let mount = text_or_default(&reader, "mount");
    reader.finish();
    Some(VaultAuth::AppRole {
        mount,
        role_id: role_id?.value,
        secret_id: secret_id?,
    })
}

fn kubernetes(reader: Reader<'_>) -> Option<VaultAuth> {
    let role = reader.required_text("role");
    let token_file = text_or_default(&reader, "token_file").into();
    let mount = text_or_default(&reader, "mount");
    reader.finish();
    Some(VaultAuth::Kubernetes {
        mount,
        role: role?.value,
        token_file,
    })
}

fn aws(reader: Reader<'_>) -> Option<VaultAuth> {
    if !cfg!(feature = "aws") {
        let message = "this pgswivel was built without the feature \"aws\"";
        reader.loading.problem(reader.origin(), message);
    }
    let role = reader.required_text("role");
    let text = |key| reader.text(key).map(|text| text.value);
    let (region, server_id) = (text("region"), text("server_id"));
    let mount = text_or_default(&reader, "mount");
    reader.finish();
    Some(VaultAuth::Aws {
        mount,
        role: role?.value,
        region,
        server_id,
    })
}

fn text_or_default(reader: &Reader<'_>, key: &'static str) -> String {
    match reader.text(key) {
        Some(text) => text.value,
        None => reader.text_default(key).to_owned(),
    }
}

/// Vault's own variables, in the order in which its own client would prefer them.
fn auth_in_environment(reader: &Reader<'_>) -> Option<VaultAuth> {
    let loading = reader.loading;
    if let Some(token) = password_variable(loading, "VAULT_TOKEN") {
        return Some(VaultAuth::Token(token));
    }
    if let Some(role_id) = loading.variable("VAULT_ROLE_ID") {
        let Some(secret_id) = password_variable(loading, "VAULT_SECRET_ID") else {
            let message = "VAULT_SECRET_ID must be set with it";
            loading.problem(&role_id.origin, message);
            return None;
        };
        return Some(VaultAuth::AppRole {
            mount: APPROLE.text_default("mount").to_owned(),
            role_id: role_id.value,
            secret_id: VaultSecretId::Literal(secret_id),
        });
    }
    if let Some(role) = loading.variable("VAULT_K8S_ROLE") {
        return Some(VaultAuth::Kubernetes {
            mount: KUBERNETES.text_default("mount").to_owned(),
            role: role.value,
            token_file: KUBERNETES.text_default("token_file").into(),
        });
    }
    let message = "must be set, or VAULT_TOKEN, or VAULT_ROLE_ID and VAULT_SECRET_ID, or VAULT_K8S_ROLE";
    reader.problem("auth", message);
    None
}

fn password_variable(loading: &Loading<'_>, name: &str) -> Option<Password> {
    let value = loading.raw_variable(name).map(OsString::into_vec)?;
    (!value.is_empty()).then(|| Password::new(value))
}
