//! One process of a fleet: it listens in every database that it serves, has stores read when others say that a secret has
//! changed, and tells them when it is the first to see it. What it says of itself stands in the names of the links that
//! it listens on.
//!
//! Nothing depends on it: stores are polled, and read when a login is refused, as without it.

mod member;
mod standing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::member::Member;
use self::standing::secret_word;
use crate::access::roster::Roster;
use crate::admin::Active;
use crate::config;
use crate::credentials::Page;
use crate::fleet::{Call, Pace, SecretDigest, Wish, Word, of_secret};
use crate::metrics::{FleetWake, Metrics, Task};
use crate::names::SecretName;
use crate::postgres::ServedDatabase;
use crate::supervise::supervise;

/// How often a process says where it stands, if that changes.
const SAY_EVERY: Duration = Duration::from_secs(1);
/// Whoever heard of a change so lately was told, and need not tell.
const HEARD_LATELY: Duration = Duration::from_secs(10);
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
                member.keep_listening().await;
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
