//! The signal under an adversary: random schedules of rotations, slow stores, live changes, processes that start and
//! stop, and clients that stay, pin, or leave in the middle. Whenever a process says that a user is unused, Postgres
//! itself agrees; and what is unused is said to be so, soon.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet, LocalSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, NoTls};

use crate::support::{Postgres, Swivel, Wire, eventually, temporary_directory};

const SCHEDULES: u64 = 12;
const SCHEDULES_LONG: u64 = 200;
/// On a machine of two cores.
const AT_ONCE: usize = 3;
const STEPS: u64 = 10;
const PROCESSES_MAX: usize = 3;
/// A backend that was there when its user was said to be unused is gone by then.
const AGREED_WITHIN: Duration = Duration::from_secs(1);
/// What is unused is said to be within this.
const SAID_WITHIN: Duration = Duration::from_secs(5);
/// For what the test itself has set going: moves, reads of a slow store, ends of backends.
const SETTLED_WITHIN: Duration = Duration::from_secs(40);

/// A small generator, so that a seed is a schedule.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one_of<'a, T>(&mut self, these: &'a [T]) -> &'a T {
        let at = self.below(these.len() as u64);
        &these[usize::try_from(at).unwrap()]
    }
}

/// One pgswivel, and who watches what it says.
struct Process {
    swivel: Swivel,
    /// What its clients call themselves, and with them its backends.
    name: String,
    written: String,
    guests: Vec<Guest>,
    stop: watch::Sender<bool>,
    watching: JoinHandle<Vec<String>>,
}

/// Whoever holds it is there; a session, or one in the middle of an answer.
type Guest = Box<dyn Any>;

struct Schedule<'a> {
    seed: u64,
    dice: Dice,
    postgres: &'a Postgres,
    admin: Arc<Client>,
    place: TempDir,
    users: [String; 2],
    passwords: [String; 2],
    /// Which of the two the store holds as current.
    current: usize,
    processes: Vec<Process>,
    started: usize,
    log: Vec<String>,
}

impl<'a> Schedule<'a> {
    async fn begin(seed: u64, postgres: &'a Postgres) -> Self {
        let users = [format!("u{seed}_a"), format!("u{seed}_b")];
        let mut schedule = Self {
            seed,
            dice: Dice(seed),
            postgres,
            admin: Arc::new(postgres.admin_of(Postgres::DATABASE).await),
            place: temporary_directory(),
            passwords: ["first".to_owned(), "first".to_owned()],
            users,
            current: 0,
            processes: Vec::new(),
            started: 0,
            log: Vec::new(),
        };
        for user in &schedule.users {
            postgres.create_user(user, "first").await;
        }
        // What is read may be old by the time it is told.
        let (payload, delay) = (schedule.path("payload"), schedule.path("delay"));
        let script = format!(
            "text=$(/bin/cat {})\n/bin/sleep $(/bin/cat {})\necho \"$text\"\n",
            payload.display(),
            delay.display()
        );
        std::fs::write(schedule.path("read"), script).unwrap();
        schedule.is_delayed(0.0);
        schedule.store(None);
        schedule.start().await;
        schedule
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        std::fs::write(self.path("beside"), text).unwrap();
        std::fs::rename(self.path("beside"), self.path(name)).unwrap();
    }

    fn is_delayed(&self, seconds: f64) {
        self.put("delay", &seconds.to_string());
    }

    fn login(&self, user: usize) -> Value {
        json!({ "username": self.users[user], "password": self.passwords[user] })
    }

    fn store(&self, next: Option<Value>) {
        let mut payload = json!({ "current": self.login(self.current) });
        if let Some(next) = next {
            payload["next"] = next;
        }
        self.put("payload", &payload.to_string());
    }

