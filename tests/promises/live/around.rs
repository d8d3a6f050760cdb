//! What is around it stalls, floods it, or is gone: one thing at a time, and two. Who does not need it goes on, health
//! says how things are, and the end comes when it should.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_postgres::NoTls;

use crate::support::{Postgres, Swivel, Waited, eventually, in_time, is_long};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Stalled,
    Flooded,
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thing {
    Stdout,
    Audit,
    Admin,
    Store,
    /// Another one than that of the sessions that go on.
    Database,
}

type Harm = (Thing, How);

const THINGS: [Thing; 5] = [
    Thing::Stdout,
    Thing::Audit,
    Thing::Admin,
    Thing::Store,
    Thing::Database,
];
const DRAIN: Duration = Duration::from_secs(2);
/// For the last words to clients (two seconds), the last lines of the audit file and of the log (one each).
const END: Duration = Duration::from_secs(6);
/// Far more than anything takes here.
const SOON: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// It can't lose its own address.
fn hows(thing: Thing) -> &'static [How] {
    match thing {
        Thing::Admin => &[How::Stalled, How::Flooded],
        _ => &[How::Stalled, How::Flooded, How::Gone],
    }
}

fn singles() -> Vec<Vec<Harm>> {
    let of = |thing: Thing| hows(thing).iter().map(move |how| vec![(thing, *how)]);
    THINGS.into_iter().flat_map(of).collect()
}

/// Every two things, each in every way; in short, each two in one way.
fn pairs() -> Vec<Vec<Harm>> {
    let mut pairs = Vec::new();
    for (n, one) in THINGS.into_iter().enumerate() {
        for (m, other) in THINGS.into_iter().enumerate().skip(n + 1) {
            let ways = hows(one)
                .iter()
                .flat_map(|one| hows(other).iter().map(move |other| (*one, *other)));
            let ways: Vec<_> = ways.collect();
            let some = if is_long() {
                ways.as_slice()
            } else {
                &ways[(n + m) % ways.len()..][..1]
            };
            pairs.extend(some.iter().map(|ways| vec![(one, ways.0), (other, ways.1)]));
        }
    }
    pairs
}

fn duration() -> Duration {
    if is_long() {
        Duration::from_secs(60)
    } else {
        Duration::from_secs(2)
    }
}

/// A pipe with a name that takes next to nothing. Whoever holds it reads, or does not.
fn pipe(path: &Path) -> File {
    nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap();
    let end = File::options().read(true).write(true).open(path).unwrap();
    fcntl(&end, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    end
}

/// Reads far less than is written, until it is told to stop.
fn sip(mut from: File, stop: watch::Receiver<bool>) {
    std::thread::spawn(move || {
        let mut byte = [0; 16];
        while !*stop.borrow() {
            // Its own end for writing is closed with it: it never waits for ever.
            let _ = fcntl(&from, FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK));
            let _ = from.read(&mut byte);
            std::thread::sleep(Duration::from_millis(10));
        }
    });
}

/// What is harmed, and how far that has come.
struct Scene {
    directory: PathBuf,
    pipes: Vec<(Thing, File)>,
    /// Of the other database.
    mode: watch::Sender<Option<How>>,
    stop: watch::Sender<bool>,
    crowd: JoinSet<()>,
}

/// The other database: what lies before a real one until it is harmed.
async fn stand_before(listener: TcpListener, database: u16, mode: watch::Receiver<Option<How>>) {
    let mut connections = JoinSet::new();
    loop {
        let mut changes = mode.clone();
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = changes.wait_for(|mode| *mode == Some(How::Gone)) => return,
        };
        let (Ok((mut near, _)), mut mode) = (accepted, mode.clone()) else {
            continue;
        };
        connections.spawn(async move {
            let now = *mode.borrow();
            let how = match now {
                Some(how) => how,
                None => {
                    let well = async {
                        let mut far = TcpStream::connect(("127.0.0.1", database)).await.unwrap();
                        let _ = copy_bidirectional(&mut near, &mut far).await;
                    };
                    tokio::select! {
                        () = well => return,
                        how = mode.wait_for(Option::is_some) => match how.ok().and_then(|how| *how) {
                            Some(how) => how,
                            // The scene is over.
                            None => return,
                        },
                    }
                }
            };
            match how {
                How::Stalled => std::future::pending().await,
                How::Gone => {}
                How::Flooded => {
                    let notice = b"N\0\0\0\x10SNOTICE\0VX\0\0";
                    while near.write_all(&notice.repeat(1000)).await.is_ok() {}
                }
            }
        });
    }
}

