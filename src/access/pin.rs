//! What keeps a session on its link, as it is called in logs and metrics. What there is of it, each protocol knows.

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pin(pub &'static str);

impl Pin {
    /// Does not change.
    pub fn label(self) -> &'static str {
        self.0
    }
}
