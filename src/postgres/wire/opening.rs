//! The untagged packets that open a connection, as they arrive and as they are sent.

use super::parts::string;

/// As in Postgres, the length field itself not counted.
const BODY_MAX: usize = 10_000;
const BODY_MIN: usize = 4;
pub const MAJOR: u16 = 3;
/// The newest minor version spoken here. 3.2 differs from 3.0 in the length of cancel keys alone.
pub const MINOR_MAX: u16 = 2;

const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS_ENCRYPTION: u32 = 80_877_104;
const KEY_LENGTHS: std::ops::RangeInclusive<usize> = 4..=256;

#[derive(Debug, PartialEq, Eq)]
pub enum Opening {
    SslRequest,
    GssEncRequest,
    Cancel { process_id: i32, key: Vec<u8> },
    Startup(Startup),
}

/// What a client asks for, byte for byte: names and values need not be UTF-8.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Startup {
    pub minor: u16,
    pub parameters: Vec<Parameter>,
}

/// A name and its value.
pub type Parameter = (Vec<u8>, Vec<u8>);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOpening {
    #[error("invalid length of startup packet")]
    Length,
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
    #[error("invalid length of cancel request packet")]
    Cancel,
    #[error("unsupported frontend protocol {0}.{1}: server supports 3.0 to 3.2")]
    Version(u16, u16),
}

/// How much follows the four bytes of a packet's length, which counts itself.
pub fn body_length(prefix: [u8; 4]) -> Result<usize, BadOpening> {
    match (u32::from_be_bytes(prefix) as usize).checked_sub(prefix.len()) {
        Some(length @ BODY_MIN..=BODY_MAX) => Ok(length),
        _ => Err(BadOpening::Length),
    }
}

impl Opening {
    /// `body`: what follows the length.
    pub fn read(body: &[u8]) -> Result<Self, BadOpening> {
        let (code, rest) = body.split_first_chunk().ok_or(BadOpening::Length)?;
        match u32::from_be_bytes(*code) {
            SSL => Ok(Self::SslRequest),
            GSS_ENCRYPTION => Ok(Self::GssEncRequest),
            CANCEL => {
                let (process_id, key) = rest.split_first_chunk().ok_or(BadOpening::Cancel)?;
                if !KEY_LENGTHS.contains(&key.len()) {
                    return Err(BadOpening::Cancel);
                }
                Ok(Self::Cancel {
                    process_id: i32::from_be_bytes(*process_id),
                    key: key.to_vec(),
                })
            }
            version => {
                let (major, minor) = ((version >> 16) as u16, version as u16);
                if major != MAJOR {
                    return Err(BadOpening::Version(major, minor));
                }
                let parameters = parameters(rest)?;
                Ok(Self::Startup(Startup { minor, parameters }))
            }
        }
    }
}

fn parameters(mut rest: &[u8]) -> Result<Vec<Parameter>, BadOpening> {
    let mut parameters = Vec::new();
    loop {
        let (name, after) = string(rest).ok_or(BadOpening::Layout)?;
        if name.is_empty() {
            return if after.is_empty() {
                Ok(parameters)
            } else {
                Err(BadOpening::Layout)
            };
        }
        let (value, after) = string(after).ok_or(BadOpening::Layout)?;
        parameters.push((name.to_vec(), value.to_vec()));
        rest = after;
    }
}

impl Startup {
    /// It does not ask for the replication protocol.
    pub fn speaks_sql(&self) -> bool {
        // As Postgres reads a boolean.
        let is_off = |value: &[u8]| {
            let value = value.to_ascii_lowercase();
            let begins = |word: &[u8], least: usize| value.len() >= least && word.starts_with(&value);
            value == b"0" || begins(b"off", 2) || begins(b"false", 1) || begins(b"no", 1)
        };
        self.get(b"replication").is_none_or(is_off)
    }

    /// Physical replication: Postgres itself ignores what database is asked for.
    pub fn has_no_database(&self) -> bool {
        !self.speaks_sql()
            && self
                .get(b"replication")
                .is_some_and(|value| !value.eq_ignore_ascii_case(b"database"))
    }

