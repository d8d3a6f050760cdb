//! Thirty-two sessions, and what they go through.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_postgres::Config;

use super::desk::{Desk, Trouble, check};
use super::kinds::{
    Copying, Cursors, Extended, Kind, Listening, Long, Pipelined, Prepared, Resting, Restless, Simple,
};
use super::programs::{Benches, Scripts};
use super::receipts::{Fate, Receipts};
use crate::rotation::Application;
use crate::support::{PATIENCE, Postgres, Swivel, eventually, eventually_within};

/// What whoever arrives meanwhile may have to wait for, on a busy machine.
const ARRIVAL_MAX: Duration = Duration::from_secs(10);
/// What is told of work that was under way when a link was lost.
const LOST_WORK: [&str; 3] = ["57P01", "57P02", "08007"];
/// For something that all of them have to do: a step of one may take a while.
pub const CROWD_PATIENCE: Duration = Duration::from_secs(60);
/// Of what was lost or went wrong, so much is told.
const TOLD_MAX: usize = 12;

/// What is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Nothing goes wrong.
    Calm,
    /// What is under way may be lost, as an error, and that is all.
    Troubled,
    /// The same, and everybody sets something before each step.
    Fresh,
    /// Nothing goes wrong although backends at rest are ended: of what Postgres then says that it has not done, nothing
    /// is more than one statement.
    Unscathed,
}

impl Mood {
    pub fn forgives(self) -> bool {
        matches!(self, Self::Troubled | Self::Fresh)
    }

    /// As the scripts know it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Troubled => "troubled",
            Self::Fresh => "fresh",
            Self::Unscathed => "unscathed",
        }
    }
}

/// What the members of a crowd are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    Work,
    /// Finish what was begun, and wait.
    Hush,
    Leave,
}

pub struct Crowd {
    mood: Mood,
    receipts: Receipts,
    members: JoinSet<()>,
    gate: watch::Sender<Gate>,
    board: Board,
    scripts: Vec<Scripts>,
    benches: Benches,
    arrivals: Application,
}

/// What everybody can see.
#[derive(Clone, Default)]
pub struct Board(Arc<Mutex<Notices>>);

#[derive(Default)]
struct Notices {
    /// By session.
    steps: BTreeMap<i32, u64>,
    hushed: usize,
    /// Work that was lost, with its SQLSTATE.
    failures: Vec<(String, String)>,
    /// What must not be.
    troubles: Vec<String>,
    /// The longest step of each kind.
    longest: BTreeMap<&'static str, Duration>,
}

/// One who works through tokio-postgres.
struct Member {
    config: Config,
    session: i32,
    mood: Mood,
    receipts: Receipts,
    gate: watch::Receiver<Gate>,
    board: Board,
}

/// A setting that changes with each step.
#[derive(Default)]
struct Fresh {
    /// As the session was told, and as it may be.
    told: Option<u64>,
    tried: Option<u64>,
}

impl Fresh {
    async fn is_set(&mut self, desk: &Desk, value: u64) -> Result<(), Trouble> {
        self.is_there(desk).await?;
        self.tried = Some(value);
        match value % 3 {
            0 => {
                desk.client
                    .batch_execute(&format!("SET crowd.fresh = {value}"))
                    .await?;
            }
            1 => drop(
                desk.client
                    .execute(&format!("SET crowd.fresh = '{value}'"), &[])
                    .await?,
            ),
            _ => {
                let sql = format!("SELECT set_config('crowd.fresh', '{value}', false)");
                desk.client.batch_execute(&sql).await?;
            }
        }
        (self.told, self.tried) = (Some(value), None);
        Ok(())
    }

    async fn is_there(&mut self, desk: &Desk) -> Result<(), Trouble> {
        let sql = "SELECT nullif(current_setting('crowd.fresh', true), '')";
        let there = desk.simple(sql).await?;
        let there: Option<u64> = there[0].parse().ok();
        if there != self.told && (self.tried.is_none() || there != self.tried) {
            return check("what it has set a moment before", &there, &self.told);
        }
        (self.told, self.tried) = (there, None);
        Ok(())
    }
}

/// What a crowd went through.
pub struct Account {
    pub acknowledged: usize,
    pub unknown: usize,
    pub rolled_back: usize,
    pub steps: u64,
    /// By SQLSTATE.
    pub failures: BTreeMap<String, usize>,
    pub longest: BTreeMap<&'static str, Duration>,
    pub arrivals: usize,
}

impl Board {
    pub fn worked(&self, session: i32) {
        *self.lock().steps.entry(session).or_default() += 1;
    }

    pub fn hushed(&self, count: usize) {
        self.lock().hushed += count;
    }

    pub fn failed(&self, who: &str, code: &str, message: &str) {
        let what = format!("{who}: {code} {message}");
        self.lock().failures.push((code.to_owned(), what));
    }

    pub fn is_in_trouble(&self, who: &str, what: impl fmt::Display) {
        self.lock().troubles.push(format!("{who}: {what}"));
    }

    fn took(&self, kind: &'static str, time: Duration) {
        let mut notices = self.lock();
        let longest = notices.longest.entry(kind).or_default();
        *longest = time.max(*longest);
    }

