//! The parts of the page, from top to bottom.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::chart::{self, Rotation, Window};
use super::{COLOURS, escaped, put};
use crate::admin::history::{History, Sample};
use crate::admin::report::{CredentialReport, RemovedSecretReport, Report, SecretReport, Stage};
use crate::journal::{Entry, Event};
use crate::names::SecretName;

/// Of the last events.
const EVENTS_SHOWN: usize = 20;
/// A version that is longer is shortened.
const VERSION_SHOWN: usize = 16;

/// Of the last rotations, those that are told of in words.
const ROTATIONS_SHOWN: usize = 4;

/// What the colours of the rows below the sessions are.
const ROTATIONS: &str =
    "rotations: <b class=\"busy\">found</b>, <b class=\"calm\">left</b>, <b class=\"good\">done</b>";
const MOVES: &str =
    "sessions <b class=\"calm\">moved</b>, <b class=\"busy\">rescued</b>, <b class=\"bad\">lost</b>";

pub(super) struct Scenery<'a> {
    pub(super) report: &'a Report,
    pub(super) samples: &'a [Arc<Sample>],
    /// Oldest first.
    pub(super) entries: &'a [Arc<Entry>],
    pub(super) history: &'a History,
    pub(super) now: Instant,
    pub(super) today: SystemTime,
}

impl Scenery<'_> {
    fn ago(&self, entry: &Entry) -> f64 {
        let ago = self.today.duration_since(entry.at).unwrap_or(Duration::ZERO);
        ago.as_secs_f64()
    }

    fn window(&self) -> Window {
        Window::over(self.samples, self.now)
    }
}

pub(super) fn header(scenery: &Scenery<'_>, out: &mut String) {
    let report = scenery.report;
    let (class, state) = match (report.ready, report.stopping) {
        (_, true) => ("busy", "stopping"),
        (true, false) => ("good", "ready"),
        (false, false) => ("bad", "not ready"),
    };
    let (version, up) = (escaped(&report.version), rough(report.uptime_seconds as f64));
    put(
        out,
        format_args!(
            "<header><h1>pgswivel</h1><span class=\"pill {class}\">{state}</span>\
             <span class=\"soft\">{version}, up {up}</span></header>\n"
        ),
    );
    for reason in &report.reasons {
        put(out, format_args!("<p class=\"alarm\">{}</p>\n", escaped(reason)));
    }
}

pub(super) fn secret(scenery: &Scenery<'_>, secret: &SecretReport, out: &mut String) {
    let (name, store) = (escaped(&secret.secret), escaped(&secret.store));
    let roles = scenery.report.roles.iter();
    let roles: Vec<String> = roles
        .filter(|role| role.secret == secret.secret)
        .map(|role| escaped(&role.role))
        .collect();
    let (roles, words) = (roles.join(", "), escaped(&secret.words));
    put(
        out,
        format_args!(
            "<section id=\"secret-{name}\"><div class=\"head\"><h2>{name}</h2>\
             <span class=\"soft\">{store}, for {roles}</span></div>\n<p class=\"words {}\">{words}</p>\n",
            mood(secret.stage)
        ),
    );
    steps(secret.stage, out);
    alarms(secret, out);
    pictures(scenery, secret, out);
    tiles(secret, out);
    credentials(scenery, secret, out);
    out.push_str("</section>\n");
}

fn mood(stage: Stage) -> &'static str {
    match stage {
        Stage::NothingRead | Stage::NothingWorks => "bad",
        Stage::Seen | Stage::Proven => "busy",
        Stage::Leading | Stage::Moving => "calm",
        Stage::SafeToRevoke => "good",
        Stage::Steady => "",
    }
}

/// How far the rotation has come. Where there is none, there is nothing to show.
fn steps(stage: Stage, out: &mut String) {
    let at = match stage {
        Stage::NothingRead | Stage::NothingWorks | Stage::Steady => return,
        Stage::Seen => 0,
        Stage::Proven => 1,
        Stage::Leading => 2,
        Stage::Moving => 3,
        Stage::SafeToRevoke => 4,
    };
    let names = ["seen", "proven", "leading", "sessions moving", "safe to revoke"];
    out.push_str("<ol class=\"steps\">");
    for (index, name) in names.iter().enumerate() {
        let class = match index.cmp(&at) {
            std::cmp::Ordering::Less => "past".to_owned(),
            std::cmp::Ordering::Equal => format!("now {}", mood(stage)),
            std::cmp::Ordering::Greater => String::new(),
        };
        put(
            out,
            format_args!("<li class=\"{class}\"><span>{name}</span></li>"),
        );
    }
    out.push_str("</ol>\n");
}

