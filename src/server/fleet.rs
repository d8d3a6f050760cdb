//! One process of a fleet: it listens in every database that it serves, has stores read when others say that a secret has
//! changed, and tells them when it is the first to see it. What it says of itself stands in the names of the links that
//! it listens on.
//!
//! Nothing depends on it: stores are polled, and read when a login is refused, as without it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, info};

use crate::access::roster::Roster;
use crate::admin::Active;
use crate::backoff::{Backoff, chance};
use crate::config;
use crate::credentials::{Page, Position};
use crate::fleet::{Call, Pace, SecretDigest, SecretWord, Standing, Wish, Word, of_secret, of_version};
use crate::keeper;
use crate::metrics::{FleetWake, Metrics, Task};
use crate::names::SecretName;
use crate::postgres::{FleetLink, FleetLinkError, ServedDatabase};
use crate::supervise::supervise;

/// How often a process says where it stands, if that changes.
const SAY_EVERY: Duration = Duration::from_secs(1);
/// Whoever heard of a change so lately was told, and need not tell.
const HEARD_LATELY: Duration = Duration::from_secs(10);
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_CAP: Duration = Duration::from_secs(60);
/// Links that listen leave a replaced credential within this, spread out: there may be thousands of them.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
/// What was heard and not looked at yet, and what is still to be told.
const QUEUE: usize = 64;

/// Ends when it is dropped.
pub struct Fleet {
    _stop: DropGuard,
}

/// What is in use, and where it is counted.
pub struct Surroundings {
    pub active: Arc<Active>,
    pub databases: Vec<ServedDatabase>,
    pub roster: Arc<Roster>,
    pub metrics: Arc<Metrics>,
}

impl Fleet {
    /// `told` is how others of this process have everybody read.
    pub fn begin(fleet: &config::Fleet, around: Surroundings, told: &Arc<Notify>) -> Self {
        let stop = CancellationToken::new();
        let instance = fleet.instance.clone().unwrap_or_else(host_and_process);
        let (events, happened) = mpsc::channel(QUEUE);
        let (calls, _) = broadcast::channel(QUEUE);
        let secrets = Secrets::of(&around.active);
        let name = watch::Sender::new(secrets.word(&instance, &around).name());
        for database in around.databases.clone() {
            let member = Member {
                database,
                channel: fleet.channel.clone(),
                name: name.subscribe(),
                calls: calls.clone(),
                events: events.clone(),
                metrics: Arc::clone(&around.metrics),
                stop: stop.clone(),
            };
            let metrics = Arc::clone(&around.metrics);
            tokio::spawn(supervise(Task::Fleet, metrics, async move || {
                member.keep_listening().await
            }));
        }
        for (secret, keeper) in &around.active.keepers {
            if let Some(digest) = secrets.digest(secret) {
                tokio::spawn(follow(digest, keeper.page.clone(), events.clone(), stop.clone()));
            }
        }
        let lead = Lead {
            instance,
            secrets,
            around,
            name,
            calls,
            told: Arc::clone(told),
            stop: stop.clone(),
        };
        tokio::spawn(lead.run(happened));
        Self {
            _stop: stop.drop_guard(),
        }
    }
}

fn host_and_process() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", host.trim_end(), std::process::id())
}

enum Event {
    /// Somebody else said this.
    Heard(Box<[u8]>),
    /// A link listens again that did not for a while.
    Reconnected,
    /// The store has other credentials than before.
    Changed(SecretDigest),
}

/// The secrets of a configuration, by what the fleet calls them.
struct Secrets {
    names: BTreeMap<SecretName, SecretDigest>,
    paces: BTreeMap<SecretDigest, Pace>,
    heard: BTreeMap<SecretDigest, Instant>,
}

impl Secrets {
    fn of(active: &Active) -> Self {
        let known = active.keepers.keys().filter_map(|name| {
            let secret = active.config.secrets.get(name)?;
            Some((name.clone(), of_secret(&secret.source)))
        });
        let names: BTreeMap<_, _> = known.collect();
        Self {
            paces: names.values().map(|digest| (*digest, Pace::default())).collect(),
            heard: BTreeMap::new(),
            names,
        }
    }

    fn digest(&self, secret: &SecretName) -> Option<SecretDigest> {
        self.names.get(secret).copied()
    }

    fn meant_by(&self, call: Call) -> Vec<SecretDigest> {
        let is_meant = |digest: &&SecretDigest| match call {
            Call::Everything => true,
            Call::Secret(meant) => meant == **digest,
        };
        self.paces.keys().filter(is_meant).copied().collect()
    }

    fn due(&self) -> Option<Instant> {
        let due = self.paces.values().filter_map(Pace::due).min();
        due.map(Instant::from_std)
    }