    async fn start(&mut self) {
        self.started += 1;
        let name = format!("p{}_{}", self.seed, self.started);
        let policy = *self.dice.one_of(&["auto", "auto", "move", "cut", "keep"]);
        let links = *self
            .dice
            .one_of(&["warm = 0\nreuse = false", "warm = 1\nreuse = true"]);
        let swivel = Swivel::in_front_of(self.postgres)
            .trusting()
            .store("command", &format!("/bin/sh {}", self.path("read").display()))
            .secret_line("poll = \"1s\"\ngrace = \"1s\"\ntimeout = \"10s\"")
            .secret_line(&format!("sessions = \"{policy}\""))
            .upstream_line(links.split_once('\n').unwrap().0)
            .upstream_line(links.split_once('\n').unwrap().1)
            .top_line("drain = \"2s\"")
            .section("[login]\nrefused_retry = \"1s\"\npatience = \"3s\"\n[limits]\nrefused_logins_per_minute = 1000")
            .start()
            .await;
        let stop = watch::Sender::new(false);
        let watcher = Watcher {
            port: swivel.admin_port(),
            name: name.clone(),
            users: self.users.clone(),
            admin: Arc::clone(&self.admin),
        };
        let watching = tokio::spawn(watcher.watch(stop.subscribe()));
        self.log.push(format!("{name} starts ({policy}, {links:?})"));
        self.processes.push(Process {
            written: swivel.written(),
            swivel,
            name,
            guests: Vec::new(),
            stop,
            watching,
        });
    }

    async fn stop(&mut self, at: usize) -> Vec<String> {
        let mut process = self.processes.swap_remove(at);
        let how = self.dice.below(2);
        self.log.push(format!("{} ends ({how})", process.name));
        process.guests.clear();
        match how {
            0 => process.swivel.kill(),
            _ => {
                process.swivel.signal(Signal::SIGTERM);
                // Its clients leave on this thread, too.
                eventually("it has ended", async || !process.swivel.is_running()).await;
            }
        }
        process.stop.send_replace(true);
        process.watching.await.unwrap()
    }

    async fn set_password(&mut self, user: usize) {
        self.passwords[user] = format!("word {}", self.dice.next());
        let sql = format!(
            "ALTER ROLE {} LOGIN PASSWORD '{}'",
            self.users[user], self.passwords[user]
        );
        self.admin.batch_execute(&sql).await.unwrap();
    }

    async fn pause(&mut self, most_ms: u64) {
        let ms = self.dice.below(most_ms);
        sleep(Duration::from_millis(ms)).await;
    }

    async fn rotate(&mut self) {
        let other = 1 - self.current;
        let style = self.dice.below(5);
        self.log
            .push(format!("rotation {style} from {}", self.users[self.current]));
        match style {
            // One user: the database first, the store first, announced.
            0 => {
                self.set_password(self.current).await;
                self.pause(1500).await;
                self.store(None);
            }
            1 => {
                let before = self.passwords[self.current].clone();
                let next = format!("word {}", self.dice.next());
                self.passwords[self.current].clone_from(&next);
                self.store(None);
                self.pause(1500).await;
                let sql = format!("ALTER ROLE {} PASSWORD '{next}'", self.users[self.current]);
                assert_ne!(before, next);
                self.admin.batch_execute(&sql).await.unwrap();
            }
            2 => {
                let before = self.login(self.current);
                let user = self.current;
                self.passwords[user] = format!("word {}", self.dice.next());
                let announced = json!({ "current": before, "next": self.login(user) });
                self.put("payload", &announced.to_string());
                self.pause(1500).await;
                let sql = format!(
                    "ALTER ROLE {} PASSWORD '{}'",
                    self.users[user], self.passwords[user]
                );
                self.admin.batch_execute(&sql).await.unwrap();
                self.pause(500).await;
                self.store(None);
            }
            // Another user, and in an emergency the end of the old one.
            3 => {
                self.set_password(other).await;
                self.current = other;
                self.store(None);
            }
            _ => {
                self.set_password(other).await;
                let old = self.users[self.current].clone();
                self.current = other;
                self.store(None);
                self.pause(800).await;
                let sql = format!(
                    "ALTER ROLE {old} NOLOGIN; \
                     SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{old}'"
                );
                self.admin.batch_execute(&sql).await.unwrap();
            }
        }
    }

