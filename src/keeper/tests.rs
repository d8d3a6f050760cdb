use std::sync::Mutex;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::*;
use crate::config::{SessionsPolicy, Source};
use crate::credentials::{Password, Position};
use crate::stores::{Calls, Lease, Reading, StoreError, StoreFuture};

const SECOND: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_secs(300);
/// How long the pretended store and Postgres take to answer.
const ANSWER_TAKES: Duration = Duration::from_millis(50);

fn endpoint(port: u16) -> Endpoint {
    Endpoint::Tcp {
        host: "db".into(),
        port,
    }
}

fn credential(password: &str, position: Position) -> Credential {
    Credential {
        user: "app".into(),
        password: Password::new(password),
        version: password.into(),
        position,
    }
}

fn current(password: &str) -> Credential {
    credential(password, Position::Current)
}

fn reading(credentials: &[Credential]) -> Reading {
    Reading {
        credentials: credentials.to_vec(),
        next_read: None,
        read_by: None,
        lease: None,
        logins_for: None,
        host: None,
        skipped: Vec::new(),
        made: Vec::new(),
    }
}

fn secret() -> Secret {
    Secret {
        name: "orders".into(),
        source: Source::File {
            path: "/orders".into(),
        },
        fields: None,
        poll: POLL,
        sessions: SessionsPolicy::Auto,
        grace: SECOND,
        max_age: None,
    }
}

/// What a store would answer and a Postgres would take, and what was asked of them.
struct World {
    start: Instant,
    answer: Mutex<Result<Reading, StoreError>>,
    answer_takes: Mutex<Duration>,
    seen_change: Notify,
    accepted: Mutex<Vec<(&'static str, u16)>>,
    unreachable: Mutex<Vec<Endpoint>>,
    reads: Mutex<Vec<Duration>>,
    one_read_at_a_time: tokio::sync::Mutex<()>,
    refused_versions: Mutex<Vec<String>>,
    proofs: Mutex<Vec<(String, Endpoint)>>,
}

struct ScriptedStore(Arc<World>);

impl Store for ScriptedStore {
    fn read(&mut self) -> StoreFuture<'_, Result<Reading, StoreError>> {
        Box::pin(async {
            let world = &self.0;
            let only_one = world.one_read_at_a_time.try_lock();
            assert!(only_one.is_ok(), "two reads at once");
            world.reads.lock().unwrap().push(world.start.elapsed());
            let answer = world.answer.lock().unwrap().clone();
            let takes = *world.answer_takes.lock().unwrap();
            sleep(takes).await;
            answer
        })
    }

    fn changed(&mut self) -> StoreFuture<'_, ()> {
        Box::pin(self.0.seen_change.notified())
    }

    fn refused(&mut self, version: &str) {
        self.0.refused_versions.lock().unwrap().push(version.to_owned());
    }

    fn calls(&self) -> Arc<Calls> {
        Arc::default()
    }

    fn read_time_max(&self) -> Duration {
        SECOND * 10
    }
}

