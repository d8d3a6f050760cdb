//! What a server says that a prepared statement takes and gives, in one number: to be compared, and kept for long.

use std::hash::{DefaultHasher, Hash, Hasher};

use memchr::memchr;

/// Its ParameterDescription came; what it gives comes next.
#[derive(Clone, Debug)]
pub struct Described(DefaultHasher);

impl Described {
    /// By the body of a ParameterDescription.
    pub fn taking(parameters: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        parameters.hash(&mut hasher);
        Self(hasher)
    }

    /// By the body of a RowDescription, or that of NoData, which is empty. A table that was made anew gives the same
    /// columns: which table they are of is left out, as Postgres itself does.
    pub fn giving(self, columns: &[u8]) -> u64 {
        let Self(mut hasher) = self;
        let mut rest = columns.get(2..).unwrap_or_default();
        while let Some(end) = memchr(0, rest) {
            let (name, column) = rest.split_at(end + 1);
            name.hash(&mut hasher);
            // Table and its column; then type, its size and its modifier; then the format.
            column.get(6..16).hash(&mut hasher);
            rest = column.get(18..).unwrap_or_default();
        }
        hasher.finish()
    }
}

/// A name in one number.
pub fn digest(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn columns(table: u8, of: &[(&str, u8)]) -> Vec<u8> {
        let mut body = vec![0, of.len() as u8];
        for (name, kind) in of {
            body.extend_from_slice(name.as_bytes());
            body.extend_from_slice(&[
                0, 0, 0, 0, table, 0, 1, 0, 0, 0, *kind, 0, 4, 255, 255, 255, 255, 0, 0,
            ]);
        }
        body
    }

    fn described(parameters: &[u8], columns: &[u8]) -> u64 {
        Described::taking(parameters).giving(columns)
    }

    #[test]
    fn names_types_and_parameters_count_and_the_table_does_not() {
        let base = described(b"\0\0", &columns(1, &[("a", 23), ("b", 23)]));
        assert_eq!(base, described(b"\0\0", &columns(2, &[("a", 23), ("b", 23)])));
        for other in [
            described(b"\0\x01\0\0\0\x17", &columns(1, &[("a", 23), ("b", 23)])),
            described(b"\0\0", &columns(1, &[("a", 23), ("c", 23)])),
            described(b"\0\0", &columns(1, &[("a", 23), ("b", 25)])),
            described(b"\0\0", &columns(1, &[("b", 23), ("a", 23)])),
            described(b"\0\0", &columns(1, &[("a", 23)])),
            described(b"\0\0", b""),
        ] {
            assert_ne!(base, other);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(parameters: Vec<u8>, columns: Vec<u8>) {
            let _ = described(&parameters, &columns);
        }
    }
}
