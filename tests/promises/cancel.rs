//! A cancel request reaches the query that it was meant for, and no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use crate::support::wire::{PROTOCOL_3_0, PROTOCOL_3_2, SSL_REQUEST, cancel_request};
use crate::support::{Postgres, Swivel, Wire, eventually, within};

/// Logs in and returns the session with the key that it was given.
async fn session(swivel: &Swivel, version: u32) -> (Wire, i32, Bytes) {
    let mut wire = Wire::connect(&swivel.address()).await;
    wire.startup(
        version,
        &[("user", Swivel::USER), ("database", Postgres::DATABASE)],
    )
    .await;
    wire.authenticate(Swivel::PASSWORD.as_bytes()).await.unwrap();
    let greeting = wire.until(b'Z').await;
    let (pid, key) = greeting.iter().find(|message| message.tag == b'K').unwrap().key();
    (wire, pid, key)
}

/// Waits until the backend with this process id sleeps, which is what the queries here do.
async fn sleeps(admin: &Client, pid: i32) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'";
    eventually("the query runs", async || {
        admin.query_one(sql, &[&pid]).await.unwrap().get::<_, i64>(0) == 1
    })
    .await;
}

/// What a query waits for that is to last as long as a test wants.
struct Gate(Client);

impl Gate {
    const WAIT: &str = "SELECT pg_advisory_xact_lock(1)";

    async fn shut(postgres: &Postgres) -> Self {
        let admin = postgres.admin_of(Postgres::DATABASE).await;
        admin.execute("SELECT pg_advisory_lock(1)", &[]).await.unwrap();
        Self(admin)
    }

    /// Waits until the backend with this process id stands before it.
    async fn holds(&self, pid: i32) {
        let sql = "SELECT count(*) FROM pg_locks WHERE pid = $1 AND locktype = 'advisory' AND NOT granted";
        eventually("the query waits", async || {
            self.0.query_one(sql, &[&pid]).await.unwrap().get::<_, i64>(0) == 1
        })
        .await;
    }

    async fn open(&self) {
        self.0.execute("SELECT pg_advisory_unlock(1)", &[]).await.unwrap();
    }
}

/// Sends a cancel request and closes at once, as some drivers do.
async fn cancel(swivel: &Swivel, pid: i32, key: &[u8]) {
    let mut wire = Wire::connect(&swivel.address()).await;
    wire.send(&cancel_request(pid, key)).await;
}

promise! {
    async fn a_running_query_is_cancelled_with_a_key_of_either_protocol(version) {
        let postgres = Postgres::start(version);
        let admin = postgres.admin().await;
        let swivel = Swivel::in_front_of(&postgres).start().await;
        for (protocol, length) in [(PROTOCOL_3_0, 4), (PROTOCOL_3_2, 32)] {
            let (mut wire, pid, key) = session(&swivel, protocol).await;
            assert_eq!(key.len(), length);
            wire.query("SELECT pg_sleep(600)").await;
            sleeps(&admin, pid).await;
            cancel(&swivel, pid, &key).await;
            let answer = wire.until(b'Z').await;
            let error = answer.iter().find(|message| message.tag == b'E').unwrap().error();
            assert_eq!((error.severity.as_str(), error.code.as_str()), ("ERROR", "57014"));
        }
    }
}

promise! {
    async fn the_process_id_is_the_backends_own_and_the_key_is_not(version) {
        let postgres = Postgres::start(version);
        let gate = Gate::shut(&postgres).await;
        let swivel = Swivel::in_front_of(&postgres).start().await;
        let (mut wire, pid, key) = session(&swivel, PROTOCOL_3_0).await;
        wire.query("SELECT pg_backend_pid()").await;
        let answer = wire.until(b'Z').await;
        assert_eq!(answer[1].first_column(), Some(pid.to_string()));

        // The key is good at pgswivel and good for nothing at Postgres.
        wire.query(Gate::WAIT).await;
        gate.holds(pid).await;
        let mut around = Wire::connect(&postgres.address()).await;
        around.send(&cancel_request(pid, &key)).await;
        assert!(around.ends().await);
        gate.open().await;
        let answer = wire.until(b'Z').await;
        assert!(answer.iter().all(|message| message.tag != b'E'), "{answer:?}");
    }
}

