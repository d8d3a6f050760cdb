//! The demo: what it counts, and that nothing is left of it.

use std::process::Command;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::support::{Process, Swivel, eventually, postgres_home, temporary_directory};

#[test]
fn the_application_behind_pgswivel_sees_no_error_and_the_other_one_does() {
    let place = temporary_directory();
    let output = demo(&place, &["--seconds", "8"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}\n{complaint}");

    assert_eq!(numbers(&said, "errors")[0], 0, "{said}");
    assert!(numbers(&said, "errors")[1] > 0, "{said}");
    for row in ["requests", "writes acknowledged"] {
        assert!(numbers(&said, row).iter().all(|number| *number > 0), "{said}");
    }
    for row in ["sessions lost", "  missing in the table", "  there twice"] {
        assert_eq!(numbers(&said, row), [0, 0], "{said}");
    }
    assert!(
        said.contains("password authentication failed for user \"orders_a\" (28P01)"),
        "{said}"
    );
    assert!(said.contains("1 × alternating user"), "{said}");
    assert!(
        said.trim_end()
            .ends_with("DATABASE_URL=postgres://app:local@127.0.0.1:6432/DATABASE"),
        "{said}"
    );
    assert!(is_clean(&place), "{said}");
}

#[tokio::test]
async fn a_demo_that_is_interrupted_sums_up_and_leaves_nothing_behind() {
    let place = temporary_directory();
    let log = temporary_directory();
    let command = demo(&place, &["--seconds", "600"]);
    let mut demo = Process::start(command, &log.path().join("log"));
    eventually("the load runs", async || demo.log().contains(" s  with ")).await;
    assert!(!is_clean(&place), "where is it?");
    demo.signal(Signal::SIGINT);
    assert_eq!(demo.wait().code(), Some(0), "{}", demo.log());
    assert!(demo.log().contains("writes acknowledged"), "{}", demo.log());
    assert!(is_clean(&place), "{}", demo.log());
}

#[tokio::test]
async fn a_demo_that_is_interrupted_at_its_start_leaves_nothing_behind() {
    let place = temporary_directory();
    let log = temporary_directory();
    let mut demo = Process::start(demo(&place, &[]), &log.path().join("log"));
    eventually("Postgres is being made", async || !is_clean(&place)).await;
    demo.signal(Signal::SIGTERM);
    assert_eq!(demo.wait().code(), Some(1), "{}", demo.log());
    assert!(is_clean(&place), "{}", demo.log());
}

#[tokio::test]
async fn no_process_of_a_demo_outlives_it_even_when_it_is_killed() {
    let place = temporary_directory();
    let log = temporary_directory();
    let mut demo = Process::start(demo(&place, &[]), &log.path().join("log"));
    eventually("the load runs", async || demo.log().contains(" s  with ")).await;
    assert!(!processes(&place).is_empty());
    demo.signal(Signal::SIGKILL);
    demo.wait();
    eventually("its processes end", async || processes(&place).is_empty()).await;
}

#[test]
fn a_demo_without_a_postgres_says_where_to_get_one() {
    let place = temporary_directory();
    let mut command = demo(&place, &[]);
    command.env("PGSWIVEL_DEMO_POSTGRES", place.path());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        complaint.contains("there is no bin/postgres and bin/initdb in it"),
        "{complaint}"
    );
}

/// Its temporary files are in `place`.
fn demo(place: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Swivel::binary();
    command.args(["demo", "--plain"]).args(arguments);
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
