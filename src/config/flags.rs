//! Flags and environment variables, laid over what the file says.

use std::path::PathBuf;

use super::drop_in;
use super::keys::{ADMIN_FLAG, CONFIG_FLAG, Flag, LISTEN_FLAG, ROLE_FLAG, SECRET_FLAG, UPSTREAM_FLAG};
use super::loading::Loading;
use super::suggest::did_you_mean;
use super::written::{At, Origin, Section, Value};
use super::{secret_url, upstream_url};

/// The name of the upstream and of the secret that flags describe.
pub(super) const DEFAULT_NAME: &str = "default";
const DEFAULT_ROLE: &str = "app";
const PASSWORD: &str = "PGSWIVEL_PASSWORD";
const PASSWORD_FILE: &str = "PGSWIVEL_PASSWORD_FILE";

/// The command line as typed. No `Debug`: a URL may hold a password that will be refused.
#[derive(Clone, Default)]
pub struct Flags {
    pub config: Option<PathBuf>,
    pub listen: Vec<String>,
    pub upstream: Option<String>,
    pub secret: Option<String>,
    pub role: Option<String>,
    pub admin: Option<String>,
}

/// The file to read, by its flag or variable.
pub(super) fn file(flags: &Flags, loading: &Loading<'_>) -> Option<At<PathBuf>> {
    if let Some(path) = &flags.config {
        return Some(At::new(path.clone(), &Origin::named(CONFIG_FLAG.flag)));
    }
    let variable = loading.variable(CONFIG_FLAG.variable)?;
    Some(At::new(variable.value.into(), &variable.origin))
}

pub(super) fn lay_over(root: &mut Section, flags: &Flags, loading: &Loading<'_>) {
    if let Some(addresses) = listen(flags, loading) {
        root.put_at("listen.address", Value::List(addresses.value), &addresses.origin);
    }
    lay_admin_over(root, flags, loading);
    let upstream = given(flags.upstream.as_ref(), &UPSTREAM_FLAG, loading);
    let secret = given(flags.secret.as_ref(), &SECRET_FLAG, loading);
    let described = [&upstream, &secret]
        .into_iter()
        .find_map(|given| given.as_ref().map(|given| given.origin.clone()));
    let role = flag_role(root, flags, described.as_ref(), loading);
    if let Some(role) = &role {
        lay_role(root, role, upstream.as_ref(), secret.as_ref());
    }
    if let Some(url) = upstream {
        lay_section(root, "upstream", upstream_url::read(&url, loading), &url.origin);
    } else if root.get("upstream").is_none()
        && let Some(section) = drop_in::upstream(loading)
    {
        let origin = section.origin.clone();
        lay_section(root, "upstream", Some(section), &origin);
    }
    if let Some(url) = secret {
        lay_section(root, "secret", secret_url::read(&url, loading), &url.origin);
    } else if root.get("secret").is_none()
        && let Some(section) = drop_in::secret(loading)
    {
        let origin = section.origin.clone();
        lay_section(root, "secret", Some(section), &origin);
    }
    lay_password(root, role.as_ref(), loading);
}

pub(super) fn lay_admin_over(root: &mut Section, flags: &Flags, loading: &Loading<'_>) {
    if let Some(address) = given(flags.admin.as_ref(), &ADMIN_FLAG, loading) {
        root.put_at("admin.address", Value::Text(address.value), &address.origin);
    }
}

pub(super) fn says_admin(flags: &Flags, loading: &Loading<'_>) -> bool {
    given(flags.admin.as_ref(), &ADMIN_FLAG, loading).is_some()
}

fn given(flag: Option<&String>, names: &Flag, loading: &Loading<'_>) -> Option<At<String>> {
    match flag {
        Some(value) => Some(At::new(value.clone(), &Origin::named(names.flag))),
        None => loading.variable(names.variable),
    }
}

fn listen(flags: &Flags, loading: &Loading<'_>) -> Option<At<Vec<At<Value>>>> {
    let (typed, origin) = if flags.listen.is_empty() {
        let variable = loading.variable(LISTEN_FLAG.variable)?;
        (vec![variable.value], variable.origin)
    } else {
        (flags.listen.clone(), Origin::named(LISTEN_FLAG.flag))
    };
    let addresses = typed
        .iter()
        .flat_map(|text| text.split(','))
        .map(|address| At::new(Value::Text(address.trim().to_owned()), &origin))
        .collect();
    Some(At::new(addresses, &origin))
}

