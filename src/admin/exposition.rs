//! The text of `/metrics`: what was counted, and what can be read off the report.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Facts;
use super::report::{CredentialReport, Report, SecretReport};
use crate::metrics::Scrape;
use crate::metrics::table;

pub fn text(facts: &Facts, report: &Report) -> String {
    let mut scrape = facts.records.metrics.scrape();
    for upstream in &report.upstreams {
        let links = upstream.links as f64;
        scrape.tell(&table::LINKS, &[&upstream.upstream], links);
    }
    for secret in &report.secrets {
        tell_secret(&mut scrape, secret);
        tell_reads(&mut scrape, secret);
        tell_sessions(&mut scrape, secret);
    }
    let dropped = facts.log_dropped.load(Ordering::Relaxed) as f64;
    scrape.tell(&table::LOG_LINES_DROPPED, &[], dropped);
    for user in &report.users {
        scrape.tell(&table::USER_UNUSED, &[&user.user], flag(user.unused));
        for (secret, links) in &user.links_by_secret {
            scrape.tell(&table::USER_LINKS, &[secret, &user.user], *links as f64);
        }
    }
    scrape.text()
}

fn tell_secret(scrape: &mut Scrape, secret: &SecretReport) {
    let name = [secret.secret.as_str()];
    if let Some(leader) = (secret.credentials.iter()).find(|known| known.standing == "leading") {
        let labels = [name[0], &leader.version, &leader.position];
        scrape.tell(&table::CREDENTIAL_INFO, &labels, 1.0);
        if let Some(age) = leader.age_seconds {
            scrape.tell(&table::CREDENTIAL_AGE, &name, age);
        }
    }
    if let Some(max_age) = secret.max_age_seconds {
        scrape.tell(&table::CREDENTIAL_MAX_AGE, &name, max_age as f64);
    }
    scrape.tell(&table::CREDENTIAL_GENERATION, &name, secret.generation as f64);
    scrape.tell(&table::CREDENTIAL_WORKING, &name, flag(secret.working));
}

fn tell_reads(scrape: &mut Scrape, secret: &SecretReport) {
    let (name, store, reads) = (secret.secret.as_str(), secret.store.as_str(), &secret.reads);
    scrape.tell(&table::STORE_REFRESHES, &[name, store, "ok"], reads.ok as f64);
    let failed = reads.failed as f64;
    scrape.tell(&table::STORE_REFRESHES, &[name, store, "failed"], failed);
    scrape.tell(&table::STORE_POLL, &[name], secret.poll_seconds);
    let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) else {
        return;
    };
    if let Some(ago) = reads.last_success_seconds_ago {
        scrape.tell(&table::STORE_LAST_SUCCESS, &[name], now.as_secs_f64() - ago);
    }
    if let Some(ago) = reads.as_of_seconds_ago {
        scrape.tell(&table::CREDENTIAL_READ, &[name], now.as_secs_f64() - ago);
    }
}

fn tell_sessions(scrape: &mut Scrape, secret: &SecretReport) {
    let name = secret.secret.as_str();
    let is_retired = |known: &&CredentialReport| known.standing == "retired";
    let sessions = |retired: bool| -> u64 {
        let those = secret.credentials.iter();
        those
            .filter(|known| is_retired(known) == retired)
            .map(|known| known.sessions)
            .sum()
    };
    scrape.tell(&table::SESSIONS, &[name, "leading"], sessions(false) as f64);
    scrape.tell(&table::SESSIONS, &[name, "retired"], sessions(true) as f64);
    let mut reasons: BTreeMap<&str, f64> = BTreeMap::new();
    let mut past_grace = 0_usize;
    for known in secret.credentials.iter().filter(is_retired) {
        let retired = known.retired_seconds_ago.unwrap_or(f64::MAX);
        if retired > secret.grace_seconds {
            past_grace += known.pinned.len();
        }
        for reason in known.pinned.iter().flat_map(|pin| &pin.reasons) {
            *reasons.entry(reason).or_default() += 1.0;
        }
    }
    for (reason, sessions) in reasons {
        scrape.tell(&table::SESSIONS_PINNED, &[name, reason], sessions);
    }
    scrape.tell(&table::SESSIONS_PINNED_PAST_GRACE, &[name], past_grace as f64);
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}
