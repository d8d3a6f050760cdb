//! Who asks one process all the time, and holds what it says against Postgres and against what the store held.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use pgswivel::journal::rfc3339;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;

use crate::support::Waited;

/// A backend that was there when its user was said to be unused is gone by then.
const AGREED_WITHIN: Duration = Duration::from_secs(1);
/// What is unused is said to be within this.
pub const SAID_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(40);
/// How often Postgres is asked whether a user is unused that is not said to be.
const SAMPLE_EVERY: Duration = Duration::from_millis(200);
/// How often a backend that should be gone is looked for.
const AGAIN_EVERY: Duration = Duration::from_millis(50);
/// How often a read of the store is asked for with the answer.
const ASK_ANEW_EVERY: Duration = Duration::from_secs(2);
/// For the store of a schedule that waits for a minute.
const ANEW_TIME: Duration = Duration::from_secs(40);

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    pub wrong: Vec<String>,
    /// How often some user was said to be unused, and Postgres was asked.
    pub said: usize,
    /// How often some user was seen to be unused, and said to be in time.
    pub in_time: usize,
}

impl Watched {
    pub fn add(&mut self, more: &Self) {
        self.wrong.extend_from_slice(&more.wrong);
        self.said += more.said;
        self.in_time += more.in_time;
    }
}

/// What the store held, from when until when, and whether it works.
#[derive(Default)]
pub struct Truth {
    stored: Vec<Stored>,
    /// Since when what is current in the store can log in.
    works_since: Option<String>,
}

/// Times are as they are in answers, to be compared with them.
struct Stored {
    /// It was there by then.
    since: String,
    users: Vec<String>,
}

impl Truth {
    pub fn holds(&mut self, users: Vec<String>, put: impl FnOnce()) {
        put();
        let since = rfc3339(SystemTime::now());
        self.stored.push(Stored { since, users });
    }

    pub fn works(&mut self, works: bool) {
        self.works_since = works.then(|| rfc3339(SystemTime::now()));
    }

    fn has_worked_since(&self, then: &str) -> bool {
        self.works_since.as_ref().is_some_and(|since| **since < *then)
    }

    /// All that it may have held at some moment since then.
    fn since(&self, then: &str) -> impl Iterator<Item = &Stored> {
        let ends = self.stored.iter().skip(1).map(|next| Some(&*next.since));
        let spans = self.stored.iter().zip(ends.chain([None]));
        spans
            .filter(move |(_, end)| end.is_none_or(|end| end >= then))
            .map(|(stored, _)| stored)
    }

    fn wanted_throughout(&self, user: &str, since: &str) -> bool {
        let mut held = self.since(since);
        held.all(|stored| stored.users.iter().any(|wanted| wanted == user))
    }

    fn wanted_ever(&self, user: &str, since: &str) -> bool {
        let mut held = self.since(since);
        held.any(|stored| stored.users.iter().any(|wanted| wanted == user))
    }
}

#[derive(Clone)]
pub struct Watcher {
    pub port: u16,
    /// Of no other process.
    pub database: String,
    pub users: [String; 2],
    pub admin: Arc<Client>,
    pub truth: Arc<Mutex<Truth>>,
    /// Has it read its store again and again.
    pub asks_anew: bool,
}

/// What one user's case looked like when it was last looked at.
#[derive(Default)]
struct Case {
    /// Since nothing needs it, and that is not said.
    unsaid: Option<Waited>,
}

impl Watcher {
    pub async fn watch(self, stop: watch::Receiver<bool>) -> Watched {
        let (mut anew, continuously) = tokio::join!(self.ask_anew(stop.clone()), self.ask_continuously(stop));
        anew.add(&continuously);
        anew
    }

    async fn ask_continuously(&self, stop: watch::Receiver<bool>) -> Watched {
        let (mut watched, mut sampled) = (Watched::default(), None::<Instant>);
        let mut cases: [Case; 2] = Default::default();
        while !*stop.borrow() {
            let asked = SystemTime::now();
            match ask(self.port, "GET /status").await {
                Some((200, status)) => {
                    for user in self.said_unused(&status) {
                        watched.said += 1;
                        let wrong = self.contradicted(&user, asked, &status).await;
                        watched.wrong.extend(wrong);
                    }
                    if sampled.is_none_or(|sampled| sampled.elapsed() > SAMPLE_EVERY) {
                        sampled = Some(Instant::now());
                        self.unsaid(&status, &mut cases, &mut watched).await;
                    }
                }
                _ => cases = Default::default(),
            }
            sleep(LOOK_EVERY).await;
        }
        watched
    }