fn alarms(secret: &SecretReport, out: &mut String) {
    let mut alarm = |text: &str| put(out, format_args!("<p class=\"alarm\">{}</p>\n", escaped(text)));
    if let Some(error) = &secret.reads.error {
        alarm(&format!("the store can't be read: {error}"));
    }
    if let Some(warning) = &secret.reads.warning {
        alarm(&format!("the store warns: {}", warning.replace('_', " ")));
    }
    if let (true, Some(age), Some(max_age)) = (
        secret.max_age_exceeded,
        secret.age_seconds,
        secret.max_age_seconds,
    ) {
        let (age, max_age) = (rough(age as f64), rough(max_age as f64));
        alarm(&format!(
            "the credential is {age} old, and should be rotated after {max_age}"
        ));
    }
}

fn pictures(scenery: &Scenery<'_>, secret: &SecretReport, out: &mut String) {
    let name = SecretName::from(secret.secret.as_str());
    let entries: Vec<(&Entry, f64)> = scenery
        .entries
        .iter()
        .filter(|entry| entry.secret == name)
        .map(|entry| (&**entry, scenery.ago(entry)))
        .collect();
    let leads: Vec<f64> = entries
        .iter()
        .filter(|(entry, _)| entry.event == Event::Leading)
        .map(|(_, ago)| *ago)
        .collect();
    let window = scenery.window();
    let (sessions, peak) = chart::sessions(scenery.samples, &name, window, &leads);
    let rotations = chart::rotations(entries.into_iter());
    let rotations = rotations.into_iter().filter(Rotation::is_one);
    let rotations: Vec<(usize, Rotation)> = (1..).zip(rotations).collect();
    let (spans, moves) = (
        chart::spans(&rotations, window),
        chart::moves(scenery.samples, &name, window),
    );
    row(&format!("sessions by credential, at most {peak}"), &sessions, out);
    row(ROTATIONS, &spans, out);
    row(MOVES, &moves, out);
    axis(window, out);
    named(secret, &rotations, out);
}

/// A picture, and what it is of.
fn row(label: &str, picture: &str, out: &mut String) {
    put(
        out,
        format_args!("<div class=\"row\"><span>{label}</span>{picture}</div>\n"),
    );
}

fn axis(window: Window, out: &mut String) {
    let begin = rough(window.seconds());
    put(
        out,
        format_args!(
            "<div class=\"row\"><span></span><p class=\"axis\"><span>{begin} ago</span><span>now</span></p></div>\n"
        ),
    );
}

/// The last rotations by their numbers, the last one first.
fn named(secret: &SecretReport, rotations: &[(usize, Rotation)], out: &mut String) {
    out.push_str("<ol class=\"rotations\">\n");
    for (number, rotation) in rotations.iter().rev().take(ROTATIONS_SHOWN) {
        let known = secret
            .credentials
            .iter()
            .find(|known| *known.version == *rotation.version);
        let user = known.map_or("", |known| &known.user);
        let (user, version) = (escaped(user), escaped(&shortened(&rotation.version)));
        let mut story = format!("found {} ago", rough(rotation.seen));
        match rotation.leads {
            Some(leads) => story += &format!(", leads since {}", rough(leads)),
            None => story += ", does not lead yet",
        }
        if let Some(replaced) = &rotation.replaced {
            let replaced = escaped(&shortened(replaced));
            story += &match rotation.safe {
                Some(safe) => format!("; nothing is on {replaced} since {}", rough(safe)),
                None => format!("; sessions leave {replaced}"),
            };
        }
        put(
            out,
            format_args!(
                "<li value=\"{number}\"><b>{user}</b> {version} <span class=\"soft\">{story}</span></li>\n"
            ),
        );
    }
    out.push_str("</ol>\n");
}

