//! Pictures of the last minutes, as SVG. Time runs from left to right over the whole width: from the first sample that
//! there is, if that is not longer ago than samples are kept.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{COLOURS, escaped, put};
use crate::admin::history::{SAMPLE_EVERY, Sample, Share, WINDOW};
use crate::journal::{Entry, Event};
use crate::names::SecretName;

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 100.0;
/// Above the highest value.
const HEADROOM: f64 = 0.92;

/// A picture of less would be of a few samples.
const WINDOW_MIN: Duration = Duration::from_secs(20);

/// The picture's edges in time, for things that have an age.
#[derive(Clone, Copy)]
pub(super) struct Window {
    now: Instant,
    seconds: f64,
}

impl Window {
    /// Wide enough for all samples, and no wider.
    pub(super) fn over(samples: &[Arc<Sample>], now: Instant) -> Self {
        let first = samples.first().map_or(now, |sample| sample.at);
        let all = now.saturating_duration_since(first);
        Self {
            now,
            seconds: all.clamp(WINDOW_MIN, WINDOW).as_secs_f64(),
        }
    }

    /// How long ago its left edge is.
    pub(super) fn seconds(self) -> f64 {
        self.seconds
    }

    fn shows(self, ago: f64) -> bool {
        ago < self.seconds
    }

    fn x_at(self, at: Instant) -> f64 {
        self.x(self.now.saturating_duration_since(at).as_secs_f64())
    }

    /// Of what was so many seconds ago.
    fn x(self, ago: f64) -> f64 {
        (WIDTH * (1.0 - ago / self.seconds)).clamp(0.0, WIDTH)
    }

    /// How wide a sample is.
    fn step(self) -> f64 {
        WIDTH * SAMPLE_EVERY.as_secs_f64() / self.seconds
    }
}

/// Sessions by credential, one on top of the other. The peak is told beside it.
pub(super) fn sessions(
    samples: &[Arc<Sample>],
    secret: &SecretName,
    window: Window,
    leads_ago: &[f64],
) -> (String, u64) {
    let shares = |sample: &Sample| -> Vec<Share> {
        let sampled = sample.secrets.get(secret);
        sampled
            .map(|sampled| sampled.sessions.clone())
            .unwrap_or_default()
    };
    let total = |sample: &Arc<Sample>| shares(sample).iter().map(|share| share.sessions).sum::<u64>();
    let peak = samples.iter().map(total).max().unwrap_or_default();
    let scale = HEIGHT * HEADROOM / peak.max(1) as f64;
    let mut names: BTreeMap<usize, Arc<str>> = BTreeMap::new();
    for share in samples.iter().flat_map(|sample| shares(sample)) {
        names.insert(share.shade, share.version);
    }
    let mut svg = open("over", "sessions by credential over time");
    let mut floor = vec![0.0; samples.len()];
    for (shade, version) in names {
        let mut upper = String::new();
        let mut lower: Vec<String> = Vec::new();
        for (sample, floor) in samples.iter().zip(&mut floor) {
            let here = shares(sample);
            let share = here.iter().find(|share| share.shade == shade);
            let (x, y) = (window.x_at(sample.at), HEIGHT - *floor);
            *floor += share.map_or(0.0, |share| share.sessions as f64 * scale);
            put(&mut upper, format_args!("{x:.1},{:.1} ", HEIGHT - *floor));
            lower.push(format!("{x:.1},{y:.1}"));
        }
        lower.reverse();
        let colour = shade % COLOURS;
        let (title, lower) = (escaped(&version), lower.join(" "));
        put(
            &mut svg,
            format_args!(
                "<polygon class=\"band b{colour}\" points=\"{upper}{lower}\"><title>{title}</title></polygon>"
            ),
        );
    }
    for ago in leads_ago.iter().filter(|ago| window.shows(**ago)) {
        let x = window.x(*ago);
        put(
            &mut svg,
            format_args!("<line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{HEIGHT}\"/>"),
        );
    }
    (svg + "</svg>", peak)
}

/// What each sample brought: moves, rescues and lost sessions.
pub(super) fn moves(samples: &[Arc<Sample>], secret: &SecretName, window: Window) -> String {
    let steps: Vec<(f64, [u64; 3])> = samples
        .windows(2)
        .filter_map(|pair| {
            let (before, after) = (pair[0].secrets.get(secret)?, pair[1].secrets.get(secret)?);
            let brought = [
                after.moves.saturating_sub(before.moves),
                after.rescues.saturating_sub(before.rescues),
                after.lost.saturating_sub(before.lost),
            ];
            Some((window.x_at(pair[1].at), brought))
        })
        .collect();
    let peak = steps.iter().map(|(_, brought)| brought.iter().sum::<u64>()).max();
    let scale = HEIGHT * HEADROOM / peak.unwrap_or_default().max(1) as f64;
    let mut svg = open("strip", "sessions moved and rescued over time");
    for (x, brought) in steps {
        let mut top = HEIGHT;
        for (count, class) in brought.iter().zip(["moved", "rescued", "lost"]) {
            bar(
                &mut svg,
                class,
                (x, window.step()),
                &mut top,
                *count as f64 * scale,
            );
        }
    }
    svg + "</svg>"
}

