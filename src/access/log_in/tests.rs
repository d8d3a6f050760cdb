use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::task::JoinSet;

use super::*;
use crate::config::Limits;
use crate::credentials::{Book, Offer, Password, Position};

const SECOND: Duration = Duration::from_secs(1);
/// How long the pretended Postgres takes to answer.
const LOGIN_TAKES: Duration = Duration::from_millis(5);

type Answered = Result<u64, AttemptError<&'static str>>;
type Login = Result<LoggedIn<u64>, Denied<&'static str>>;

/// A book that publishes, a store that answers at once, and a Postgres of a few words.
struct World {
    book: Mutex<Book>,
    pages: watch::Sender<Arc<Page>>,
    stored: Mutex<Vec<Credential>>,
    accepted: Mutex<Vec<&'static str>>,
    down: Mutex<Vec<Endpoint>>,
    attempts: Mutex<Vec<(String, Endpoint)>>,
    refused: AtomicUsize,
    refreshes: AtomicUsize,
    at_once: AtomicUsize,
    at_once_max: AtomicUsize,
    links: AtomicU64,
}

/// The world as a login sees it; the store answers a wish for a refresh by itself, or not.
struct Reports {
    world: Arc<World>,
    is_store_slow: bool,
}

impl Reports {
    fn to(world: &Arc<World>) -> Self {
        Self {
            world: world.clone(),
            is_store_slow: false,
        }
    }

    fn to_a_slow_store(world: &Arc<World>) -> Self {
        Self {
            is_store_slow: true,
            ..Self::to(world)
        }
    }
}

impl Verdicts for Reports {
    fn proven(&self, credential: &Credential, endpoint: &Endpoint) {
        self.world.write(|book| book.confirm(credential, endpoint, now()));
    }

    fn refused(&self, credential: &Credential, endpoint: &Endpoint, refusal: Refusal) {
        self.world
            .write(|book| book.refuse(credential, endpoint, refusal, now()));
    }