fn tiles(secret: &SecretReport, out: &mut String) {
    let (moves, rescues, reads) = (&secret.moves, &secret.rescues, &secret.reads);
    let pinned: usize = secret.credentials.iter().map(|known| known.pinned.len()).sum();
    let age = secret.age_seconds.map_or_else(String::new, |age| {
        let most = secret.max_age_seconds;
        let most = most.map_or_else(String::new, |most| format!(" of {}", rough(most as f64)));
        rough(age as f64) + &most
    });
    let read = reads
        .last_success_seconds_ago
        .map_or_else(|| "never".to_owned(), |ago| rough(ago) + " ago");
    let tiles = [
        (
            "safe to revoke",
            match secret.stage {
                Stage::SafeToRevoke => secret.replaced_users.join(", "),
                Stage::Steady => "none replaced".to_owned(),
                _ => "no".to_owned(),
            },
        ),
        ("age", age),
        ("moved", moves.moved.to_string()),
        ("rescued", (rescues.unnoticed + rescues.interrupted).to_string()),
        ("lost or cut", (rescues.lost + moves.cut).to_string()),
        ("pinned", pinned.to_string()),
        ("last read", read),
        (
            "reads failed",
            format!("{} of {}", reads.failed, reads.ok + reads.failed),
        ),
    ];
    out.push_str("<dl class=\"tiles\">");
    for (name, value) in tiles {
        put(out, format_args!("<div><dt>{name}</dt><dd>{value}</dd></div>"));
    }
    out.push_str("</dl>\n");
}

/// Those that are needed, or may be; and folded, those that are long gone.
fn credentials(scenery: &Scenery<'_>, secret: &SecretReport, out: &mut String) {
    let (gone, there): (Vec<_>, Vec<_>) = secret.credentials.iter().partition(|known| is_gone(known));
    table(scenery, secret, &there, out);
    if gone.is_empty() {
        return;
    }
    let name = escaped(&secret.secret);
    let count = gone.len();
    put(
        out,
        format_args!(
            "<details id=\"gone-{name}\"><summary>{count} that the store has no more, and nothing is on</summary>\n"
        ),
    );
    table(scenery, secret, &gone, out);
    out.push_str("</details>\n");
}

fn is_gone(known: &CredentialReport) -> bool {
    let is_refused = known.endpoints.iter().any(|endpoint| endpoint.refused.is_some());
    let is_over = known.standing == "retired" || known.standing == "waiting" && is_refused;
    !known.listed && is_over && known.links == 0 && known.sessions == 0
}