impl World {
    fn new(answer: Result<Reading, StoreError>) -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            answer: Mutex::new(answer),
            answer_takes: Mutex::new(ANSWER_TAKES),
            seen_change: Notify::new(),
            accepted: Mutex::default(),
            unreachable: Mutex::default(),
            reads: Mutex::default(),
            one_read_at_a_time: tokio::sync::Mutex::default(),
            refused_versions: Mutex::default(),
            proofs: Mutex::default(),
        })
    }

    fn store_has(&self, credentials: &[Credential]) {
        self.store_answers(Ok(reading(credentials)));
    }

    fn store_answers(&self, answer: Result<Reading, StoreError>) {
        *self.answer.lock().unwrap() = answer;
    }

    fn database_takes(&self, passwords: &[&'static str]) {
        let accepted = passwords
            .iter()
            .flat_map(|password| [(*password, 1), (*password, 2)]);
        *self.accepted.lock().unwrap() = accepted.collect();
    }

    fn reads(&self) -> usize {
        self.reads.lock().unwrap().len()
    }

    fn proofs_of(&self, password: &str) -> usize {
        let proofs = self.proofs.lock().unwrap();
        proofs.iter().filter(|(tried, _)| tried == password).count()
    }

    fn prove(self: Arc<Self>) -> Prove {
        Arc::new(move |credential, endpoint, _| {
            let world = self.clone();
            Box::pin(async move {
                let password = credential.version.to_string();
                world
                    .proofs
                    .lock()
                    .unwrap()
                    .push((password.clone(), endpoint.clone()));
                sleep(ANSWER_TAKES).await;
                if world.unreachable.lock().unwrap().contains(&endpoint) {
                    return Err(ProofError::Unreachable(Arc::new(std::fmt::Error)));
                }
                let Endpoint::Tcp { port, .. } = endpoint else {
                    unreachable!("this world has no sockets")
                };
                let is_taken = world
                    .accepted
                    .lock()
                    .unwrap()
                    .contains(&(password.as_str(), port));
                if is_taken {
                    Ok(())
                } else {
                    Err(ProofError::Refused(Refusal::BadPassword))
                }
            })
        })
    }

    fn keeper(self: &Arc<Self>, endpoints: &[Endpoint]) -> Handle {
        let policy = Policy {
            endpoints: endpoints.to_vec(),
            refused_retry: SECOND * 30,
            turns: Arc::default(),
        };
        let store = Box::new(ScriptedStore(self.clone()));
        let records = Records {
            metrics: Metrics::new(),
            journal: Journal::open(None).unwrap(),
        };
        start(&Arc::new(secret()), store, self.clone().prove(), policy, records)
    }

    /// A keeper that is well on this password.
    async fn running_on(password: &'static str) -> (Arc<Self>, Handle) {
        let world = Self::new(Ok(reading(&[current(password)])));
        world.database_takes(&[password]);
        let mut keeper = world.keeper(&[endpoint(1)]);
        leads(&mut keeper, password).await;
        (world, keeper)
    }
}

async fn leads(keeper: &mut Handle, password: &str) {
    let is_led = |page: &Arc<Page>| page.leader().is_some_and(|leader| &*leader.version == password);
    let waited = tokio::time::timeout(SECOND * 3600, keeper.page.wait_for(is_led)).await;
    assert!(waited.is_ok_and(|page| page.is_ok()), "{password} never led");
}

fn leader(keeper: &Handle) -> Option<String> {
    keeper
        .page
        .borrow()
        .leader()
        .map(|leader| leader.version.to_string())
}

#[tokio::test(start_paused = true)]
async fn the_page_is_there_before_the_store_has_answered() {
    let world = World::new(Ok(reading(&[current("one")])));
    world.database_takes(&["one"]);
    let mut keeper = world.keeper(&[endpoint(1)]);
    assert_eq!(
        (
            keeper.page.borrow().generation,
            keeper.page.borrow().entries().len()
        ),
        (0, 0)
    );
    leads(&mut keeper, "one").await;
    assert_eq!(world.start.elapsed(), ANSWER_TAKES * 2);
    assert!(keeper.status().proven);
}

