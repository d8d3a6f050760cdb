//! Sessions in every state, asked and carried from link to link, on real servers.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use tempfile::TempDir;
use tokio::net::UnixStream;

use crate::postgres::state::ledger::{Ledger, Pin, Setting};
use crate::postgres::talk::exchange::Aside;
use crate::postgres::talk::stream::{Message, MessageStream};
use crate::postgres::talk::survey::{Question, Survey, SurveyError};
use crate::postgres::wire::extended;
use crate::postgres::wire::opening::Startup;
use crate::postgres::wire::read::{error_field, row};

/// Declares a test on every version; 15 and 18 always.
macro_rules! on_servers {
    ($name:ident) => {
        mod $name {
            use super::*;

            #[tokio::test]
            #[ignore = "PG_MATRIX=all"]
            async fn on_14() {
                super::$name(Server::start(14)).await;
            }

            #[tokio::test]
            async fn on_15() {
                super::$name(Server::start(15)).await;
            }

            #[tokio::test]
            #[ignore = "PG_MATRIX=all"]
            async fn on_16() {
                super::$name(Server::start(16)).await;
            }

            #[tokio::test]
            #[ignore = "PG_MATRIX=all"]
            async fn on_17() {
                super::$name(Server::start(17)).await;
            }

            #[tokio::test]
            async fn on_18() {
                super::$name(Server::start(18)).await;
            }
        }
    };
}

#[path = "../../../tests/promises/support/place.rs"]
#[allow(dead_code, unreachable_pub, reason = "written for another bench")]
mod place;
#[path = "../../../tests/promises/support/process.rs"]
#[allow(dead_code, unreachable_pub, reason = "written for another bench")]
mod process;

mod replay;
mod survey;

use place::{Version, hand_over, postgres_home, temporary_directory};
use process::{As, Process, command, run};

const PATIENCE: Duration = Duration::from_secs(20);

/// What a client can ask about its own session.
const EVERYTHING: &str = "SELECT s.name || '=' || s.setting || ' from ' || s.source FROM pg_catalog.pg_settings s \
     UNION ALL SELECT p.name || pg_catalog.md5(p.statement) || p.parameter_types::text || p.from_sql FROM pg_catalog.pg_prepared_statements p \
     UNION ALL SELECT pg_catalog.pg_listening_channels() \
     UNION ALL SELECT c.name FROM pg_catalog.pg_cursors c \
     UNION ALL SELECT pg_catalog.current_setting('role') || session_user || current_user ORDER BY 1";

/// A server that trusts everyone on its socket.
struct Server {
    version: Version,
    directory: TempDir,
    _process: Process,
}

impl Server {
    fn start(version: Version) -> Self {
        let directory = temporary_directory();
        hand_over(directory.path());
        let mut initdb = program(version, "initdb");
        initdb.arg("-D").arg(directory.path().join("data"));
        let trusting = [
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "-A",
            "trust",
            "--no-sync",
        ];
        run(initdb, trusting);
        Self::launch(version, directory)
    }

    /// Replays what another server writes, and takes sessions that read.
    fn standby_of(primary: &Self) -> Self {
        let directory = temporary_directory();
        hand_over(directory.path());
        let mut copy = program(primary.version, "pg_basebackup");
        copy.arg("-D").arg(directory.path().join("data"));
        copy.arg("-h").arg(primary.directory.path());
        run(copy, ["-U", "postgres", "-R", "--no-sync", "--checkpoint=fast"]);
        Self::launch(primary.version, directory)
    }

    fn launch(version: Version, directory: TempDir) -> Self {
        let data = directory.path().join("data");
        let mut postgres = program(version, "postgres");
        postgres.arg("-D").arg(&data).arg("-k").arg(directory.path());
        postgres.args(["-h", "", "-c", "fsync=off", "-c", "max_connections=60"]);
        let process = Process::start(postgres, &directory.path().join("log"));
        let start = Instant::now();
        while !is_ready(&data) {
            assert!(start.elapsed() < PATIENCE, "{}", process.log());
            std::thread::sleep(Duration::from_millis(2));
        }
        Self {
            version,
            directory,
            _process: process,
        }
    }