    /// As `--fresh` does: the answer is as of a read that began after the question.
    async fn ask_anew(&self, mut stop: watch::Receiver<bool>) -> Watched {
        let mut watched = Watched::default();
        if !self.asks_anew {
            return watched;
        }
        let asking = async {
            loop {
                for user in &self.users {
                    let asked = SystemTime::now();
                    let question = format!("POST /unused?user={user}");
                    if let Some((200, answer)) = ask(self.port, &question).await {
                        // None: a configuration that changed meanwhile brought a secret that was not read yet.
                        if answer["as_of"]
                            .as_str()
                            .is_some_and(|as_of| *as_of < *rfc3339(asked))
                        {
                            let wrong = &mut watched.wrong;
                            wrong.push(format!("asked anew at {}: {answer}", rfc3339(asked)));
                        }
                        if answer["unused"] == true {
                            watched.said += 1;
                            let wrong = self.contradicted(user, asked, &answer).await;
                            watched.wrong.extend(wrong);
                        }
                    }
                    sleep(ASK_ANEW_EVERY).await;
                }
            }
        };
        tokio::select! {
            () = asking => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        watched
    }

    /// By whatever words.
    fn said_unused(&self, status: &Value) -> Vec<String> {
        let list = |of: &Value| of.as_array().cloned().unwrap_or_default();
        let secrets = list(&status["secrets"]);
        let of_users = (list(&status["users"]).into_iter())
            .filter(|user| user["unused"] == true)
            .map(|user| user["user"].clone());
        let of_secrets = (secrets.iter())
            .filter(|secret| secret["safe_to_revoke"] == true)
            .flat_map(|secret| list(&secret["replaced_users"]));
        let of_credentials = (secrets.iter())
            .flat_map(|secret| list(&secret["credentials"]))
            .filter(|known| known["safe_to_revoke"] == true)
            .map(|known| known["user"].clone());
        let mut said: Vec<String> = (of_users.chain(of_secrets).chain(of_credentials))
            .filter_map(|user| user.as_str().map(str::to_owned))
            .filter(|user| self.users.contains(user))
            .collect();
        said.sort();
        said.dedup();
        said
    }

    /// What was there before it was asked is there no more: what came since may come from a later read of the store. And
    /// at the time that it names, the store did not want it.
    async fn contradicted(&self, user: &str, asked: SystemTime, said: &Value) -> Option<String> {
        let of_user = (said["users"].as_array().into_iter().flatten()).find(|known| known["user"] == user);
        let as_of = of_user.unwrap_or(said)["as_of"].as_str();
        if as_of.is_none_or(|as_of| self.truth.lock().unwrap().wanted_throughout(user, as_of)) {
            return Some(format!(
                "{user} was said to be unused as of {as_of:?}, and the store has had it since: {said}"
            ));
        }
        let as_of = as_of.unwrap_or_default();
        let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        let mut waited = Waited::looking_every(AGAIN_EVERY);
        loop {
            // While the store has not had it again, and what it had worked, there is no reason for anybody to come, either.
            let nobody_comes = {
                let truth = self.truth.lock().unwrap();
                truth.has_worked_since(as_of) && !truth.wanted_ever(user, as_of)
            };
            let asked = seconds(if nobody_comes { SystemTime::now() } else { asked });
            let sql = "SELECT pid, state, left(query, 40), backend_start::text FROM pg_stat_activity \
                       WHERE usename = $1 AND datname = $2 AND backend_start < to_timestamp($3)";
            let rows = self.admin.query(sql, &[&user, &self.database, &asked]).await;
            let rows = rows.ok()?;
            let first = rows.first()?;
            if waited.so_far() > AGREED_WITHIN {
                let (pid, state): (i32, Option<String>) = (first.get(0), first.get(1));
                let (query, start): (Option<String>, Option<String>) = (first.get(2), first.get(3));
                return Some(format!(
                    "backend {pid} of {user} ({state:?}, {query:?}, since {start:?}) is there, \
                     and was said to be unused: {said}"
                ));
            }
            // It may be on its way out: it is looked at again until it has had its time.
            sleep(AGAIN_EVERY).await;
        }
    }

    /// Users that nothing needs: Postgres has no backend of them, a read of the store that is known here did not have
    /// them, and what it had works.
    async fn unsaid(&self, status: &Value, cases: &mut [Case; 2], watched: &mut Watched) {
        let backends = self.backends().await;
        let said = self.said_unused(status);
        for (user, case) in self.users.iter().zip(cases) {
            let of_user =
                (status["users"].as_array().into_iter().flatten()).find(|known| known["user"] == **user);
            let is_said = said.contains(user) || of_user.is_none();
            let is_needed = {
                let truth = self.truth.lock().unwrap();
                let as_of = of_user.and_then(|known| known["as_of"].as_str());
                backends.contains_key(user)
                    || truth.works_since.is_none()
                    || as_of.is_none_or(|as_of| truth.wanted_ever(user, as_of))
            };
            if is_said || is_needed {
                let was_unused = case.unsaid.take().is_some();
                watched.in_time += usize::from(was_unused && is_said);
                continue;
            }
            let unsaid = case
                .unsaid
                .get_or_insert_with(|| Waited::looking_every(SAMPLE_EVERY));
            let waited = unsaid.so_far();
            if waited > SAID_WITHIN {
                watched.wrong.push(format!(
                    "{user} is unused for {waited:?}, and that is not said: {status}"
                ));
                case.unsaid = None;
            }
        }
    }

    async fn backends(&self) -> BTreeMap<String, i64> {
        let sql = "SELECT usename::text, count(*) FROM pg_stat_activity \
                   WHERE datname = $1 AND usename IS NOT NULL GROUP BY 1";
        let rows = self.admin.query(sql, &[&self.database]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}

/// None: nobody answers any more.
pub async fn ask(port: u16, question: &str) -> Option<(u16, Value)> {
    let asked = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let request = format!("{question} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(body).ok()?))
    };
    timeout(ANEW_TIME, asked).await.ok()?
}
