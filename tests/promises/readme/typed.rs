//! The commands of the documents in a shell, as a reader types them. What only a reader has is put in their place, and listed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::commands::is_typed;
use super::markdown::Document;
use crate::support::{As, Port, Postgres, Process, Swivel, command, postgres_home, temporary_directory};

/// The shell blocks of a document below this heading, each of them typed as a whole or not at all.
fn scripts(document: &'static str, heading: &str) -> Vec<String> {
    let document = Document::read(document);
    let blocks = document.blocks.iter();
    let typed = blocks.filter(|block| {
        let commands = block.commands();
        block.language == "sh" && block.heading == heading && commands.iter().all(|command| is_typed(command))
    });
    typed.map(|block| block.text.clone()).collect()
}

/// Every `left` is there, and is `right` from now on.
fn substituted(script: &str, substitutions: &[(&str, String)]) -> String {
    let mut script = script.to_owned();
    for (left, right) in substitutions {
        assert!(script.contains(left), "{left} is not in\n{script}");
        script = script.replace(left, right);
    }
    script
}

/// A directory for PATH with the pgswivel of this build, which ends with the shell that starts it.
fn with_pgswivel(place: &TempDir) -> PathBuf {
    let bin = place.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let binary = env!("CARGO_BIN_EXE_pgswivel");
    let wrapper = bin.join("pgswivel");
    fs::write(
        &wrapper,
        format!("#!/bin/sh\nexec setpriv --pdeathsig TERM -- {binary} \"$@\"\n"),
    )
    .unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    bin
}

/// A reader's shell, in an empty directory, with nothing in its environment but what is given.
fn shell(place: &TempDir, script: &str) -> Command {
    let file = place.path().join("script");
    fs::write(&file, script).unwrap();
    let home = place.path().join("home");
    fs::create_dir(&home).unwrap();
    let mut shell = command(Path::new("/bin/bash"), As::Ourselves);
    shell.args(["-eu", "-o", "pipefail"]).arg(&file);
    let postgres = postgres_home(18);
    let path = format!(
        "{}:{}:/usr/bin:/bin",
        with_pgswivel(place).display(),
        postgres.join("bin").display()
    );
    shell.env_clear().env("PATH", path).env("HOME", &home);
    shell.env("LD_LIBRARY_PATH", postgres.join("lib"));
    shell.current_dir(home);
    shell
}

#[tokio::test]
async fn a_database_with_a_password_file_is_reached_and_rotated_as_the_readme_has_it() {
    let postgres = Postgres::start(18);
    let place = temporary_directory();
    let (listen, admin) = (Port::free(), Port::free());
    let (port, authority) = (postgres.port(), postgres.authority().file());
    let listening = format!("127.0.0.1:{}", listen.number());
    let substitutions = [
        // It is built already, and in PATH.
        (
            "cargo build --release && export PATH=\"$PWD/target/release:$PATH\"",
            "true".to_owned(),
        ),
        // The reader's database, which this one's certificate calls localhost.
        (
            "postgres://db.internal:5432/orders?sslmode=verify-full",
            format!(
                "postgres://localhost:{port}/orders?sslmode=verify-full&sslrootcert={}",
                authority.display()
            ),
        ),
        ("postgres://postgres@db.internal:5432/orders", {
            let socket = postgres.socket_directory().display();
            format!("'postgres://postgres@/orders?host={socket}&port={port}'")
        }),
        // The password that the user has so far.
        ("todays", Postgres::PASSWORD.to_owned()),
        // Other tests run beside this one: no port is fixed.
        ("127.0.0.1:6432", listening.clone()),
        // "It is ready when it says …": a reader looks at the screen.
        (
            "pgswivel run &",
            "pgswivel run &\nuntil pgswivel health 2>/dev/null; do sleep 0.1; done".to_owned(),
        ),
    ];
    let blocks = scripts("README.md", "Three steps with a file");
    assert_eq!(blocks.len(), 4, "every block of the three steps");
    let script = substituted(&blocks.join("echo '--'\n"), &substitutions);
    // The reader, who looks until it says so.
    let said = place.path().join("said");
    let rotated = "until grep -q 'now using rotated credentials'";
    let script = format!(
        "{script}\n{rotated} {}; do sleep 0.1; done\npgswivel status\nkill %1\nwait %1\n",
        said.display()
    );
    let mut shell = shell(&place, &script);
    shell.env("PGSWIVEL_LISTEN", &listening);
    shell.env("PGSWIVEL_ADMIN", format!("127.0.0.1:{}", admin.number()));

    let mut shell = Process::start(shell, &said);
    let status = shell.wait();
    let said = shell.log();
    assert!(status.success(), "{said}\n{script}");
    for line in [
        "Every role has a credential that works on every endpoint.",
        "first proven credential",
        "now using rotated credentials",
        "safe to revoke: nothing: no other user was in use here",
    ] {
        assert!(said.contains(line), "no {line:?} in\n{said}");
    }
    let answers = said.lines().filter(|line| line.trim() == Postgres::USER).count();
    assert_eq!(answers, 2, "before and after the rotation:\n{said}");
    let mut old = postgres.config();
    assert!(
        old.password(Postgres::PASSWORD)
            .connect(tokio_postgres::NoTls)
            .await
            .is_err(),
        "the password is another"
    );
    old.password("tomorrows");
    drop(old.connect(tokio_postgres::NoTls).await.unwrap());
}

