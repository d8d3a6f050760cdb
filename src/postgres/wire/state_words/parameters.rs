//! Which parameters of a statement name a setting: a set of numbers. Their values are not known here.

/// Which parameters of a statement name a setting that it sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// A bit each.
    all: u32,
    /// Those whose settings outlive the transaction.
    kept: u32,
}

impl Parameters {
    /// `number`: of `$1`, 1. There is room for 31; any beyond that is the last.
    pub(super) fn add(&mut self, number: u16, is_local: bool) {
        let bit = 1 << u32::from(number.saturating_sub(1)).min(u32::BITS - 1);
        self.all |= bit;
        if !is_local {
            self.kept |= bit;
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.all |= other.all;
        self.kept |= other.kept;
    }

    pub fn is_empty(self) -> bool {
        self.all == 0
    }

    /// Whether what is not known of their values matters.
    pub fn outlive(self) -> bool {
        self.kept != 0
    }

    /// Each with its place among all parameters, from 0, which is None beyond the room there is, and whether what it
    /// sets outlives the transaction.
    pub fn each(self) -> impl Iterator<Item = (Option<usize>, bool)> {
        let named = (0..u32::BITS).filter(move |bit| self.all & (1 << bit) != 0);
        named.map(move |bit| {
            let index = (bit < u32::BITS - 1).then_some(bit as usize);
            (index, self.kept & (1 << bit) != 0)
        })
    }
}