    fn word(&self, instance: &str, around: &Surroundings) -> Word {
        let word = |(name, digest): (&SecretName, &SecretDigest)| {
            let keeper = around.active.keepers.get(name)?;
            Some(secret_word(*digest, name, keeper, &around.roster))
        };
        Word {
            instance: instance.to_owned(),
            secrets: self.names.iter().filter_map(word).collect(),
            is_cut: false,
        }
    }
}

fn secret_word(
    secret: SecretDigest,
    name: &SecretName,
    keeper: &keeper::Handle,
    roster: &Roster,
) -> SecretWord {
    let page = keeper.page.borrow().clone();
    let leader = page.leader().map(|leader| Arc::clone(&leader.user));
    let (mut left, mut pinned) = (0, 0);
    for aboard in roster.aboard(name) {
        let is_left = page.retirement(&aboard.credential).is_some()
            && leader
                .as_ref()
                .is_none_or(|leader| *leader != aboard.credential.user);
        if is_left {
            left += aboard.sessions;
            pinned += aboard.pinned.len();
        }
    }
    let is_seen_only = page.first_choice().zip(page.leader());
    let is_seen_only = is_seen_only.is_some_and(|(first, leader)| !first.is_same_login(leader));
    let standing = match () {
        () if page.reads == 0 => Standing::Unread,
        () if !page.has_proof() => Standing::Broken,
        () if left > 0 => Standing::Moving,
        () if is_seen_only => Standing::Seen,
        () => Standing::Current,
    };
    SecretWord {
        secret,
        version: newest(&page).map_or(0, of_version),
        standing,
        left: left.try_into().unwrap_or(u32::MAX),
        pinned: pinned.try_into().unwrap_or(u32::MAX),
    }
}

/// Its version: of what the store announces, or puts first.
fn newest(page: &Page) -> Option<&str> {
    let mut listed = page.entries().iter().filter(|entry| entry.listed);
    let next = listed.find(|entry| entry.credential.position == Position::Next);
    let newest = next.map(|entry| &entry.credential).or(page.first_choice());
    newest.map(|credential| &*credential.version)
}

/// Hears, decides and has told.
struct Lead {
    instance: String,
    secrets: Secrets,
    around: Surroundings,
    name: watch::Sender<String>,
    calls: broadcast::Sender<Call>,
    told: Arc<Notify>,
    stop: CancellationToken,
}

impl Lead {
    async fn run(mut self, mut happened: mpsc::Receiver<Event>) {
        let mut said = Instant::now();
        loop {
            let due = self.secrets.due();
            tokio::select! {
                () = self.stop.cancelled() => return,
                Some(event) = happened.recv() => self.handle(event),
                () = self.told.notified() => self.tell(Call::Everything),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.read_what_is_due(),
                () = sleep_until(said + SAY_EVERY) => {
                    said = Instant::now();
                    self.say_where_it_stands();
                }
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Heard(payload) => match Call::parse(&payload) {
                Some(call) => self.wake(call, FleetWake::Notification),
                None => self.around.metrics.fleet_woke(FleetWake::Nonsense),
            },
            Event::Reconnected => self.wake(Call::Everything, FleetWake::Reconnected),
            Event::Changed(secret) => {
                let heard = self.secrets.heard.get(&secret);
                if heard.is_none_or(|at| at.elapsed() > HEARD_LATELY) {
                    self.tell(Call::Secret(secret));
                }
            }
        }
    }

    fn wake(&mut self, call: Call, why: FleetWake) {
        let meant = self.secrets.meant_by(call);
        if meant.is_empty() {
            // A secret that this process does not use.
            return;
        }
        let now = Instant::now();
        let mut outcome = FleetWake::PutOff;
        for secret in meant {
            self.secrets.heard.insert(secret, now);
            let pace = self.secrets.paces.entry(secret).or_default();
            if pace.asked(now.into_std()) == Wish::Granted {
                outcome = why;
                self.read(secret);
            }
        }
        self.around.metrics.fleet_woke(outcome);
    }

    fn read_what_is_due(&mut self) {
        let now = Instant::now().into_std();
        let mut due = Vec::new();
        for (secret, pace) in &mut self.secrets.paces {
            if pace.take_due(now) {
                due.push(*secret);
            }
        }
        due.into_iter().for_each(|secret| self.read(secret));
    }

    fn read(&self, secret: SecretDigest) {
        for (name, digest) in &self.secrets.names {
            if *digest == secret
                && let Some(keeper) = self.around.active.keepers.get(name)
            {
                keeper.refresh();
            }
        }
    }

    fn tell(&mut self, call: Call) {
        for secret in self.secrets.meant_by(call) {
            self.secrets.heard.insert(secret, Instant::now());
        }
        // Nobody listens: there is nobody to tell.
        if self.calls.send(call).is_ok() {
            self.around.metrics.fleet_told();
        }
    }

    fn say_where_it_stands(&self) {
        let name = self.secrets.word(&self.instance, &self.around).name();
        self.name.send_if_modified(|said| {
            let is_news = *said != name;
            if is_news {
                *said = name;
            }
            is_news
        });
    }
}

/// Says when the store has other credentials than it had.
async fn follow(
    secret: SecretDigest,
    mut page: watch::Receiver<Arc<Page>>,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
) {
    let listed = |page: &Page| -> Vec<Arc<str>> {
        let listed = page.entries().iter().filter(|entry| entry.listed);
        listed
            .map(|entry| Arc::clone(&entry.credential.version))
            .collect()
    };
    let mut known = listed(&page.borrow_and_update());
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = page.changed() => if changed.is_err() {
                return;
            }
        }
        let now = listed(&page.borrow_and_update());
        let is_news = !known.is_empty() && now.iter().any(|version| !known.contains(version));
        if !now.is_empty() {
            known = now;
        }
        if is_news && events.send(Event::Changed(secret)).await.is_err() {
            return;
        }
    }
}

