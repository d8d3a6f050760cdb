//! The demo: what it counts, and that nothing is left of it.

use std::fs::File;
use std::io::Write;
use std::process::{Child, Command};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::Signal;
use tempfile::{NamedTempFile, TempDir};

use crate::support::admin::ask_at;
use crate::support::{Process, Swivel, eventually, postgres_home, temporary_directory};

#[test]
fn the_application_behind_pgswivel_sees_no_error_and_the_other_one_does() {
    let place = temporary_directory();
    // As long as it takes for each kind of rotation to have begun once.
    let output = demo(&place, &["--plain", "--seconds", "12", "--rotate-every", "1"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}\n{complaint}");

    assert_eq!(numbers(&said, "errors")[0], 0, "{said}");
    assert!(numbers(&said, "errors")[1] > 0, "{said}");
    for row in ["requests", "writes acknowledged"] {
        assert!(numbers(&said, row).iter().all(|number| *number > 0), "{said}");
    }
    for row in ["  missing in the table", "  there twice"] {
        assert_eq!(numbers(&said, row), [0, 0], "{said}");
    }
    // Ten sessions on each side that stay, and some that come and go.
    for row in ["old user's backends killed", "sessions lost"] {
        let [with, without] = numbers(&said, row);
        assert!(with == 0 && without >= 10, "{said}");
    }
    assert!(
        said.contains("password authentication failed for user \"orders_a\" (28P01)"),
        "{said}"
    );
    for rotation in [
        "new password, database first",
        "alternating user, by pgswivel rotate",
        "new password, store first",
        "new password, announced as next",
        "alternating user, old one's backends killed",
    ] {
        assert!(said.contains(&format!(" × {rotation}")), "{said}");
    }
    assert!(said.contains("nothing uses the old user"), "{said}");
    assert!(
        said.trim_end()
            .ends_with("DATABASE_URL=postgres://app:local@127.0.0.1:6432/DATABASE"),
        "{said}"
    );
    assert!(is_clean(&place), "{said}");
}

#[tokio::test]
async fn a_demo_that_is_interrupted_sums_up_and_leaves_nothing_behind() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let place = temporary_directory();
        let log = temporary_directory();
        let command = demo(&place, &["--plain", "--seconds", "600"]);
        let mut demo = Process::start(command, &log.path().join("log"));
        eventually("the load runs", async || demo.log().contains(" s  with ")).await;
        assert!(!is_clean(&place), "where is it?");
        demo.signal(signal);
        assert_eq!(demo.wait().code(), Some(0), "{}", demo.log());
        assert!(demo.log().contains("writes acknowledged"), "{}", demo.log());
        assert!(is_clean(&place), "{signal}: {}", demo.log());
    }
}

#[tokio::test]
async fn the_live_screen_shows_the_numbers_and_ends_with_a_key() {
    let place = temporary_directory();
    let (mut demo, mut terminal) = Terminal::with(&demo(&place, &["--seconds", "600"]));
    eventually("the screen is drawn", async || {
        terminal.text().contains("credential in use: orders_a, version ")
    })
    .await;
    let drawn = terminal.text();
    for row in [
        "requests per second",
        "errors",
        "sessions alive",
        "longest stall",
        "rotations done: 0",
        "left; q, Enter or Ctrl-C ends it",
    ] {
        assert!(drawn.contains(row), "no {row} in {drawn}");
    }
    let (_, page) = drawn.split_once("pgswivel's own page: http://").unwrap();
    let (address, _) = page.split_once('/').unwrap();
    assert_eq!(ask_at(address, "GET /").await.status, 200, "{drawn}");

    terminal.keyboard.write_all(b"q").unwrap();
    eventually("it ends", async || demo.try_wait().unwrap().is_some()).await;
    let said = terminal.text();
    assert_eq!(demo.wait().unwrap().code(), Some(0), "{said}");
    assert!(said.contains("writes acknowledged"), "{said}");
    assert!(is_clean(&place), "{said}");
}

#[tokio::test]
async fn a_demo_that_is_interrupted_at_its_start_leaves_nothing_behind() {
    let place = temporary_directory();
    let log = temporary_directory();
    let mut demo = Process::start(demo(&place, &["--plain"]), &log.path().join("log"));
    eventually("Postgres is being made", async || !is_clean(&place)).await;
    demo.signal(Signal::SIGTERM);
    assert_eq!(demo.wait().code(), Some(1), "{}", demo.log());
    assert!(is_clean(&place), "{}", demo.log());
}

#[tokio::test]
async fn no_process_of_a_demo_outlives_it_even_when_it_is_killed() {
    let place = temporary_directory();
    let log = temporary_directory();
    let mut demo = Process::start(demo(&place, &["--plain"]), &log.path().join("log"));
    eventually("the load runs", async || demo.log().contains(" s  with ")).await;
    assert!(!processes(&place).is_empty());
    demo.signal(Signal::SIGKILL);
    demo.wait();
    eventually("its processes end", async || processes(&place).is_empty()).await;
}

#[test]
fn a_demo_without_a_postgres_says_where_to_get_one() {
    let place = temporary_directory();
    let mut command = demo(&place, &["--plain"]);
    command.env("PGSWIVEL_DEMO_POSTGRES", place.path());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        complaint.contains("there is no bin/postgres and bin/initdb in it"),
        "{complaint}"
    );
}

/// Somebody who sits before a screen.
struct Terminal {
    keyboard: File,
    glass: NamedTempFile,
}

impl Terminal {
    /// With a program that it is the terminal of.
    fn with(program: &Command) -> (Child, Self) {
        let size = Winsize {
            ws_row: 40,
            ws_col: 120,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(&size, None).unwrap();
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(program.get_program());
        command.args(program.get_args()).env("NO_COLOR", "1");
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
            .env("TERM", "xterm")
            .stdin(pair.slave.try_clone().unwrap());
        let child = command.stdout(pair.slave).spawn().unwrap();
        let keyboard = File::from(pair.master);
        let glass = NamedTempFile::new().unwrap();
        let (mut from, mut to) = (keyboard.try_clone().unwrap(), glass.reopen().unwrap());
        // Ends with an error when nobody has the terminal open any more.
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        (child, Self { keyboard, glass })
    }

    /// All that was ever drawn.
    fn text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.glass).unwrap()).into_owned()
    }
}

/// Its temporary files are in `place`.
fn demo(place: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Swivel::binary();
    command.arg("demo").args(arguments);
    command.env("TMPDIR", place.path());
    command.env("PGSWIVEL_DEMO_POSTGRES", postgres_home(18));
    command
}

/// Both numbers of the summary's row that begins with `label`.
fn numbers(said: &str, label: &str) -> [u64; 2] {
    // Padded, as the table has it: other lines begin with the same words.
    let start = format!("{label:<26}");
    let row = said.lines().find_map(|line| line.strip_prefix(&start));
    let row = row.unwrap_or_else(|| panic!("no row {label:?} in\n{said}"));
    let numbers: Vec<u64> = row
        .split_whitespace()
        .map(|number| number.replace(',', "").parse().unwrap())
        .collect();
    numbers.try_into().unwrap()
}

/// Neither a file nor a process is left.
fn is_clean(place: &TempDir) -> bool {
    std::fs::read_dir(place).unwrap().next().is_none() && processes(place).is_empty()
}

/// The command lines that name the place.
fn processes(place: &TempDir) -> Vec<String> {
    let name = place.path().display().to_string();
    let entries = std::fs::read_dir("/proc").unwrap();
    entries
        .filter_map(|entry| {
            let line = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(&name).then_some(line)
        })
        .collect()
}
