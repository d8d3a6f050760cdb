use std::cell::Cell;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pgswivel::config::Source;
use pgswivel::stores::{self, Store};
use tempfile::TempDir;

use super::contract::{self, CANARY, Fault, Login, World};
use crate::support::eventually;

/// A program that prints what stands in a file beside it. It is the shell behind a link of its own with a
/// script to read: a script that was just written can't always be executed itself.
struct Program {
    directory: TempDir,
    login: Cell<Login>,
}

impl Program {
    fn new() -> Self {
        let program = Self {
            directory: tempfile::tempdir().unwrap(),
            login: Cell::new(Login(0)),
        };
        program.is("/bin/sh");
        program.does("exec cat \"$1/value\"");
        program
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("get-secret")
    }

    fn script(&self) -> PathBuf {
        self.directory.path().join("script")
    }

    fn is(&self, program: impl AsRef<Path>) {
        let beside = self.directory.path().join(".link");
        symlink(program, &beside).unwrap();
        std::fs::rename(beside, self.path()).unwrap();
    }

    fn does(&self, script: &str) {
        std::fs::write(self.script(), script).unwrap();
    }

    fn prints(&self, bytes: &[u8]) {
        let beside = self.directory.path().join(".value");
        std::fs::write(&beside, bytes).unwrap();
        std::fs::rename(beside, self.directory.path().join("value")).unwrap();
    }
}

impl World for Program {
    fn open(&self) -> Box<dyn Store> {
        let argv = [self.path(), self.script(), self.directory.path().to_owned()];
        super::open(Source::Command {
            argv: argv.map(|word| word.to_str().unwrap().to_owned()).to_vec(),
            write: None,
            timeout: Duration::from_secs(2),
        })
    }

    async fn put(&self, login: Login) {
        self.login.set(login);
        self.prints(login.json().as_bytes());
    }

    async fn harm(&self, fault: Fault) {
        match (fault, fault.payload()) {
            (_, Some(payload)) => self.prints(&payload),
            (Fault::Missing, _) => std::fs::remove_file(self.path()).unwrap(),
            (Fault::Denied, _) => self.is(self.script()),
            (Fault::Slow, _) => self.does("echo $$ >\"$1/pid\"; sleep 1000 & wait"),
            (fault, _) => panic!("a program can't be {fault:?}"),
        }
    }

    async fn heal(&self) {
        self.is("/bin/sh");
        self.does("exec cat \"$1/value\"");
        self.put(self.login.get()).await;
    }
}