promise! {
    async fn a_driver_cancels_in_plain_and_over_tls(version) {
        let postgres = Postgres::start(version);
        let admin = postgres.admin().await;
        let swivel = Swivel::in_front_of(&postgres)
            .verifying(postgres.authority())
            .with_tls()
            .start()
            .await;
        let (plain, connection) = swivel.config().connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        let (secured, connection) = swivel.config().connect(swivel.tls()).await.unwrap();
        tokio::spawn(connection);
        for client in [plain, secured] {
            let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
            let token = client.cancel_token();
            let query = tokio::spawn(async move { client.simple_query("SELECT pg_sleep(600)").await });
            sleeps(&admin, pid).await;
            token.cancel_query(swivel.tls()).await.unwrap();
            let error = query.await.unwrap().err().unwrap();
            assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));
        }
    }
}

#[tokio::test]
async fn whoever_asks_first_for_encryption_may_cancel_without_it() {
    let postgres = Postgres::start(18);
    let admin = postgres.admin().await;
    let swivel = Swivel::in_front_of(&postgres).start().await;
    let (mut wire, pid, key) = session(&swivel, PROTOCOL_3_0).await;
    wire.query("SELECT pg_sleep(600)").await;
    sleeps(&admin, pid).await;
    let mut request = Wire::connect(&swivel.address()).await;
    assert_eq!(request.ask(&SSL_REQUEST).await, b'N');
    request.send(&cancel_request(pid, &key)).await;
    assert!(request.ends().await);
    assert!(wire.until(b'Z').await.iter().any(|message| message.tag == b'E'));
}

#[tokio::test]
async fn a_wrong_key_does_nothing_and_is_told_nothing() {
    let postgres = Postgres::start(18);
    let gate = Gate::shut(&postgres).await;
    let swivel = Swivel::in_front_of(&postgres).start().await;
    let (mut wire, pid, key) = session(&swivel, PROTOCOL_3_2).await;
    wire.query(Gate::WAIT).await;
    gate.holds(pid).await;
    let mut almost = key.to_vec();
    almost[31] ^= 1;
    let guesses = [
        &almost[..],
        &key[..4],
        &key[..31],
        &[0; 4],
        &[0; 32],
        &[7; 256],
        &[7; 300],
        &[],
    ];
    let guesses = guesses.map(|guess| (pid, guess));
    for (pid, guess) in guesses.into_iter().chain([(pid + 1, &key[..])]) {
        let mut request = Wire::connect(&swivel.address()).await;
        request.send(&cancel_request(pid, guess)).await;
        assert!(request.ends().await, "an answer to a cancel request");
    }
    gate.open().await;
    let answer = wire.until(b'Z').await;
    assert!(answer.iter().all(|message| message.tag != b'E'), "{answer:?}");
}