    fn refresh_wanted(&self) {
        self.world.refreshes.fetch_add(1, Ordering::Relaxed);
        if !self.is_store_slow {
            self.world.read_store();
        }
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

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

fn limits() -> Limits {
    Limits {
        clients: 1000,
        startups: 100,
        startup_time: SECOND,
        cancels: 10,
        logins_per_endpoint: 16,
        queue_wait: SECOND,
        statement_bytes: 0,
        again_bytes: 0,
        moves: 1,
        warm: 1,
        admin_connections: 1,
        refused_logins_per_minute: 20,
    }
}

impl World {
    fn new() -> Arc<Self> {
        let book = Book::new(vec![endpoint(1)], Duration::from_secs(30));
        let (pages, _) = watch::channel(book.page().clone());
        Arc::new(Self {
            book: Mutex::new(book),
            pages,
            stored: Mutex::default(),
            accepted: Mutex::default(),
            down: Mutex::default(),
            attempts: Mutex::default(),
            refused: AtomicUsize::new(0),
            refreshes: AtomicUsize::new(0),
            at_once: AtomicUsize::new(0),
            at_once_max: AtomicUsize::new(0),
            links: AtomicU64::new(0),
        })
    }

    /// Everything agrees on this password, and it is proven.
    fn running_on(password: &'static str) -> Arc<Self> {
        let world = Self::new();
        world.database_takes(&[password]);
        world.store_publishes(&[current(password)]);
        world.write(|book| book.confirm(&current(password), &endpoint(1), now()));
        world
    }

    fn write(&self, change: impl FnOnce(&mut Book)) {
        let mut book = self.book.lock().unwrap();
        change(&mut book);
        self.pages.send_replace(book.page().clone());
    }

    fn read_store(&self) {
        let credentials = self.stored.lock().unwrap().clone();
        let offer = Offer {
            credentials,
            ..Offer::default()
        };
        self.write(|book| book.offer(offer, now()));
    }

    /// Seen only by the next read.
    fn store_has(&self, credentials: &[Credential]) {
        *self.stored.lock().unwrap() = credentials.to_vec();
    }

    fn store_publishes(&self, credentials: &[Credential]) {
        self.store_has(credentials);
        self.read_store();
    }

    fn database_takes(&self, passwords: &[&'static str]) {
        *self.accepted.lock().unwrap() = passwords.to_vec();
    }

    fn goes_down(&self, endpoints: &[Endpoint]) {
        *self.down.lock().unwrap() = endpoints.to_vec();
    }

    fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    fn attempts(&self) -> Vec<(String, Endpoint)> {
        self.attempts.lock().unwrap().clone()
    }

    async fn attempt(self: Arc<Self>, credential: Credential, endpoint: Endpoint) -> Answered {
        let password = credential.version.to_string();
        self.attempts
            .lock()
            .unwrap()
            .push((password.clone(), endpoint.clone()));
        let at_once = self.at_once.fetch_add(1, Ordering::Relaxed) + 1;
        self.at_once_max.fetch_max(at_once, Ordering::Relaxed);
        sleep(LOGIN_TAKES).await;
        self.at_once.fetch_sub(1, Ordering::Relaxed);
        if self.down.lock().unwrap().contains(&endpoint) {
            return Err(AttemptError::NotYet("57P03"));
        }
        if self.accepted.lock().unwrap().contains(&password.as_str()) {
            return Ok(self.links.fetch_add(1, Ordering::Relaxed));
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        Err(AttemptError::Refused(Refusal::BadPassword, "28P01"))
    }

    fn access(self: &Arc<Self>, limits: &Limits) -> Access {
        Access {
            page: self.pages.subscribe(),
            verdicts: Arc::new(Reports::to(self)),
            gates: Arc::new(Gates::new(limits, Metrics::new())),
            metrics: Metrics::new(),
            patience: Duration::from_secs(30),
        }
    }
}

async fn log_in(world: &Arc<World>, access: &Access, endpoints: &[Endpoint]) -> Login {
    access
        .log_in(endpoints, |credential, endpoint| {
            world.clone().attempt(credential, endpoint)
        })
        .await
}

/// So many clients at once, each on a task of its own.
fn arrive(clients: usize, world: &Arc<World>, access: &Access) -> JoinSet<Login> {
    let mut arrived = JoinSet::new();
    for _ in 0..clients {
        let (world, access) = (world.clone(), access.clone());
        arrived.spawn(async move { log_in(&world, &access, &[endpoint(1)]).await });
    }
    arrived
}

async fn all_served(mut clients: JoinSet<Login>) -> Vec<LoggedIn<u64>> {
    let mut served = Vec::new();
    while let Some(login) = clients.join_next().await {
        served.push(login.unwrap().unwrap());
    }
    served
}

#[tokio::test(start_paused = true)]
async fn a_hundred_clients_with_a_stale_password_cause_one_refused_login() {
    let world = World::running_on("one");
    let access = world.access(&limits());
    world.database_takes(&["two"]);
    world.store_has(&[current("two"), credential("one", Position::Previous)]);
    let served = all_served(arrive(100, &world, &access)).await;
    assert_eq!((served.len(), world.refused()), (100, 1));
    assert!(served.iter().all(|login| login.credential == current("two")));
}

#[tokio::test(start_paused = true)]
async fn a_hundred_clients_cause_one_refused_login_for_each_of_several_candidates() {
    let world = World::running_on("one");
    let access = world.access(&limits());
    let dead = credential("dead", Position::Next);
    world.store_publishes(&[current("one"), dead, credential("zero", Position::Previous)]);
    world.database_takes(&["zero"]);
    let served = all_served(arrive(100, &world, &access)).await;
    assert_eq!((served.len(), world.refused()), (100, 2));
}

#[tokio::test(start_paused = true)]
async fn fifty_clients_are_held_while_both_are_wrong_and_served_when_the_store_catches_up() {
    let world = World::running_on("one");
    let access = world.access(&limits());
    world.store_publishes(&[current("one"), credential("two", Position::Next)]);
    world.database_takes(&[]);
    let mut clients = JoinSet::new();
    for arrival in 0..50 {
        let (world, access) = (world.clone(), access.clone());
        clients.spawn(async move {
            sleep(SECOND * arrival / 5).await;
            log_in(&world, &access, &[endpoint(1)]).await
        });
    }
    let start = Instant::now();
    sleep(SECOND * 10).await;
    world.database_takes(&["three"]);
    world.store_publishes(&[current("three"), credential("two", Position::Previous)]);
    assert_eq!(all_served(clients).await.len(), 50);
    assert!(start.elapsed() < SECOND * 11, "{:?}", start.elapsed());
    assert!(world.refused() < 20, "{} refused", world.refused());
}

#[tokio::test(start_paused = true)]
async fn fifty_clients_are_held_and_served_when_the_database_catches_up() {
    let world = World::new();
    let access = world.access(&limits());
    world.store_publishes(&[current("one"), credential("two", Position::Next)]);
    let clients = arrive(50, &world, &access);
    let start = Instant::now();
    sleep(SECOND * 10).await;
    world.database_takes(&["two"]);
    assert_eq!(all_served(clients).await.len(), 50);
    assert!(start.elapsed() < SECOND * 16, "{:?}", start.elapsed());
    assert!(world.refused() < 20, "{} refused", world.refused());
}

#[tokio::test(start_paused = true)]
async fn a_held_client_logs_in_the_moment_a_new_page_is_published() {
    let world = World::running_on("one");
    let access = world.access(&limits());
    world.database_takes(&["two"]);
    let client = arrive(1, &world, &access);
    sleep(Duration::from_millis(5300)).await;
    let caught_up = Instant::now();
    world.store_publishes(&[current("two")]);
    all_served(client).await;
    assert!(
        caught_up.elapsed() <= LOGIN_TAKES * 2,
        "{:?}",
        caught_up.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_cold_start_inside_the_window_is_served_by_the_pending_credential() {
    let world = World::new();
    let access = world.access(&limits());
    world.database_takes(&["two"]);
    let clients = arrive(10, &world, &access);
    sleep(SECOND * 3).await;
    let start = Instant::now();
    world.store_publishes(&[current("one"), credential("two", Position::Next)]);
    let served = all_served(clients).await;
    assert!(served.iter().all(|login| &*login.credential.version == "two"));
    assert!(start.elapsed() < SECOND && world.refused() == 1);
}

#[tokio::test(start_paused = true)]
async fn the_store_is_asked_before_a_second_choice_is_tried() {
    let world = World::running_on("one");
    let access = world.access(&limits());
    world.store_publishes(&[current("one"), credential("dead", Position::Next)]);
    sleep(SECOND).await;
    world.database_takes(&["two"]);
    world.store_has(&[current("two"), credential("dead", Position::Next)]);
    let login = log_in(&world, &access, &[endpoint(1)]).await.unwrap();
    assert_eq!(login.credential, current("two"));
    assert_eq!(world.refreshes.load(Ordering::Relaxed), 1);
    assert_eq!(world.refused(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_was_read_a_moment_ago_is_not_waited_for() {
    let world = World::running_on("one");
    let mut access = world.access(&limits());
    access.verdicts = Arc::new(Reports::to_a_slow_store(&world));
    world.store_publishes(&[current("one"), credential("two", Position::Next)]);
    sleep(SECOND / 2).await;
    world.database_takes(&["two"]);
    let start = Instant::now();
    log_in(&world, &access, &[endpoint(1)]).await.unwrap();
    assert_eq!(start.elapsed(), LOGIN_TAKES * 2);
}

#[tokio::test(start_paused = true)]
async fn who_comes_after_the_refusal_waits_for_the_store_as_well() {
    let world = World::running_on("one");
    let mut access = world.access(&limits());
    world.store_publishes(&[current("one"), credential("dead", Position::Next)]);
    sleep(SECOND).await;
    world.database_takes(&["two"]);
    access.verdicts = Arc::new(Reports::to_a_slow_store(&world));
    let first = arrive(1, &world, &access);
    sleep(SECOND / 2).await;
    let late = arrive(10, &world, &access);
    sleep(SECOND / 2).await;
    world.store_publishes(&[current("two"), credential("dead", Position::Next)]);
    all_served(first).await;
    all_served(late).await;
    assert_eq!(world.refused(), 1);
}

#[tokio::test(start_paused = true)]
async fn when_patience_ends_the_client_gets_what_postgres_said_last() {
    let world = World::running_on("one");
    let mut access = world.access(&limits());
    access.patience = SECOND * 5;
    world.database_takes(&[]);
    let start = Instant::now();
    let login = log_in(&world, &access, &[endpoint(1)]).await;
    assert_eq!(login, Err(Denied::Refused(Some("28P01"))));
    assert_eq!(start.elapsed(), SECOND * 5);
    let late = log_in(&world, &access, &[endpoint(1)]).await;
    assert!(matches!(late, Err(Denied::Refused(_))));
}

#[tokio::test(start_paused = true)]
async fn who_waited_for_the_store_alone_is_told_of_the_refusal() {
    let world = World::running_on("one");
    let mut access = world.access(&limits());
    access.verdicts = Arc::new(Reports::to_a_slow_store(&world));
    world.store_publishes(&[current("one"), credential("two", Position::Next)]);
    sleep(SECOND * 2).await;
    world.database_takes(&[]);
    let first = arrive(1, &world, &access);
    sleep(SECOND / 2).await;
    access.patience = SECOND;
    let late = log_in(&world, &access, &[endpoint(1)]).await;
    assert_eq!(late, Err(Denied::Refused(None)));
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answered_is_told_from_a_refusal() {
    let world = World::new();
    let access = world.access(&limits());
    let login = log_in(&world, &access, &[endpoint(1)]).await;
    assert_eq!(login, Err(Denied::NoCredential));
    assert!(world.attempts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_down_is_waited_for_with_the_same_credential() {
    let world = World::running_on("one");
    let access = world.access(&limits());
    world.store_publishes(&[current("one"), credential("two", Position::Next)]);
    world.goes_down(&[endpoint(1)]);
    let clients = arrive(20, &world, &access);
    sleep(SECOND * 10).await;
    world.goes_down(&[]);
    let back = Instant::now();
    assert_eq!(all_served(clients).await.len(), 20);
    assert!(back.elapsed() < SECOND * 3);
    assert!(world.attempts().iter().all(|(password, _)| password == "one"));
    assert_eq!(world.refused(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_stays_down_ends_patience_as_not_yet() {
    let world = World::running_on("one");
    let access = world.access(&limits());
    world.goes_down(&[endpoint(1)]);
    let login = log_in(&world, &access, &[endpoint(1)]).await;
    assert_eq!(login, Err(Denied::NotYet(Some("57P03"))));
}

#[tokio::test(start_paused = true)]
async fn only_an_endpoint_that_is_down_leads_to_the_next_one() {
    let world = World::running_on("one");
    let mut access = world.access(&limits());
    access.patience = SECOND * 3;
    let hosts = [endpoint(1), endpoint(2)];
    world.goes_down(&[endpoint(1)]);
    let login = log_in(&world, &access, &hosts).await.unwrap();
    assert_eq!(login.endpoint, endpoint(2));
    world.goes_down(&[]);
    world.database_takes(&[]);
    let refused = log_in(&world, &access, &hosts).await;
    assert_eq!(refused, Err(Denied::Refused(Some("28P01"))));
    let on_the_second = world
        .attempts()
        .iter()
        .filter(|(_, at)| *at == endpoint(2))
        .count();
    assert_eq!(on_the_second, 1, "a refusal stays on its endpoint");
}

#[tokio::test(start_paused = true)]
async fn other_errors_are_passed_on_at_once_and_switch_nothing() {
    for authenticated in [false, true] {
        let world = World::new();
        let access = world.access(&limits());
        world.store_publishes(&[current("one"), credential("two", Position::Next)]);
        let start = Instant::now();
        let calls = AtomicUsize::new(0);
        let login: Login = access
            .log_in(&[endpoint(1), endpoint(2)], |_, _| {
                calls.fetch_add(1, Ordering::Relaxed);
                async move {
                    Err(AttemptError::Fatal {
                        error: "3D000",
                        authenticated,
                    })
                }
            })
            .await;
        assert_eq!(login, Err(Denied::Fatal("3D000")));
        assert_eq!(
            (start.elapsed(), calls.load(Ordering::Relaxed)),
            (Duration::ZERO, 1)
        );
        assert_eq!(world.pages.borrow().has_proof(), authenticated);
    }
}

#[tokio::test(start_paused = true)]
async fn the_governor_stops_doubtful_logins_but_not_proven_ones() {
    let limits = Limits {
        refused_logins_per_minute: 3,
        ..limits()
    };
    let world = World::new();
    let mut access = world.access(&limits);
    access.patience = SECOND * 50;
    let list: Vec<_> = (0..10)
        .map(|index| credential(&index.to_string(), Position::Index(index)))
        .collect();
    world.store_publishes(&list);
    let login = log_in(&world, &access, &[endpoint(1)]).await;
    assert_eq!(login, Err(Denied::Refused(Some("28P01"))));
    assert_eq!(world.refused(), 3);
    world.database_takes(&["7"]);
    world.write(|access| access.confirm(&list[7], &endpoint(1), now()));
    let login = log_in(&world, &access, &[endpoint(1)]).await.unwrap();
    assert_eq!(login.credential, list[7]);
}

#[tokio::test(start_paused = true)]
async fn a_new_credential_does_not_wait_because_others_were_refused_so_often() {
    let limits = Limits {
        refused_logins_per_minute: 10,
        ..limits()
    };
    let world = World::running_on("one");
    let access = world.access(&limits);
    let (next, previous) = (
        credential("two", Position::Next),
        credential("zero", Position::Previous),
    );
    world.store_publishes(&[current("one"), next, previous]);
    world.database_takes(&[]);
    let clients = arrive(50, &world, &access);
    sleep(SECOND * 25).await;
    assert!(world.refused() <= 10, "{} refused", world.refused());
    world.database_takes(&["three"]);
    world.store_publishes(&[current("three")]);
    let caught_up = Instant::now();
    all_served(clients).await;
    assert!(caught_up.elapsed() < SECOND, "{:?}", caught_up.elapsed());
}

#[tokio::test(start_paused = true)]
async fn logins_under_way_when_the_password_changes_are_not_held_against_the_new_one() {
    let limits = Limits {
        refused_logins_per_minute: 10,
        ..limits()
    };
    let world = World::running_on("one");
    let access = world.access(&limits);
    let clients = arrive(17, &world, &access);
    // One has shown that the credential is taken, and the others have set out.
    sleep(LOGIN_TAKES * 3 / 2).await;
    world.database_takes(&["two"]);
    sleep(SECOND).await;
    assert_eq!(world.refused(), 16);
    world.store_publishes(&[current("two")]);
    let caught_up = Instant::now();
    all_served(clients).await;
    assert!(caught_up.elapsed() < SECOND, "{:?}", caught_up.elapsed());
}

#[tokio::test(start_paused = true)]
async fn logins_at_once_are_limited_and_all_are_served() {
    let limits = Limits {
        logins_per_endpoint: 4,
        ..limits()
    };
    let world = World::running_on("one");
    let access = world.access(&limits);
    let start = Instant::now();
    assert_eq!(all_served(arrive(41, &world, &access)).await.len(), 41);
    assert_eq!(world.at_once_max.load(Ordering::Relaxed), 4);
    assert_eq!(
        start.elapsed(),
        LOGIN_TAKES * 11,
        "one scout, then four at a time"
    );
}

#[tokio::test(start_paused = true)]
async fn a_queue_behind_the_limit_does_not_repeat_a_refusal_that_came_meanwhile() {
    let limits = Limits {
        logins_per_endpoint: 1,
        ..limits()
    };
    let world = World::running_on("one");
    let access = world.access(&limits);
    let clients = arrive(20, &world, &access);
    sleep(LOGIN_TAKES * 7 / 2).await;
    world.database_takes(&["two"]);
    world.store_has(&[current("two")]);
    assert_eq!(all_served(clients).await.len(), 20);
    assert_eq!(world.refused(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_has_waited_in_a_queue_goes_with_what_leads_by_then_and_not_with_what_was_replaced() {
    let limits = Limits {
        logins_per_endpoint: 1,
        ..limits()
    };
    let world = World::running_on("one");
    world.database_takes(&["one", "two"]);
    let access = world.access(&limits);
    let clients = arrive(20, &world, &access);
    sleep(LOGIN_TAKES * 7 / 2).await;
    world.store_publishes(&[current("two")]);
    world.write(|book| book.confirm(&current("two"), &endpoint(1), now()));
    let under_way = world.attempts().len();
    assert_eq!(all_served(clients).await.len(), 20);
    let since = world.attempts().split_off(under_way);
    assert!(since.iter().all(|(password, _)| password == "two"), "{since:?}");
}

#[tokio::test(start_paused = true)]
async fn a_scout_that_goes_away_is_replaced_by_the_next_in_line() {
    let world = World::running_on("one");
    let access = world.access(&limits());
    let mut scout = arrive(1, &world, &access);
    tokio::task::yield_now().await;
    let clients = arrive(5, &world, &access);
    tokio::task::yield_now().await;
    scout.abort_all();
    while scout.join_next().await.is_some() {}
    assert_eq!(all_served(clients).await.len(), 5);
    assert_eq!(world.attempts().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_gets_no_answer_holds_up_nobody_for_long_whose_credential_is_proven() {
    let world = World::running_on("one");
    let access = world.access(&limits());
    let silent = access.clone();
    let hung = tokio::spawn(async move {
        let silence = |_, _| std::future::pending::<Answered>();
        silent.log_in(&[endpoint(1)], silence).await
    });
    tokio::task::yield_now().await;
    let start = Instant::now();
    assert_eq!(all_served(arrive(5, &world, &access)).await.len(), 5);
    assert!(start.elapsed() < SECOND * 3, "{:?}", start.elapsed());
    hung.abort();
}

#[tokio::test(start_paused = true)]
async fn the_generation_is_that_of_the_page_before_the_connection_was_made() {
    let world = World::running_on("one");
    let access = world.access(&limits());
    let before = world.pages.borrow().generation;
    let login = {
        let (world, access) = (world.clone(), access.clone());
        tokio::spawn(async move { log_in(&world, &access, &[endpoint(1)]).await })
    };
    sleep(LOGIN_TAKES / 2).await;
    world.store_publishes(&[current("two")]);
    assert!(world.pages.borrow().generation > before);
    assert_eq!(login.await.unwrap().unwrap().generation, before);
}

#[tokio::test(start_paused = true)]
async fn a_proof_beside_a_login_with_the_same_credential_is_not_sent() {
    let world = World::new();
    let access = world.access(&limits());
    world.store_publishes(&[current("wrong")]);
    let mut clients = arrive(10, &world, &access);
    tokio::task::yield_now().await;
    let reports = Reports::to(&world);
    let attempt = world.clone().attempt(current("wrong"), endpoint(1));
    let proof = prove(&access.gates, &reports, &current("wrong"), &endpoint(1), attempt).await;
    assert!(proof.is_none());
    assert_eq!(world.refused(), 1);
    clients.abort_all();
    while clients.join_next().await.is_some() {}
    sleep(SECOND * 2).await;
    let attempt = world.clone().attempt(current("wrong"), endpoint(1));
    let proof = prove(&access.gates, &reports, &current("wrong"), &endpoint(1), attempt).await;
    let refused = Err(AttemptError::Refused(Refusal::BadPassword, "28P01"));
    assert_eq!(proof, Some(refused));
    assert_eq!(
        world
            .pages
            .borrow()
            .tries(&endpoint(1), Instant::now().into_std())
            .count(),
        0
    );
}

/// Which users have a password, and where the store says it.
#[derive(Clone, Copy, Debug)]
enum Style {
    SingleUser,
    Next,
    Alternating,
}

/// Each password is set in the database before the store says so, and another one is before that was read.
#[tokio::test(start_paused = true)]
async fn after_a_storm_of_rotations_what_the_store_holds_now_is_tried_at_once() {
    const EACH_TAKES: Duration = Duration::from_millis(18);
    for style in [Style::SingleUser, Style::Next, Style::Alternating] {
        let world = World::running_on("zero");
        let access = world.access(&limits());
        let passwords: Vec<&'static str> = (0..300).map(|n| &*format!("{n}").leak()).collect();
        let mut clients = JoinSet::new();
        let mut before = "zero";
        for (number, password) in passwords.iter().copied().enumerate() {
            let both = [password, before];
            world.database_takes(match style {
                Style::Alternating => &both,
                Style::SingleUser | Style::Next => &both[..1],
            });
            let listed = match style {
                Style::Next => [current(before), credential(password, Position::Next)],
                _ => [current(password), credential(before, Position::Previous)],
            };
            world.store_has(&listed);
            if number % 6 == 0 {
                world.read_store();
                let (world, access) = (world.clone(), access.clone());
                clients.spawn(async move { log_in(&world, &access, &[endpoint(1)]).await });
            }
            sleep(EACH_TAKES).await;
            before = password;
        }
        world.store_publishes(&[current(before)]);
        let start = Instant::now();
        all_served(arrive(10, &world, &access)).await;
        all_served(clients).await;
        assert!(start.elapsed() < SECOND * 2, "{style:?}: {:?}", start.elapsed());
        let refused = world.refused();
        all_served(arrive(100, &world, &access)).await;
        assert_eq!(world.refused(), refused, "{style:?}");
    }
}
