use crate::credentials::Password;

use super::super::keys::ROLE;
use super::super::loading::Loading;
use super::super::reader::Reader;
use super::super::source::Source;
use super::super::suggest::did_you_mean;
use super::super::typed::{Auth, Listen, Role, Secret, TlsMode, Upstream};
use super::super::written::{Origin, Section};
use super::listen::{self, AUTH_WORDS, AuthWord};
use super::sensitive::{Sensitive, from_file, sensitive};
use super::{Named, Resolved};

/// What a role may refer to.
pub(super) struct Given<'a> {
    pub(super) upstreams: &'a Named<Upstream>,
    pub(super) secrets: &'a Named<Secret>,
    pub(super) listen: &'a Listen,
    pub(super) default_auth: AuthWord,
}

pub(super) fn role(name: &str, section: &Section, given: &Given<'_>, loading: &Loading<'_>) -> Option<Role> {
    let reader = Reader::new(section, &ROLE, loading);
    let auth = auth(name, &reader, given);
    let upstream = referred(&reader, "upstream", given.upstreams);
    let secret = referred(&reader, "secret", given.secrets);
    let set_role = reader.text("set_role").map(|role| role.value);
    reader.finish();
    let (upstream, upstream_is) = upstream?;
    let (secret, secret_is) = secret?;
    if let (Some(upstream), Some(secret)) = (upstream_is, secret_is) {
        check_token_is_protected(name, upstream, &secret.value, loading);
    }
    Some(Role {
        name: name.into(),
        auth: auth?,
        upstream: upstream.into(),
        secret: secret.into(),
        set_role,
    })
}

fn auth(name: &str, reader: &Reader<'_>, given: &Given<'_>) -> Option<Auth> {
    let word = reader.optional_choice("auth", &AUTH_WORDS);
    let is_written = reader.is_written("password");
    let password = password(reader);
    if is_written {
        if word == Some(AuthWord::Trust) {
            reader.problem("auth", "trust takes no password, and one is set");
        }
        return password.map(Auth::Scram);
    }
    match word.unwrap_or(given.default_auth) {
        AuthWord::Scram if reader.loading.may_lack_password(name) => Some(Auth::Scram(Password::new(""))),
        AuthWord::Scram => {
            no_password(name, reader.loading);
            None
        }
        AuthWord::Trust => {
            if word.is_some()
                && let Some(exposed) = listen::exposed(given.listen)
            {
                let message = "trust is only for loopback and Unix listeners, and others can reach";
                reader.problem("auth", format!("{message} {exposed}"));
            }
            Some(Auth::Trust)
        }
    }
}

pub fn no_password(role: &str, loading: &Loading<'_>) {
    let in_file = Origin::root().child("role").child(role).child("password");
    let message = "no password: set PGSWIVEL_PASSWORD, PGSWIVEL_PASSWORD_FILE or";
    loading.problem(&in_file, format!("{message} {}", in_file.path()));
}

fn password(reader: &Reader<'_>) -> Option<Password> {
    let sensitive = sensitive(reader, "password")?;
    match sensitive.value {
        Sensitive::Literal(password) => Some(password),
        Sensitive::File(path) => from_file(&path, &sensitive.origin, reader.loading),
    }
}

/// The upstream or the secret that a role names, or the only one.
fn referred<'a, T>(
    reader: &Reader<'_>,
    kind: &'static str,
    named: &'a Named<T>,
) -> Option<(&'a str, Option<&'a Resolved<T>>)> {
    if reader.is_written(kind) {
        let name = reader.text(kind)?;
        let found = named.get_key_value(&name.value);
        if found.is_none() {
            let hint = did_you_mean(&name.value, named.keys().map(String::as_str));
            let message = format!("no {kind} named {:?}{hint}", name.value);
            reader.loading.problem(&name.origin, message);
        }
        return found.map(|(name, resolved)| (name.as_str(), resolved.as_ref()));
    }
    // Asked for, so that writing it is not an unknown key.
    reader.value(kind);
    let mut all = named.iter();
    match (all.next(), all.next()) {
        (Some((name, resolved)), None) => Some((name.as_str(), resolved.as_ref())),
        (Some(_), Some(_)) => {
            let names: Vec<&str> = named.keys().map(String::as_str).collect();
            reader.problem(kind, format!("must be set, to one of {}", names.join(", ")));
            None
        }
        (None, _) => {
            let upper = kind.to_uppercase();
            let message = format!("none is given: set --{kind}, PGSWIVEL_{upper} or [{kind}.NAME]");
            reader.loading.problem(&Origin::root().child(kind), message);
            None
        }
    }
}

/// An IAM token is sent as it is, so it must not reach anybody but the database.
fn check_token_is_protected(
    role: &str,
    upstream: &Resolved<Upstream>,
    secret: &Secret,
    loading: &Loading<'_>,
) {
    let tls = &upstream.value.tls;
    let is_verified = tls.pin.is_some() || matches!(tls.mode, TlsMode::VerifyCa | TlsMode::VerifyFull);
    if matches!(secret.source, Source::AwsRdsIam { .. }) && !is_verified {
        let origin = upstream.origin.child("tls");
        let message = format!("must verify the server (mode verify-full): role {role:?} sends it IAM tokens");
        loading.problem(&origin, message);
    }
}