impl Scene {
    async fn harm(&mut self, (thing, how): Harm, swivel: &Swivel) {
        let pipe = self.pipes.iter().position(|(of, _)| *of == thing);
        let pipe = pipe.map(|at| self.pipes.swap_remove(at).1);
        match (thing, how) {
            (Thing::Stdout | Thing::Audit, How::Stalled) => self.pipes.extend(pipe.map(|pipe| (thing, pipe))),
            (Thing::Stdout | Thing::Audit, How::Flooded) => sip(pipe.unwrap(), self.stop.subscribe()),
            (Thing::Stdout | Thing::Audit, How::Gone) => drop(pipe),
            (Thing::Admin, _) => self.beset(swivel.admin_port(), how),
            (Thing::Store, how) => {
                let script = self.directory.join("get-secret");
                match how {
                    How::Stalled => std::fs::write(script, "exec sleep 1000"),
                    How::Flooded => std::fs::write(script, "yes password >&2 & yes password"),
                    How::Gone => std::fs::remove_file(script),
                }
                .unwrap();
            }
            (Thing::Database, how) => {
                self.mode.send_replace(Some(how));
            }
        }
    }

    fn beset(&mut self, port: u16, how: How) {
        for n in 0..100 {
            self.crowd.spawn(async move {
                loop {
                    if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await {
                        let request = match (how, n % 3) {
                            (How::Flooded, 0) => "GET /status HTTP/1.1\r\n\r\n",
                            (How::Flooded, _) => "GET /metrics HTTP/1.1\r\n\r\n",
                            (_, 0) => "",
                            (_, 1) => "GET /livez HTTP/1.1\r\nx",
                            _ => "POST /refresh HTTP/1.1\r\ncontent-length: 100000\r\n\r\n",
                        };
                        let _ = stream.write_all(request.as_bytes()).await;
                        let mut answer = Vec::new();
                        let _ = timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
                    }
                    // Many, and not as many as the machine can make.
                    sleep(Duration::from_millis(100)).await;
                }
            });
        }
    }
}

/// Sessions, new ones, probes and commands while these things are harmed, and the end.
async fn goes_on(postgres: Arc<Postgres>, harms: Vec<Harm>) {
    let is_harmed = |thing: Thing| harms.iter().any(|(harmed, _)| *harmed == thing);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let other = listener.local_addr().unwrap().port();
    let (mode, modes) = watch::channel(None);
    let standing = tokio::spawn(stand_before(listener, postgres.port(), modes));

    let mut unstarted = Swivel::in_front_of(&postgres).top_line(&format!("drain = \"{}s\"", DRAIN.as_secs()));
    let directory = unstarted.directory().to_owned();
    let mut log = format!(
        "[log]\nlevel = \"{}\"\n",
        if is_harmed(Thing::Stdout) { "trace" } else { "info" }
    );
    let mut pipes = Vec::new();
    if is_harmed(Thing::Stdout) {
        pipes.push((Thing::Stdout, pipe(&directory.join("log"))));
    }
    if is_harmed(Thing::Audit) {
        pipes.push((Thing::Audit, pipe(&directory.join("audit"))));
        log += &format!("audit = \"{}\"\n", directory.join("audit").display());
    }
    if is_harmed(Thing::Store) {
        std::fs::write(directory.join("get-secret"), "exec cat \"$1/secret.json\"").unwrap();
        let script = directory.join("get-secret");
        unstarted = unstarted
            .store(
                "command",
                &format!("/bin/sh {} {}", script.display(), directory.display()),
            )
            .secret_line("poll = \"1s\"");
    }
    let unstarted = unstarted.section(&format!(
        "{log}\n[role.other]\nauth = \"trust\"\nupstream = \"other\"\nsecret = \"other\"\n\
         [upstream.other]\nhosts = \"127.0.0.1:{other}\"\ntls = {{ mode = \"disable\" }}\n\
         [secret.other]\nstore = \"file\"\nid = \"{}\"\n",
        directory.join("secret.json").display()
    ));
    let mut swivel = unstarted.start().await;
    let session = swivel.connect().await;
    let mut of_other = swivel.config();
    of_other.user("other");
    let (others, connection) = of_other.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    eventually("it is ready", async || swivel.status_of("/readyz").await == 200).await;

    let stop = watch::Sender::new(false);
    let mut scene = Scene {
        directory,
        pipes,
        mode,
        stop,
        crowd: JoinSet::new(),
    };
    for harm in &harms {
        scene.harm(*harm, &swivel).await;
    }
    // Whoever needs what is gone waits, and holds nobody up.
    for _ in 0..3 {
        let of_other = of_other.clone();
        scene.crowd.spawn(async move {
            loop {
                let _ = timeout(Duration::from_secs(5), of_other.connect(NoTls)).await;
                // As an application tries again.
                sleep(Duration::from_millis(50)).await;
            }
        });
    }
    scene.crowd.spawn(async move {
        let _ = others.simple_query("SELECT 1").await;
        std::future::pending::<()>().await;
    });

    let began = Instant::now();
    let (mut round, mut failed) = (0, 0);
    while began.elapsed() < duration() {
        soon(&harms, "a query", session.simple_query("SELECT 1"))
            .await
            .unwrap_or_else(|error| panic!("{harms:?}: {error}"));
        let live = soon(&harms, "a probe", swivel.status_of("/livez")).await;
        // Where the machine has no time for it, it is right to say so once.
        failed = if live == 200 { 0 } else { failed + 1 };
        assert!(failed < CHECKS, "{harms:?}: {live}");
        if round % 5 == 0 {
            let late = soon(&harms, "a login", swivel.try_connect()).await;
            late.unwrap_or_else(|error| panic!("{harms:?}: {error}"));
            // Credentials come and go, and audit lines with them.
            let user = ["orders_v2", Postgres::USER][round / 5 % 2];
            let password = if user == Postgres::USER {
                Postgres::PASSWORD
            } else {
                "second"
            };
            swivel.write_secret(user, password);
        }
        round += 1;
        // Probes come at their pace.
        sleep(Duration::from_millis(100)).await;
    }
    health_tells(&swivel, &harms).await;

    let mut told = Waited::looking_every(LOOK_EVERY);
    swivel.signal(Signal::SIGTERM);
    while swivel.is_running() {
        assert!(told.so_far() < DRAIN + END, "{harms:?}: it does not end");
        sleep(LOOK_EVERY).await;
    }
    assert!(swivel.wait().success(), "{harms:?}");
    scene.stop.send_replace(true);
    standing.abort();
}

