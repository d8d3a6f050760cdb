//! The signal under an adversary: random schedules of rotations, slow stores, live changes, processes that start and
//! stop, and clients that stay, pin, or leave in the middle. Whenever a process says that a user is unused, Postgres
//! itself agrees; and what is unused is said to be so, soon.

mod watching;

use std::any::Any;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use pgswivel::journal::rfc3339;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet, LocalSet};
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, NoTls};

use self::watching::{SAID_WITHIN, Truth, Watched, Watcher, ask};
use crate::support::{Postgres, Swivel, Waited, Wire, eventually, is_long, temporary_directory};

const SCHEDULES: u64 = 10;
const SCHEDULES_LONG: u64 = 200;
/// On a machine of two cores; most of the long ones wait for a slow store.
const AT_ONCE: usize = 3;
const AT_ONCE_LONG: usize = 5;
/// One in so many of the long ones has a store that may take a minute.
const SLOW_EVERY: u64 = 10;
const STEPS: u64 = 10;
/// Nothing is done for so long after a rotation in the middle of the steps: what is unused then has to be said meanwhile.
const CALM: Duration = SAID_WITHIN.saturating_add(Duration::from_secs(3));
const PROCESSES_MAX: usize = 3;
/// For what the test itself has set going: moves, reads of a slow store, ends of backends.
const SETTLED_WITHIN: Duration = Duration::from_secs(40);
const LOOK_EVERY: Duration = Duration::from_millis(50);

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
    /// Of itself and of its database, which tells its backends from all others.
    name: String,
    written: String,
    guests: Vec<Guest>,
    stop: watch::Sender<bool>,
    watching: JoinHandle<Watched>,
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
    truth: Arc<Mutex<Truth>>,
    processes: Vec<Process>,
    started: usize,
    log: Vec<String>,
    /// By those who have stopped watching.
    watched: Watched,
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
            truth: Arc::default(),
            processes: Vec::new(),
            started: 0,
            log: Vec::new(),
            watched: Watched::default(),
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
        schedule.works(true);
        schedule.start().await;
        if schedule.is_slow() {
            schedule.delay();
        }
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

    fn delay(&mut self) {
        let seconds = match self.is_slow() {
            true => *self.dice.one_of(&[0.0, 3.0, 8.0, 20.0, 60.0]),
            false => *self.dice.one_of(&[0.0, 0.0, 0.3, 1.0, 2.5]),
        };
        self.note(&format!("the store takes {seconds} s"));
        self.is_delayed(seconds);
    }

    fn login(&self, user: usize) -> Value {
        json!({ "username": self.users[user], "password": self.passwords[user] })
    }

    /// Every user that it names is wanted by whoever reads it.
    fn store(&self, next: Option<Value>) {
        let mut payload = json!({ "current": self.login(self.current) });
        if let Some(next) = next {
            payload["next"] = next;
        }
        self.store_payload(&payload);
    }

    fn store_payload(&self, payload: &Value) {
        let users =
            ["current", "next"].map(|position| payload[position]["username"].as_str().map(str::to_owned));
        let users = users.into_iter().flatten().collect();
        let put = || self.put("payload", &payload.to_string());
        self.truth.lock().unwrap().holds(users, put);
    }

    /// Whether what is current in the store can log in.
    fn works(&self, works: bool) {
        self.truth.lock().unwrap().works(works);
    }

    /// Its store may take a minute.
    fn is_slow(&self) -> bool {
        is_long() && self.seed.is_multiple_of(SLOW_EVERY)
    }

    fn note(&mut self, what: &str) {
        self.log.push(format!("{} {what}", rfc3339(SystemTime::now())));
    }

    async fn start(&mut self) {
        self.started += 1;
        let name = format!("p{}_{}", self.seed, self.started);
        let policy = *self.dice.one_of(&["auto", "auto", "move", "cut", "keep"]);
        let links = *self
            .dice
            .one_of(&["warm = 0\nreuse = false", "warm = 1\nreuse = true"]);
        // Who reads all the time, or is asked for a read all the time, would hide what is only seen when it reads.
        let poll = *self.dice.one_of(&["1s", "1s", "5m"]);
        let asks_anew = poll == "1s" && self.dice.below(2) == 0;
        let sql = format!("CREATE DATABASE {name}");
        self.admin.batch_execute(&sql).await.unwrap();
        let read_time = if self.is_slow() { 90 } else { 10 };
        let swivel = Swivel::in_front_of(self.postgres)
            .database(Some(&name))
            .trusting()
            .store("command", &format!("/bin/sh {}", self.path("read").display()))
            .secret_line(&format!(
                "poll = \"{poll}\"\ngrace = \"1s\"\ntimeout = \"{read_time}s\""
            ))
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
            database: name.clone(),
            users: self.users.clone(),
            admin: Arc::clone(&self.admin),
            truth: Arc::clone(&self.truth),
            asks_anew,
        };
        let watching = tokio::spawn(watcher.watch(stop.subscribe()));
        self.note(&format!(
            "{name} starts ({policy}, {links:?}, poll = {poll}, asked anew: {asks_anew})"
        ));
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
        self.note(&format!("{} ends ({how})", process.name));
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
        let mut watched = process.watching.await.unwrap();
        let wrong = std::mem::take(&mut watched.wrong);
        self.watched.add(&watched);
        let sql = format!("DROP DATABASE {} WITH (FORCE)", process.name);
        self.admin.batch_execute(&sql).await.unwrap();
        let named = |why: &String| format!("{}: {why}", process.name);
        wrong.iter().map(named).collect()
    }

    async fn set_password(&mut self, user: usize) {
        self.passwords[user] = format!("word {}", self.dice.next());
        let sql = format!(
            "ALTER ROLE {} LOGIN PASSWORD '{}'",
            self.users[user], self.passwords[user]
        );
        self.admin.batch_execute(&sql).await.unwrap();
    }

    /// The distance between two events, by the dice.
    async fn pause(&mut self, most_ms: u64) {
        let ms = self.dice.below(most_ms);
        sleep(Duration::from_millis(ms)).await;
    }

    async fn rotate(&mut self) {
        let other = 1 - self.current;
        let style = self.dice.below(5);
        self.note(&format!("rotation {style} from {}", self.users[self.current]));
        self.works(false);
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
                self.store_payload(&announced);
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
        self.works(true);
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
        let words = format!("{kind} comes to {}: {}", process.name, arrival.is_some());
        self.note(&words);
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
        let words = format!("{} is changed ({how})", self.processes[at].name);
        self.note(&words);
        let process = &mut self.processes[at];
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

    /// Somebody has the stores read.
    async fn read(&mut self) {
        self.note("all are asked to read");
        for process in &self.processes {
            ask(process.swivel.admin_port(), "POST /refresh").await;
        }
    }

    /// Somebody is there, under a configuration that is another one by then, in a rotation to the other user, after which
    /// some leave, and nothing more happens: who says too late that it is over is found out.
    async fn calm(&mut self) {
        self.come().await;
        self.change().await;
        self.set_password(1 - self.current).await;
        self.current = 1 - self.current;
        self.store(None);
        self.read().await;
        self.pause(2000).await;
        for process in &mut self.processes {
            if self.dice.below(3) > 0 {
                process.guests.clear();
            }
        }
        self.note("calm");
        sleep(CALM).await;
    }

    async fn step(&mut self) -> Vec<String> {
        let what = self.dice.below(14);
        match what {
            0..=2 => self.rotate().await,
            3..=6 => self.come().await,
            7 => self.leave(),
            8 => self.delay(),
            9 | 10 => self.change().await,
            11 if self.processes.len() < PROCESSES_MAX => self.start().await,
            12 if self.dice.below(2) == 0 => self.read().await,
            12 if self.processes.len() > 1 => {
                let at = self.dice.below(self.processes.len() as u64);
                return self.stop(usize::try_from(at).unwrap()).await;
            }
            _ => {}
        }
        self.pause(if self.is_slow() { 6000 } else { 400 }).await;
        Vec::new()
    }

    /// Everything comes to an end, and the last user that was replaced is said to be unused.
    async fn settle(&mut self) -> Vec<String> {
        self.note("everything comes to an end");
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
        let changed = rfc3339(SystemTime::now());
        self.read().await;
        self.processes
            .iter_mut()
            .for_each(|process| process.guests.clear());
        // A read of the slow store may just have begun.
        let limit = SETTLED_WITHIN + Duration::from_secs(if self.is_slow() { 60 } else { 0 });
        let mut wrong = Vec::new();
        for process in &self.processes {
            let port = process.swivel.admin_port();
            if let Err(why) = is_said(port, &old, &changed, limit).await {
                wrong.push(format!("{}: {why}", process.name));
            }
        }
        wrong
    }

    async fn run(mut self) -> Result<Watched, String> {
        let mut wrong = Vec::new();
        for number in 0..STEPS {
            if number == STEPS / 2 {
                self.calm().await;
            }
            wrong.extend(self.step().await);
        }
        wrong.extend(self.settle().await);
        while !self.processes.is_empty() {
            wrong.extend(self.stop(0).await);
        }
        match wrong.is_empty() {
            true => Ok(self.watched),
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
    let connected = timeout(Duration::from_secs(5), process.swivel.config().connect(NoTls))
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
    let parameters = [("user", Swivel::USER), ("database", &*process.name)];
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

/// As of a read after the last change.
async fn is_said(port: u16, user: &str, changed: &str, limit: Duration) -> Result<(), String> {
    let mut waited = Waited::looking_every(LOOK_EVERY);
    loop {
        let status = ask(port, "GET /status").await.unwrap_or_default().1;
        let known = (status["users"].as_array().into_iter().flatten()).find(|known| known["user"] == user);
        let is_said = known.is_none_or(|known| known["unused"] == true);
        let some = known.unwrap_or(&status["users"][0]);
        if is_said && some["as_of"].as_str().is_some_and(|as_of| as_of > changed) {
            return Ok(());
        }
        if waited.so_far() > limit {
            return Err(format!("{user} stays in use: {status}"));
        }
        // Nothing tells when a read has come: it is asked again, until a limit that is no failure of the test.
        sleep(LOOK_EVERY).await;
    }
}

fn seeds() -> Vec<u64> {
    if let Ok(seed) = std::env::var("PGSWIVEL_SEED") {
        return vec![seed.parse().unwrap()];
    }
    let count = match std::env::var("PGSWIVEL_SCHEDULES") {
        Ok(count) => count.parse().unwrap(),
        Err(_) if is_long() => SCHEDULES_LONG,
        Err(_) => SCHEDULES,
    };
    let drawn = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() % 1_000_000;
    (0..count).map(|number| drawn * 1000 + number).collect()
}

/// `PGSWIVEL_SEED=…` plays one of them again, and `PGSWIVEL_SCHEDULES=…` so many others.
#[tokio::test]
async fn whatever_happens_what_is_said_to_be_unused_is_and_what_is_unused_is_said_to_be() {
    let seeds = seeds();
    println!("seeds {} to {}", seeds[0], seeds[seeds.len() - 1]);
    let start = |version| {
        let postgres = Postgres::version(version).setting("max_connections", "300");
        Arc::new(postgres.start())
    };
    let count = seeds.len();
    let servers = [start(15), start(18)];
    let turns = Arc::new(Semaphore::new(if is_long() { AT_ONCE_LONG } else { AT_ONCE }));
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
    let (mut watched, mut wrong) = (Watched::default(), Vec::new());
    let playing = async {
        while let Some(played) = schedules.join_next().await {
            match played.unwrap_or_else(|error| Err(error.to_string())) {
                Ok(more) => watched.add(&more),
                Err(why) => wrong.push(why),
            }
        }
    };
    here.run_until(playing).await;
    println!("{} of {count} schedules wrong; {watched:?}", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(
        watched.said > 0 && watched.in_time > 0,
        "nothing was seen: {watched:?}"
    );
}
