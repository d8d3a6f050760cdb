//! One session of the crowd, and its books.

use std::future::poll_fn;

use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio_postgres::{AsyncMessage, Client, Config, Error, NoTls, Notification, SimpleQueryMessage};

use super::receipts::{Fate, Receipts};
use crate::support::PATIENCE;

/// How far back a session reads what it wrote.
const LOOKS_BACK: i64 = 30;

pub struct Desk {
    pub session: i32,
    pub client: Client,
    pub heard: UnboundedReceiver<Notification>,
    /// What is under way may be lost, and what others say meanwhile. Nothing is set that would be lost with a link
    /// because no survey has seen it yet.
    pub may_fail: bool,
    /// Each message has one statement.
    pub is_single: bool,
    receipts: Receipts,
    last: i64,
}

/// Why a step came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The session goes on.
    #[error("{code} {message}")]
    Failed { code: String, message: String },
    /// The session is over.
    #[error("the session is lost: {0}")]
    Lost(String),
    /// An answer that is not the right one.
    #[error("wrong: {0}")]
    Wrong(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl From<&Error> for Trouble {
    fn from(error: &Error) -> Self {
        match error.as_db_error() {
            Some(said) if said.severity() == "ERROR" => Self::Failed {
                code: said.code().code().to_owned(),
                message: said.message().to_owned(),
            },
            Some(said) => Self::Lost(format!(
                "{} {}: {}",
                said.severity(),
                said.code().code(),
                said.message()
            )),
            None => Self::Lost(format!("{error:?}")),
        }
    }
}

impl Trouble {
    /// What became of an autocommitted write, or of a COMMIT, that ended like this.
    fn fate(&self) -> Fate {
        match self {
            Self::Failed { code, .. } if code != "08007" => Fate::RolledBack,
            _ => Fate::Unknown,
        }
    }
}

/// Whether an answer is the right one.
pub fn check<T: PartialEq + std::fmt::Debug>(what: &str, got: &T, expected: &T) -> Result<(), Trouble> {
    if got == expected {
        return Ok(());
    }
    Err(Trouble::Wrong(format!(
        "{what}: got {got:?}, expected {expected:?}"
    )))
}

impl Desk {
    /// Settings of its own, some from its beginning and some from later.
    pub async fn sit(mut config: Config, session: i32, receipts: Receipts) -> Result<Self, Trouble> {
        config.application_name(format!("crowd {session}"));
        config.options(format!("-c work_mem={}kB", 2000 + session));
        let (client, mut connection) = config.connect(NoTls).await?;
        let (hears, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(notification) = message {
                    // Most kinds of sessions listen to nothing.
                    let _ = hears.send(notification);
                }
            }
        });
        let settings = format!(
            "SET crowd.member = 'member {session}'; SET lock_timeout = '{}s'; \
             SELECT set_config('temp_buffers', '{}MB', false)",
            20 + session,
            1 + session
        );
        client.batch_execute(&settings).await?;
        Ok(Self {
            session,
            client,
            heard,
            may_fail: false,
            is_single: false,
            receipts,
            last: 0,
        })
    }

    /// The number of its next write.
    pub fn number(&mut self) -> i64 {
        self.last += 1;
        self.last
    }

    /// Notes what came of an autocommitted write, or of a COMMIT.
    pub fn told<T>(&self, numbers: &[i64], outcome: Result<T, Error>) -> Result<T, Trouble> {
        let outcome = outcome.map_err(Trouble::from);
        let fate = (outcome.as_ref()).map_or_else(Trouble::fate, |_| Fate::Acknowledged);
        self.note(numbers, fate);
        outcome
    }

    /// Notes what came of a transaction that did not get as far as its COMMIT.
    pub fn undone(&self, numbers: &[i64]) {
        self.note(numbers, Fate::RolledBack);
    }

    fn note(&self, numbers: &[i64], fate: Fate) {
        for number in numbers {
            self.receipts.note(self.session, *number, fate);
        }
    }

    /// The first column of every row that the statements return.
    pub async fn simple(&self, sql: &str) -> Result<Vec<String>, Error> {
        let messages = self.client.simple_query(sql).await?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// It holds what it set, and its last writes are there.
    pub async fn is_itself(&self) -> Result<(), Trouble> {
        let session = self.session;
        let facts = self
            .simple(
                "SELECT concat_ws(' ', current_setting('crowd.member'), current_setting('work_mem'), \
                 current_setting('lock_timeout'), current_setting('temp_buffers'), current_user)",
            )
            .await?;
        let own = format!(
            "member {session} {}kB {}s {}MB orders_owner",
            2000 + session,
            20 + session,
            1 + session
        );
        check("what the session holds", &facts, &vec![own])?;
        let after = self.last - LOOKS_BACK;
        let sql = format!(
            "SELECT number FROM writes WHERE session = {session} AND number > {after} ORDER BY number"
        );
        let there: Vec<i64> = (self.simple(&sql).await?.iter())
            .map(|number| number.parse().unwrap())
            .collect();
        let told = self.receipts.of(session, after);
        let expected: Vec<i64> = (told.iter())
            .filter(|(number, fate)| match fate {
                Fate::Acknowledged => true,
                Fate::RolledBack => false,
                Fate::Unknown => there.contains(number),
            })
            .map(|(number, _)| *number)
            .collect();
        check("what the session wrote", &there, &expected)
    }

    /// The next notification.
    pub async fn hear(&mut self) -> Result<Notification, Trouble> {
        let heard = tokio::time::timeout(PATIENCE, self.heard.recv()).await;
        match heard {
            Ok(Some(notification)) => Ok(notification),
            Ok(None) => Err(Trouble::Lost("no more notifications".to_owned())),
            Err(_) => Err(Trouble::Wrong("a notification does not come".to_owned())),
        }
    }
}
