//! Configuration: as typed by the user, resolved with all problems at once, typed for the rest.
//!
//! Flags, environment and file lay their values into one tree that remembers where each was written
//! (`written`); one reader types it by the table of keys (`keys`, `reader`); `resolve` refuses what must
//! not go together. Nothing stops at the first problem, and no problem quotes what may be a secret.

mod address;
mod drop_in;
mod duration;
mod flags;
// One row a line: it is a table.
#[rustfmt::skip]
mod keys;
mod loading;
mod problem;
mod reader;
mod resolve;
mod secret_url;
mod source;
mod suggest;
mod typed;
mod upstream_url;
mod url;
mod written;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub use duration::parse as parse_duration;
pub use flags::Flags;
pub use loading::Surroundings;
pub use problem::{Problem, Problems};
pub use source::{Aws, Source, Vault, VaultAuth, VaultSecretId};
pub use typed::*;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::names::RoleName;

use loading::Loading;
use written::{At, Origin, Section};

/// What `--secret` takes: an example for each store, and what it is.
pub fn stores() -> impl Iterator<Item = (&'static str, String)> {
    source::STORES
        .iter()
        .map(|store| (store.example, store.meaning.replace('`', "")))
}

/// What an upstream's URL calls this key of its section.
pub fn url_parameter(key: &str) -> Option<&'static str> {
    keys::url_parameter(key)
}

/// Every flag that describes the configuration, and its environment variable.
#[cfg(test)]
pub(crate) fn flag_names() -> impl Iterator<Item = (&'static str, &'static str)> {
    keys::FLAGS.iter().map(|flag| (flag.flag, flag.variable))
}

/// The whole configuration, or everything that is wrong with it.
pub fn load(flags: &Flags, surroundings: &dyn Surroundings) -> Result<Config, Problems> {
    let loading = Loading::new(surroundings);
    load_with(flags, loading, lay_all_over).map(|(config, _)| config)
}

/// The same for somebody who is not the service: a file's roles whose passwords its environment brings are no problem. Nobody
/// can log in as one of them; their names come with it.
pub fn load_as_bystander(
    flags: &Flags,
    surroundings: &dyn Surroundings,
) -> Result<(Config, Vec<RoleName>), Problems> {
    load_with(flags, Loading::new(surroundings).of_bystander(), lay_all_over)
}

/// The same for what only rotates: no role is made up where the file has none.
pub fn load_for_rotation(flags: &Flags, surroundings: &dyn Surroundings) -> Result<Config, Problems> {
    let lay_over = |root: &mut Section, flags: &Flags, loading: &Loading<'_>| match root.get("role") {
        Some(_) => flags::lay_over(root, flags, loading),
        None => flags::lay_admin_over(root, flags, loading),
    };
    load_with(flags, Loading::new(surroundings), lay_over).map(|(config, _)| config)
}

fn lay_all_over(root: &mut Section, flags: &Flags, loading: &Loading<'_>) {
    flags::lay_over(root, flags, loading);
}

fn load_with(
    flags: &Flags,
    loading: Loading<'_>,
    lay_over: impl Fn(&mut Section, &Flags, &Loading<'_>),
) -> Result<(Config, Vec<RoleName>), Problems> {
    let root = match flags::file(flags, &loading) {
        None => Some(Section::new(Origin::root())),
        Some(path) => read_file(&path, &loading),
    };
    // What a file that can't be read would have said is unknown, and guessing would only mislead.
    let is_file = flags::file(flags, &loading).is_some();
    let config = root.map(|mut root| {
        lay_over(&mut root, flags, &loading);
        resolve::config(&root, &loading)
    });
    let unseen = loading.unseen();
    if let Some(role) = unseen.first().filter(|_| !is_file) {
        resolve::no_password(role.as_str(), &loading);
    }
    let problems = loading.into_problems();
    match config {
        Some(config) if problems.is_empty() => Ok((config, unseen)),
        _ => Err(Problems::from(problems)),
    }
}

/// Where the admin server of this configuration is, whatever else may be wrong with it.
pub fn admin_address(flags: &Flags, surroundings: &dyn Surroundings) -> Result<SocketAddr, Problems> {
    let loading = Loading::new(surroundings);
    let root = match flags::file(flags, &loading) {
        None => Some(Section::new(Origin::root())),
        Some(path) => read_file(&path, &loading),
    };
    let address = root.map(|mut root| {
        flags::lay_admin_over(&mut root, flags, &loading);
        resolve::admin_address(&root, &loading)
    });
    let problems = loading.into_problems();
    match address {
        Some(address) if problems.is_empty() => Ok(address),
        _ => Err(Problems::from(problems)),
    }
}

/// The file that says where the admin server is, unless a flag or a variable does. It need not be there, nor be sound.
pub fn admin_file(flags: &Flags, surroundings: &dyn Surroundings) -> Option<PathBuf> {
    let loading = Loading::new(surroundings);
    match flags::says_admin(flags, &loading) {
        true => None,
        false => flags::file(flags, &loading).map(|file| file.value),
    }
}

fn read_file(path: &At<impl AsRef<Path>>, loading: &Loading<'_>) -> Option<Section> {
    let shown = path.value.as_ref().display();
    let bytes = match loading.read(path.value.as_ref()) {
        Ok(bytes) => bytes,
        Err(error) => {
            loading.problem(&path.origin, format!("can't read {shown}: {error}"));
            return None;
        }
    };
    let Ok(text) = String::from_utf8(bytes) else {
        loading.problem(&path.origin, format!("{shown} is not UTF-8 text"));
        return None;
    };
    match text.parse::<toml::Table>() {
        Ok(table) => Some(Section::from_toml(table, Origin::root())),
        Err(error) => {
            let place = match error.span() {
                Some(span) => position(&text, span.start),
                None => String::new(),
            };
            // Not its Display, which quotes the line: that may be the one with the password.
            let message = error.message().replace('\n', ", ");
            loading.problem(&Origin::named(&shown.to_string()), format!("{place}{message}"));
            None
        }
    }
}

fn position(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("line {line}, column {column}: ")
}
