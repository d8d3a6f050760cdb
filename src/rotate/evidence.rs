//! What was done, when and by whom: one JSON line a step, and a report of the run. Nothing secret.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::outcome::Outcome;
use super::plan::{Goal, Step};
use crate::config::Rotation;
use crate::journal::rfc3339;

pub(super) struct Evidence {
    rotation: Arc<Rotation>,
    by: String,
    begun: SystemTime,
    what: String,
    audit: Option<File>,
    report: Option<PathBuf>,
    rows: Vec<String>,
    said: Vec<String>,
    /// What could not be written.
    lost: Option<String>,
}

impl Evidence {
    /// Both can be written, or nothing is begun.
    pub(super) fn begin(rotation: &Arc<Rotation>, goal: &Goal) -> io::Result<Self> {
        let named = |path: &PathBuf, error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        };
        let audit = match &rotation.audit {
            Some(path) => Some(open(path, true).map_err(|error| named(path, error))?),
            None => None,
        };
        let begun = SystemTime::now();
        let report = match &rotation.report {
            Some(directory) => {
                let time = rfc3339(begun).replace(':', "");
                let path = directory.join(format!("{}-{time}.md", rotation.name));
                open(&path, false).map_err(|error| named(&path, error))?;
                Some(path)
            }
            None => None,
        };
        let what = match goal {
            Goal::Forward => "rotation".to_owned(),
            Goal::Back => "rollback".to_owned(),
            Goal::Emergency { role } => format!("emergency of {role}"),
        };
        Ok(Self {
            rotation: Arc::clone(rotation),
            by: whoever(),
            begun,
            what,
            audit,
            report,
            rows: Vec::new(),
            said: Vec::new(),
            lost: None,
        })
    }

    pub(super) fn step(&mut self, step: &Step, revision: &str, took: Duration, result: Result<&str, &str>) {
        let now = rfc3339(SystemTime::now());
        let seconds = took.as_secs_f64();
        let words = result.unwrap_or_else(|why| why);
        let line = json!({
            "event": "credential.rotate", "kind": "postgres", "rotation": self.rotation.name.as_str(),
            "secret": self.rotation.secret.as_str(), "what": self.what, "step": step.label(), "does": step.to_string(),
            "on": step.on().map(ToString::to_string), "by": self.by, "newId": revision, "time": now, "seconds": seconds,
            "ok": result.is_ok(), "words": words,
        });
        self.line(&line);
        let sign = if result.is_ok() { "done" } else { "failed" };
        let row = format!(
            "| {now} | {seconds:.1} s | {sign} | {} | {} |",
            cell(&step.to_string()),
            cell(words)
        );
        self.rows.push(row);
    }

    /// Somebody who was in the way, or was ended.
    pub(super) fn say(&mut self, words: &str) {
        self.said.push(words.to_owned());
    }

    /// Answers with what could not be written.
    pub(super) fn end(&mut self, outcome: &Outcome) -> Option<String> {
        let words = outcome.to_string();
        let line = json!({
            "event": "credential.rotate.end", "kind": "postgres", "rotation": self.rotation.name.as_str(),
            "secret": self.rotation.secret.as_str(), "what": self.what, "by": self.by,
            "time": rfc3339(SystemTime::now()), "outcome": outcome.label(), "words": words,
        });
        self.line(&line);
        if let Some(path) = self.report.take() {
            let text = self.markdown(&words);
            let written = open(&path, false).and_then(|mut file| file.write_all(text.as_bytes()));
            if let Err(error) = written {
                self.lost = Some(format!("the report {} can't be written: {error}", path.display()));
            }
        }
        self.lost.take()
    }

    fn markdown(&self, outcome: &str) -> String {
        let mut text = format!(
            "# {} of {}\n\nBegun {} by {}. {outcome}\n\n| time | took | | step | |\n|---|---|---|---|---|\n",
            capital(&self.what),
            self.rotation.name,
            rfc3339(self.begun),
            self.by
        );
        for row in &self.rows {
            let _ = writeln!(text, "{row}");
        }
        if !self.said.is_empty() {
            text.push_str("\n## Who was on it\n\n");
        }
        for words in &self.said {
            let _ = writeln!(text, "* {}", words.replace('\n', " "));
        }
        text
    }

    fn line(&mut self, line: &serde_json::Value) {
        let Some(audit) = &mut self.audit else {
            return;
        };
        // In one write, so that a line is whole.
        if let Err(error) = audit.write_all(format!("{line}\n").as_bytes()) {
            self.lost = Some(format!("the audit file can't be written: {error}"));
        }
    }
}

/// For its owner only.
fn open(path: &PathBuf, append: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).mode(0o600);
    match append {
        true => options.append(true),
        false => options.write(true).truncate(true),
    };
    options.open(path)
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

/// Who runs this, and where.
pub(super) fn whoever() -> String {
    let user =
        std::env::var("USER").unwrap_or_else(|_| format!("uid {}", rustix::process::getuid().as_raw()));
    format!("{user}@{}", host())
}

pub(super) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
