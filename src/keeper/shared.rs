//! Where the reader, the prover and logins meet: the book, under a lock, and the page that is made from it.
//! It touches no store and logs in nowhere.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::ages::{Ages, TooOld};
use super::status::Moment;
use super::{Policy, ProofError, Reads, Records, Status, Turns, now, trail};
use crate::config::Secret;
use crate::credentials::{Book, Credential, Event, Offer, Page, Refusal, Unfinished, Verdicts};
use crate::lock::lock;
use crate::names::{Endpoint, SecretName};
use crate::stores::{Calls, HostInSecret, Made, StoreError, Warning};

/// Where the reader, the prover and every login meet: the book, and the page made from it.
pub(super) struct Shared {
    secret: SecretName,
    book: Mutex<Book>,
    pages: watch::Sender<Arc<Page>>,
    reads: Mutex<Reads>,
    ages: Mutex<Ages>,
    records: Records,
    calls: Mutex<Arc<Calls>>,
    pub(super) turns: Arc<Turns>,
    /// How often to read in the ordinary course.
    pub(super) poll: watch::Sender<Duration>,
    /// A login was refused.
    pub(super) wanted: Notify,
    /// Somebody asked for a read.
    pub(super) asked: Notify,
    /// A reading changed what is to be tried or proven.
    pub(super) offered: Notify,
    /// A login had a verdict that the prover may have to follow up.
    pub(super) judged: Notify,
}

impl Shared {
    pub(super) fn new(
        secret: &Secret,
        policy: Policy,
        calls: Arc<Calls>,
        records: Records,
    ) -> (Arc<Self>, watch::Receiver<Arc<Page>>) {
        let book = Book::new(policy.endpoints, policy.refused_retry);
        let (pages, page) = watch::channel(book.page().clone());
        let shared = Self {
            secret: secret.name.clone(),
            book: Mutex::new(book),
            pages,
            reads: Mutex::default(),
            ages: Mutex::new(Ages::new(secret.max_age)),
            records,
            calls: Mutex::new(calls),
            turns: policy.turns,
            poll: watch::Sender::new(secret.poll),
            wanted: Notify::new(),
            asked: Notify::new(),
            offered: Notify::new(),
            judged: Notify::new(),
        };
        (Arc::new(shared), page)
    }

    pub(super) fn page(&self) -> Arc<Page> {
        self.pages.borrow().clone()
    }

    /// Takes in a good reading; true if it changed the order of tries or what the store puts first. Only then is it
    /// said that there was one: whoever waits for it finds the page that it made.
    pub(super) fn offer(&self, offer: Offer, made: Vec<Made>, began: Moment) -> bool {
        let before = self.page();
        self.ages().read(&offer, made, &before, now());
        let after = self.write(|book, now| book.offer(offer, now));
        self.reads().succeeded(began, now());
        let is_same_first = match (before.first_choice(), after.first_choice()) {
            (Some(before), Some(after)) => before.is_same_login(after),
            (before, after) => before.is_none() && after.is_none(),
        };
        let is_change = before.generation != after.generation || !is_same_first;
        if is_change {
            self.offered.notify_one();
        }
        is_change
    }

    pub(super) fn read_failed(&self, error: StoreError) {
        self.reads().failed(error, now());
        self.write(Book::read_failed);
    }

    pub(super) fn unproven(&self) -> Vec<(Credential, Endpoint)> {
        self.book().unproven(now())
    }

    pub(super) fn unfinished(&self) -> Option<Unfinished> {
        self.book().unfinished()
    }

    /// What a proof said.
    pub(super) fn proof(&self, credential: &Credential, endpoint: &Endpoint, proof: &Result<(), ProofError>) {
        let page = self.write(|book, now| match proof {
            Ok(()) => book.confirm(credential, endpoint, now),
            Err(ProofError::Refused(refusal)) => book.refuse(credential, endpoint, *refusal, now),
            Err(ProofError::Unreachable(_) | ProofError::Unrelated(_) | ProofError::LeftToOthers) => {
                book.untested(credential, endpoint, now);
            }
        });
        self.follow_up(credential, endpoint, &page);
    }