    fn lock(&self) -> MutexGuard<'_, Notices> {
        self.0.lock().unwrap()
    }
}

impl Crowd {
    pub const SIZE: usize = 32;

    /// Everybody has a session and has done something.
    pub async fn gather(swivel: &Swivel, mood: Mood) -> Self {
        let gate = watch::Sender::new(Gate::Work);
        let (receipts, board) = (Receipts::default(), Board::default());
        let arrivals = Application::asking(swivel, "SELECT current_user::text").await;
        let mut crowd = Self {
            mood,
            scripts: Vec::new(),
            benches: Benches::new(swivel, receipts.clone(), board.clone(), mood),
            members: JoinSet::new(),
            receipts,
            gate,
            board,
            arrivals,
        };
        if mood == Mood::Unscathed {
            crowd.join::<Simple>(swivel, 1..=7);
            crowd.join::<Extended>(swivel, 8..=14);
            crowd.join::<Prepared>(swivel, 15..=21);
            crowd.join::<Resting>(swivel, 22..=24);
            crowd.join::<Restless>(swivel, 25..=25);
        } else {
            crowd.join_all_kinds(swivel);
        }
        for (driver, sessions) in [("asyncpg", [26, 27]), ("psycopg", [28, 29])] {
            let scripts = Scripts::start(driver, swivel, &sessions, &crowd.receipts, &crowd.board, mood);
            crowd.scripts.push(scripts);
        }
        for (mode, session) in [("simple", 30), ("extended", 31), ("prepared", 32)] {
            crowd.benches.start(mode, session, crowd.gate.subscribe());
        }
        crowd.is_complete().await;
        crowd
    }

    /// Everybody has a session, and has done something.
    async fn is_complete(&self) {
        let began = Instant::now();
        loop {
            self.is_well();
            let here = self.board.lock().steps.len();
            if here == Self::SIZE {
                return;
            }
            let missing = Self::SIZE - here;
            assert!(began.elapsed() < CROWD_PATIENCE, "{missing} have no session yet");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn join_all_kinds(&mut self, swivel: &Swivel) {
        self.join::<Simple>(swivel, 1..=3);
        self.join::<Extended>(swivel, 4..=6);
        self.join::<Prepared>(swivel, 7..=9);
        self.join::<Pipelined>(swivel, 10..=11);
        self.join::<Copying>(swivel, 12..=14);
        self.join::<Cursors>(swivel, 15..=16);
        self.join::<Listening>(swivel, 17..=19);
        self.join::<Long>(swivel, 20..=21);
        self.join::<Resting>(swivel, 22..=24);
        self.join::<Restless>(swivel, 25..=25);
    }

    fn join<K: Kind>(&mut self, swivel: &Swivel, sessions: impl IntoIterator<Item = i32>) {
        for session in sessions {
            let member = Member {
                config: swivel.config(),
                session,
                mood: self.mood,
                receipts: self.receipts.clone(),
                gate: self.gate.subscribe(),
                board: self.board.clone(),
            };
            self.members.spawn(member.attend::<K>());
        }
    }

    /// Nothing happened that must not.
    pub fn is_well(&self) {
        let notices = self.board.lock();
        let troubles = &notices.troubles;
        assert!(
            troubles.is_empty(),
            "{} of {} are in trouble: {:#?}",
            troubles.len(),
            Self::SIZE,
            &troubles[..troubles.len().min(TOLD_MAX)]
        );
        let failures = &notices.failures;
        let told: Vec<&String> = (failures.iter()).map(|(_, what)| what).take(TOLD_MAX).collect();
        if !self.mood.forgives() {
            return assert!(failures.is_empty(), "{} errors: {told:#?}", failures.len());
        }
        let odd = |(code, _): &&(String, String)| !LOST_WORK.contains(&&**code);
        let odd: Vec<_> = failures.iter().filter(odd).take(TOLD_MAX).collect();
        assert!(odd.is_empty(), "errors that say nothing: {odd:#?}");
    }

    /// Everybody has done something since.
    pub async fn works(&self) {
        let before = self.board.lock().steps.clone();
        eventually_within(CROWD_PATIENCE, async || {
            self.is_well();
            let notices = self.board.lock().steps.clone();
            let idle = |(session, steps): &(&i32, &u64)| before[*session] == **steps;
            let idle: Vec<&i32> = (notices.iter().filter(idle))
                .map(|(session, _)| session)
                .collect();
            match idle.as_slice() {
                [] => Ok(()),
                idle => Err(format!("sessions {idle:?} do nothing")),
            }
        })
        .await;
    }

    /// Everybody is at rest. Whoever arrives still does, and pgbench does not listen.
    pub async fn hush(&mut self) {
        self.board.lock().hushed = 0;
        self.gate.send_replace(Gate::Hush);
        for scripts in &mut self.scripts {
            scripts.say("hush").await;
        }
        let expected = self.members.len() + self.scripts.len();
        eventually("everybody is at rest", async || {
            self.is_well();
            self.board.lock().hushed == expected
        })
        .await;
    }

    pub async fn go_on(&mut self) {
        self.gate.send_replace(Gate::Work);
        for scripts in &mut self.scripts {
            scripts.say("work").await;
        }
    }

    /// Nobody was lost, and what was said of the writes is true.
    pub async fn leave(mut self, postgres: &Postgres) -> Account {
        self.works().await;
        self.gate.send_replace(Gate::Leave);
        for scripts in &mut self.scripts {
            scripts.leave().await;
        }
        self.benches.leave().await;
        while let Some(member) = self.members.join_next().await {
            member.unwrap();
        }
        self.is_well();
        self.receipts.are_kept(postgres).await;
        let arrivals = self.arrivals.leave().await;
        if self.mood.forgives() {
            let is_lost_work = |error: &String| LOST_WORK.iter().any(|code| error.contains(code));
            let odd: Vec<_> = arrivals
                .errors
                .iter()
                .filter(|error| !is_lost_work(error))
                .collect();
            assert!(odd.is_empty(), "errors that say nothing: {odd:#?}");
        } else {
            arrivals.is_untroubled(ARRIVAL_MAX);
        }
        let notices = self.board.lock();
        let mut failures = BTreeMap::new();
        for (code, _) in &notices.failures {
            *failures.entry(code.clone()).or_default() += 1;
        }
        Account {
            acknowledged: self.receipts.count(Fate::Acknowledged),
            unknown: self.receipts.count(Fate::Unknown),
            rolled_back: self.receipts.count(Fate::RolledBack),
            steps: notices.steps.values().sum(),
            failures,
            longest: notices.longest.clone(),
            arrivals: arrivals.connections,
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} steps, {} writes kept ({} unknown, {} rolled back), {} arrivals, failures {:?}, longest steps {:?}",
            self.steps,
            self.acknowledged,
            self.unknown,
            self.rolled_back,
            self.arrivals,
            self.failures,
            self.longest
        )
    }
}

impl Member {
    async fn attend<K: Kind>(self) {
        let who = format!("{} {}", K::NAME, self.session);
        if let Err(trouble) = self.work::<K>(&who).await {
            self.board.is_in_trouble(&who, trouble);
        }
    }