async fn soon<F: Future>(harms: &[Harm], what: &str, future: F) -> F::Output {
    let came = in_time(SOON, future).await;
    came.unwrap_or_else(|| panic!("{harms:?}: {what} did not come within {SOON:?}"))
}

/// An orchestrator acts when a check fails so often in a row.
const CHECKS: usize = 3;

/// The command says what the pages say.
async fn health_tells(swivel: &Swivel, harms: &[Harm]) {
    let address = format!("127.0.0.1:{}", swivel.admin_port());
    let check = async |arguments: &'static [&'static str]| {
        let address = address.clone();
        let run = move || {
            let arguments = [&["health", "--admin", &address], arguments].concat();
            let output = Swivel::output(&arguments, &[]);
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        tokio::task::spawn_blocking(run).await.unwrap()
    };
    let (mut alive, mut agreed) = (Vec::new(), Vec::new());
    for _ in 0..CHECKS {
        let is_ready = swivel.status_of("/readyz").await == 200;
        agreed.push((is_ready, check(&[]).await));
        alive.push(check(&["--live"]).await);
    }
    let is_alive = alive.iter().any(|(code, _)| *code == Some(0));
    assert!(is_alive, "{harms:?}: {alive:?}");
    let agrees = (agreed.iter()).any(|(is_ready, (code, _))| (*code == Some(0)) == *is_ready);
    assert!(agrees, "{harms:?}: {agreed:?}");
}

/// So many at a time.
async fn all(cases: Vec<Vec<Harm>>) {
    let postgres = Arc::new(Postgres::start(18));
    postgres.create_user("orders_v2", "second").await;
    let turns = Arc::new(Semaphore::new(if is_long() { 8 } else { 4 }));
    let cases = cases.into_iter().map(|harms| {
        let (postgres, turns) = (Arc::clone(&postgres), Arc::clone(&turns));
        async move {
            let _turn = turns.acquire().await;
            goes_on(postgres, harms).await;
        }
    });
    join_all(cases).await;
}

#[tokio::test]
async fn whatever_stalls_floods_or_goes_sessions_that_do_not_need_it_go_on() {
    all(singles()).await;
}

#[tokio::test]
async fn whichever_two_things_stall_flood_or_go_sessions_that_do_not_need_them_go_on() {
    all(pairs()).await;
}