/// Logins that had to wait.
pub(super) fn held(samples: &[Arc<Sample>], window: Window) -> String {
    let peak = samples.iter().map(|sample| sample.held).max().unwrap_or_default();
    let scale = HEIGHT * HEADROOM / peak.max(1) as f64;
    let mut svg = open("strip", "logins held over time");
    for sample in samples {
        let mut top = HEIGHT;
        bar(
            &mut svg,
            "rescued",
            (window.x_at(sample.at), window.step()),
            &mut top,
            sample.held as f64 * scale,
        );
    }
    svg + "</svg>"
}

/// From the right edge and the width.
fn bar(svg: &mut String, class: &str, (right, width): (f64, f64), top: &mut f64, height: f64) {
    if height <= 0.0 {
        return;
    }
    *top -= height;
    let x = (right - width).max(0.0);
    put(
        svg,
        format_args!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
        ),
    );
}

/// One rotation, as far as it has come. Seconds ago.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rotation {
    pub(super) version: Arc<str>,
    pub(super) seen: f64,
    pub(super) leads: Option<f64>,
    /// The version that was retired for it.
    pub(super) replaced: Option<Arc<str>>,
    /// Since when nothing is on that.
    pub(super) safe: Option<f64>,
}

/// Rotations, from what happened, oldest first. `entries` are one secret's.
pub(super) fn rotations<'a>(entries: impl Iterator<Item = (&'a Entry, f64)>) -> Vec<Rotation> {
    let mut rotations: Vec<Rotation> = Vec::new();
    for (entry, ago) in entries {
        let known = rotations
            .iter()
            .rposition(|rotation| rotation.version == entry.version);
        let began = Rotation {
            version: Arc::clone(&entry.version),
            seen: ago,
            leads: None,
            replaced: None,
            safe: None,
        };
        match entry.event {
            Event::Seen => rotations.push(began),
            Event::Leading => match known.filter(|at| rotations[*at].leads.is_none()) {
                Some(at) => rotations[at].leads = Some(ago),
                None => rotations.push(Rotation {
                    leads: Some(ago),
                    ..began
                }),
            },
            Event::Retired => {
                let last = rotations.iter_mut().rfind(|rotation| rotation.leads.is_some());
                if let Some(last) = last.filter(|last| last.replaced.is_none()) {
                    last.replaced = Some(Arc::clone(&entry.version));
                }
            }
            Event::SafeToRevoke | Event::Unused => {
                let mut latest = rotations.iter_mut().rev();
                let ended = latest.find(|rotation| rotation.replaced.as_ref() == Some(&entry.version));
                if let Some(rotation) = ended {
                    rotation.safe = rotation.safe.or(Some(ago));
                }
            }
            Event::Proven | Event::Refused => {}
        }
    }
    rotations
}

impl Rotation {
    /// The first credential of a process has replaced nothing.
    pub(super) fn is_one(&self) -> bool {
        self.replaced.is_some() || self.leads.is_none()
    }

    /// Whether it ended before the picture begins.
    fn is_over(&self, window: Window) -> bool {
        self.safe.is_some_and(|safe| !window.shows(safe))
    }
}

/// A bar is this far from the next number at least.
const NUMBER_WIDTH: f64 = 30.0;

/// Rotations as bars: found, left, done. Each has its number, by which it is told of below. In parts of the width, so
/// that numbers are not drawn out with it.
pub(super) fn spans(rotations: &[(usize, Rotation)], window: Window) -> String {
    let mut svg = "<svg class=\"chart spans\" role=\"img\" aria-label=\"rotations\">".to_owned();
    let mut span = |class: &str, from: f64, to: f64, title: &str| {
        let (left, right) = (window.x(from), window.x(to));
        // Even a rotation of a moment is to be seen.
        let width = (right - left).max(4.0).min(WIDTH - left.min(WIDTH - 4.0));
        let (x, title) = (left.min(WIDTH - 4.0), escaped(title));
        let (x, width) = (percent(x), percent(width));
        put(
            &mut svg,
            format_args!(
                "<rect class=\"{class}\" x=\"{x}\" y=\"2\" width=\"{width}\" height=\"8\"><title>{title}</title></rect>"
            ),
        );
    };
    let shown = || rotations.iter().filter(|(_, rotation)| !rotation.is_over(window));
    for (number, rotation) in shown() {
        let version = &rotation.version;
        let found = rotation.leads.unwrap_or(0.0);
        if window.shows(found) {
            let title = format!("{number}: {version} seen, not leading yet");
            span("find", rotation.seen, found, &title);
        }
        if let (Some(leads), Some(_)) = (rotation.leads, &rotation.replaced) {
            let title = format!("{number}: {version} leads, sessions leave what it replaced");
            span("leave", leads, rotation.safe.unwrap_or(0.0), &title);
        }
        if let Some(safe) = rotation.safe {
            let title = format!("{number}: nothing is on what {version} replaced any more");
            span("done", safe, safe, &title);
        }
    }
    let mut free = 0.0;
    for (number, rotation) in shown() {
        let x = window.x(rotation.seen).min(WIDTH - NUMBER_WIDTH);
        if x < free {
            continue;
        }
        free = x + NUMBER_WIDTH;
        put(
            &mut svg,
            format_args!("<text x=\"{}\" y=\"22\">{number}</text>", percent(x)),
        );
    }
    svg + "</svg>"
}