    /// Who is turned away in the middle of a rotation is not what this is about.
    async fn come(&mut self) {
        if self.processes.is_empty() {
            return;
        }
        let at = usize::try_from(self.dice.below(self.processes.len() as u64)).unwrap();
        let kind = self.dice.below(4);
        let process = &self.processes[at];
        let arrival = match kind {
            0 | 1 => session(process, kind == 1).await,
            2 => {
                busy(
                    process,
                    "SELECT repeat('x', 200000), pg_sleep(2) FROM generate_series(1, 50)",
                )
                .await
            }
            _ => busy(process, "SELECT pg_sleep(1)").await,
        };
        self.log
            .push(format!("{kind} comes to {}: {}", process.name, arrival.is_some()));
        self.processes[at].guests.extend(arrival);
    }

    fn leave(&mut self) {
        let mut crowd: Vec<&mut Process> = (self.processes.iter_mut())
            .filter(|process| !process.guests.is_empty())
            .collect();
        if crowd.is_empty() {
            return;
        }
        let at = usize::try_from(self.dice.below(crowd.len() as u64)).unwrap();
        let guests = &mut crowd[at].guests;
        let gone = usize::try_from(self.dice.below(guests.len() as u64)).unwrap();
        drop(guests.swap_remove(gone));
    }

    /// A live change of the configuration: its secret has another name, its role another.
    async fn change(&mut self) {
        if self.processes.is_empty() {
            return;
        }
        let at = usize::try_from(self.dice.below(self.processes.len() as u64)).unwrap();
        let how = self.dice.below(3);
        let process = &mut self.processes[at];
        self.log.push(format!("{} is changed ({how})", process.name));
        let written = &process.written;
        let text = match how {
            0 => (written.replace("[secret.orders]", "[secret.renamed]"))
                .replace("secret = \"orders\"", "secret = \"renamed\""),
            1 => written.replace("[role.app]", "[role.somebody]"),
            _ => written.clone(),
        };
        if process.swivel.written() != text {
            process.swivel.reconfigure(&text).await;
        }
    }

    async fn step(&mut self) -> Vec<String> {
        let what = self.dice.below(12);
        match what {
            0..=2 => self.rotate().await,
            3..=6 => self.come().await,
            7 => self.leave(),
            8 => {
                let seconds = *self.dice.one_of(&[0.0, 0.0, 0.3, 1.0, 2.5]);
                self.log.push(format!("the store takes {seconds} s"));
                self.is_delayed(seconds);
            }
            9 => self.change().await,
            10 if self.processes.len() < PROCESSES_MAX => self.start().await,
            11 if self.processes.len() > 1 => {
                let at = self.dice.below(self.processes.len() as u64);
                return self.stop(usize::try_from(at).unwrap()).await;
            }
            _ => {}
        }
        self.pause(400).await;
        Vec::new()
    }

    /// Everything comes to an end, and the last user that was replaced is said to be unused.
    async fn settle(&mut self) -> Vec<String> {
        self.is_delayed(0.0);
        let old = self.users[self.current].clone();
        self.current = 1 - self.current;
        self.set_password(self.current).await;
        for process in &mut self.processes {
            if process.swivel.written() != process.written {
                process.swivel.reconfigure(&process.written).await;
            }
        }
        self.store(None);
        let changed = SystemTime::now();
        self.processes
            .iter_mut()
            .for_each(|process| process.guests.clear());
        let mut wrong = Vec::new();
        for process in &self.processes {
            if let Err(why) = is_said(process, &old, changed, &self.admin).await {
                wrong.push(format!("{}: {why}", process.name));
            }
        }
        wrong
    }