/// What is in use comes first.
fn table(scenery: &Scenery<'_>, secret: &SecretReport, credentials: &[&CredentialReport], out: &mut String) {
    out.push_str(
        "<table class=\"cards\"><thead><tr><th>user<th>version<th>position<th>state<th>age<th>sessions\
         <th>connections<th>what it means</tr></thead><tbody>\n",
    );
    let mut credentials = credentials.to_vec();
    credentials.sort_by_key(|known| (known.standing != "leading", known.links == 0));
    for known in credentials {
        let name = SecretName::from(secret.secret.as_str());
        let swatch = scenery.history.shade(&name, &known.version);
        let swatch = swatch.map_or_else(String::new, |shade| {
            let colour = shade % COLOURS;
            format!(
                "<svg class=\"swatch\" viewBox=\"0 0 10 10\" aria-hidden=\"true\"><circle class=\"b{colour}\" cx=\"5\" cy=\"5\" r=\"5\"/></svg>"
            )
        });
        let position = if known.listed { &known.position } else { "gone" };
        let age = known.age_seconds.map_or_else(String::new, rough);
        let cells = [
            ("user", format!("<span>{swatch}{}</span>", escaped(&known.user))),
            ("version", escaped(&shortened(&known.version))),
            ("position", escaped(position)),
            ("state", known.standing.clone()),
            ("age", age),
            ("sessions", known.sessions.to_string()),
            ("connections", known.links.to_string()),
            ("what it means", meaning(known)),
        ];
        out.push_str("<tr>");
        for (label, cell) in cells {
            put(out, format_args!("<td data-label=\"{label}\">{cell}</td>"));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table>\n");
}

fn meaning(known: &CredentialReport) -> String {
    let mut lines = vec![escaped(&known.words)];
    for endpoint in &known.endpoints {
        if let Some(sqlstate) = &endpoint.refused {
            let line = format!("{} refused it with {sqlstate}", endpoint.endpoint);
            lines.push(escaped(&line));
        }
    }
    if let Some(left) = known.lease_left_seconds {
        lines.push(format!("its lease ends in {}", rough(left)));
    }
    for pin in &known.pinned {
        let reasons = pin.reasons.join(", ").replace('_', " ");
        let end = pin
            .left_seconds
            .map_or_else(String::new, |left| format!(", ends in {}", rough(left)));
        let line = format!("session {} stays: {reasons}{end}", pin.session);
        lines.push(escaped(&line));
    }
    format!("<span>{}</span>", lines.join("<br>"))
}

/// Of a secret that the configuration has no more.
pub(super) fn removed(removed: &RemovedSecretReport, out: &mut String) {
    let (name, words) = (escaped(&removed.secret), escaped(&removed.words));
    put(
        out,
        format_args!(
            "<section><div class=\"head\"><h2>{name}</h2></div>\n<p class=\"words busy\">{words}</p>\n"
        ),
    );
    for known in &removed.credentials {
        let user = escaped(&known.user);
        put(out, format_args!("<p><b>{user}</b> {}</p>\n", meaning(known)));
    }
    out.push_str("</section>\n");
}

pub(super) fn overall(scenery: &Scenery<'_>, out: &mut String) {
    let report = scenery.report;
    let held = chart::held(scenery.samples, scenery.window());
    put(
        out,
        format_args!(
            "<section><dl class=\"tiles\"><div><dt>clients</dt><dd>{}</dd></div><div><dt>logins held</dt><dd>{}</dd></div>",
            report.clients, report.held
        ),
    );
    for upstream in &report.upstreams {
        let (name, links, most) = (
            escaped(&upstream.upstream),
            upstream.links,
            upstream.connections_max,
        );
        put(
            out,
            format_args!("<div><dt>connections to {name}</dt><dd>{links} of {most}</dd></div>"),
        );
    }
    out.push_str("</dl>\n");
    row("logins held because nothing works or answers", &held, out);
    axis(scenery.window(), out);
    out.push_str("</section>\n");
}

pub(super) fn events(scenery: &Scenery<'_>, out: &mut String) {
    out.push_str("<section><h2>What happened</h2>\n<table class=\"events\"><tbody>\n");
    for entry in scenery.entries.iter().rev().take(EVENTS_SHOWN) {
        let (class, words) = happened(entry);
        let (ago, secret) = (rough(scenery.ago(entry)), escaped(entry.secret.as_str()));
        let (version, words) = (escaped(&shortened(&entry.version)), escaped(&words));
        put(
            out,
            format_args!(
                "<tr><td class=\"soft\">{ago} ago</td><td>{secret}</td><td>{version}</td><td class=\"{class}\">{words}</td></tr>\n"
            ),
        );
    }
    out.push_str("</tbody></table></section>\n");
}

fn happened(entry: &Entry) -> (&'static str, String) {
    let at = entry
        .endpoint
        .as_ref()
        .map_or_else(String::new, ToString::to_string);
    match entry.event {
        Event::Seen => (
            "busy",
            format!("seen in the store, at position {}", entry.position),
        ),
        Event::Proven => ("", format!("proven on {at}")),
        Event::Leading => ("calm", "leading: new sessions use it".to_owned()),
        Event::Refused => ("bad", format!("refused by {at}")),
        Event::Retired => ("", "retired: something else leads".to_owned()),
        Event::Unused => ("", "unused: its user is needed, this password is not".to_owned()),
        Event::SafeToRevoke => ("good", "safe to revoke: nothing here is on its user".to_owned()),
    }
}

fn shortened(version: &str) -> String {
    if version.chars().count() <= VERSION_SHOWN {
        return version.to_owned();
    }
    let beginning: String = version.chars().take(VERSION_SHOWN - 1).collect();
    beginning + "…"
}

/// One number and one unit, as people speak of ages.
fn rough(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    match seconds {
        0..60 => format!("{seconds}\u{a0}s"),
        60..3_600 => format!("{}\u{a0}min", seconds / 60),
        3_600..172_800 => format!("{}\u{a0}h", seconds / 3_600),
        _ => format!("{}\u{a0}d", seconds / 86_400),
    }
}