/// The one role that flags describe: the named one, else the file's only one, else `app`. None when
/// the file has several and nobody said which.
fn flag_role(
    root: &Section,
    flags: &Flags,
    described: Option<&Origin>,
    loading: &Loading<'_>,
) -> Option<At<String>> {
    let in_file: Vec<&str> = root
        .section("role")
        .map(|roles| roles.entries().map(|(name, _)| name).collect())
        .unwrap_or_default();
    if let Some(named) = given(flags.role.as_ref(), &ROLE_FLAG, loading) {
        let is_new = !in_file.is_empty() && !in_file.contains(&named.value.as_str());
        if is_new && described.is_none() {
            let hint = did_you_mean(&named.value, in_file);
            let message = format!("no role named {:?} in the file{hint}", named.value);
            loading.problem(&named.origin, message);
            return None;
        }
        return Some(named);
    }
    match in_file.as_slice() {
        [] => Some(At::new(
            DEFAULT_ROLE.to_owned(),
            &Origin::root().child("role").child(DEFAULT_ROLE),
        )),
        [only] => Some(At::new(
            (*only).to_owned(),
            &Origin::root().child("role").child(only),
        )),
        _ => {
            if let Some(origin) = described {
                let names = in_file.join(", ");
                let message = format!("the file has several roles ({names}); say which one with --role");
                loading.problem(origin, message);
            }
            None
        }
    }
}

fn lay_role(
    root: &mut Section,
    role: &At<String>,
    upstream: Option<&At<String>>,
    secret: Option<&At<String>>,
) {
    let Some(roles) = root.section_mut("role", &Origin::root().child("role")) else {
        return;
    };
    let Some(section) = roles.section_mut(&role.value, &role.origin) else {
        return;
    };
    for (key, given) in [("upstream", upstream), ("secret", secret)] {
        if let Some(given) = given {
            section.put(key, Value::Text(DEFAULT_NAME.to_owned()), &given.origin);
        }
    }
}

/// Without a section its problems are reported, and the name still resolves.
fn lay_section(root: &mut Section, key: &str, section: Option<Section>, origin: &Origin) {
    if let Some(named) = root.section_mut(key, &Origin::root().child(key)) {
        let value = section.map_or(Value::Reported, Value::Section);
        named.put(DEFAULT_NAME, value, origin);
    }
}

/// The password from the environment: for the role that flags describe whatever the file says, and
/// for every other role that has none.
fn lay_password(root: &mut Section, flag_role: Option<&At<String>>, loading: &Loading<'_>) {
    let is_set = |name| loading.raw_variable(name).is_some();
    let (key, value, origin) = match (is_set(PASSWORD), is_set(PASSWORD_FILE)) {
        (false, false) => return,
        (true, true) => {
            let message = format!("set either this or {PASSWORD_FILE}, not both");
            loading.problem(&Origin::named(PASSWORD), message);
            return;
        }
        (true, false) => ("env", PASSWORD.to_owned(), Origin::named(PASSWORD)),
        (false, true) => {
            let origin = Origin::named(PASSWORD_FILE);
            match loading.variable(PASSWORD_FILE) {
                Some(path) => ("file", path.value, origin),
                None => return loading.problem(&origin, "is empty"),
            }
        }
    };
    let mut place = Section::new(origin.clone());
    place.put(key, Value::Text(value), &origin);
    let Some(roles) = root.section_mut("role", &Origin::root().child("role")) else {
        return;
    };
    let names: Vec<String> = roles.entries().map(|(name, _)| name.to_owned()).collect();
    for name in names {
        let overrides = flag_role.is_some_and(|role| role.value == name);
        let Some(role) = roles.section_mut(&name, &origin) else {
            continue;
        };
        let is_trusted =
            matches!(role.get("auth").map(|at| &at.value), Some(Value::Text(auth)) if auth == "trust");
        if !is_trusted && (overrides || role.get("password").is_none()) {
            role.put("password", Value::Section(place.clone()), &origin);
        }
    }
}