    async fn run(mut self) -> Result<(), String> {
        let mut wrong = Vec::new();
        for _ in 0..STEPS {
            wrong.extend(self.step().await);
        }
        wrong.extend(self.settle().await);
        while !self.processes.is_empty() {
            wrong.extend(self.stop(0).await);
        }
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "seed {}:\n  {}\nafter\n  {}",
                self.seed,
                wrong.join("\n  "),
                self.log.join("\n  ")
            )),
        }
    }
}

async fn session(process: &Process, pins: bool) -> Option<Guest> {
    let mut config = process.swivel.config();
    config.application_name(&process.name);
    let connected = timeout(Duration::from_secs(5), config.connect(NoTls))
        .await
        .ok()?;
    let (client, connection) = connected.ok()?;
    tokio::spawn(connection);
    if pins {
        client
            .batch_execute("CREATE TEMP TABLE pinned (n int)")
            .await
            .ok()?;
    }
    Some(Box::new(client))
}

async fn busy(process: &Process, sql: &str) -> Option<Guest> {
    let mut wire = Wire::connect(&process.swivel.address()).await;
    let parameters = [
        ("user", Swivel::USER),
        ("database", Postgres::DATABASE),
        ("application_name", &*process.name),
    ];
    wire.startup(3 << 16, &parameters).await;
    let ready = async {
        while let Some(message) = wire.next().await {
            match message.tag {
                b'Z' => return true,
                b'E' => return false,
                _ => {}
            }
        }
        false
    };
    if !timeout(Duration::from_secs(5), ready).await.ok()? {
        return None;
    }
    wire.query(sql).await;
    Some(Box::new(wire))
}