fn percent(x: f64) -> String {
    format!("{:.2}%", x * 100.0 / WIDTH)
}

fn open(class: &str, label: &str) -> String {
    let mut svg = String::new();
    let written = write!(
        svg,
        "<svg class=\"chart {class}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{label}\">"
    );
    written.expect("writing to a String never fails");
    svg
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::credentials::Position;

    fn entry(event: Event, version: &str) -> Entry {
        Entry {
            number: 1,
            at: SystemTime::UNIX_EPOCH,
            event,
            secret: "orders".into(),
            version: version.into(),
            position: Position::Current,
            endpoint: None,
        }
    }

    #[test]
    fn rotations_are_put_together_from_what_happened() {
        let story = [
            (entry(Event::Seen, "1"), 90.0),
            (entry(Event::Leading, "1"), 89.0),
            (entry(Event::Seen, "2"), 50.0),
            (entry(Event::Refused, "2"), 50.0),
            (entry(Event::Leading, "2"), 40.0),
            (entry(Event::Retired, "1"), 40.0),
            (entry(Event::SafeToRevoke, "1"), 20.0),
            (entry(Event::Leading, "1"), 15.0),
            (entry(Event::Retired, "2"), 15.0),
            (entry(Event::Seen, "3"), 5.0),
        ];
        let found = rotations(story.iter().map(|(entry, ago)| (entry, *ago)));
        let told: Vec<_> = found
            .iter()
            .map(|rotation| {
                (
                    &*rotation.version,
                    rotation.leads,
                    rotation.replaced.as_deref(),
                    rotation.safe,
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("1", Some(89.0), None, None),
                ("2", Some(40.0), Some("1"), Some(20.0)),
                ("1", Some(15.0), Some("2"), None),
                ("3", None, None, None),
            ]
        );
    }

    #[test]
    fn every_picture_lies_within_its_frame() {
        let rotation = Rotation {
            version: "<2>".into(),
            seen: 10_000.0,
            leads: Some(0.0),
            replaced: Some("1".into()),
            safe: Some(0.0),
        };
        let svg = spans(&[(1, rotation)], Window::over(&[], Instant::now()));
        assert!(svg.contains("x=\"0.00%\"") && svg.contains("&lt;2&gt;"));
        for x in svg.split(" x=\"").skip(1) {
            let x: f64 = x.split('%').next().unwrap().parse().unwrap();
            assert!((0.0..=100.0).contains(&x));
        }
    }

    #[test]
    fn a_picture_is_as_wide_as_what_there_is_to_show_and_not_wider_than_what_is_kept() {
        let now = Instant::now() + WINDOW * 2;
        let since = |ago: u64| {
            let sample = Sample {
                at: now.checked_sub(Duration::from_secs(ago)).unwrap(),
                held: 0,
                secrets: BTreeMap::new(),
            };
            Window::over(&[Arc::new(sample)], now)
        };
        assert_eq!(Window::over(&[], now).seconds, WINDOW_MIN.as_secs_f64());
        assert_eq!(since(90).seconds, 90.0);
        assert_eq!((since(90).x(90.0), since(90).x(45.0)), (0.0, WIDTH / 2.0));
        assert_eq!(since(301).seconds, WINDOW.as_secs_f64());
    }

    #[test]
    fn numbers_of_rotations_do_not_stand_on_each_other() {
        let at = |seen| Rotation {
            version: "v".into(),
            seen,
            leads: None,
            replaced: None,
            safe: None,
        };
        let rotations: Vec<_> = [19.0, 18.9, 10.0, 0.0].map(at).into_iter().enumerate().collect();
        let svg = spans(&rotations, Window::over(&[], Instant::now()));
        let numbers: Vec<_> = ["0", "1", "2", "3"]
            .into_iter()
            .filter(|number| svg.contains(&format!(">{number}</text>")))
            .collect();
        assert_eq!(numbers, ["0", "2", "3"]);
    }
}
