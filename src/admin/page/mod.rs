//! The page at `/`: everything is rendered here, so that it is whole without a script. The script only asks for it
//! again and puts the new content in the place of the old.

mod chart;
mod parts;

use std::fmt::{self, Write};
use std::time::{Instant, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use self::parts::Scenery;
use super::report::Report;
use super::{Facts, status};

const SHELL: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Of credentials; the style sheet has as many.
const COLOURS: usize = 6;

/// The page, and the policy that lets a browser run and load nothing else.
pub struct Page {
    pub html: String,
    pub policy: String,
}

pub fn page(facts: &Facts) -> Page {
    let report = status::report(facts);
    let (style, script) = (STYLE.trim(), SCRIPT.trim());
    let html = SHELL
        .replace("{{style}}", style)
        .replace("{{script}}", script)
        .replace("{{main}}", &main(facts, &report));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(style),
        hash(script)
    );
    Page { html, policy }
}

fn main(facts: &Facts, report: &Report) -> String {
    let samples = facts.history.samples();
    let entries = facts.records.journal.entries();
    let scenery = Scenery {
        report,
        samples: &samples,
        entries: &entries,
        history: &facts.history,
        now: Instant::now(),
        today: SystemTime::now(),
    };
    let mut out = String::new();
    parts::header(&scenery, &mut out);
    for secret in &report.secrets {
        parts::secret(&scenery, secret, &mut out);
    }
    for removed in &report.removed_secrets {
        parts::removed(removed, &mut out);
    }
    parts::overall(&scenery, &mut out);
    parts::events(&scenery, &mut out);
    out
}

fn hash(text: &str) -> String {
    STANDARD.encode(digest(&SHA256, text.as_bytes()))
}

/// As text or as a quoted attribute.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

fn put(out: &mut String, text: fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a String never fails");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_shown_becomes_markup() {
        assert_eq!(
            escaped("<a href=\"x\">'&"),
            "&lt;a href=&quot;x&quot;&gt;&#39;&amp;"
        );
    }

    #[test]
    fn the_page_asks_nobody_else_for_anything() {
        for part in [SHELL, STYLE, SCRIPT] {
            for elsewhere in ["://", "@import", "url(", "src="] {
                assert!(!part.contains(elsewhere), "{elsewhere}");
            }
            let links = part.split("href=").skip(1);
            links.for_each(|link| assert!(link.starts_with("\"data:,\"")));
        }
    }
}
