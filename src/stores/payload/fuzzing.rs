//! See [`crate::fuzzing`].

use super::parse;

/// Whatever a store holds, it is a payload or it is not, and nothing of it is shown.
pub fn payload(data: &[u8]) {
    if let Ok(payload) = parse(data, None) {
        assert!(!payload.pairs.is_empty(), "a payload without a credential");
        for pair in &payload.pairs {
            let shown = format!("{:?}", pair.password);
            assert_eq!(shown, "***", "a password is shown");
        }
    }
}