#[tokio::test(start_paused = true)]
async fn a_new_credential_is_proven_on_every_endpoint_before_it_leads() {
    let world = World::new(Ok(reading(&[current("one")])));
    world.database_takes(&["one"]);
    let mut keeper = world.keeper(&[endpoint(1), endpoint(2)]);
    leads(&mut keeper, "one").await;
    *world.accepted.lock().unwrap() = vec![("one", 1), ("one", 2), ("two", 1)];
    world.store_has(&[current("two")]);
    keeper.refresh();
    sleep(SECOND * 120).await;
    assert_eq!(leader(&keeper).as_deref(), Some("one"));
    world.database_takes(&["two"]);
    leads(&mut keeper, "two").await;
    assert!(!keeper.page.borrow().is_live(&current("one")));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_down_does_not_hold_up_a_rotation() {
    let world = World::new(Ok(reading(&[current("one")])));
    world.database_takes(&["one", "two"]);
    let mut keeper = world.keeper(&[endpoint(1), endpoint(2)]);
    leads(&mut keeper, "one").await;
    *world.unreachable.lock().unwrap() = vec![endpoint(2)];
    world.store_has(&[current("two")]);
    keeper.refresh();
    leads(&mut keeper, "two").await;
    let proofs = world.proofs_of("two");
    sleep(SECOND * 120).await;
    assert!(
        (proofs + 6..proofs + 16).contains(&world.proofs_of("two")),
        "it is asked again and again"
    );
    world.unreachable.lock().unwrap().clear();
    sleep(SECOND * 20).await;
    let page = keeper.page.borrow().clone();
    let entry = page.entry(&current("two")).expect("it leads");
    assert!(entry.proven_since(&endpoint(2)).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_quiet_day_costs_one_read_a_poll_and_no_login_at_all() {
    let (world, _keeper) = World::running_on("one").await;
    sleep(SECOND * 86_400).await;
    let polls = 86_400 / 300;
    assert!(
        (polls - 15..polls + 15).contains(&world.reads()),
        "{} reads",
        world.reads()
    );
    assert_eq!(world.proofs_of("one"), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_store_sees_by_itself_is_read_at_once() {
    let (world, mut keeper) = World::running_on("one").await;
    sleep(SECOND * 20).await;
    world.database_takes(&["two"]);
    world.store_has(&[current("two")]);
    world.seen_change.notify_one();
    let change = Instant::now();
    leads(&mut keeper, "two").await;
    assert_eq!(change.elapsed(), ANSWER_TAKES * 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_login_reads_the_store_at_once_and_a_thousand_wishes_are_few_reads() {
    let (world, mut keeper) = World::running_on("one").await;
    sleep(SECOND * 20).await;
    let before = world.reads();
    for _ in 0..1000 {
        keeper.verdicts.refresh_wanted();
        sleep(Duration::from_millis(60)).await;
    }
    let reads = world.reads() - before;
    assert!((5..=9).contains(&reads), "{reads} reads in a minute");
    world.database_takes(&["two"]);
    world.store_has(&[current("two")]);
    leads(&mut keeper, "two").await;
}

#[tokio::test(start_paused = true)]
async fn a_verdict_is_on_the_page_when_the_report_returns() {
    let (_world, keeper) = World::running_on("one").await;
    keeper
        .verdicts
        .refused(&current("one"), &endpoint(1), Refusal::BadPassword);
    assert_eq!(keeper.page.borrow().tries(&endpoint(1), now()).count(), 0);
    keeper.verdicts.proven(&current("one"), &endpoint(1));
    assert_eq!(keeper.page.borrow().tries(&endpoint(1), now()).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn whatever_the_store_answers_the_last_good_credential_stays() {
    let (world, mut keeper) = World::running_on("one").await;
    let generation = keeper.page.borrow().generation;
    for failure in [
        StoreError::Empty,
        StoreError::Unsettled,
        StoreError::TooLarge { limit: 1 },
    ] {
        world.store_answers(Err(failure.clone()));
        keeper.refresh();
        sleep(SECOND * 600).await;
        assert_eq!(leader(&keeper).as_deref(), Some("one"));
        assert_eq!(keeper.status().reads.error, Some(failure));
    }
    assert_eq!(keeper.page.borrow().generation, generation);
    world.database_takes(&["one", "two"]);
    world.store_has(&[current("two")]);
    leads(&mut keeper, "two").await;
    assert_eq!(keeper.status().reads.error, None);
}

#[tokio::test(start_paused = true)]
async fn a_store_slower_than_its_limit_counts_as_a_failure_and_stops_nobody() {
    let (world, mut keeper) = World::running_on("one").await;
    *world.answer_takes.lock().unwrap() = SECOND * 30;
    keeper.refresh();
    sleep(SECOND * 11).await;
    assert_eq!(
        keeper.status().reads.error,
        Some(StoreError::Slow { limit: SECOND * 10 })
    );
    assert_eq!(leader(&keeper).as_deref(), Some("one"));
    *world.answer_takes.lock().unwrap() = ANSWER_TAKES;
    world.database_takes(&["two"]);
    world.store_has(&[current("two")]);
    leads(&mut keeper, "two").await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_at_the_start_is_asked_until_it_answers() {
    let world = World::new(Err(StoreError::Empty));
    world.database_takes(&["one"]);
    let mut keeper = world.keeper(&[endpoint(1)]);
    sleep(SECOND * 60).await;
    assert!((5..=9).contains(&world.reads()), "{} reads", world.reads());
    assert!(keeper.page.borrow().entries().is_empty());
    world.store_has(&[current("one")]);
    let back = Instant::now();
    leads(&mut keeper, "one").await;
    assert!(back.elapsed() < SECOND * 20);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_names_its_next_read_is_read_then() {
    let (world, keeper) = World::running_on("one").await;
    let mut wish = reading(&[current("one")]);
    wish.next_read = Some(SECOND * 2);
    world.store_answers(Ok(wish));
    keeper.refresh();
    sleep(SECOND).await;
    let before = world.reads();
    sleep(SECOND * 100).await;
    assert!((40..=50).contains(&(world.reads() - before)));
}

#[tokio::test(start_paused = true)]
async fn a_cold_start_inside_the_window_is_proven_without_any_client() {
    let world = World::new(Ok(reading(&[current("one"), credential("two", Position::Next)])));
    world.database_takes(&["two"]);
    let mut keeper = world.keeper(&[endpoint(1)]);
    leads(&mut keeper, "two").await;
    assert_eq!(world.start.elapsed(), ANSWER_TAKES * 3);
    world.store_has(&[current("two"), credential("one", Position::Previous)]);
    keeper.refresh();
    sleep(SECOND * 600).await;
    assert_eq!((world.proofs_of("one"), world.proofs_of("two")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_dead_pending_credential_is_never_tried_and_a_dead_current_one_rarely() {
    let (world, keeper) = World::running_on("one").await;
    world.store_has(&[current("one"), credential("dead", Position::Next)]);
    sleep(SECOND * 3600).await;
    assert_eq!(world.proofs_of("dead"), 0);
    world.store_has(&[current("dead"), credential("one", Position::Previous)]);
    sleep(SECOND * 3600).await;
    let proofs = world.proofs_of("dead");
    assert!((3..=12).contains(&proofs), "{proofs} logins refused in an hour");
    assert_eq!(leader(&keeper).as_deref(), Some("one"));
}

#[tokio::test(start_paused = true)]
async fn the_store_is_read_before_a_second_choice_is_proven() {
    let (world, mut keeper) = World::running_on("one").await;
    let dead = credential("dead", Position::Next);
    world.store_has(&[current("one"), dead.clone()]);
    keeper.refresh();
    sleep(SECOND * 20).await;
    world.database_takes(&["two"]);
    world.store_has(&[current("two"), dead]);
    keeper
        .verdicts
        .refused(&current("one"), &endpoint(1), Refusal::BadPassword);
    let refused = Instant::now();
    leads(&mut keeper, "two").await;
    assert_eq!(refused.elapsed(), ANSWER_TAKES * 2);
    assert_eq!(world.proofs_of("dead"), 0);
}

#[tokio::test(start_paused = true)]
async fn without_a_new_value_the_other_ones_are_proven_soon_after_the_store_was_read() {
    let (world, mut keeper) = World::running_on("one").await;
    world.store_has(&[current("one"), credential("two", Position::Next)]);
    keeper.refresh();
    sleep(SECOND * 20).await;
    world.database_takes(&["two"]);
    keeper
        .verdicts
        .refused(&current("one"), &endpoint(1), Refusal::BadPassword);
    let refused = Instant::now();
    leads(&mut keeper, "two").await;
    assert!(refused.elapsed() < SECOND * 2, "{:?}", refused.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_new_credential_does_not_wait_for_the_patience_lost_on_a_dead_one() {
    let (world, mut keeper) = World::running_on("one").await;
    world.store_has(&[current("dead")]);
    sleep(SECOND * 7200).await;
    world.store_has(&[current("two")]);
    keeper.refresh();
    sleep(SECOND * 5).await;
    assert_eq!(
        (leader(&keeper).as_deref(), world.proofs_of("two")),
        (Some("one"), 1)
    );
    world.database_takes(&["two"]);
    let caught_up = Instant::now();
    leads(&mut keeper, "two").await;
    assert!(caught_up.elapsed() < SECOND * 120, "{:?}", caught_up.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_makes_users_learns_that_its_credential_was_refused() {
    let world = World::new(Ok(reading(&[current("revoked")])));
    let mut keeper = world.keeper(&[endpoint(1)]);
    sleep(SECOND * 5).await;
    world.store_has(&[current("fresh")]);
    world.database_takes(&["fresh"]);
    keeper.verdicts.refresh_wanted();
    leads(&mut keeper, "fresh").await;
    assert_eq!(*world.refused_versions.lock().unwrap(), ["revoked"]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_on_the_page_and_in_the_status_as_the_time_that_is_left() {
    let mut leased = reading(&[current("one")]);
    leased.lease = Some(Lease { left: SECOND * 60 });
    let world = World::new(Ok(leased));
    world.database_takes(&["one"]);
    let mut keeper = world.keeper(&[endpoint(1)]);
    leads(&mut keeper, "one").await;
    let end = (world.start + ANSWER_TAKES + SECOND * 60).into_std();
    assert_eq!(keeper.page.borrow().lease_ends(&current("one")), Some(end));
    let status = keeper.status();
    assert_eq!(status.credentials[0].lease_left, Some(SECOND * 60 - ANSWER_TAKES));
    assert_eq!(status.credentials[0].standing, Standing::Leading);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_moves_to_another_store_rotates_to_what_that_one_has() {
    let (world, mut keeper) = World::running_on("one").await;
    let elsewhere = World::new(Ok(reading(&[current("bad")])));
    keeper.read_from(&secret(), Box::new(ScriptedStore(elsewhere.clone())));
    sleep(SECOND * 5).await;
    assert_eq!(leader(&keeper).as_deref(), Some("one"));
    assert!(world.proofs_of("bad") > 0);
    world.database_takes(&["two"]);
    elsewhere.store_has(&[current("two")]);
    keeper.refresh();
    leads(&mut keeper, "two").await;
    let reads = world.reads();
    sleep(POLL * 3).await;
    assert_eq!(world.reads(), reads, "the store before is not read any more");
}

#[tokio::test(start_paused = true)]
async fn a_changed_poll_and_changed_endpoints_need_no_new_keeper() {
    let (world, mut keeper) = World::running_on("one").await;
    let generation = keeper.page.borrow_and_update().generation;
    let policy = Policy {
        endpoints: vec![endpoint(1), endpoint(2)],
        refused_retry: SECOND * 30,
        turns: Arc::default(),
    };
    let poll = SECOND * 10;
    keeper.change(policy, &Secret { poll, ..secret() });
    assert!(
        keeper.page.has_changed().unwrap(),
        "who follows the page looks again"
    );
    let reads = world.reads();
    sleep(SECOND * 60).await;
    assert!((reads + 4..=reads + 7).contains(&world.reads()));
    let proven = keeper.status().credentials[0].endpoints.clone();
    assert!(proven.len() == 2 && proven.iter().all(|endpoint| endpoint.proven));
    assert_eq!(keeper.page.borrow().generation, generation);
}

/// Many secrets of one process that are kept elsewhere.
fn many_keepers(count: usize) -> Vec<(Arc<World>, Handle)> {
    let turns = Arc::<Turns>::default();
    let elsewhere = Secret {
        source: Source::Command {
            argv: vec!["get-secret".to_owned()],
            write: None,
            timeout: SECOND,
        },
        ..secret()
    };
    let elsewhere = Arc::new(elsewhere);
    let start = |_| {
        let world = World::new(Ok(reading(&[current("one")])));
        world.database_takes(&["one"]);
        let policy = Policy {
            endpoints: vec![endpoint(1)],
            refused_retry: SECOND * 30,
            turns: Arc::clone(&turns),
        };
        let records = Records {
            metrics: Metrics::new(),
            journal: Journal::open(None).unwrap(),
        };
        let store = Box::new(ScriptedStore(world.clone()));
        let keeper = super::start(&elsewhere, store, world.clone().prove(), policy, records);
        (world, keeper)
    };
    (0..count).map(start).collect()
}

#[tokio::test(start_paused = true)]
async fn many_secrets_are_not_read_all_at_once() {
    let many = many_keepers(50);
    let read = || many.iter().map(|(world, _)| world.reads()).sum::<usize>();
    sleep(SECOND + ANSWER_TAKES).await;
    assert!((9..=12).contains(&read()), "{}", read());
    sleep(SECOND * 5).await;
    assert_eq!(read(), 50);
    // Nor when somebody asks for all of them.
    many.iter().for_each(|(_, keeper)| keeper.refresh());
    sleep(SECOND + ANSWER_TAKES).await;
    assert!((59..=62).contains(&read()), "{}", read());
    sleep(SECOND * 5).await;
    assert_eq!(read(), 100);
}

#[tokio::test(start_paused = true)]
async fn of_many_secrets_the_one_that_a_client_waits_for_is_read_first() {
    let mut many = many_keepers(50);
    sleep(SECOND).await;
    let (world, keeper) = &mut many[49];
    assert_eq!(world.reads(), 0);
    keeper.verdicts.refresh_wanted();
    leads(keeper, "one").await;
    assert!(world.start.elapsed() < SECOND + ANSWER_TAKES * 3);
    sleep(SECOND * 10).await;
    assert_eq!(many[49].0.reads(), 1, "its turn was for the same read");
}

#[tokio::test(start_paused = true)]
async fn the_keeper_runs_for_as_long_as_somebody_may_report() {
    let (world, keeper) = World::running_on("one").await;
    let verdicts = Arc::clone(&keeper.verdicts);
    drop(keeper);
    sleep(POLL * 2).await;
    let reads = world.reads();
    assert!(reads > 1);
    drop(verdicts);
    sleep(POLL * 4).await;
    assert_eq!(world.reads(), reads);
}

#[tokio::test(start_paused = true)]
async fn the_keeper_ends_with_its_last_handle() {
    let (world, keeper) = World::running_on("one").await;
    let clone = keeper.clone();
    drop(keeper);
    clone.refresh();
    sleep(SECOND).await;
    let reads = world.reads();
    assert!(reads > 1, "a clone keeps it running");
    drop(clone);
    sleep(SECOND * 3600).await;
    assert_eq!(world.reads(), reads);
}

/// Everything that was logged while this test ran.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn start(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || log.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn lines_with(&self, words: &str) -> usize {
        self.text().lines().filter(|line| line.contains(words)).count()
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn named(version: &str, password: &str) -> Credential {
    Credential {
        password: Password::new(password),
        ..current(version)
    }
}

#[tokio::test(start_paused = true)]
async fn the_log_tells_the_story_of_a_rotation_without_a_secret() {
    let log = Log::default();
    let _logging = log.start();
    let world = World::new(Ok(reading(&[named("v1", "canary-1")])));
    world.database_takes(&["v1"]);
    let mut keeper = world.keeper(&[endpoint(1)]);
    leads(&mut keeper, "v1").await;
    world.store_has(&[named("v2", "canary-2")]);
    keeper.refresh();
    sleep(SECOND).await;
    assert_eq!(log.lines_with("credential rotation detected"), 1);
    assert_eq!(
        log.lines_with("a credential was refused: logins go on with the last good one"),
        1
    );
    assert_eq!(log.lines_with("now using rotated credentials"), 0);
    world.database_takes(&["v2"]);
    leads(&mut keeper, "v2").await;
    assert_eq!(log.lines_with("now using rotated credentials"), 1);
    for event in ["seen", "proven", "leading", "refused", "retired"] {
        assert!(
            log.lines_with(&format!("event=\"credential.{event}\" secret=orders version=v")) > 0,
            "{event}"
        );
    }
    assert!(!log.text().contains("canary"));
    assert!(!format!("{:?} {keeper:?}", keeper.status()).contains("canary"));
}

#[tokio::test(start_paused = true)]
async fn a_failing_store_is_said_when_it_starts_now_and_then_and_when_it_is_over() {
    let log = Log::default();
    let (world, keeper) = World::running_on("one").await;
    let _logging = log.start();
    world.store_answers(Err(StoreError::Empty));
    keeper.refresh();
    sleep(SECOND * 3600).await;
    let said = log.lines_with("the store can't be read, logins go on with what is known");
    assert!((5..=8).contains(&said), "{said} lines in an hour");
    world.store_has(&[current("one")]);
    sleep(SECOND * 400).await;
    assert_eq!(log.lines_with("the store can be read again"), 1);
}

#[tokio::test(start_paused = true)]
async fn it_is_an_alarm_when_current_fails_and_another_one_works() {
    let log = Log::default();
    let _logging = log.start();
    let world = World::new(Ok(reading(&[current("one"), credential("two", Position::Next)])));
    world.database_takes(&["two"]);
    let mut keeper = world.keeper(&[endpoint(1)]);
    leads(&mut keeper, "two").await;
    assert_eq!(
        log.lines_with("the store's current credential does not work and this one does"),
        1
    );
}
