//! What rotates: each kind of rotation is a row of [`ROTATIONS`], a list of steps.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use tokio_postgres::Client;

use super::SIDES;
use super::cluster::{Cluster, USERS, lock_out, set_password};
use super::failure::{Failure, io};
use super::place::{DemoPlace, random_word};
use super::runbook::Runbook;
use crate::admin::report::UserReport;
use crate::cli::ask;

/// One way to rotate.
pub(super) struct Rotation {
    pub(super) name: &'static str,
    user: User,
    steps: &'static [Step],
}

/// Who gets a new password, and comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum User {
    Same,
    /// The one that is not in use.
    Other,
}

#[derive(Clone, Copy)]
enum Step {
    /// `ALTER ROLE … PASSWORD`.
    Database,
    /// The store holds the new credential, and no other.
    Store,
    /// The store holds the credential in use as current and the new one as next.
    Announce,
    /// Somebody else's pace: what went before is true, and what comes is not yet.
    Gap,
    /// Until `pgswivel status` says that nothing of it is on the user that was replaced.
    SafeToRevoke,
    /// The user that was replaced may not log in any more, and its backends are terminated.
    LockOut,
    /// `pgswivel rotate run`, which makes a password of its own.
    Run,
}

/// In turn. The first user that is replaced is the one that the application beside pgswivel stays with.
pub(super) const ROTATIONS: [Rotation; 5] = [
    Rotation {
        name: "new password, database first",
        user: User::Same,
        steps: &[Step::Database, Step::Gap, Step::Store],
    },
    Rotation {
        name: "new password, store first",
        user: User::Same,
        steps: &[Step::Store, Step::Gap, Step::Database],
    },
    Rotation {
        name: "new password, announced as next",
        user: User::Same,
        steps: &[Step::Announce, Step::Gap, Step::Database, Step::Gap, Step::Store],
    },
    Rotation {
        name: "alternating user, old one's backends killed",
        user: User::Other,
        steps: &[
            Step::Database,
            Step::Gap,
            Step::Store,
            Step::SafeToRevoke,
            Step::LockOut,
        ],
    },
    Rotation {
        name: "alternating user, by pgswivel rotate",
        user: User::Other,
        steps: &[Step::Run],
    },
];

/// How long a rotation takes between two of its steps.
const GAP: Duration = Duration::from_millis(500);

/// After that, the user that was replaced is locked out whoever is on it.
const REVOKE_PATIENCE: Duration = Duration::from_secs(10);
const ASK_EVERY: Duration = Duration::from_millis(100);
/// For the store to be read.
const UNUSED_PATIENCE: Duration = Duration::from_secs(5);

/// Who rotates: the lambda, the operator, the person with a ticket.
pub(super) struct Rotator {
    admin: Client,
    store: PathBuf,
    runbook: Runbook,
    current: Login,
    progress: watch::Sender<Progress>,
}

struct Login {
    user: &'static str,
    password: String,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) begun: [u64; ROTATIONS.len()],
    pub(super) done: u64,
    /// Which of [`ROTATIONS`], and what it has done so far.
    pub(super) now: Option<(usize, &'static str)>,
    /// Backends that were terminated with their user, in the order of [`SIDES`].
    pub(super) killed: [u64; SIDES.len()],
}

impl Progress {
    pub(super) fn begun(&self) -> u64 {
        self.begun.iter().sum()
    }

    /// What does not call itself as the application beside pgswivel does is a link of pgswivel's.
    fn count(&mut self, killed: &[(String, u64)]) {
        for (name, backends) in killed {
            self.killed[usize::from(name == SIDES[1])] += backends;
        }
    }
}

impl Rotator {
    /// Puts the first user's credential into the store.
    pub(super) fn new(
        place: &DemoPlace,
        cluster: &Cluster,
        admin: Client,
        password: &str,
    ) -> Result<Self, Failure> {
        let current = Login {
            user: USERS[0],
            password: password.to_owned(),
        };
        let rotator = Self {
            admin,
            store: place.file("orders.json"),
            runbook: Runbook::new(place, cluster)?,
            current,
            progress: watch::Sender::default(),
        };
        rotator.store(&json!({ "current": rotator.current.payload() }))?;
        Ok(rotator)
    }