    async fn login(&self, parameters: &[(&str, &str)]) -> Side {
        let stream = UnixStream::connect(self.directory.path().join(".s.PGSQL.5432"))
            .await
            .unwrap();
        let mut startup = Startup::default();
        startup.set(b"database", b"postgres");
        startup.set(b"user", b"postgres");
        for (name, value) in parameters {
            startup.set(name.as_bytes(), value.as_bytes());
        }
        let mut side = Side {
            talk: MessageStream::new(stream),
            user: startup.get(b"user").unwrap().to_vec(),
            aside: Aside::kept(),
        };
        side.send(&startup.write()).await;
        side.until_ready().await;
        side
    }

    async fn admin(&self, sql: &str) {
        self.login(&[]).await.query(sql).await;
    }
}

fn program(version: Version, name: &str) -> Command {
    let home = postgres_home(version);
    let mut command = command(&home.join("bin").join(name), As::Unprivileged);
    command.env("LD_LIBRARY_PATH", home.join("lib"));
    command
}

fn is_ready(data: &Path) -> bool {
    let status = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    status.lines().nth(7).is_some_and(|line| line.trim() == "ready")
}

/// A session, from where pgswivel sits.
struct Side {
    talk: MessageStream<UnixStream>,
    user: Vec<u8>,
    aside: Aside,
}

impl Side {
    async fn send(&mut self, bytes: &[u8]) {
        self.talk.write(&mut BytesMut::from(bytes)).await.unwrap();
    }

    async fn until_ready(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            let message = self.talk.read(1 << 20).await.unwrap();
            let done = message.tag == b'Z';
            messages.push(message);
            if done {
                return messages;
            }
        }
    }

    /// As a client does it, errors and all.
    async fn try_query(&mut self, sql: &str) -> Vec<Message> {
        let mut out = BytesMut::new();
        out.put_u8(b'Q');
        out.put_u32(sql.len() as u32 + 5);
        out.put_slice(sql.as_bytes());
        out.put_u8(0);
        self.send(&out).await;
        self.until_ready().await
    }

    /// The first column of every row.
    async fn query(&mut self, sql: &str) -> Vec<String> {
        let messages = self.try_query(sql).await;
        if let Some(error) = messages.iter().find(|message| message.tag == b'E') {
            panic!(
                "{sql}: {}",
                String::from_utf8_lossy(error_field(error.body(), b'M').unwrap())
            );
        }
        let rows = messages.iter().filter(|message| message.tag == b'D');
        rows.map(|message| {
            let [column] = row::<1>(message.body()).unwrap();
            column.map_or("NULL".to_owned(), |text| {
                String::from_utf8_lossy(text).into_owned()
            })
        })
        .collect()
    }

    async fn parse(&mut self, name: &str, sql: &str, types: &[u32]) {
        let mut out = BytesMut::new();
        extended::parse(&mut out, name.as_bytes(), sql.as_bytes(), types);
        extended::sync(&mut out);
        self.send(&out).await;
        assert_eq!(tags(&self.until_ready().await), "1Z");
    }

    async fn survey_with(&mut self, custom: &[&str]) -> Result<Ledger, SurveyError> {
        let names = custom.iter().map(|name| name.as_bytes());
        let mut survey = Survey::new(Question::new(&self.user, names, 65_536));
        tokio::time::timeout(PATIENCE, survey.run(&mut self.talk, &mut self.aside))
            .await
            .unwrap()
    }

    /// Whole messages that came for the client: tag and body.
    fn came(&mut self) -> Vec<(u8, Vec<u8>)> {
        split(&mut self.aside.take())
    }

    async fn survey(&mut self) -> Ledger {
        self.survey_with(&["app.tenant", "app.empty", "app.none", "app.größe"])
            .await
            .unwrap()
    }
}

fn split(messages: &mut BytesMut) -> Vec<(u8, Vec<u8>)> {
    let mut came = Vec::new();
    while !messages.is_empty() {
        let length = u32::from_be_bytes(messages[1..5].try_into().unwrap()) as usize;
        let message = messages.split_to(1 + length);
        came.push((message[0], message[5..].to_vec()));
    }
    came
}

fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag)).collect()
}

fn values<'a>(settings: impl IntoIterator<Item = &'a Setting>) -> Vec<String> {
    let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    settings
        .into_iter()
        .map(|setting| format!("{}={}", text(&setting.name), text(&setting.value)))
        .collect()
}

fn pins(ledger: &Ledger) -> Vec<Pin> {
    ledger.pins().collect()
}