#[tokio::test]
async fn a_program_keeps_the_contract() {
    let world = Program::new();
    let faults = [
        Fault::Missing,
        Fault::Denied,
        Fault::Empty,
        Fault::Garbage,
        Fault::Partial,
        Fault::Large,
        Fault::Slow,
    ];
    contract::gives_what_is_there_and_names_it_stably(&world).await;
    contract::says_what_is_wrong_and_recovers(&world, &faults).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_never_mixed_from_two_values() {
    contract::never_mixes_two_values(&Program::new(), 100).await;
}

#[tokio::test]
async fn a_slow_program_goes_with_everything_it_started() {
    let world = Program::new();
    world.put(Login(1)).await;
    world.harm(Fault::Slow).await;
    let mut store = world.open();
    assert_eq!(stores::read(&mut *store).await.unwrap_err().label(), "slow");
    let pid = std::fs::read_to_string(world.directory.path().join("pid")).unwrap();
    let group = pid.trim().parse::<i32>().unwrap();
    let group = nix::unistd::Pid::from_raw(group);
    eventually("the program's whole group is gone", async || {
        nix::sys::signal::killpg(group, None).is_err()
    })
    .await;
}

#[tokio::test]
async fn a_failing_program_is_named_with_its_exit_and_its_secrets_stay_its_own() {
    let (log, _logging) = contract::listen();
    let world = Program::new();
    world.put(Login(1)).await;
    world.does(&format!(
        "cat \"$1/value\"; echo \"no route to host, password={CANARY}-1 is {CANARY}-1\" >&2; exit 3"
    ));
    let mut store = world.open();
    let error = stores::read(&mut *store).await.unwrap_err();
    assert_eq!(error.label(), "failed");
    assert!(error.to_string().contains("exit status: 3"), "{error}");
    let text = log.text();
    assert!(text.contains("no route to host"), "{text}");
    assert!(
        !text.contains(CANARY) && !error.to_string().contains(CANARY),
        "{text}"
    );
}

#[tokio::test]
async fn a_program_that_complains_without_end_is_heard_to_its_end() {
    let world = Program::new();
    world.put(Login(5)).await;
    world.does("head -c 1000000 /dev/zero | tr '\\0' x >&2; exec cat \"$1/value\"");
    let mut store = world.open();
    assert_eq!(contract::leading(&contract::read(&mut *store).await), 5);
}

/// What programs say around a secret; `@` stands for it.
const COMPLAINTS: [&str; 20] = [
    "could not connect to postgres://app:@@db.internal/orders: connection refused",
    "password is @",
    "curl -u app:@ https://vault.internal failed",
    "key = @",
    "login app/@ denied",
    "@",
    "{\"username\":\"app\",\"password\":\"@\"}",
    "export PGPASSWORD='@'",
    "PGPASSWORD @",
    "trying (@)... permission denied",
    "psql: error: FATAL: role \"@\" does not exist",
    "--password @ --user app",
    "-p@ -h db",
    "the old one, @, has expired",
    "db:5432:orders:app:@",
    "+ read answer @",
    "answer: app,@,5432",
    "secret\n@\nwas not accepted",
    "pass=@;host=db: timed out",
    "value\t@\tis not JSON",
];

/// No two of them have a part in common that a message has as well.
fn secret(number: usize) -> String {
    match number % 5 {
        0 => format!("zq{number}w"),
        1 => format!("Xy7-{number}-kP+q/9="),
        2 => format!("gloomy walrus {number} quits"),
        3 => format!("hvs.{number}CAESIJ1k2j3h4k5j6"),
        _ => format!("p\u{e4}\u{df}w\u{f6}rd\u{2603}{number}"),
    }
}

#[tokio::test]
async fn nothing_that_a_program_says_reaches_the_log_in_its_own_words() {
    let (log, _logging) = contract::listen();
    let world = Program::new();
    world.does("test -e \"$1/good\" && cat \"$1/value\"; cat \"$1/words\" >&2; test -e \"$1/good\"");
    let good = world.directory.path().join("good");
    let mut store = world.open();
    let mut said = String::new();
    for number in 0..200 {
        let (known, unknown) = (secret(2 * number), secret(2 * number + 1));
        let payload = format!("{{\"username\":\"app\",\"password\":{known:?}}}");
        world.prints(payload.as_bytes());
        // Every second time it was read well once, and only what it then answered is known.
        if number % 2 == 0 {
            std::fs::write(&good, "").unwrap();
            std::fs::write(world.directory.path().join("words"), "").unwrap();
            contract::read(&mut *store).await;
            std::fs::remove_file(&good).unwrap();
        }
        let words = COMPLAINTS[number % COMPLAINTS.len()];
        let words = [words.replace('@', &known), words.replace('@', &unknown)].join(" ");
        std::fs::write(world.directory.path().join("words"), &words).unwrap();
        let error = stores::read(&mut *store).await.unwrap_err();
        said = format!("{error} {error:?} {}", log.text());
        let parts = |secret: &str| -> Vec<String> { secret.split(' ').map(str::to_owned).collect() };
        for part in parts(&known)
            .iter()
            .chain(&parts(&unknown))
            .filter(|part| part.len() > 3)
        {
            assert!(!said.contains(part.as_str()), "{part} of {words:?}");
        }
    }
    assert!(
        said.contains("connection refused") && said.contains("permission denied"),
        "{said}"
    );
}

#[tokio::test]
async fn a_program_that_answered_is_not_waited_for_by_whom_it_left_behind() {
    let world = Program::new();
    world.put(Login(6)).await;
    world.does("sleep 1000 & echo $! >\"$1/pid\"; exec cat \"$1/value\"");
    let mut store = world.open();
    assert_eq!(contract::leading(&contract::read(&mut *store).await), 6);
    let pid = std::fs::read_to_string(world.directory.path().join("pid")).unwrap();
    let left = nix::unistd::Pid::from_raw(pid.trim().parse().unwrap());
    nix::sys::signal::kill(left, nix::sys::signal::Signal::SIGKILL).expect("what it left runs on");
}
