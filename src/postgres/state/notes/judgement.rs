//! What statements were judged by: what was known of functions when they were read may be known better since.

use std::collections::BTreeSet;

/// So much text is kept to be read again.
const EARLY_MAX: usize = 16 * 1024;
/// More statements than this are not told apart.
const STATEMENTS_MAX: usize = 256;

#[derive(Default)]
pub(super) struct Judgement {
    /// Texts that were read before anything was known, each with a NUL behind it.
    early: Vec<u8>,
    /// There were more.
    early_missed: bool,
    doubts: Option<Box<Doubts>>,
}

/// There was news since Postgres was last asked for its statements.
#[derive(Default)]
struct Doubts {
    /// Named statements that were read by what is known now.
    judged: BTreeSet<Box<[u8]>>,
    /// Others that were run.
    ran: BTreeSet<Box<[u8]>>,
}

impl Judgement {
    /// Whether all statements were read by what is known now.
    #[inline]
    pub fn is_made(&self) -> bool {
        self.doubts.is_none()
    }

    pub fn is_early(&self) -> bool {
        self.early_missed || !self.early.is_empty()
    }

    #[inline(never)]
    pub fn keep_early(&mut self, text: &[u8]) {
        if self.early.len() + text.len() < EARLY_MAX {
            self.early.extend_from_slice(text);
            self.early.push(0);
        } else {
            self.early_missed = true;
        }
    }

    pub fn miss_early(&mut self, missed: bool) {
        self.early_missed |= missed;
    }

    /// The texts, and whether they are all.
    pub fn take_early(&mut self) -> (Vec<u8>, bool) {
        let missed = std::mem::take(&mut self.early_missed);
        (std::mem::take(&mut self.early), !missed)
    }

    pub fn doubt(&mut self) {
        self.doubts.get_or_insert_default().judged.clear();
    }

    /// A statement of this name was read just now.
    pub fn judged(&mut self, name: &[u8]) {
        let Some(doubts) = &mut self.doubts else {
            return;
        };
        if doubts.judged.len() == STATEMENTS_MAX {
            doubts.judged.clear();
        }
        doubts.judged.insert(name.into());
    }

    /// A statement of this name is run. True: it was read when less was known.
    pub fn doubts(&mut self, name: &[u8]) -> bool {
        let Some(doubts) = &mut self.doubts else {
            return false;
        };
        let is_doubtful = !doubts.judged.contains(name);
        // The one without a name stands for all that there is no room for.
        if is_doubtful && doubts.ran.len() < STATEMENTS_MAX {
            doubts.ran.insert(name.into());
        } else if is_doubtful {
            doubts.ran.insert(Box::default());
        }
        is_doubtful
    }

    /// Postgres was asked. The statements that were run in doubt; None: there is none.
    pub fn settle(&mut self) -> Option<BTreeSet<Box<[u8]>>> {
        Some(self.doubts.take()?.ran)
    }
}
