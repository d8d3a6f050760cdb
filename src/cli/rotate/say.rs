//! What a rotation says on its way: steps with their times on a terminal, one line a step elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, SystemTime};

use super::super::exit::Exit;
use super::prepare::Prepared;
use crate::journal::rfc3339;
use crate::rotate::plan::Plan;
use crate::rotate::run::{Event, Outcome, Wish, run};

pub(super) struct Screen {
    is_terminal: bool,
}

impl Screen {
    fn new() -> Self {
        Self {
            is_terminal: io::stdout().is_terminal(),
        }
    }

    fn hear(&self, event: &Event<'_>) {
        match event {
            Event::Planned(plan) => {
                for note in &plan.notes {
                    self.line("note", note);
                }
            }
            Event::Begun(step) => {
                if self.is_terminal {
                    print(&format!("  …     {step}"));
                } else {
                    self.line("begin", &step.to_string());
                }
            }
            Event::Done { step, took, words } => {
                let words = match *words {
                    "" => String::new(),
                    words => format!(" ({words})"),
                };
                match self.is_terminal {
                    true => print(&format!("\r\x1b[2K{} {step}{words}\n", time(*took))),
                    false => self.line("done", &format!("{step}{words}, {}", time(*took).trim())),
                }
            }
            Event::Failed { step, why } => match self.is_terminal {
                true => print(&format!("\r\x1b[2K  failed {step}: {why}\n")),
                false => self.line("failed", &format!("{step}: {why}")),
            },
            Event::Waiting(left) => {
                for reason in *left {
                    self.line("waiting", &reason.to_string());
                }
            }
            Event::Note(words) => self.line("note", words),
        }
    }

    fn line(&self, what: &str, words: &str) {
        match self.is_terminal {
            true => print(&format!("\r\x1b[2K        {what}: {words}\n")),
            false => print(&format!("{} {what}: {words}\n", rfc3339(SystemTime::now()))),
        }
    }
}

/// Whoever read it may have left; the exit code still says what there is to say.
pub(super) fn print(text: &str) {
    let mut out = io::stdout();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

fn time(took: Duration) -> String {
    format!("{:6.1} s", took.as_secs_f64())
}

pub(super) async fn carry_out(prepared: Prepared, wish: Wish) -> Exit {
    let Prepared { mut opened, store } = prepared;
    let screen = Screen::new();
    let outcome = run(&mut opened, store, wish, &mut |event| screen.hear(&event)).await;
    print(&format!("{outcome}\n"));
    match outcome {
        Outcome::Done | Outcome::Nothing => Exit::Fine,
        Outcome::Refused(_) | Outcome::NotBegun(_) | Outcome::RolledBack(_) => Exit::Failed,
        Outcome::Halfway { .. } => Exit::Halfway,
        Outcome::Unreachable(_) => Exit::Unreachable,
    }
}

/// A plan for people.
pub(super) fn shown(name: &str, plan: &Plan) -> String {
    let mut text = format!("{name}: {}\n", plan.situation.words());
    for note in &plan.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    for (number, step) in plan.steps.iter().enumerate() {
        text.push_str(&format!("{:3}. {step}\n", number + 1));
    }
    for refusal in &plan.refusals {
        text.push_str(&format!("refused: {refusal}\n"));
    }
    if plan.steps.is_empty() && plan.refusals.is_empty() {
        text.push_str("nothing is to be done\n");
    }
    text
}

/// A question that only a person can answer.
pub(super) fn is_agreed(question: &str) -> bool {
    print(&format!("{question} [y/N] "));
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// Whether it may begin: it was said before, or somebody is there to say it.
pub(super) fn may_begin(yes: bool, question: &str) -> Result<bool, Exit> {
    if yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        eprintln!("nobody is there to be asked: say --yes");
        return Err(Exit::BadConfiguration);
    }
    Ok(is_agreed(question))
}
