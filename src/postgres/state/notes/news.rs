//! Judges earlier statements again when more is learned about the database's functions.

use super::super::ledger::Ledger;
use super::{Notes, is_of_note};
use crate::postgres::wire::state_words::{Parameters, Spotted};

impl Notes {
    /// What functions do was learned, or learned anew: to be called before anybody goes by these notes.
    #[inline]
    pub fn hear_news(&mut self) {
        if self.news.has_changed().unwrap_or(false) {
            self.take_news();
        }
    }

    /// Waits until it is known what functions do, if that matters.
    pub async fn learned(&mut self) {
        self.hear_news();
        while self.judgement.is_early() && self.news.changed().await.is_ok() {
            self.take_news();
        }
    }

    #[inline(never)]
    pub(super) fn take_news(&mut self) {
        let now = self.news.borrow_and_update().clone();
        let before = std::mem::replace(&mut self.vocabulary, now);
        let has_spoken = self.parses.units_sent > 0 || self.judgement.is_early();
        let (early, is_all) = self.judgement.take_early();
        for text in early.split(|byte| *byte == 0).filter(|text| !text.is_empty()) {
            let mut spotted = self.vocabulary.read(text);
            // Their values were seen when they passed.
            spotted.parameters = Parameters::default();
            if spotted.signalled {
                self.changes.may_have_settled();
            }
            self.ran(&spotted, None);
        }
        // What a function did before it was known for it can be seen now, or never.
        let news = match is_all {
            true => self.vocabulary.news(&before),
            false => {
                self.hidden = true;
                self.vocabulary.all_news()
            }
        };
        if !has_spoken {
            return;
        }
        let is_first = !before.is_learned();
        let is_doubtful = is_first || !is_all || news.is_some();
        if let Some(news) = news {
            let has_run = self.parses.units_sent != self.surveyed_at || self.executed > 0;
            if has_run || !news.shows() {
                self.changes.may_have_settled();
            }
            self.unknown(news.risk.blind, news.risk.unseen);
        }
        if is_doubtful {
            self.judgement.doubt();
            self.judge_made();
        }
    }

    /// Named statements of which Postgres was not asked yet: their texts are at hand.
    fn judge_made(&mut self) {
        let made = self.parses.texts();
        let judged: Vec<(Box<[u8]>, Spotted)> = made
            .map(|(name, text)| (name.into(), self.vocabulary.read(text)))
            .collect();
        for (name, spotted) in judged {
            match is_of_note(&spotted) {
                true => self.spot(&name, spotted),
                false => drop(self.spotted.remove(&name)),
            }
            self.judgement.judged(&name);
        }
    }

    /// Kept to be read again: nothing is known yet.
    pub(super) fn note_early(&mut self, text: &[u8]) {
        if !self.vocabulary.is_learned() {
            self.judgement.keep_early(text);
        }
    }

    /// Statements that were read before the latest news, by what Postgres says that they are.
    pub(super) fn judge_again(&mut self, ledger: &Ledger) {
        let Some(ran) = self.judgement.settle() else {
            return;
        };
        for statement in ledger.statements() {
            let spotted = self.vocabulary.read(&statement.text);
            if is_of_note(&spotted) {
                self.spot(&statement.name, spotted);
            } else {
                self.spotted.remove(&statement.name);
            }
        }
        for name in ran {
            let is_there = ledger.statements().iter().any(|statement| statement.name == name);
            let (blind, unseen) = match self.spotted.get(&name) {
                Some(spotted) if is_there => (spotted.blind, spotted.unseen),
                None if is_there => continue,
                _ => match self.vocabulary.worst() {
                    Some(risk) => (risk.blind, risk.unseen),
                    None => continue,
                },
            };
            self.unknown(blind, unseen);
        }
    }
}