#[tokio::test]
async fn a_key_dies_with_its_session() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    let (mut wire, pid, key) = session(&swivel, PROTOCOL_3_2).await;
    wire.say(b'X', b"").await;
    assert!(wire.ends().await);
    let mut request = Wire::connect(&swivel.address()).await;
    request.send(&cancel_request(pid, &key)).await;
    assert!(request.ends().await);
    let client = swivel.connect().await;
    assert_eq!(client.query("SELECT 1", &[]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn no_two_sessions_are_given_the_same_key() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    let mut keys = std::collections::HashSet::new();
    for _ in 0..40 {
        let (_, _, key) = session(&swivel, PROTOCOL_3_2).await;
        assert!(keys.insert(key));
    }
}

/// Sessions that come, ask one question and go, until told to stop; none may ever be cancelled.
async fn come_and_go(address: String, stop: Arc<AtomicBool>, served: Arc<AtomicUsize>) {
    while !stop.load(Ordering::Relaxed) {
        let mut wire = Wire::login(&address, Swivel::USER, Swivel::PASSWORD, Postgres::DATABASE).await;
        wire.query("SELECT pg_sleep(0.5)").await;
        let answer = wire.until(b'Z').await;
        assert!(answer.iter().all(|message| message.tag != b'E'), "{answer:?}");
        served.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn cancels_hit_the_right_query_while_fifty_sessions_come_and_go() {
    let postgres = Postgres::version(18).setting("max_connections", "200").start();
    let admin = postgres.admin().await;
    let swivel = Swivel::in_front_of(&postgres)
        .upstream_line("connections_max = 150")
        .start()
        .await;
    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let crowd: Vec<_> = (0..50)
        .map(|_| {
            tokio::spawn(come_and_go(
                swivel.address(),
                Arc::clone(&stop),
                Arc::clone(&served),
            ))
        })
        .collect();

    let mut sleepers = Vec::new();
    for _ in 0..10 {
        let (mut wire, pid, key) = session(&swivel, PROTOCOL_3_2).await;
        wire.query("SELECT pg_sleep(600)").await;
        sleeps(&admin, pid).await;
        sleepers.push((wire, pid, key));
    }
    while let Some((mut wire, pid, key)) = sleepers.pop() {
        cancel(&swivel, pid, &key).await;
        let answer = within(Duration::from_secs(10), "the cancel", wire.until(b'Z')).await;
        let error = answer.iter().find(|message| message.tag == b'E').unwrap().error();
        assert_eq!(error.code, "57014");
        for (_, other, _) in &sleepers {
            sleeps(&admin, *other).await;
        }
    }
    eventually("the crowd is served", async || {
        served.load(Ordering::Relaxed) > 200
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    for session in crowd {
        session.await.unwrap();
    }
}

#[tokio::test]
async fn a_flood_of_cancel_requests_leaves_the_sessions_alone() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    let (mut wire, pid, key) = session(&swivel, PROTOCOL_3_2).await;
    let flood: Vec<_> = (0..500)
        .map(|_| {
            let (address, key) = (swivel.address(), key.clone());
            tokio::spawn(async move {
                let mut request = Wire::connect(&address).await;
                request.send(&cancel_request(pid, &key)).await;
                request.ends().await
            })
        })
        .collect();
    for request in flood {
        assert!(request.await.unwrap());
    }
    // A cancel that arrives late may still hit one of these, as with Postgres.
    eventually("the session is served again", async || {
        wire.query("SELECT 'served'").await;
        wire.until(b'Z').await.iter().any(|message| message.tag == b'D')
    })
    .await;
}

/// A way to a server on which cancel requests are held up for as long as a test wants.
struct Detour {
    port: u16,
    held: Arc<AtomicUsize>,
    through: Arc<AtomicUsize>,
    released: Arc<tokio::sync::Semaphore>,
}

impl Detour {
    async fn to(postgres: &Postgres) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let detour = Self {
            port: listener.local_addr().unwrap().port(),
            held: Arc::default(),
            through: Arc::default(),
            released: Arc::new(tokio::sync::Semaphore::new(0)),
        };
        let (held, through) = (Arc::clone(&detour.held), Arc::clone(&detour.through));
        let (released, address) = (Arc::clone(&detour.released), postgres.address());
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (held, through) = (Arc::clone(&held), Arc::clone(&through));
                let (released, address) = (Arc::clone(&released), address.clone());
                tokio::spawn(async move {
                    let mut first = [0; 8];
                    near.read_exact(&mut first).await.unwrap();
                    let is_cancel = first[4..] == cancel_request(0, b"")[4..8];
                    if is_cancel {
                        held.fetch_add(1, Ordering::Relaxed);
                        released.acquire().await.unwrap().forget();
                    }
                    let mut far = TcpStream::connect(address).await.unwrap();
                    far.write_all(&first).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    through.fetch_add(usize::from(is_cancel), Ordering::Relaxed);
                });
            }
        });
        detour
    }

    async fn holds_one(&self) {
        eventually("the cancel is on its way", async || {
            self.held.load(Ordering::Relaxed) == 1
        })
        .await;
    }

    async fn lets_it_through(&self) {
        self.released.add_permits(1);
        eventually("the cancel is through", async || {
            self.through.load(Ordering::Relaxed) == 1
        })
        .await;
    }
}

promise! {
    async fn a_cancel_that_is_late_hits_nobody_else(version) {
        let postgres = Postgres::start(version);
        let gate = Gate::shut(&postgres).await;
        let detour = Detour::to(&postgres).await;
        let swivel = Swivel::in_front_of_port(detour.port)
            .upstream_line("reuse = true")
            .start()
            .await;
        let (mut first, left, key) = session(&swivel, PROTOCOL_3_0).await;
        cancel(&swivel, left, &key).await;
        detour.holds_one().await;
        first.say(b'X', b"").await;
        assert!(first.ends().await);
        let (mut second, backend, _) = session(&swivel, PROTOCOL_3_0).await;
        second.query(Gate::WAIT).await;
        gate.holds(backend).await;
        detour.lets_it_through().await;
        gate.open().await;
        let answer = second.until(b'Z').await;
        assert!(answer.iter().all(|message| message.tag != b'E'), "{answer:?}");
        // Now nothing is on its way there, and the link is as good as any.
        let mut others = Vec::new();
        eventually("the link is lent again", async || {
            let (wire, backend, _) = session(&swivel, PROTOCOL_3_0).await;
            others.push(wire);
            backend == left
        })
        .await;
    }
}
