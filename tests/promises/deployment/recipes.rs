//! The snippets of `deploy/recipes.md`, each in a program of its framework that meets a rotation.
//!
//! The password changes in the database first. The program then asks its pool for one session more, which is held;
//! it has to get it, and to go on with the one that it had.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::repository;
use crate::support::{Postgres, Swivel, eventually, skipped, temporary_directory, within};

const NEXT: &str = "upstream-secret-2";
/// Compilers and interpreters start on the same two cores as everything else.
const START: Duration = Duration::from_secs(60);
const UNAVAILABLE: i32 = 75;

/// The first block of code below the heading.
fn snippet(heading: &str) -> String {
    let recipes = std::fs::read_to_string(repository().join("deploy/recipes.md")).unwrap();
    let (_, section) = recipes.split_once(&format!("\n## {heading}\n")).unwrap();
    let (_, block) = section.split_once("```").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let (_, code) = block.split_once('\n').unwrap();
    code.to_owned()
}

/// The program with the snippet in place of the line that says RECIPE.
fn program(template: &str, heading: &str) -> String {
    let text = std::fs::read_to_string(repository().join("tests/recipes").join(template)).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let place = lines.iter().position(|line| line.contains("RECIPE")).unwrap();
    let snippet = snippet(heading);
    lines.splice(place..=place, snippet.lines());
    lines.join("\n") + "\n"
}

/// Whether it can be tried here.
fn is_installed(recipe: &str) -> bool {
    let run = repository().join("tests/recipes/run");
    let output = Command::new(run).args(["--setup", recipe]).output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(UNAVAILABLE) {
        skipped(&complaints);
        return false;
    }
    assert!(output.status.success(), "{complaints}");
    true
}

fn running(recipe: &str, file: &Path, swivel: &Swivel) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(repository().join("tests/recipes/run"));
    command.arg(recipe).arg(file);
    command
        .env("DATABASE_URL", swivel.url())
        .env(
            "JDBC_URL",
            format!("jdbc:postgresql://{}/orders", swivel.address()),
        )
        .env("LOCAL_PASSWORD", Swivel::PASSWORD)
        .env("PGPORT", swivel.port().to_string())
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn meets_a_rotation(recipe: &str, template: &str, heading: &str) {
    if !is_installed(recipe) {
        return;
    }
    let postgres = Postgres::start(18);
    postgres
        .connect()
        .await
        .batch_execute("CREATE TABLE orders (id serial PRIMARY KEY, amount integer NOT NULL)")
        .await
        .unwrap();
    // No link is kept ready, so that one session more is one login more.
    let swivel = Swivel::in_front_of(&postgres)
        .upstream_line("warm = 0")
        .upstream_line("reuse = false")
        .start()
        .await;
    let directory = temporary_directory();
    let file = directory.path().join(template);
    std::fs::write(&file, program(template, heading)).unwrap();

    let mut child = running(recipe, &file, &swivel).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = within(START, "the program is ready", said.next_line())
        .await
        .unwrap();
    assert_eq!(first.as_deref(), Some("ready"), "{}", swivel.log());

    postgres.change_password(Postgres::USER, NEXT).await;
    let refusals = postgres.refusals();
    child.stdin.as_mut().unwrap().write_all(b"go\n").await.unwrap();
    eventually("its new session is held", async || postgres.refusals() > refusals).await;
    swivel.write_secret(Postgres::USER, NEXT);

    let last = within(START, "it got its session", said.next_line())
        .await
        .unwrap();
    assert_eq!(last.as_deref(), Some("5"), "{}", swivel.log());
    let status = within(START, "it ends", child.wait()).await.unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn hikaricp_waits_for_a_held_login() {
    meets_a_rotation("hikaricp", "WithHikari.java", "HikariCP").await;
}

#[tokio::test]
async fn sqlalchemy_waits_for_a_held_login() {
    meets_a_rotation("sqlalchemy", "with_sqlalchemy.py", "SQLAlchemy").await;
}

#[tokio::test]
async fn django_waits_for_a_held_login() {
    meets_a_rotation("django", "with_django.py", "Django").await;
}

#[tokio::test]
async fn rails_waits_for_a_held_login() {
    meets_a_rotation("rails", "with_rails.rb", "Rails").await;
}

#[tokio::test]
async fn prisma_waits_for_a_held_login() {
    meets_a_rotation("prisma", "with_prisma.js", "Prisma").await;
}

#[tokio::test]
async fn node_postgres_waits_for_a_held_login() {
    meets_a_rotation("node-postgres", "with_node_postgres.js", "node-postgres").await;
}

#[tokio::test]
async fn pgxpool_waits_for_a_held_login() {
    meets_a_rotation("pgx", "with_pgxpool.go", "pgx").await;
}

#[tokio::test]
async fn sqlx_waits_for_a_held_login() {
    meets_a_rotation("sqlx", "with_sqlx.rs", "sqlx").await;
}
