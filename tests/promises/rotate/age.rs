//! What should have been rotated already.

use std::fmt::Write;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::support::{Postgres, Stop, Swivel, temporary_directory};

const DAY: Duration = Duration::from_secs(24 * 3600);
const STRONG: &str = "kR9-vQ_2mZt7Lx0aBn4W";

fn secret(directory: &Path, name: &str, password: &str, days: u32) -> String {
    let path = directory.join(name);
    let text = json!({ "username": format!("user_of_{name}"), "password": password });
    std::fs::write(&path, text.to_string()).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::now() - days * DAY).unwrap();
    format!(
        "[secret.{name}]\nstore = \"file\"\nid = \"{}\"\nmax_age = \"90d\"\n",
        path.display()
    )
}

fn age(directory: &Path, config: &str, more: &[&str]) -> (Option<i32>, String) {
    let file = directory.join("pgswivel.toml");
    std::fs::write(&file, config).unwrap();
    let file = file.display().to_string();
    let Output {
        status,
        stdout,
        stderr,
    } = Swivel::output(&[&["rotate", "age", "--config", &file], more].concat(), &[]);
    assert!(stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    (status.code(), String::from_utf8(stdout).unwrap())
}

#[test]
fn two_that_are_overdue_and_one_that_is_weak_are_three_lines() {
    let directory = temporary_directory();
    let mut config = String::new();
    for number in 0..50 {
        let (password, days) = match number {
            7 | 30 => (STRONG, 91),
            12 => ("tiger-2", 1),
            _ => (STRONG, 89),
        };
        config.push_str(&secret(directory.path(), &format!("s{number}"), password, days));
    }
    let (code, said) = age(directory.path(), &config, &[]);
    assert_eq!(code, Some(1), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    let [weak, first, second] = lines.as_slice() else {
        panic!("{said}");
    };
    assert!(
        weak.starts_with("secret s12: weak: it could be guessed"),
        "{said}"
    );
    assert!(
        first.starts_with("secret s30: overdue: older than max_age"),
        "{said}"
    );
    assert!(second.starts_with("secret s7: overdue: "), "{said}");
    assert!(!said.contains("tiger-2") && !said.contains(STRONG), "{said}");

    let (code, all) = age(directory.path(), &config, &["--json"]);
    assert_eq!(code, Some(1));
    let all: Value = serde_json::from_str(&all).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 50);
    let young = config.replace("90d", "92d");
    secret(directory.path(), "s12", STRONG, 1);
    let (code, said) = age(directory.path(), &young, &[]);
    assert_eq!(
        (code, said.as_str()),
        (Some(0), "nothing is overdue or weak of 50\n")
    );
    let (_, table) = age(directory.path(), &young, &["--all"]);
    assert_eq!(table.lines().count(), 51, "{table}");
}

promise! {
    async fn the_time_of_a_login_that_is_over_is_overdue(version) {
        let mut postgres = Postgres::start(version);
        let directory = temporary_directory();
        postgres.create_user("watcher", "watching").await;
        postgres.create_user("user_of_orders", STRONG).await;
        let mut config = secret(directory.path(), "orders", STRONG, 100);
        let watcher = json!({ "username": "watcher", "password": "watching" }).to_string();
        std::fs::write(directory.path().join("watcher"), watcher).unwrap();
        write!(
            config,
            "[upstream.db]\nhosts = \"127.0.0.1:{}\"\n[secret.watcher]\nstore = \"file\"\nid = \"{}\"\n\
             [rotation.orders]\nsecret = \"orders\"\nadmin = \"watcher\"\nupstreams = [\"db\"]\nmax_age = \"99d\"\n",
            postgres.port(),
            directory.path().join("watcher").display(),
        )
        .unwrap();
        let strict = config.replace("\"90d\"", "\"120d\"");
        let (code, said) = age(directory.path(), &strict, &[]);
        assert_eq!(code, Some(1));
        assert!(said.contains("secret orders: overdue"), "a rotation may be stricter: {said}");
        assert!(said.contains("secret watcher: weak"), "{said}");

        let lax = strict.replace("\"99d\"", "\"200d\"").replace("\"120d\"", "\"200d\"");
        let strong = json!({ "username": "watcher", "password": STRONG }).to_string();
        std::fs::write(directory.path().join("watcher"), strong).unwrap();
        postgres.change_password("watcher", STRONG).await;
        let (code, said) = age(directory.path(), &lax, &[]);
        assert_eq!(code, Some(0), "{said}");
        postgres.execute("ALTER ROLE user_of_orders VALID UNTIL '2020-01-01 00:00+00'").await;
        let (code, said) = age(directory.path(), &lax, &[]);
        assert_eq!(code, Some(1), "{said}");
        let expected = format!(
            "login user_of_orders on 127.0.0.1:{}: overdue: valid until 2020-01-01T00:00:00Z, which is over\n",
            postgres.port()
        );
        assert_eq!(said, expected);
        postgres.execute("ALTER ROLE user_of_orders VALID UNTIL 'infinity'").await;
        assert_eq!(age(directory.path(), &lax, &[]).0, Some(0));
        postgres.stop(Stop::Fast);
        let (code, said) = age(directory.path(), &lax, &[]);
        assert_eq!(code, Some(69), "{said}");
    }
}
