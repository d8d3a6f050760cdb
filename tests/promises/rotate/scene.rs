//! A machine that rotates, an application behind pgswivel, and the servers and stores between them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{PATIENCE, Postgres, Swivel, Version, eventually_within, temporary_directory};

pub const A: &str = "orders_a";
pub const B: &str = "orders_b";
pub const OWNER: &str = "orders_owner";
pub const ROTATOR: &str = "rotator";
pub const FIRST: &str = "first-kR9-vQ_2mZt7Lx0aBn4W";
const ROTATOR_PASSWORD: &str = "rotator-canary-Lx0aBn4W";

/// How a credential is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Single,
    Next,
    Alternating,
    /// Where the secret has no place for what comes next.
    Plain,
}

impl Style {
    pub const ALL: [Self; 4] = [Self::Single, Self::Next, Self::Alternating, Self::Plain];

    pub fn takes_turns(self) -> bool {
        matches!(self, Self::Alternating | Self::Plain)
    }

    /// What the store holds at first.
    pub fn payload(self) -> String {
        let value = match self {
            Self::Single | Self::Alternating => json!({
                "about": "orders", "current": { "username": A, "password": FIRST }, "next": null, "previous": null,
            }),
            Self::Next => json!({ "DB_USER": A, "DB_PASS_CURRENT": FIRST, "DB_PASS_NEXT": "" }),
            Self::Plain => json!({ "username": A, "password": FIRST }),
        };
        value.to_string()
    }
}

pub struct Scene {
    pub postgres: Postgres,
    pub style: Style,
    pub directory: TempDir,
    /// `[secret.orders]` of both.
    pub secret: String,
    pub environment: Vec<(String, String)>,
    /// Lines of `[rotation.orders]`.
    pub more: String,
    /// Instead of one upstream.
    pub upstreams: String,
    /// Before everything else of the file.
    pub top: String,
    /// More of the file.
    pub sections: String,
    pub sidecars: Vec<u16>,
}

/// Who is there before any rotation.
pub async fn people(postgres: &Postgres, style: Style) {
    let grant = match postgres.major() {
        16.. => format!("GRANT {A}, {OWNER} TO {ROTATOR} WITH ADMIN OPTION; "),
        _ => String::new(),
    };
    let owned = match style.takes_turns() {
        true => format!("ALTER ROLE {A} SET role = '{OWNER}'; "),
        false => String::new(),
    };
    postgres
        .execute(&format!(
            "CREATE ROLE {OWNER} NOLOGIN; CREATE ROLE {A} LOGIN PASSWORD '{FIRST}' IN ROLE {OWNER}; \
             CREATE ROLE {ROTATOR} LOGIN CREATEROLE PASSWORD '{ROTATOR_PASSWORD}' \
             IN ROLE pg_read_all_stats, pg_signal_backend; {grant}{owned}\
             GRANT ALL ON DATABASE orders TO {OWNER}; GRANT ALL ON SCHEMA public TO {OWNER}"
        ))
        .await;
}

impl Scene {
    /// On a file.
    pub async fn of(version: Version, style: Style) -> Self {
        Self::on(Postgres::start(version), style).await
    }

    pub async fn on(postgres: Postgres, style: Style) -> Self {
        people(&postgres, style).await;
        let directory = temporary_directory();
        let path = directory.path().join("orders.json");
        std::fs::write(&path, style.payload()).unwrap();
        Self {
            postgres,
            style,
            secret: format!("store = \"file\"\nid = \"{}\"\n", path.display()),
            directory,
            environment: Vec::new(),
            more: "soak = \"0s\"\n".to_owned(),
            upstreams: "\"orders\"".to_owned(),
            top: String::new(),
            sections: String::new(),
            sidecars: Vec::new(),
        }
    }

