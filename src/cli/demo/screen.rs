//! What is shown while the load runs: a live screen, or lines for pipes.

use std::io;
use std::time::Duration;

use super::load::Counts;
use super::rotation::{Progress, ROTATIONS};
use super::stage::Stage;
use super::terminal::{Terminal, put};
use super::view::{Moment, View};
use super::words::{Paint, bad_row, counted, grouped, row, short, timeline};

pub(super) enum Screen {
    Live(Terminal, Paint),
    Plain,
}

impl Screen {
    pub(super) fn new(plain: bool) -> Self {
        match Terminal::take().filter(|_| !plain) {
            Some(terminal) => Self::Live(terminal, Paint::wanted(true)),
            None => Self::Plain,
        }
    }

    /// Something that happens once, for who reads lines.
    pub(super) fn say(&self, line: &str) -> io::Result<()> {
        match self {
            Self::Live(..) => Ok(()),
            Self::Plain => put(&format!("{line}\n")),
        }
    }

    /// Several times a second.
    pub(super) fn refresh(&mut self, stage: &Stage, view: &View, left: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Live(terminal, paint) => terminal.draw(&live(*paint, stage, view, left)),
            Self::Plain => Ok(()),
        }
    }

    /// Once a second.
    pub(super) fn second(&self, moment: &Moment) -> io::Result<()> {
        self.say(&plain(moment))
    }

    pub(super) fn step(&self, progress: &Progress) -> io::Result<()> {
        match progress.now {
            Some(_) => self.say(&format!("       rotation {}", rotation_now(progress))),
            None => Ok(()),
        }
    }

    pub(super) async fn quit_key(&self) {
        match self {
            Self::Live(terminal, _) => terminal.quit_key().await,
            Self::Plain => std::future::pending().await,
        }
    }
}

fn live(paint: Paint, stage: &Stage, view: &View, left: Option<Duration>) -> Vec<String> {
    let moment = &view.now;
    let counts = &moment.counts;
    let numbers = |number: fn(&Counts) -> u64| counts.each_ref().map(|side| grouped(number(side)));
    let mut lines = vec![
        format!(
            "{}  {}",
            paint.bold("pgswivel demo"),
            paint.dim(&where_it_is(stage))
        ),
        String::new(),
        paint.bold(&row("one application, twice", &["with pgswivel", "without"])),
        row("requests per second", &moment.rates.map(grouped)),
        bad_row(paint, "errors", counts.each_ref().map(Counts::failed)),
        row("sessions alive", &numbers(|side| side.sessions_open)),
        bad_row(
            paint,
            "sessions lost",
            counts.each_ref().map(|side| side.sessions_lost),
        ),
        row("  logged in as", &moment.users),
        row(
            "longest stall",
            &counts.each_ref().map(|side| short(side.stall())),
        ),
        row("writes acknowledged", &numbers(|side| side.acknowledged)),
        String::new(),
    ];
    lines.extend(timeline(paint, &view.seconds));
    lines.push(String::new());
    lines.push(format!("credential in use: {}", credential(moment)));
    lines.push(format!("rotations done: {}", moment.progress.done));
    lines.push(format!("rotation now: {}", rotation_now(&moment.progress)));
    if let Some(error) = &counts[1].first_error {
        lines.push(format!("first error without pgswivel: {}", error.said));
    }
    if let Some(error) = &counts[0].first_error {
        lines.push(format!("first error with pgswivel: {}", error.said));
    }
    lines.push(format!("pgswivel's own page: {}", page(stage)));
    lines.push(String::new());
    lines.push(paint.dim(&match left {
        Some(left) => format!("{} s left; q, Enter or Ctrl-C ends it", left.as_secs()),
        None => "finishing what has begun".to_owned(),
    }));
    lines
}

fn plain(moment: &Moment) -> String {
    let side = |side: usize| {
        let counts = &moment.counts[side];
        format!(
            "{}/s, {}, {}, stall {}",
            moment.rates[side],
            counted(counts.failed(), "error"),
            counted(counts.sessions_open, "session"),
            short(counts.stall()),
        )
    };
    format!(
        "{:>3} s  with {} | without {} | {}, {}",
        moment.elapsed.as_secs_f64().round(),
        side(0),
        side(1),
        counted(moment.progress.done, "rotation"),
        credential(moment),
    )
}

pub(super) fn where_it_is(stage: &Stage) -> String {
    let (version, port) = (stage.cluster.version(), stage.cluster.port());
    let ours = stage.sidecar.port();
    format!("PostgreSQL {version} at 127.0.0.1:{port}, pgswivel at 127.0.0.1:{ours}")
}

/// For as long as it runs.
pub(super) fn page(stage: &Stage) -> String {
    format!("http://{}/", stage.sidecar.admin())
}

/// Whom the last new session was logged in as, and what the log of pgswivel calls the credential.
fn credential(moment: &Moment) -> String {
    let user = moment.counts[0].user.as_deref().unwrap_or("no user yet");
    match &moment.leading {
        Some(leading) => {
            let version: String = leading.version.chars().take(8).collect();
            format!("{user}, version {version}, taken as {}", leading.position)
        }
        None => user.to_owned(),
    }
}

fn rotation_now(progress: &Progress) -> String {
    match progress.now {
        Some((rotation, so_far)) => {
            let name = ROTATIONS[rotation].name;
            format!("{}, {name}: {so_far}", progress.begun())
        }
        None => "none".to_owned(),
    }
}
