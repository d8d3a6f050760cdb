//! Sessions of other drivers, each in a program of its own.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::gathering::{Board, Gate, Mood};
use super::receipts::{Fate, Receipts};
use crate::support::process::{As, command};
use crate::support::{PATIENCE, Swivel, cache, within};

const PYTHON: &str = "drivers/python/bin/python";
const BENCH: &str = "\
    \\set n :n + 1
    SET crowd.fresh = 'bench';
    INSERT INTO writes VALUES (:session, :n);
    SELECT count(*) AS there FROM writes WHERE session = :session AND number = :n \\gset
    SELECT count(*) AS same FROM current_setting('work_mem') AS s(m) \
    WHERE m = (2000 + :session) || 'kB' AND current_setting('crowd.fresh') = 'bench' \\gset
    \\if :there != 1 OR :same != 1
    SELECT 1 / 0;
    \\endif
";
/// Of one run of pgbench: then it has another session. It tells of its work when that is over.
const TRANSACTIONS: i64 = 10;
const TRANSACTIONS_A_SECOND: u32 = 30;

/// Sessions of one Python driver.
pub struct Scripts {
    child: Child,
    says: ChildStdin,
    hears: JoinHandle<()>,
}

impl Scripts {
    pub fn start(
        driver: &'static str,
        swivel: &Swivel,
        sessions: &[i32],
        receipts: &Receipts,
        board: &Board,
        mood: Mood,
    ) -> Self {
        let home = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = cache().join(PYTHON);
        // Whoever is in the middle of it is waited for.
        let installed = Command::new(home.join("tests/drivers/setup"))
            .arg(driver)
            .status();
        assert!(installed.unwrap().success(), "{driver} can't be installed");
        let mut script = command(&python, As::Ourselves);
        script.arg(home.join("tests/promises/crowd/sessions.py"));
        script.args([driver, &swivel.url()]);
        script.arg(mood.word());
        script.args(sessions.iter().map(ToString::to_string));
        script.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = tokio::process::Command::from(script)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (receipts, board) = (receipts.clone(), board.clone());
        let hears = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                match line.split_once(' ') {
                    Some(("worked", session)) => board.worked(session.parse().unwrap()),
                    Some(("failed", what)) => {
                        let (code, message) = what.split_once(' ').unwrap();
                        board.failed(driver, code, message);
                    }
                    Some(("trouble", what)) => board.is_in_trouble(driver, what),
                    Some(("receipt", receipt)) => {
                        let (session, number, fate) = serde_json::from_str(receipt).unwrap();
                        receipts.note(session, number, fate);
                    }
                    _ if line == "hushed" => board.hushed(1),
                    _ => board.is_in_trouble(driver, format!("said {line}")),
                }
            }
        });
        let says = child.stdin.take().unwrap();
        Self { child, says, hears }
    }

    pub async fn say(&mut self, word: &str) {
        // One that is gone has said why.
        let _ = self.says.write_all(format!("{word}\n").as_bytes()).await;
    }

    pub async fn leave(&mut self) {
        self.say("leave").await;
        let status = within(PATIENCE, "a script ends", self.child.wait())
            .await
            .unwrap();
        (&mut self.hears).await.unwrap();
        assert!(status.success(), "a script ended with {status}");
    }
}

/// Runs of pgbench, one after the other, each with a session of its own.
pub struct Benches {
    recipe: Recipe,
    receipts: Receipts,
    board: Board,
    mood: Mood,
    runs: JoinSet<()>,
}

/// How to start a program again and again.
#[derive(Clone)]
struct Recipe {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

/// One client of pgbench.
struct Bench {
    recipe: Recipe,
    mode: &'static str,
    session: i32,
    receipts: Receipts,
    board: Board,
    mood: Mood,
}

impl Benches {
    pub fn new(swivel: &Swivel, receipts: Receipts, board: Board, mood: Mood) -> Self {
        let script = swivel.directory().join("bench.sql");
        std::fs::write(&script, BENCH).unwrap();
        let mut tool = swivel.tool("pgbench");
        tool.args(["--no-vacuum", "--client=1"]);
        tool.arg(format!("--rate={TRANSACTIONS_A_SECOND}"));
        tool.arg(format!("--transactions={TRANSACTIONS}"));
        tool.arg("--file").arg(script);
        Self {
            recipe: Recipe::of(&tool),
            receipts,
            board,
            mood,
            runs: JoinSet::new(),
        }
    }

    pub fn start(&mut self, mode: &'static str, session: i32, gate: watch::Receiver<Gate>) {
        let bench = Bench {
            recipe: self.recipe.clone(),
            mode,
            session,
            receipts: self.receipts.clone(),
            board: self.board.clone(),
            mood: self.mood,
        };
        self.runs.spawn(async move {
            let mut last = 0;
            while *gate.borrow() != Gate::Leave {
                bench.run(last).await;
                last += TRANSACTIONS;
            }
        });
    }

    pub async fn leave(&mut self) {
        while let Some(run) = self.runs.join_next().await {
            run.unwrap();
        }
    }
}

impl Recipe {
    fn of(command: &Command) -> Self {
        let environment = command.get_envs();
        Self {
            program: command.get_program().to_owned(),
            arguments: command.get_args().map(OsString::from).collect(),
            environment: environment
                .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
                .collect(),
        }
    }

    fn command(&self) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.program);
        command
            .args(&self.arguments)
            .envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }
}

impl Bench {
    /// Writes the numbers after `last`.
    async fn run(&self, last: i64) {
        let Self { session, mode, .. } = self;
        let mut pgbench = self.recipe.command();
        pgbench.arg(format!("--protocol={mode}"));
        pgbench
            .arg(format!("--define=session={session}"))
            .arg(format!("--define=n={last}"));
        pgbench.env("PGAPPNAME", format!("crowd {session}"));
        pgbench.env("PGOPTIONS", format!("-c work_mem={}kB", 2000 + session));
        let output = pgbench.output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let complaints = String::from_utf8_lossy(&output.stderr);
        let done = processed(&said).unwrap_or(0);
        for number in last + 1..=last + done {
            self.receipts.note(*session, number, Fate::Acknowledged);
        }
        let is_failure = complaints.contains("aborted") && complaints.contains("ERROR:");
        if is_failure && self.mood.forgives() && !complaints.contains("division") {
            // Its last write may be there although what came after it failed.
            self.receipts.note(*session, last + done + 1, Fate::Unknown);
        } else if !output.status.success() || done < TRANSACTIONS {
            self.board
                .is_in_trouble(&format!("pgbench {mode}"), format!("{said}{complaints}"));
        }
        self.board.worked(*session);
    }
}

/// `number of transactions actually processed: 40/40`
fn processed(said: &str) -> Option<i64> {
    let (_, rest) = said.split_once("actually processed: ")?;
    rest.split('/').next()?.trim().parse().ok()
}