/// Who listens in one database.
struct Member {
    database: ServedDatabase,
    channel: String,
    name: watch::Receiver<String>,
    calls: broadcast::Sender<Call>,
    events: mpsc::Sender<Event>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
}

/// Why a link is left.
enum Left {
    Stopped,
    /// New logins begin with another credential.
    Replaced,
}

impl Member {
    async fn keep_listening(&self) {
        let (upstream, mut pause) = (self.database.upstream(), Backoff::starting_at(RETRY_FIRST));
        let mut was_there = false;
        loop {
            let error = match self.log_in().await {
                None => return,
                Some(Err(error)) => error,
                Some(Ok(link)) => {
                    info!(%upstream, channel = self.channel, "listening for the fleet");
                    if was_there && self.events.send(Event::Reconnected).await.is_err() {
                        return;
                    }
                    (was_there, pause) = (true, Backoff::starting_at(RETRY_FIRST));
                    match self.stay(link).await {
                        Ok(()) => return,
                        Err(error) => error,
                    }
                }
            };
            debug!(%upstream, %error, "does not listen for the fleet");
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep(pause.next(RETRY_CAP)) => {}
            }
        }
    }

    /// None: it has to stop.
    async fn log_in(&self) -> Option<Result<FleetLink, FleetLinkError>> {
        let name = self.name.borrow().clone();
        tokio::select! {
            () = self.stop.cancelled() => None,
            link = self.database.listen(&self.channel, &name) => Some(link),
        }
    }

    /// On one link after the other: the next is there before the last one is left.
    async fn stay(&self, mut link: FleetLink) -> Result<(), FleetLinkError> {
        let _listening = self.metrics.fleet_listening();
        loop {
            match self.listen_on(&mut link).await {
                Ok(Left::Stopped) => {
                    link.leave();
                    return Ok(());
                }
                Ok(Left::Replaced) => match self.log_in().await {
                    Some(Ok(next)) => std::mem::replace(&mut link, next).leave(),
                    None => {
                        link.leave();
                        return Ok(());
                    }
                    Some(Err(error)) => {
                        link.leave();
                        return Err(error);
                    }
                },
                Err(error) => {
                    link.leave();
                    return Err(error);
                }
            }
        }
    }

    async fn listen_on(&self, link: &mut FleetLink) -> Result<Left, FleetLinkError> {
        let (mut name, mut calls, mut page) =
            (self.name.clone(), self.calls.subscribe(), self.database.page());
        name.mark_changed();
        let mut leaves_at = None;
        loop {
            if leaves_at.is_none() && link.is_replaced() {
                leaves_at = Some(Instant::now() + LEAVE_WITHIN.mul_f64(chance()));
            }
            tokio::select! {
                () = self.stop.cancelled() => return Ok(Left::Stopped),
                () = sleep_until(leaves_at.unwrap_or_else(Instant::now)), if leaves_at.is_some() => return Ok(Left::Replaced),
                heard = link.heard() => {
                    let heard = Event::Heard(heard?);
                    if self.events.send(heard).await.is_err() {
                        return Ok(Left::Stopped);
                    }
                }
                Ok(call) = calls.recv() => link.tell(&self.channel, &call.payload()).await?,
                Ok(()) = name.changed() => {
                    let name = name.borrow_and_update().clone();
                    link.change_name(&name).await?;
                }
                Ok(()) = page.changed() => {}
            }
        }
    }
}
