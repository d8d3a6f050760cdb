//! Tells most texts that hold none of the words from those that may, for less than it costs to look for them.

/// Three bytes of each word: its first ones, or those that end in its underscore.
#[derive(Debug)]
pub(super) struct Glance {
    /// A set of hashes.
    keys: [u64; HASHES / 64],
    /// How far from its beginning a word that may stand inside a name has its underscore, at most.
    underscore_at: usize,
    /// A word can't be found so: any text may hold it.
    blind: bool,
}

type Key = [u8; 3];

const HASHES: usize = 1 << HASH_BITS;
const HASH_BITS: u32 = 11;

/// So much is looked at in one go, with so much around it.
const BLOCK: usize = u64::BITS as usize;
const AROUND: usize = size_of::<Key>() - 1;

impl Glance {
    pub(super) fn new() -> Self {
        Self {
            keys: [0; HASHES / 64],
            underscore_at: 0,
            blind: false,
        }
    }

    /// Of words that it knows nothing of.
    #[cfg(test)]
    pub(super) fn blind() -> Self {
        Self {
            blind: true,
            ..Self::new()
        }
    }

    /// A word that counts where a name begins.
    pub(super) fn add_beginning(&mut self, word: &[u8]) {
        match word.first_chunk() {
            Some(key) if is_letter(key[0]) || key[0] == b'_' => self.add(*key),
            _ => self.blind = true,
        }
    }

    /// A word that counts inside a name as well.
    pub(super) fn add_anywhere(&mut self, word: &[u8]) {
        let underscore = word.iter().position(|byte| *byte == b'_');
        let Some((at, key)) = underscore.and_then(|at| Some((at, word[..=at].last_chunk()?))) else {
            self.blind = true;
            return;
        };
        self.add(*key);
        self.underscore_at = self.underscore_at.max(at);
    }

    fn add(&mut self, key: Key) {
        let hash = hash(key);
        self.keys[hash / 64] |= 1 << (hash % 64);
    }

    fn has(&self, key: Key) -> bool {
        let hash = hash(key);
        self.keys[hash / 64] >> (hash % 64) & 1 == 1
    }

    /// The first place in `text`, at `from` or behind it, at which a word may begin. What is before `from` is what
    /// the words stand in.
    pub(super) fn first(&self, text: &[u8], from: usize) -> Option<usize> {
        if self.blind {
            return Some(from);
        }
        for at in (from..text.len()).step_by(BLOCK) {
            let mut block = [0; AROUND + BLOCK + AROUND];
            let shown = at.saturating_sub(AROUND)..text.len().min(at + BLOCK + AROUND);
            let missing = AROUND - (at - shown.start);
            block[missing..missing + shown.len()].copy_from_slice(&text[shown]);
            let mut marks = marks(&block);
            while marks != 0 {
                let mark = marks.trailing_zeros() as usize;
                marks &= marks - 1;
                let [a, b, c, d, e] = *block[mark..].first_chunk().expect("a mark has bytes around it");
                // First: its word begins earlier than one that begins here.
                if c == b'_' && self.has([a, b, c]) {
                    return Some((at + mark).saturating_sub(self.underscore_at).max(from));
                }
                if self.has([c, d, e]) {
                    return Some(at + mark);
                }
            }
        }
        None
    }
}

/// Where a letter follows something else, or an underscore stands: all at once, so that it comes out as vector
/// instructions.
fn marks(block: &[u8; AROUND + BLOCK + AROUND]) -> u64 {
    let mut flags = [0; BLOCK];
    for (at, flag) in flags.iter_mut().enumerate() {
        let (before, byte) = (block[at + AROUND - 1], block[at + AROUND]);
        *flag = u8::from(is_letter(byte) & !is_letter(before) | (byte == b'_'));
    }
    let eights = flags.as_chunks::<8>().0.iter().enumerate();
    eights.fold(0, |marks, (at, eight)| {
        marks | u64::from(packed(*eight)) << (8 * at)
    })
}

/// Eight zeros and ones as eight bits.
fn packed(flags: [u8; 8]) -> u8 {
    (u64::from_le_bytes(flags).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
}

fn is_letter(byte: u8) -> bool {
    (byte | 0x20).wrapping_sub(b'a') < 26
}

/// The same for upper and lower case.
fn hash([a, b, c]: Key) -> usize {
    let key = u32::from_le_bytes([a, b, c, 0]) | 0x20_2020;
    (key.wrapping_mul(0x9e37_79b1) >> (u32::BITS - HASH_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Vocabulary;
    use super::*;

    #[test]
    fn a_word_is_found_in_any_case_where_a_name_begins_and_nowhere_else() {
        let mut glance = Glance::new();
        glance.add_beginning(b"set_config");
        for (text, first) in [
            ("SELECT Set_config('a.b', '')", Some(7)),
            ("select \"set_config\"", Some(8)),
            ("select reset_config", None),
            ("select 1", None),
            ("se", None),
        ] {
            assert_eq!(glance.first(text.as_bytes(), 0), first, "{text}");
        }
        assert_eq!(glance.first(b"reset_config", 2), None);
        let far = [&[b' '; 200][..], b"set_config"].concat();
        assert_eq!(glance.first(&far, 3), Some(200));
    }

    #[test]
    fn a_word_that_counts_inside_a_name_is_found_there() {
        let mut glance = Glance::new();
        glance.add_anywhere(b"advisory_");
        assert_eq!(glance.first(b"select pg_advisory_lock(1)", 0), Some(10));
        assert_eq!(glance.first(b"select myadvisory_(1)", 0), Some(9));
        assert_eq!(glance.first(b"select a_b, c__d", 0), None);
    }

    #[test]
    fn a_word_that_can_not_be_found_so_makes_it_blind() {
        for add in [Glance::add_beginning, Glance::add_anywhere] {
            let mut glance = Glance::new();
            add(&mut glance, b"f");
            assert_eq!(glance.first(b"select 1", 3), Some(3));
        }
    }

    #[test]
    fn a_word_that_seems_to_begin_behind_an_underscore_hides_none_around_it() {
        assert!(Vocabulary::default().read(b"advisory_fconfig").signalled);
    }

    #[test]
    fn whatever_the_text_it_hides_nothing() {
        let names = [
            ["touch_it", "Mine", "a b", "ab$"].as_slice(),
            &["touch_it", "f"],
            &["$odd"],
            &["se"],
        ];
        let parts = prop::sample::select(vec![
            "set",
            "SET ",
            "reset",
            "_",
            "config",
            "advisory_",
            "Lock(",
            "pg_",
            "temp.",
            "touch_it",
            "mine",
            "a b",
            "ab$",
            "f",
            "$odd",
            "u&\"",
            " ",
            ";",
            "'",
            "\"",
            "(1)",
            "select ",
            "replication_slot",
            "create_",
            "\u{e9}",
        ]);
        let text = prop::collection::vec(parts, 0..12).prop_map(|parts| parts.concat());
        for names in names {
            let glancing = Vocabulary::new(names.iter().copied());
            let looking = Vocabulary::new(names.iter().copied()).unglanced();
            proptest!(|(text in &text)| {
                prop_assert_eq!(glancing.read(text.as_bytes()), looking.read(text.as_bytes()));
            });
        }
    }
}