/// Within a few seconds after nothing needs the user any more, as Postgres and the store have it.
async fn is_said(process: &Process, user: &str, changed: SystemTime, admin: &Client) -> Result<(), String> {
    let began = Instant::now();
    let mut unused_since = None;
    loop {
        let status = ask(process.swivel.admin_port(), "/status")
            .await
            .unwrap_or_default();
        let is_said = (status["users"].as_array().into_iter().flatten())
            .any(|known| known["user"] == user && known["unused"] == true);
        let is_known = (status["users"].as_array().into_iter().flatten()).any(|known| known["user"] == user);
        let secret = &status["secrets"][0];
        let since = changed.elapsed().unwrap_or_default().as_secs_f64();
        let was_read = secret["reads"]["as_of_seconds_ago"]
            .as_f64()
            .is_some_and(|ago| ago < since);
        if was_read && (is_said || !is_known) {
            return Ok(());
        }
        let leads = (secret["credentials"].as_array().into_iter().flatten())
            .any(|known| known["standing"] == "leading" && known["user"] != user);
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND application_name = $2";
        let backends: i64 = admin
            .query_one(sql, &[&user, &process.name])
            .await
            .unwrap()
            .get(0);
        match was_read && leads && backends == 0 {
            true => {
                let since = *unused_since.get_or_insert_with(Instant::now);
                if since.elapsed() > SAID_WITHIN {
                    return Err(format!(
                        "{user} is unused for {SAID_WITHIN:?}, and that is not said: {status}"
                    ));
                }
            }
            false => unused_since = None,
        }
        if began.elapsed() > SETTLED_WITHIN {
            return Err(format!("{user} stays in use ({backends} backends): {status}"));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// None: nobody answers any more.
async fn ask(port: u16, path: &str) -> Option<Value> {
    let asked = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    };
    timeout(Duration::from_secs(5), asked).await.ok()?
}

/// Asks one process all the time, and holds what it says against Postgres.
struct Watcher {
    port: u16,
    name: String,
    users: [String; 2],
    admin: Arc<Client>,
}

impl Watcher {
    async fn watch(self, stop: watch::Receiver<bool>) -> Vec<String> {
        let mut wrong = Vec::new();
        while !*stop.borrow() {
            let asked = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .as_secs_f64();
            if let Some(status) = ask(self.port, "/status").await {
                for user in self.said_unused(&status) {
                    if let Some(why) = self.contradicted(&user, asked).await {
                        wrong.push(format!(
                            "{}: {why}, and was said to be unused: {status}",
                            self.name
                        ));
                    }
                }
            }
            sleep(Duration::from_millis(40)).await;
        }
        wrong
    }

    /// By whatever words.
    fn said_unused(&self, status: &Value) -> Vec<String> {
        let of_users = (status["users"].as_array().into_iter().flatten())
            .filter(|user| user["unused"] == true)
            .map(|user| &user["user"]);
        let of_secrets = (status["secrets"].as_array().into_iter().flatten())
            .filter(|secret| secret["safe_to_revoke"] == true)
            .flat_map(|secret| secret["replaced_users"].as_array().into_iter().flatten());
        let of_credentials = (status["secrets"].as_array().into_iter().flatten())
            .flat_map(|secret| secret["credentials"].as_array().into_iter().flatten())
            .filter(|known| known["safe_to_revoke"] == true)
            .map(|known| &known["user"]);
        let mut said: Vec<String> = (of_users.chain(of_secrets).chain(of_credentials))
            .filter_map(|user| user.as_str().map(str::to_owned))
            .filter(|user| self.users.contains(user))
            .collect();
        said.sort();
        said.dedup();
        said
    }

    /// What was there before it was asked is there no more: what came since may come from a later read of the store.
    async fn contradicted(&self, user: &str, asked: f64) -> Option<String> {
        let began = Instant::now();
        loop {
            let sql = "SELECT pid, state, left(query, 40), backend_start::text FROM pg_stat_activity \
                       WHERE usename = $1 AND application_name = $2 AND backend_start < to_timestamp($3)";
            let rows = self.admin.query(sql, &[&user, &self.name, &asked]).await.ok()?;
            let first = rows.first()?;
            if began.elapsed() > AGREED_WITHIN {
                let (pid, state): (i32, Option<String>) = (first.get(0), first.get(1));
                let (query, start): (Option<String>, Option<String>) = (first.get(2), first.get(3));
                return Some(format!(
                    "backend {pid} of {user} ({state:?}, {query:?}, since {start:?}) is there"
                ));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

fn seeds() -> Vec<u64> {
    if let Ok(seed) = std::env::var("PGSWIVEL_SEED") {
        return vec![seed.parse().unwrap()];
    }
    let count = match std::env::var_os("PGSWIVEL_LONG") {
        Some(_) => SCHEDULES_LONG,
        None => SCHEDULES,
    };
    let drawn = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() % 1_000_000;
    (0..count).map(|number| drawn * 1000 + number).collect()
}

/// `PGSWIVEL_SEED=…` plays one of them again.
#[tokio::test]
async fn whatever_happens_what_is_said_to_be_unused_is_and_what_is_unused_is_said_to_be() {
    let seeds = seeds();
    println!("seeds {} to {}", seeds[0], seeds[seeds.len() - 1]);
    let start = |version| {
        let postgres = Postgres::version(version).setting("max_connections", "300");
        Arc::new(postgres.start())
    };
    let servers = [start(15), start(18)];
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let (mut schedules, here) = (JoinSet::new(), LocalSet::new());
    for seed in seeds {
        let (postgres, turns) = (
            Arc::clone(&servers[usize::from(seed % 2 == 0)]),
            Arc::clone(&turns),
        );
        let schedule = async move {
            let _turn = turns.acquire_owned().await.unwrap();
            Schedule::begin(seed, &postgres).await.run().await
        };
        schedules.spawn_local_on(schedule, &here);
    }
    let played = here.run_until(schedules.join_all()).await;
    let wrong: Vec<String> = played.iter().filter_map(|played| played.clone().err()).collect();
    println!("{} schedules, {} of them wrong", played.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
