//! One worker of the application: it makes one request after the other, and counts what becomes of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_postgres::{Config, Statement};

use super::request_error::{REQUEST_MAX, RequestError};
use super::session::Session;
use super::tally::Tally;
use super::{KINDS, Work};

/// What an application waits for after a failed request.
const RETRY: Duration = Duration::from_millis(100);

/// A NOTIFY that was acknowledged arrives at once, or is lost.
const NOTIFICATION_MAX: Duration = Duration::from_secs(5);

pub(super) struct Worker {
    /// Which of [`KINDS`].
    pub(super) kind: usize,
    pub(super) config: Arc<Config>,
    /// The side that it works for, as its rows say it.
    pub(super) side: &'static str,
    pub(super) tally: Arc<Tally>,
}

/// What a worker keeps from one request to the next.
#[derive(Default)]
pub(super) struct WorkerState {
    session: Option<Session>,
    statement: Option<Statement>,
    listener: Option<Session>,
    requests: i64,
}

impl Worker {
    /// Opens its sessions, before anything is counted.
    pub(super) async fn begin(&self) -> Result<WorkerState, tokio_postgres::Error> {
        let mut kept = WorkerState::default();
        let work = KINDS[self.kind].work;
        if work != Work::Connect {
            kept.session = Some(Session::open(&self.config, &self.tally).await?);
        }
        if work == Work::Notify {
            kept.listener = Some(self.listen().await?);
        }
        Ok(kept)
    }

    pub(super) async fn run(self, mut kept: WorkerState, mut stop: watch::Receiver<bool>) {
        let is_idle = KINDS[self.kind].work == Work::Idle;
        while !*stop.borrow_and_update() {
            let is_due = !is_idle || kept.session.as_ref().is_none_or(Session::is_lost);
            let is_fine = !is_due || self.turn(&mut kept).await;
            let pause = if is_fine { KINDS[self.kind].pause } else { RETRY };
            // The sender going away is an end as well.
            let _ = timeout(pause, stop.changed()).await;
        }
        if is_idle {
            self.turn(&mut kept).await;
        }
    }

    /// One request, from wanting it to having its answer.
    async fn turn(&self, kept: &mut WorkerState) -> bool {
        kept.requests += 1;
        let start = Instant::now();
        let request = timeout(REQUEST_MAX, self.request(kept)).await;
        let result = request.unwrap_or(Err(RequestError::TooLong));
        self.tally.request(self.kind, start.elapsed(), &result);
        if result.is_err() {
            kept.forget_lost(&self.tally);
        }
        result.is_ok()
    }

    async fn request(&self, kept: &mut WorkerState) -> Result<(), RequestError> {
        if kept.forget_lost(&self.tally) {
            return Err(RequestError::SessionLost);
        }
        match KINDS[self.kind].work {
            Work::Simple => self.simple(kept).await,
            Work::Prepared => self.prepared(kept).await,
            Work::Transaction => self.transaction(kept).await,
            Work::Notify => self.notify(kept).await,
            Work::Connect => self.connect().await,
            Work::Idle => self.simple(kept).await,
        }
    }

    async fn simple(&self, kept: &mut WorkerState) -> Result<(), RequestError> {
        let session = self.session(&mut kept.session).await?;
        let rows = session
            .client
            .simple_query("SELECT 6 * 7 UNION ALL SELECT 43 ORDER BY 1")
            .await?;
        let answers = rows.iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        is_right(answers.eq(["42", "43"]))
    }

    async fn prepared(&self, kept: &mut WorkerState) -> Result<(), RequestError> {
        let session = self.session(&mut kept.session).await?;
        let statement = match kept.statement.take() {
            Some(statement) => statement,
            None => session.client.prepare("SELECT $1::bigint * 2, $2::text").await?,
        };
        let (number, text) = (kept.requests, "prepared once");
        let row = session.client.query_one(&statement, &[&number, &text]).await?;
        kept.statement = Some(statement);
        is_right(row.get::<_, i64>(0) == number * 2 && row.get::<_, &str>(1) == text)
    }

    async fn transaction(&self, kept: &mut WorkerState) -> Result<(), RequestError> {
        let session = self.session(&mut kept.session).await?;
        let number = self.tally.next_write();
        let transaction = session.client.transaction().await?;
        let insert = "INSERT INTO payment (side, number) VALUES ($1, $2)";
        transaction.execute(insert, &[&self.side, &number]).await?;
        let update = "INSERT INTO account AS mine VALUES ($1, 1)
                      ON CONFLICT (side) DO UPDATE SET payments = mine.payments + 1";
        transaction.execute(update, &[&self.side]).await?;
        self.tally.write_in_doubt(number);
        transaction.commit().await?;
        self.tally.write_acknowledged(number);
        Ok(())
    }

    async fn notify(&self, kept: &mut WorkerState) -> Result<(), RequestError> {
        let listener = match kept.listener.take() {
            Some(listener) => kept.listener.insert(listener),
            None => kept.listener.insert(self.listen().await?),
        };
        let notifier = self.session(&mut kept.session).await?;
        // What an earlier request gave up on may still arrive.
        let payload = kept.requests.to_string();
        notifier
            .client
            .query("SELECT pg_notify($1, $2)", &[&self.side, &payload])
            .await?;
        let arrives = async {
            while let Some(notification) = listener.notifications.recv().await {
                if notification.payload() == payload {
                    return true;
                }
            }
            false
        };
        match timeout(NOTIFICATION_MAX, arrives).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(RequestError::NotificationLost),
        }
    }

    /// A login a request, as scripts, cron jobs and serverless functions have it, and every new process.
    async fn connect(&self) -> Result<(), RequestError> {
        let session = Session::open(&self.config, &self.tally).await?;
        let row = session.client.query_one("SELECT session_user::text", &[]).await?;
        self.tally.logged_in_as(row.get(0));
        Ok(())
    }

    /// The channel is named after the side.
    async fn listen(&self) -> Result<Session, tokio_postgres::Error> {
        let session = Session::open(&self.config, &self.tally).await?;
        session
            .client
            .batch_execute(&format!("LISTEN \"{}\"", self.side))
            .await?;
        Ok(session)
    }

    async fn session<'a>(&self, kept: &'a mut Option<Session>) -> Result<&'a mut Session, RequestError> {
        Ok(match kept.take() {
            Some(session) => kept.insert(session),
            None => kept.insert(Session::open(&self.config, &self.tally).await?),
        })
    }
}

impl WorkerState {
    /// Lets go of sessions that have ended, and says whether there were any.
    fn forget_lost(&mut self, tally: &Tally) -> bool {
        let mut lost = 0;
        for session in [&mut self.session, &mut self.listener] {
            if session.take_if(|session| session.is_lost()).is_some() {
                tally.session_lost();
                lost += 1;
            }
        }
        if lost > 0 {
            self.statement = None;
        }
        lost > 0
    }
}

fn is_right(answer: bool) -> Result<(), RequestError> {
    if answer {
        Ok(())
    } else {
        Err(RequestError::WrongAnswer)
    }
}