    async fn work<K: Kind>(&self, who: &str) -> Result<(), Trouble> {
        let mut desk = Desk::sit(self.config.clone(), self.session, self.receipts.clone()).await?;
        desk.may_fail = self.mood != Mood::Calm;
        desk.is_single = self.mood == Mood::Unscathed;
        let mut fresh = (self.mood == Mood::Fresh).then(Fresh::default);
        let mut kind = K::begin(&mut desk).await?;
        let mut gate = self.gate.clone();
        let mut count = 0_u64;
        loop {
            let now = *gate.borrow_and_update();
            match now {
                Gate::Work => {}
                Gate::Hush => {
                    self.board.hushed(1);
                    let _ = gate.changed().await;
                    continue;
                }
                Gate::Leave => return Ok(()),
            }
            let began = Instant::now();
            match self.step(&mut desk, &mut kind, &mut fresh, count).await {
                Ok(()) => self.board.took(K::NAME, began.elapsed()),
                Err(Trouble::Failed { code, message }) => {
                    self.board.failed(who, &code, &message);
                    self.recover(&desk, who).await?;
                }
                Err(trouble) => return Err(trouble),
            }
            self.board.worked(self.session);
            count += 1;
            self.pause::<K>(&mut gate, count).await;
        }
    }

    async fn step<K: Kind>(
        &self,
        desk: &mut Desk,
        kind: &mut K,
        fresh: &mut Option<Fresh>,
        count: u64,
    ) -> Result<(), Trouble> {
        let step = async {
            if let Some(fresh) = fresh {
                fresh.is_set(desk, count).await?;
            }
            kind.step(desk).await?;
            if let Some(fresh) = fresh {
                fresh.is_there(desk).await?;
            }
            if count.is_multiple_of(4) {
                desk.is_itself().await
            } else {
                Ok(())
            }
        };
        match tokio::time::timeout(PATIENCE * 2, step).await {
            Ok(done) => done,
            Err(_) => Err(Trouble::Wrong("an answer does not come".to_owned())),
        }
    }

    /// Whatever was under way is over.
    async fn recover(&self, desk: &Desk, who: &str) -> Result<(), Trouble> {
        loop {
            match desk.client.batch_execute("ROLLBACK").await.map_err(Trouble::from) {
                Ok(()) => return Ok(()),
                Err(Trouble::Failed { code, message }) => self.board.failed(who, &code, &message),
                Err(trouble) => return Err(trouble),
            }
        }
    }

    /// Not all at the same time.
    async fn pause<K: Kind>(&self, gate: &mut watch::Receiver<Gate>, count: u64) {
        if K::PAUSE_MS == 0 {
            return;
        }
        let number = count.wrapping_mul(31).wrapping_add(self.session as u64 * 17);
        let pause = Duration::from_millis(1 + number.wrapping_mul(7919) % K::PAUSE_MS);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = gate.changed() => gate.mark_changed(),
        }
    }
}