    /// The last value given for a name counts, as in Postgres.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let found = self.parameters.iter().rev().find(|(key, _)| key == name)?;
        Some(&found.1)
    }

    /// Replaces every value of a name, or adds it.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        self.parameters.retain(|(key, _)| key != name);
        self.parameters.insert(0, (name.to_vec(), value.to_vec()));
    }

    /// Takes out the protocol extensions, none of which is known here, and returns their names.
    pub fn take_extensions(&mut self) -> Vec<Vec<u8>> {
        let (extensions, parameters) = std::mem::take(&mut self.parameters)
            .into_iter()
            .partition(|(name, _)| name.starts_with(b"_pq_."));
        self.parameters = parameters;
        let extensions: Vec<Parameter> = extensions;
        extensions.into_iter().map(|(name, _)| name).collect()
    }

    pub fn write(&self) -> Vec<u8> {
        let mut packet = vec![0; 4];
        packet.extend_from_slice(&MAJOR.to_be_bytes());
        packet.extend_from_slice(&self.minor.to_be_bytes());
        for (name, value) in &self.parameters {
            packet.extend_from_slice(name);
            packet.push(0);
            packet.extend_from_slice(value);
            packet.push(0);
        }
        packet.push(0);
        let length = packet.len() as u32;
        packet[..4].copy_from_slice(&length.to_be_bytes());
        packet
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_startup_packet_keeps_every_byte_of_its_values() {
        let startup = Startup {
            minor: 2,
            parameters: vec![
                (b"user".to_vec(), b"\xff\xfe".to_vec()),
                (b"options".to_vec(), b"-c work_mem=1MB".to_vec()),
            ],
        };
        let packet = startup.write();
        assert_eq!(body_length(*packet.first_chunk().unwrap()), Ok(packet.len() - 4));
        assert_eq!(Opening::read(&packet[4..]), Ok(Opening::Startup(startup)));
    }

    #[test]
    fn the_last_of_two_values_counts_and_set_replaces_both() {
        let mut startup = Startup::default();
        for user in [b"a", b"b"] {
            startup.parameters.push((b"user".to_vec(), user.to_vec()));
        }
        assert_eq!(startup.get(b"user"), Some(&b"b"[..]));
        startup.set(b"user", b"c");
        assert_eq!(startup.parameters, [(b"user".to_vec(), b"c".to_vec())]);
    }

    #[test]
    fn extensions_are_taken_out_by_name() {
        let mut startup = Startup::default();
        startup.set(b"_pq_.compression", b"on");
        startup.set(b"user", b"app");
        assert_eq!(startup.take_extensions(), [b"_pq_.compression".to_vec()]);
        assert_eq!(startup.parameters, [(b"user".to_vec(), b"app".to_vec())]);
    }

    #[test]
    fn lengths_out_of_bounds_are_refused() {
        for bad in [0, 1, 3, 7, 10_005, 0x7fff_ffff, u32::MAX] {
            assert_eq!(body_length(bad.to_be_bytes()), Err(BadOpening::Length));
        }
        assert_eq!(body_length(8_u32.to_be_bytes()), Ok(4));
        assert_eq!(body_length(10_004_u32.to_be_bytes()), Ok(10_000));
    }

    #[test]
    fn cancel_keys_have_4_to_256_bytes() {
        let packet = |key: usize| {
            let mut body = CANCEL.to_be_bytes().to_vec();
            body.extend_from_slice(&7_i32.to_be_bytes());
            body.extend(std::iter::repeat_n(9, key));
            Opening::read(&body)
        };
        for bad in [0, 3, 257] {
            assert_eq!(packet(bad), Err(BadOpening::Cancel));
        }
        for good in [4, 32, 256] {
            let (process_id, key) = (7, vec![9; good]);
            assert_eq!(packet(good), Ok(Opening::Cancel { process_id, key }));
        }
    }

    #[test]
    fn other_major_versions_are_named() {
        let body = (2_u32 << 16).to_be_bytes();
        let bad = Opening::read(&body).unwrap_err();
        assert_eq!(
            bad.to_string(),
            "unsupported frontend protocol 2.0: server supports 3.0 to 3.2"
        );
    }

    #[test]
    fn bytes_behind_the_terminator_are_refused() {
        let mut packet = Startup::default().write();
        packet.push(0);
        assert_eq!(Opening::read(&packet[4..]), Err(BadOpening::Layout));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Opening::read(&body);
            let _ = Opening::read(&[&[0, 3, 0, 0], &body[..]].concat());
        }
    }
}