    pub(super) fn secret(&self) -> String {
        self.store.display().to_string()
    }

    pub(super) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Rotates every so often until it is told to stop; what it has begun, it brings to its end.
    pub(super) async fn run(
        mut self,
        every: Duration,
        sidecar: SocketAddr,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Failure> {
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for turn in (0..ROTATIONS.len()).cycle() {
            tokio::select! {
                _ = ticks.tick() => self.rotate(turn, sidecar).await?,
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        Ok(())
    }

    async fn rotate(&mut self, turn: usize, sidecar: SocketAddr) -> Result<(), Failure> {
        let rotation = &ROTATIONS[turn];
        let user = match rotation.user {
            User::Same => self.current.user,
            User::Other => USERS[usize::from(self.current.user == USERS[0])],
        };
        let next = Login {
            user,
            password: random_word(),
        };
        self.progress.send_modify(|progress| progress.begun[turn] += 1);
        for step in rotation.steps {
            if let Some(so_far) = self.take(*step, &next, sidecar).await? {
                self.progress
                    .send_modify(|progress| progress.now = Some((turn, so_far)));
            }
        }
        self.current = self.stored()?;
        self.progress.send_modify(|progress| {
            progress.done += 1;
            progress.now = None;
        });
        Ok(())
    }

    /// What is true afterwards, in words.
    async fn take(
        &self,
        step: Step,
        next: &Login,
        sidecar: SocketAddr,
    ) -> Result<Option<&'static str>, Failure> {
        match step {
            Step::Database => {
                set_password(&self.admin, next.user, &next.password).await?;
                Ok(Some("Postgres has it"))
            }
            Step::Store => {
                self.store(&json!({ "current": next.payload() }))?;
                Ok(Some("the store has it"))
            }
            Step::Announce => {
                self.store(&json!({ "current": self.current.payload(), "next": next.payload() }))?;
                Ok(Some("the store announces it"))
            }
            Step::Gap => {
                sleep(GAP).await;
                Ok(None)
            }
            Step::SafeToRevoke => {
                let start = Instant::now();
                while !is_unused(sidecar, self.current.user).await {
                    if start.elapsed() > REVOKE_PATIENCE {
                        return Ok(Some("the old user is still in use"));
                    }
                    sleep(ASK_EVERY).await;
                }
                Ok(Some("nothing uses the old user"))
            }
            Step::LockOut => {
                let killed = lock_out(&self.admin, self.current.user).await?;
                self.progress.send_modify(|progress| progress.count(&killed));
                Ok(Some("the old user may not log in, its backends are killed"))
            }
            Step::Run => {
                self.runbook.run(&self.store, sidecar).await?;
                Ok(Some("pgswivel rotate has done it"))
            }
        }
    }

    /// What the store holds now.
    fn stored(&self) -> Result<Login, Failure> {
        let read = || {
            let text = fs::read(&self.store)?;
            let payload: Value = serde_json::from_slice(&text)?;
            let current = |key: &str| payload["current"][key].as_str().unwrap_or_default();
            let user = USERS.into_iter().find(|user| *user == current("username"));
            Ok(Login {
                user: user.ok_or(std::io::ErrorKind::InvalidData)?,
                password: current("password").to_owned(),
            })
        };
        read().map_err(io("read the secret"))
    }

    /// Written beside and renamed over, so that nobody reads half of it.
    fn store(&self, payload: &Value) -> Result<(), Failure> {
        let beside = self.store.with_extension("new");
        fs::write(&beside, payload.to_string())
            .and_then(|()| fs::rename(&beside, &self.store))
            .map_err(io("write the secret"))
    }
}

/// Whether nothing of pgswivel's is on this user nor will be, by its own account, as of a read of the store from now on.
async fn is_unused(sidecar: SocketAddr, user: &'static str) -> bool {
    let path = format!("/unused?user={user}");
    let asked = tokio::task::spawn_blocking(move || ask::post(sidecar, &path, UNUSED_PATIENCE)).await;
    let answer = asked.ok().and_then(Result::ok);
    let report: Option<UserReport> = answer.and_then(|answer| serde_json::from_str(&answer.body).ok());
    report.is_some_and(|report| report.unused)
}

impl Login {
    fn payload(&self) -> Value {
        json!({ "username": self.user, "password": self.password })
    }
}
