//! What the demo says at its end. Every number is counted.

use std::time::Duration;

use super::load::{Counts, FirstError, KINDS, Written};
use super::rotation::{Progress, ROTATIONS};
use super::view::{Moment, View};
use super::words::{Paint, bad_row, counted, grouped, row, short, timeline};

/// How to go on from here.
const NEXT: &str = r#"Your own database: put its user and password into a file, start pgswivel, and point DATABASE_URL at it.
  echo '{"username": "…", "password": "…"}' > secret.json
  PGSWIVEL_PASSWORD=local pgswivel run --upstream postgres://HOST:5432/DATABASE --secret file:secret.json
  DATABASE_URL=postgres://app:local@127.0.0.1:6432/DATABASE
"#;

pub(super) struct Summary {
    view: View,
    written: [Written; 2],
    setting: String,
}

impl Summary {
    pub(super) fn new(view: View, written: [Written; 2], setting: String) -> Self {
        Self {
            view,
            written,
            setting,
        }
    }

    /// Whether the application behind pgswivel noticed nothing.
    pub(super) fn is_kept(&self) -> bool {
        let [with, _] = &self.view.now.counts;
        let [written, _] = &self.written;
        with.failed() + with.sessions_lost + written.missing + written.doubled == 0
    }

    pub(super) fn text(&self, paint: Paint) -> String {
        let moment = &self.view.now;
        let counts = &moment.counts;
        let mut lines = vec![
            format!(
                "{}, {:.0} s, {}{}",
                self.setting,
                moment.elapsed.as_secs_f64(),
                counted(moment.progress.done, "rotation"),
                kinds_of(&moment.progress),
            ),
            String::new(),
        ];
        lines.extend(timeline(paint, &self.view.seconds));
        lines.push(String::new());
        lines.extend(self.table(paint));
        lines.push(String::new());
        for (side, name) in ["With pgswivel", "Without pgswivel"].iter().enumerate() {
            lines.push(self.verdict(name, &counts[side]));
        }
        format!("{}\n\n{NEXT}", lines.join("\n"))
    }

    fn table(&self, paint: Paint) -> Vec<String> {
        let Moment {
            counts,
            users,
            progress,
            ..
        } = &self.view.now;
        let stalls = |stall: fn(&Counts) -> Duration| counts.each_ref().map(|side| short(stall(side)));
        let mut lines = vec![
            paint.bold(&row("", &["with pgswivel", "without"])),
            row(
                "requests",
                &counts.each_ref().map(|side| grouped(side.requests())),
            ),
            bad_row(paint, "errors", counts.each_ref().map(Counts::failed)),
        ];
        for (index, kind) in KINDS.iter().enumerate() {
            let cell = |side: &Counts| {
                let kind = &side.kinds[index];
                format!("{} of {}", grouped(kind.failed), grouped(kind.requests))
            };
            lines.push(row(&format!("  {}", kind.name), &counts.each_ref().map(cell)));
        }
        lines.extend([
            bad_row(
                paint,
                "sessions lost",
                counts.each_ref().map(|side| side.sessions_lost),
            ),
            row("old user's backends killed", &progress.killed.map(grouped)),
            row("sessions at the end", users),
            row("longest stall", &stalls(Counts::stall)),
            row(
                "  of a session's request",
                &stalls(Counts::stall_of_open_sessions),
            ),
            row("  of a new session", &stalls(Counts::stall_of_new_sessions)),
            row(
                "writes acknowledged",
                &counts.each_ref().map(|side| grouped(side.acknowledged)),
            ),
            bad_row(
                paint,
                "  missing in the table",
                self.written.map(|written| written.missing),
            ),
            bad_row(
                paint,
                "  there twice",
                self.written.map(|written| written.doubled),
            ),
        ]);
        lines
    }

    fn verdict(&self, name: &str, counts: &Counts) -> String {
        let errors = format!(
            "{}, {} lost",
            counted(counts.failed(), "error"),
            counted(counts.sessions_lost, "session")
        );
        match &counts.first_error {
            Some(FirstError { at, said }) => {
                let after = short(at.saturating_duration_since(self.view.began));
                format!("{name}: {errors}; the first error after {after}: {said}")
            }
            None => format!("{name}: {errors}."),
        }
    }
}

/// ` (alternating user 2, …)`
fn kinds_of(progress: &Progress) -> String {
    let kinds: Vec<String> = ROTATIONS
        .iter()
        .zip(progress.begun)
        .filter(|(_, begun)| *begun > 0)
        .map(|(rotation, begun)| format!("\n  {begun} × {}", rotation.name))
        .collect();
    if kinds.is_empty() {
        String::new()
    } else {
        format!(":{}", kinds.concat())
    }
}
