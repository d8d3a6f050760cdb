//! What happened to credentials, for people and auditors: one line in the log, one in the audit file if there is
//! one, and the last events kept for whoever asks. Nothing secret.

mod sink;
mod timestamp;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};
use tracing::{error, info};

use self::sink::Sink;
pub use self::timestamp::rfc3339;
use crate::credentials::{Credential, Position};
use crate::lock::lock;
use crate::names::{Endpoint, SecretName};

/// Events that are kept.
const KEPT_MAX: usize = 256;

pub struct Journal {
    kept: Mutex<KeptEvents>,
    sink: Option<Sink>,
}

#[derive(Default)]
struct KeptEvents {
    count: u64,
    entries: VecDeque<Arc<Entry>>,
    /// Lines in a row that the sink could not take.
    lost: u64,
}

/// One event in a credential's life.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Counts from 1, without a gap.
    pub number: u64,
    pub at: SystemTime,
    pub event: Event,
    pub secret: SecretName,
    pub version: Arc<str>,
    pub position: Position,
    /// Where it was proven or refused.
    pub endpoint: Option<Endpoint>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Seen,
    Proven,
    Leading,
    Refused,
    Retired,
    /// No link is on it, and its user is needed all the same.
    Unused,
    /// No link is on its user, nor will be.
    SafeToRevoke,
}

impl Event {
    /// As audit lines name it; does not change.
    pub fn label(self) -> &'static str {
        match self {
            Self::Seen => "credential.seen",
            Self::Proven => "credential.proven",
            Self::Leading => "credential.leading",
            Self::Refused => "credential.refused",
            Self::Retired => "credential.retired",
            Self::Unused => "credential.unused",
            Self::SafeToRevoke => "credential.safe_to_revoke",
        }
    }
}

impl Journal {
    /// `audit`: JSON lines are appended to this file as well.
    pub fn open(audit: Option<&Path>) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            kept: Mutex::default(),
            sink: audit.map(Sink::open).transpose()?,
        }))
    }

    /// Writes one audit line.
    pub fn record(
        &self,
        event: Event,
        secret: &SecretName,
        credential: &Credential,
        endpoint: Option<&Endpoint>,
        at: SystemTime,
    ) {
        let (name, version, position) = (event.label(), &credential.version, credential.position);
        match endpoint {
            Some(endpoint) => info!(target: "audit", event = name, %secret, %version, %position, %endpoint),
            None => info!(target: "audit", event = name, %secret, %version, %position),
        }
        let mut kept = self.kept();
        kept.count += 1;
        let entry = Entry {
            number: kept.count,
            at,
            event,
            secret: secret.clone(),
            version: Arc::clone(version),
            position,
            endpoint: endpoint.cloned(),
        };
        if let Some(sink) = &self.sink {
            // Under the lock, so that the file has the order of the events.
            kept.handed_over(sink.write(entry.line()));
        }
        if kept.entries.len() == KEPT_MAX {
            kept.entries.pop_front();
        }
        kept.entries.push_back(Arc::new(entry));
    }

    /// The last events, oldest first.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.kept().entries.iter().cloned().collect()
    }

    /// Waits until the audit file has everything, but no longer than this. Blocks.
    pub fn flush(&self, limit: Duration) {
        if let Some(sink) = &self.sink {
            sink.flush(limit);
        }
    }

    fn kept(&self) -> MutexGuard<'_, KeptEvents> {
        lock(&self.kept)
    }
}

impl KeptEvents {
    fn handed_over(&mut self, taken: bool) {
        match (taken, self.lost) {
            (true, 0) => {}
            (true, lost) => {
                info!(lost, "audit lines reach their file again");
                self.lost = 0;
            }
            (false, lost) => {
                if lost == 0 {
                    error!("the audit file does not keep up; the lines are in the log only");
                }
                self.lost += 1;
            }
        }
    }
}

impl Entry {
    /// As a line of the audit file.
    fn line(&self) -> String {
        let mut fields = Map::new();
        let mut put = |name: &str, value: String| fields.insert(name.to_owned(), Value::String(value));
        put("time", rfc3339(self.at));
        put("event", self.event.label().to_owned());
        put("secret", self.secret.to_string());
        put("version", self.version.to_string());
        put("position", self.position.to_string());
        if let Some(endpoint) = &self.endpoint {
            put("endpoint", endpoint.to_string());
        }
        format!("{}\n", Value::Object(fields))
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::credentials::Password;

    fn credential(version: &str) -> Credential {
        Credential {
            user: "app".into(),
            password: Password::new("hunter2"),
            version: version.into(),
            position: Position::Next,
        }
    }

    fn record(journal: &Journal, version: &str) {
        let at = SystemTime::UNIX_EPOCH;
        journal.record(Event::Seen, &"orders".into(), &credential(version), None, at);
    }

    #[test]
    fn the_last_events_are_kept_and_no_more() {
        let journal = Journal::open(None).unwrap();
        for n in 0..KEPT_MAX + 10 {
            record(&journal, &n.to_string());
        }
        let entries = journal.entries();
        assert_eq!(entries.len(), KEPT_MAX);
        let numbers: Vec<u64> = entries.iter().map(|entry| entry.number).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]));
        assert_eq!(*entries[0].version, *"10");
    }

    #[test]
    fn the_audit_file_is_for_its_owner_and_grows_line_by_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit");
        let journal = Journal::open(Some(&path)).unwrap();
        record(&journal, "1");
        journal.flush(Duration::from_secs(5));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // Whoever rotates the file finds a new one.
        std::fs::rename(&path, directory.path().join("audit.1")).unwrap();
        record(&journal, "2");
        journal.flush(Duration::from_secs(5));
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\"event\":\"credential.seen\",\"position\":\"next\",\"secret\":\"orders\",\
             \"time\":\"1970-01-01T00:00:00.000Z\",\"version\":\"2\"}\n"
        );
    }

    #[test]
    fn a_file_that_can_not_be_written_later_stops_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit");
        let journal = Journal::open(Some(&path)).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        record(&journal, "1");
        record(&journal, "2");
        journal.flush(Duration::from_secs(5));
        std::fs::remove_dir(&path).unwrap();
        record(&journal, "3");
        journal.flush(Duration::from_secs(5));
        assert!(std::fs::read_to_string(&path).unwrap().contains("\"3\""));
        assert_eq!(journal.entries().len(), 3);
    }

    #[test]
    fn a_fifo_holds_nobody_up_whether_it_has_a_reader_or_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let journal = Journal::open(Some(&path)).unwrap();
        record(&journal, "lost");
        journal.flush(Duration::from_secs(5));
        let reader = std::fs::File::options()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        // More than it takes, and nobody reads.
        for n in 0..5000 {
            record(&journal, &n.to_string());
        }
        let mut text = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(reader), &mut text).unwrap();
        assert!(text.contains("\"version\":\"0\""), "{text}");
        assert_eq!(journal.entries().len(), KEPT_MAX);
    }

    #[test]
    fn a_file_that_can_not_be_written_at_all_is_told_at_once() {
        assert!(Journal::open(Some(Path::new("/nowhere/at/all"))).is_err());
    }
}