#[test]
fn the_unit_is_installed_as_the_readme_has_it_and_its_configuration_is_sound() {
    let place = temporary_directory();
    let root = place.path().join("root");
    for directory in ["usr/local/bin", "etc/systemd/system"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    let repository = env!("CARGO_MANIFEST_DIR");
    let substitutions = [
        // Into a root of the test's own.
        (" /usr/local/", format!(" {}/usr/local/", root.display())),
        (" /etc/", format!(" {}/etc/", root.display())),
        // From the repository, where a reader is.
        (" deploy/", format!(" {repository}/deploy/")),
        (" config/", format!(" {repository}/config/")),
        (
            "target/release/pgswivel",
            env!("CARGO_BIN_EXE_pgswivel").to_owned(),
        ),
        // The reader's own.
        (" app-password ", " \"$HOME\"/app-password ".to_owned()),
    ];
    let blocks = scripts("docs/start.md", "systemd");
    assert_eq!(blocks.len(), 1);
    let script = substituted(&blocks[0], &substitutions);
    let mut shell = shell(&place, &script);
    fs::write(place.path().join("home/app-password"), "local").unwrap();
    let output = shell.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );

    let configuration = root.join("etc/pgswivel/pgswivel.toml");
    // What step 2 says of it.
    let text = fs::read_to_string(&configuration).unwrap();
    let text = substituted(
        &text,
        &[
            ("address = \"127.0.0.1:6432\"", "address = \"systemd\"".to_owned()),
            (
                "password = { file = \"/run/secrets/app-password\" }\n",
                String::new(),
            ),
        ],
    );
    fs::write(&configuration, text).unwrap();
    let password = root.join("etc/pgswivel/app-password");
    let (status, said) = Swivel::command(
        &["check", "--config", configuration.to_str().unwrap()],
        &[("PGSWIVEL_PASSWORD_FILE", password.to_str().unwrap())],
    );
    // The reader's database and secret are not here; a bad configuration would be 64, before anything is tried.
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("can't resolve db.internal"), "{said}");
}

#[test]
fn the_demo_tells_its_options() {
    assert!(is_typed("pgswivel demo --help"));
    let (status, said) = Swivel::command(&["demo", "--help"], &[]);
    assert!(status.success());
    let readme = Document::read("README.md");
    let options = readme.section("## Demo");
    for option in ["--seconds", "--rotate-every", "--plain", "PGSWIVEL_DEMO_POSTGRES"] {
        assert!(said.contains(option), "{option} in {said}");
        assert!(options.contains(option), "{option} in the README");
    }
}
