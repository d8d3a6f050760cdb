//! Reads the store of one secret, for as long as its keeper runs. It logs in nowhere: what Postgres says of a credential
//! comes to it by the page.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::sleep_until;
use tracing::{error, info, warn};

use super::ages::TooOld;
use super::now;
use super::pace::{Ended, Pace};
use super::shared::Shared;
use super::status::Moment;
use crate::complaint::Complaint;
use crate::config::{Secret, Source};
use crate::credentials::{Offer, Position, Refusal, Verdict};
use crate::names::SecretName;
use crate::stores::{self, HostInSecret, Reading, Store, StoreError, Warning};

/// Reads one secret's store when it is due or asked for, and offers the result to the book. Nobody else touches the store.
pub(super) struct Reader {
    secret: SecretName,
    store: Box<dyn Store>,
    /// Whoever has it is asked over a network, or started.
    is_elsewhere: bool,
    shared: Arc<Shared>,
    pace: Pace,
    poll: watch::Receiver<Duration>,
    last_read: Instant,
    complaint: Complaint,
    said: Said,
}

/// What was logged already and stays true.
#[derive(Default)]
struct Said {
    warning: Option<Warning>,
    host: Option<HostInSecret>,
    skipped: Vec<stores::Skipped>,
    /// The version that is older than `max_age`.
    too_old: Option<Arc<str>>,
}

impl Reader {
    pub(super) fn new(secret: &Secret, store: Box<dyn Store>, shared: Arc<Shared>) -> Self {
        Self {
            secret: secret.name.clone(),
            store,
            is_elsewhere: !matches!(secret.source, Source::File { .. } | Source::Env { .. }),
            poll: shared.poll.subscribe(),
            shared,
            pace: Pace::new(secret.poll, now()),
            last_read: now(),
            complaint: Complaint::default(),
            said: Said::default(),
        }
    }

    pub(super) async fn run(&mut self) {
        loop {
            self.wait().await;
            if self.is_elsewhere {
                self.wait_for_a_turn().await;
            }
            self.read().await;
        }
    }

    /// What is asked while a read is under way is remembered and causes another one: the store may have
    /// answered before it changed.
    async fn wait(&mut self) {
        while now() < self.pace.next_read() {
            tokio::select! {
                () = sleep_until(self.pace.next_read().into()) => {}
                () = self.shared.asked.notified() => self.pace.ask(now()),
                () = self.shared.wanted.notified() => self.pace.want(now()),
                Ok(()) = self.poll.changed() => self.pace.set_poll(*self.poll.borrow_and_update(), now()),
                () = self.store.changed() => self.pace.notice(self.last_read, now()),
            }
        }
    }

    /// Not if a client waits for this read. Whoever asks for one meanwhile gets it.
    async fn wait_for_a_turn(&mut self) {
        if self.pace.is_wanted() {
            return;
        }
        let turn = self.shared.turns.take(now());
        while now() < turn && !self.pace.is_wanted() {
            tokio::select! {
                () = sleep_until(turn.into()) => {}
                () = self.shared.asked.notified() => self.pace.ask(now()),
                () = self.shared.wanted.notified() => self.pace.want(now()),
            }
        }
    }

    async fn read(&mut self) {
        self.report_refusals();
        let began = Moment::now();
        let result = stores::read(self.store.as_mut()).await;
        let now = now();
        self.last_read = now;
        let ended = match result {
            Ok(reading) => self.take_in(reading, began, now),
            Err(error) => self.complain(error, now),
        };
        self.pace.read_ended(ended, now);
        self.say_warning();
        self.say_age();
    }

    fn take_in(&mut self, reading: Reading, began: Moment, now: Instant) -> Ended {
        if let Some(over) = self.complaint.ended(now) {
            let (failures, seconds) = (over.failures, over.lasted.as_secs());
            info!(secret = %self.secret, failures, seconds, "the store can be read again");
        }
        self.say_what_is_odd(&reading);
        let ends = |left: Option<Duration>| left.and_then(|left| now.checked_add(left));
        let (next_read, read_by) = (reading.next_read, reading.read_by);
        let offer = Offer {
            credentials: reading.credentials,
            lease_ends: ends(reading.lease.map(|lease| lease.left)),
            logins_end: ends(reading.logins_for),
        };
        let is_change = self.shared.offer(offer, reading.made, began);
        Ended::Well {
            is_change,
            next_read,
            read_by,
        }
    }

    fn complain(&mut self, error: StoreError, now: Instant) -> Ended {
        let has_credential = !self.shared.page().entries().is_empty();
        if let Some(failures) = self.complaint.failed(now) {
            let secret = &self.secret;
            if has_credential {
                warn!(%secret, failures, %error, "the store can't be read, logins go on with what is known");
            } else {
                error!(%secret, failures, %error, "the store can't be read and no credential is known yet");
            }
        }
        let retry = error.retry();
        self.shared.read_failed(error);
        Ended::Badly {
            retry,
            has_credential,
        }
    }

    /// A store that makes users on demand can make another one.
    fn report_refusals(&mut self) {
        let is_bad = |verdict: &Verdict| {
            matches!(
                verdict,
                Verdict::Refused {
                    refusal: Refusal::BadPassword,
                    ..
                }
            )
        };
        for entry in self.shared.page().entries() {
            let is_current = entry.listed && entry.credential.position == Position::Current;
            let was_refused = entry.verdicts().any(|(_, verdict)| is_bad(verdict));
            if is_current && was_refused && !entry.is_proven_somewhere() {
                self.store.refused(&entry.credential.version);
            }
        }
    }

    fn say_warning(&mut self) {
        let warning = self.store.warning();
        if warning == self.said.warning {
            return;
        }
        if let Some(warning) = warning {
            warn!(secret = %self.secret, "{warning}");
        }
        self.said.warning = warning;
        self.shared.warned(warning);
    }

    fn say_age(&mut self) {
        let Some(TooOld {
            version,
            age,
            max_age,
        }) = self.shared.too_old()
        else {
            return;
        };
        if self.said.too_old.as_ref() != Some(&version) {
            let (age_seconds, max_age_seconds) = (age.as_secs(), max_age.as_secs());
            warn!(
                secret = %self.secret, %version, age_seconds, max_age_seconds,
                "the credential is older than max_age: it should have been rotated"
            );
            self.said.too_old = Some(version);
        }
    }

    fn say_what_is_odd(&mut self, reading: &Reading) {
        let secret = &self.secret;
        if reading.skipped != self.said.skipped {
            for skipped in &reading.skipped {
                let (position, why) = (skipped.position, &skipped.why);
                warn!(%secret, %position, %why, "this position of the secret can't be used");
            }
            self.said.skipped.clone_from(&reading.skipped);
        }
        if reading.host != self.said.host {
            if let Some(host) = reading
                .host
                .as_ref()
                .filter(|host| !self.shared.is_configured(host))
            {
                warn!(%secret, host = host.host, "the secret names a host that is not configured: it is not followed");
            }
            self.said.host.clone_from(&reading.host);
        }
    }
}