    /// What worked and is refused has been replaced, and the store may know by what.
    fn follow_up(&self, credential: &Credential, endpoint: &Endpoint, page: &Page) {
        let entry = page.entry(credential).filter(|entry| entry.worked);
        if entry.is_some_and(|entry| entry.blocked_until(endpoint).is_some()) {
            self.refresh_wanted();
        }
    }

    pub(super) fn refresh(&self) {
        self.asked.notify_one();
    }

    pub(super) fn change(&self, policy: Policy, secret: &Secret) {
        self.write(|book, now| {
            book.set_refused_retry(policy.refused_retry);
            if book.endpoints() != policy.endpoints {
                book.set_endpoints(policy.endpoints, now);
            }
        });
        let poll = secret.poll;
        self.poll
            .send_if_modified(|old| std::mem::replace(old, poll) != poll);
        self.ages().max_age = secret.max_age;
        self.pages.send_modify(|_| ());
        self.offered.notify_one();
    }

    pub(super) fn count_calls(&self, calls: Arc<Calls>) {
        *self.calls() = calls;
    }

    pub(super) fn status(&self) -> Status {
        Status::new(
            &self.secret,
            &self.page(),
            self.reads().clone(),
            &self.calls(),
            Moment::now(),
        )
        .aged(&self.ages())
    }

    /// The credential that leads, if it is older than it should be.
    pub(super) fn too_old(&self) -> Option<TooOld> {
        let page = self.page();
        let entry = page.entry(page.leader()?)?;
        let version = &entry.credential.version;
        let seen_ago = now().saturating_duration_since(entry.first_seen);
        let ages = self.ages();
        let max_age = ages.max_age?;
        let age = ages.made_ago(version).unwrap_or(seen_ago);
        (age > max_age).then(|| TooOld {
            version: Arc::clone(version),
            age,
            max_age,
        })
    }

    pub(super) fn warned(&self, warning: Option<Warning>) {
        self.reads().warning = warning;
    }

    pub(super) fn is_configured(&self, named: &HostInSecret) -> bool {
        named.is_among(self.book().endpoints())
    }

    /// Changes the book and publishes its page before anybody else can change it again.
    fn write(&self, change: impl FnOnce(&mut Book, Instant)) -> Arc<Page> {
        let (events, before, page) = {
            let mut book = self.book();
            let before = book.page().clone();
            change(&mut book, now());
            let page = book.page().clone();
            if !Arc::ptr_eq(&before, &page) {
                self.pages.send_replace(page.clone());
            }
            (book.take_events(), before, page)
        };
        for event in &events {
            trail::record(&self.secret, event, &before, &page, &self.records.journal);
            if let Event::Proven(credential, _) = event
                && let Some(took) = self.ages().first_login(credential, now())
            {
                self.records.metrics.rotated(took);
            }
        }
        page
    }

    fn ages(&self) -> MutexGuard<'_, Ages> {
        lock(&self.ages)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }

    fn calls(&self) -> MutexGuard<'_, Arc<Calls>> {
        lock(&self.calls)
    }

    fn reads(&self) -> MutexGuard<'_, Reads> {
        lock(&self.reads)
    }
}

impl Verdicts for Shared {
    fn proven(&self, credential: &Credential, endpoint: &Endpoint) {
        let before = self.page();
        let after = self.write(|book, now| book.confirm(credential, endpoint, now));
        if !Arc::ptr_eq(&before, &after) {
            self.judged.notify_one();
        }
    }

    fn refused(&self, credential: &Credential, endpoint: &Endpoint, refusal: Refusal) {
        let page = self.write(|book, now| book.refuse(credential, endpoint, refusal, now));
        self.follow_up(credential, endpoint, &page);
        self.judged.notify_one();
    }

    fn refresh_wanted(&self) {
        self.wanted.notify_one();
    }
}
