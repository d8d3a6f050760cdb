use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::credentials::Password;

use super::super::keys::SENSITIVE;
use super::super::loading::Loading;
use super::super::reader::Reader;
use super::super::written::{At, Origin, Value};

/// Something secret, or the file that holds it. Nothing here ever quotes what was written: a password
/// may stand where the name of a variable belongs.
pub(in crate::config) enum Sensitive {
    Literal(Password),
    File(PathBuf),
}

/// Text, `{ file = "…" }` or `{ env = "…" }`. None: not written, or reported.
pub(in crate::config) fn sensitive(reader: &Reader<'_>, key: &'static str) -> Option<At<Sensitive>> {
    let written = reader.value(key)?;
    let origin = &written.origin;
    match &written.value {
        Value::Text(text) if text.is_empty() => {
            reader.loading.problem(origin, "is empty");
            None
        }
        Value::Text(text) => {
            let literal = Password::new(text.as_bytes());
            Some(At::new(Sensitive::Literal(literal), origin))
        }
        Value::Section(_) => {
            let place = reader.section(key, &SENSITIVE)?;
            let sensitive = in_place(&place, origin);
            place.finish();
            sensitive
        }
        other => {
            let wanted = "expected text, { file = \"…\" } or { env = \"…\" }";
            let message = format!("{wanted}, found {}", other.kind());
            reader.loading.problem(origin, message);
            None
        }
    }
}

/// What it is, wherever it is kept.
pub(super) fn value(reader: &Reader<'_>, key: &'static str) -> Option<Password> {
    let written = sensitive(reader, key)?;
    match written.value {
        Sensitive::Literal(value) => Some(value),
        Sensitive::File(path) => from_file(&path, &written.origin, reader.loading),
    }
}

fn in_place(place: &Reader<'_>, origin: &Origin) -> Option<At<Sensitive>> {
    let file = place.path("file");
    let env = place.text("env");
    match (file, env) {
        (Some(file), None) => Some(At::new(Sensitive::File(file.value), &file.origin)),
        (None, Some(name)) => {
            let password = from_variable(&name, place.loading)?;
            Some(At::new(Sensitive::Literal(password), &name.origin))
        }
        (Some(_), Some(_)) => {
            place.loading.problem(origin, "set either file or env, not both");
            None
        }
        (None, None) => {
            if !place.is_written("file") && !place.is_written("env") {
                place.loading.problem(origin, "set file or env");
            }
            None
        }
    }
}

fn from_variable(name: &At<String>, loading: &Loading<'_>) -> Option<Password> {
    let value = loading.raw_variable(&name.value).map(OsString::into_vec);
    match value {
        None => loading.problem(&name.origin, "the environment variable it names is not set"),
        Some(value) if value.is_empty() => loading.problem(&name.origin, "is empty"),
        Some(value) => return Some(Password::new(value)),
    }
    None
}

/// The password in a file, without the newline that editors put at its end.
pub(super) fn from_file(path: &Path, origin: &Origin, loading: &Loading<'_>) -> Option<Password> {
    match loading.read(path) {
        Err(error) => {
            loading.problem(origin, format!("can't read {}: {error}", path.display()));
            None
        }
        Ok(mut bytes) => {
            if bytes.last() == Some(&b'\n') {
                bytes.pop();
                if bytes.last() == Some(&b'\r') {
                    bytes.pop();
                }
            }
            if bytes.is_empty() {
                loading.problem(origin, format!("{} is empty", path.display()));
                return None;
            }
            Some(Password::new(bytes))
        }
    }
}
