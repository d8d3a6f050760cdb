//! `pgswivel rotate show`: where a rotation stands.

use serde_json::{Value, json};

use super::super::exit::Exit;
use super::prepare::{Prepared, on_a_runtime, prepare};
use super::say::print;
use super::which::Which;
use crate::rotate::facts::{Facts, ServerFacts, Standing};
use crate::rotate::plan::{Goal, Plan};
use crate::rotate::run::foresee;

/// Say where a rotation stands, by what store and servers say, and change nothing
#[derive(clap::Args)]
#[command(after_help = EXIT)]
pub(super) struct Arguments {
    /// Print one JSON document
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    which: Which,
}

const EXIT: &str = "\
Exit codes:
  0   nothing is under way
  2   something is half done
  64  bad configuration
  69  the store or a server can't be reached";

pub(super) fn run(arguments: &Arguments) -> Exit {
    let Prepared {
        mut opened,
        mut store,
    } = match prepare(&arguments.which) {
        Ok(prepared) => prepared,
        Err(exit) => return exit,
    };
    on_a_runtime(async move {
        match foresee(&mut opened, &mut *store, &Goal::Forward).await {
            Ok((facts, plan)) => {
                print(&match arguments.json {
                    true => format!("{}\n", json_of(&arguments.which.name, &facts, &plan)),
                    false => text(&arguments.which.name, &facts, &plan),
                });
                match plan.situation {
                    crate::rotate::plan::Situation::Rest => Exit::Fine,
                    _ => Exit::Halfway,
                }
            }
            Err(error) => {
                eprintln!("{error}");
                Exit::Unreachable
            }
        }
    })
}

fn word(standing: &Standing) -> &str {
    match standing {
        Standing::In => "logs in",
        Standing::Refused(_) => "refused",
        Standing::NotTried => "not tried",
    }
}

fn role(server: &ServerFacts) -> &'static str {
    match server.greeting.is_primary {
        true => "primary",
        false => "replica",
    }
}

fn text(name: &str, facts: &Facts, plan: &Plan) -> String {
    let holding = &facts.holding;
    let mut text = format!(
        "{name}: {}\nstore: current is {}",
        plan.situation.words(),
        holding.current.user
    );
    if let Some(next) = &holding.next {
        text.push_str(&format!(", next is {}", next.user));
    }
    if let Some(previous) = &holding.previous {
        text.push_str(&format!(", previous is {}", previous.user));
    }
    text.push('\n');
    for server in &facts.servers {
        let (current, next) = (word(&server.current), word(&server.next));
        text.push_str(&format!(
            "{} ({}): current {current}, next {next}",
            server.endpoint,
            role(server)
        ));
        for (user, there) in &server.backends {
            let can = if server.can_log_in(user) {
                "can log in"
            } else {
                "can't log in"
            };
            text.push_str(&format!("; {user} {can}, connections: {}", there.len()));
        }
        text.push('\n');
    }
    text
}

fn json_of(name: &str, facts: &Facts, plan: &Plan) -> Value {
    let user = |login: &Option<crate::stores::Login>| login.as_ref().map(|login| login.user.to_string());
    let holding = &facts.holding;
    let servers = facts.servers.iter().map(|server| {
        let users = server.backends.iter().map(|(user, there)| {
            json!({ "user": user, "can_login": server.can_log_in(user), "connections": there.len() })
        });
        json!({
            "endpoint": server.endpoint.to_string(), "role": role(server), "current": word(&server.current),
            "next": word(&server.next), "users": users.collect::<Vec<_>>(),
        })
    });
    json!({
        "rotation": name, "situation": plan.situation.label(), "current": &*holding.current.user,
        "next": user(&holding.next), "previous": user(&holding.previous), "revision": holding.revision.as_str(),
        "servers": servers.collect::<Vec<_>>(),
    })
}
