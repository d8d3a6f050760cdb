//! What every store promises, told once. A [`World`] is one store with what a test may do to it.

#![allow(dead_code, reason = "a build without the cloud stores keeps less of it")]

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use pgswivel::credentials::Position;
use pgswivel::stores::{self, Reading, Retry, Store, StoreError};

use crate::support::swivel::Unstarted;

/// What can befall a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Missing,
    Denied,
    Empty,
    Garbage,
    /// The first half of a payload.
    Partial,
    /// 3 MB.
    Large,
    /// Nothing comes for longer than a read may take.
    Slow,
    Unreachable,
    /// Come back after [`PAUSE`].
    Throttled,
}

impl Fault {
    fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Denied => "denied",
            Self::Empty => "empty",
            Self::Garbage | Self::Partial => "unparsable",
            Self::Large => "too_large",
            Self::Slow => "slow",
            Self::Unreachable => "unreachable",
            Self::Throttled => "throttled",
        }
    }

    /// The payload that is this fault, if it is one.
    pub fn payload(self) -> Option<Vec<u8>> {
        match self {
            Self::Empty => Some(b" \n".to_vec()),
            Self::Garbage => Some(format!("<html>{CANARY}</html>").into_bytes()),
            Self::Partial => Some(format!(r#"{{"username":"app","password":"{CANARY}"#).into_bytes()),
            Self::Large => Some(format!(r#"{{"username":"app","password":"{}"}}"#, large()).into_bytes()),
            _ => None,
        }
    }
}

pub fn large() -> String {
    CANARY.repeat(3_000_000 / CANARY.len())
}

/// What a throttled store asks for.
pub const PAUSE: Duration = Duration::from_secs(1);

/// Stands in every password, and must stand nowhere else.
pub const CANARY: &str = "canary-7f3a";

/// The value of one moment: its parts know each other by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Login(pub u32);

impl Login {
    pub fn user(self) -> String {
        format!("app_{}", self.0)
    }

    pub fn password(self) -> String {
        format!("{CANARY}-{}", self.0)
    }

    pub fn json(self) -> String {
        serde_json::json!({ "username": self.user(), "password": self.password() }).to_string()
    }
}

pub trait World {
    fn open(&self) -> Box<dyn Store>;
    /// From now on the store's current value is this.
    async fn put(&self, login: Login);
    async fn harm(&self, fault: Fault);
    /// Everything is as it was after the last `put`.
    async fn heal(&self);
}

/// A world that the real pgswivel can live in.
pub trait Habitable: World {
    /// A pgswivel that finds its secret here.
    fn settle(&self, swivel: Unstarted) -> Unstarted;
}

pub async fn read(store: &mut dyn Store) -> Reading {
    stores::read(store).await.unwrap()
}

/// The number of the login that a reading leads with.
pub fn leading(reading: &Reading) -> u32 {
    let credential = &reading.credentials[0];
    assert_eq!(credential.position, Position::Current);
    let number = credential.user.strip_prefix("app_").unwrap().parse().unwrap();
    assert_eq!(credential.password.expose(), Login(number).password().as_bytes());
    number
}

/// No credential is half of one value and half of another.
pub fn assert_whole(reading: &Reading) {
    for credential in &reading.credentials {
        let number = credential.user.strip_prefix("app_").unwrap().parse().unwrap();
        let password = Login(number).password();
        assert_eq!(
            credential.password.expose(),
            password.as_bytes(),
            "mixed from two reads"
        );
    }
}

pub async fn gives_what_is_there_and_names_it_stably(world: &impl World) {
    world.put(Login(1)).await;
    let mut store = world.open();
    let first = read(&mut *store).await;
    assert_eq!(leading(&first), 1);
    let again = read(&mut *store).await;
    assert_eq!(again.credentials, first.credentials);

    world.put(Login(2)).await;
    let second = read(&mut *store).await;
    assert_eq!(leading(&second), 2);
    assert_ne!(second.credentials[0].version, first.credentials[0].version);
    let printed = format!("{first:?} {second:?}");
    assert!(!printed.contains(CANARY), "{printed}");
}

/// A writer changes user and password together, all the time.
pub async fn never_mixes_two_values(world: &impl World, writes: u32) {
    world.put(Login(0)).await;
    let mut store = world.open();
    let (done, mut is_done) = tokio::sync::watch::channel(false);
    let write = async {
        for number in 1..=writes {
            world.put(Login(number)).await;
            tokio::task::yield_now().await;
        }
        done.send_replace(true);
    };
    let look = async {
        loop {
            let last = *is_done.borrow_and_update();
            match stores::read(&mut *store).await {
                Ok(reading) => {
                    assert_whole(&reading);
                    if last {
                        return leading(&reading);
                    }
                }
                // A store may say that it could not get a consistent look, as long as things move.
                Err(StoreError::Unsettled) if !last => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    let ((), seen) = tokio::join!(write, look);
    assert_eq!(seen, writes);
}

pub async fn says_what_is_wrong_and_recovers(world: &impl World, faults: &[Fault]) {
    world.put(Login(7)).await;
    let mut store = world.open();
    assert_eq!(leading(&read(&mut *store).await), 7);
    for fault in faults {
        world.harm(*fault).await;
        let error = match stores::read(&mut *store).await {
            Err(error) => error,
            Ok(reading) => panic!("{fault:?} gave {reading:?}"),
        };
        assert_eq!(error.label(), fault.label(), "{fault:?}: {error}");
        let retry = match fault {
            Fault::Throttled => Retry::After(PAUSE),
            _ => Retry::BackOff,
        };
        assert_eq!(error.retry(), retry, "{fault:?}");
        let printed = format!("{error} {error:?}");
        assert!(!printed.contains(CANARY), "{printed}");
        world.heal().await;
        assert_eq!(leading(&read(&mut *store).await), 7, "after {fault:?}");
    }
}

/// Everything that this thread logs, as text.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Listens to every log line of this thread, whoever says it, for as long as the guard is held.
pub fn listen() -> (Log, tracing::subscriber::DefaultGuard) {
    let log = Log::default();
    let sink = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || sink.clone())
        .finish();
    (log, tracing::subscriber::set_default(subscriber))
}

/// Not at `trace`, and not in the words of a library.
pub async fn logs_no_secret(world: &impl World) {
    world.put(Login(1)).await;
    let (log, _logging) = listen();
    let mut store = world.open();
    read(&mut *store).await;
    world.put(Login(2)).await;
    read(&mut *store).await;
    let text = log.text();
    assert!(!text.is_empty(), "nothing was heard");
    for line in text.lines() {
        assert!(!line.contains(CANARY), "{line}");
    }
}

/// A store that knows when a version was made says so, of the right version.
pub async fn tells_when_it_was_made(world: &impl World) {
    world.put(Login(1)).await;
    let reading = read(&mut *world.open()).await;
    let current = &reading.credentials[0];
    let made = (reading.made.iter())
        .find(|made| made.version == current.version)
        .unwrap_or_else(|| panic!("{:?} says nothing of {}", reading.made, current.version));
    // Stores count in seconds, and some round.
    let age = (SystemTime::now() + Duration::from_secs(2)).duration_since(made.at);
    assert!(
        age.is_ok_and(|age| age < Duration::from_secs(120)),
        "{:?}",
        made.at
    );
}