    /// A pgswivel that reads the same secret.
    pub async fn swivel(&mut self) -> Swivel {
        let mut swivel = Swivel::in_front_of(&self.postgres);
        let value = |name: &str| {
            let line = self.secret.lines().find(|line| line.starts_with(name)).unwrap();
            line.split('"').nth(1).unwrap().to_owned()
        };
        swivel = swivel
            .store(&value("store"), &value("id"))
            .secret_line("poll = \"1s\"")
            .secret_line("grace = \"1s\"");
        for line in self
            .secret
            .lines()
            .filter(|line| !line.starts_with("store") && !line.starts_with("id"))
        {
            swivel = swivel.secret_line(line);
        }
        for (name, value) in &self.environment {
            swivel = swivel.environment(name, value);
        }
        let swivel = swivel.start().await;
        self.sidecars.push(swivel.admin_port());
        swivel
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn config(&self) -> String {
        let rotator = json!({ "username": ROTATOR, "password": ROTATOR_PASSWORD });
        std::fs::write(self.path("rotator.json"), rotator.to_string()).unwrap();
        let style = match self.style {
            Style::Single => "style = \"single\"".to_owned(),
            Style::Next => "style = \"next\"".to_owned(),
            Style::Alternating | Style::Plain => {
                format!("style = \"alternating\"\nusers = [\"{A}\", \"{B}\"]\nowner = \"{OWNER}\"")
            }
        };
        let sidecars: Vec<String> = self
            .sidecars
            .iter()
            .map(|port| format!("http://127.0.0.1:{port}"))
            .collect();
        let sidecars = match sidecars.as_slice() {
            [] => String::new(),
            sidecars => format!("sidecars = {sidecars:?}\n"),
        };
        let text = format!(
            "{}[upstream.orders]\nhosts = \"{}\"\ndatabase = \"orders\"\n[secret.orders]\n{}\n\
             [secret.rotator]\nstore = \"file\"\nid = \"{}\"\n\
             [rotation.orders]\nsecret = \"orders\"\nadmin = \"rotator\"\nupstreams = [{}]\n{style}\n{sidecars}{}\n{}",
            self.top,
            self.postgres.address(),
            self.secret,
            self.path("rotator.json").display(),
            self.upstreams,
            self.more,
            self.sections,
        );
        let file = self.path("rotate.toml");
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Swivel::binary();
        command
            .arg("rotate")
            .args(arguments)
            .args(["--config", &self.config()]);
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        command.stdin(Stdio::null());
        command
    }

    /// To its end, on a thread of its own.
    pub async fn rotate(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = self.command(arguments);
        said(
            &tokio::task::spawn_blocking(move || command.output().unwrap())
                .await
                .unwrap(),
        )
    }

    /// The secret is its own admin's.
    pub async fn rotate_itself(&self) -> (Option<i32>, String) {
        self.run_with("admin = \"rotator\"", "admin = \"orders\"").await
    }

    /// With another line in the place of this one.
    pub async fn run_with(&self, line: &str, other: &str) -> (Option<i32>, String) {
        let file = self.config();
        let text = std::fs::read_to_string(&file).unwrap().replace(line, other);
        std::fs::write(&file, text).unwrap();
        let mut command = Swivel::binary();
        command.args(["rotate", "run", "orders", "--yes", "--config", &file]);
        said(
            &tokio::task::spawn_blocking(move || command.output().unwrap())
                .await
                .unwrap(),
        )
    }

    pub async fn run(&self) -> (Option<i32>, String) {
        self.rotate(&["run", "orders", "--yes", "--within", "20s"]).await
    }

    /// Stops itself at this point, counted from 0. None: it came to its end before that.
    pub async fn run_up_to(&self, point: u32, arguments: &[&str]) -> Option<Stopped> {
        let mut command = self.command(arguments);
        command.env("PGSWIVEL_ROTATE_STOP_AT", point.to_string());
        let log = self.path(&format!("stopped-{point}.log"));
        let file = std::fs::File::create(&log).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        let mut stopped = Stopped {
            child: command.spawn().unwrap(),
            log,
        };
        let has_ended = eventually_within(PATIENCE * 2, async || {
            let has_ended = stopped.child.try_wait().unwrap().is_some();
            match has_ended || stopped.is_stopped() {
                true => Ok(has_ended),
                false => Err(format!("it neither stops nor ends:\n{}", stopped.said())),
            }
        });
        match has_ended.await {
            true => None,
            false => Some(stopped),
        }
    }

    /// What the store holds, and whether each of it logs in.
    pub async fn logs_in(&self, user: &str, password: &str) -> bool {
        let mut config = self.postgres.config();
        config.user(user).password(password);
        match config.connect(tokio_postgres::NoTls).await {
            Ok((client, connection)) => {
                let connection = tokio::spawn(connection);
                drop(client);
                let _ = connection.await;
                true
            }
            Err(_) => false,
        }
    }

    pub async fn can_login(&self, user: &str) -> bool {
        let sql = "SELECT rolcanlogin FROM pg_roles WHERE rolname = $1";
        let row = self
            .postgres
            .admin()
            .await
            .query_opt(sql, &[&user])
            .await
            .unwrap();
        row.is_some_and(|row| row.get(0))
    }

    /// Who is logged in under this name.
    pub async fn backends(&self, user: &str) -> i64 {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1";
        self.postgres
            .admin()
            .await
            .query_one(sql, &[&user])
            .await
            .unwrap()
            .get(0)
    }
}

/// A run that has stopped itself.
pub struct Stopped {
    pub child: Child,
    log: PathBuf,
}

impl Stopped {
    fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.said()
    }

    pub async fn go_on(self) -> (Option<i32>, String) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGCONT).unwrap();
        let mut child = self.child;
        let status = tokio::task::spawn_blocking(move || child.wait().unwrap())
            .await
            .unwrap();
        (status.code(), std::fs::read_to_string(&self.log).unwrap())
    }
}

pub fn said(output: &Output) -> (Option<i32>, String) {
    let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

/// Current user and password, and the one that comes next, of a file.
pub struct Held {
    pub user: String,
    pub password: String,
    pub next: Option<String>,
}

pub fn held(text: &str) -> Held {
    let value: Value = serde_json::from_str(text).unwrap();
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let (pair, next) = if value["current"].is_object() {
        (value["current"].clone(), text(&value["next"]["password"]))
    } else if value["DB_USER"].is_string() {
        let pair = json!({ "username": value["DB_USER"], "password": value["DB_PASS_CURRENT"] });
        (pair, text(&value["DB_PASS_NEXT"]))
    } else {
        (value, None)
    };
    Held {
        user: text(&pair["username"]).unwrap(),
        password: text(&pair["password"]).unwrap(),
        next,
    }
}

pub fn read(path: &Path) -> Held {
    held(&std::fs::read_to_string(path).unwrap())
}
