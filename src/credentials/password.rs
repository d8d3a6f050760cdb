//! Secret bytes that nothing prints, and that are wiped at their end. What they open is not known here.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

/// Secret bytes: any byte, any length. Prints as `***`, can't be displayed or serialized, and is
/// wiped when its last owner goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Arc<Zeroizing<Vec<u8>>>);

impl Password {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Arc::new(Zeroizing::new(bytes.into())))
    }

    /// The bytes themselves, for the one place that has to send or derive from them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_the_secret() {
        let password = Password::new("hunter2");
        assert_eq!(format!("{password:?}"), "***");
        assert_eq!(format!("{:#?}", Some(password)), "Some(\n    ***,\n)");
    }
}
