//! A run of every target that is short enough for a test: the same inputs each time, made from what is nearly right.

#![cfg(test)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::TARGETS;

const ROUNDS: usize = 1500;
const INPUT_MAX: usize = 512;

/// What each target's inputs begin as.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let texts: Vec<&[u8]> = match target {
        "conversation" => return conversations(),
        "configuration" => vec![
            b"[role.app]\nupstream = 'o'\nsecret = 's'\n[upstream.o]\nhosts = ['db:5432']\n[secret.s]\nstore = 'file'\nid = '/s'\n",
            b"postgres://db/orders?sslmode=verify-full\0[listen]\naddress = 'unix:/run'\n",
            b"aws-secretsmanager:prod/orders?region=eu-west-1\0[fleet]\nchannel = 'c'\n",
            b"[rotation.r]\nsecret = 's'\nadmin = 's'\nupstreams = ['o']\nusers = ['a','b']\nmax_age = '90d'\n",
        ],
        "payload" => vec![
            br#"{"username":"orders_v1","password":"s3cret","host":"db"}"#,
            br#"{"DB_USER":"u","DB_PASS_CURRENT":"a","DB_PASS_NEXT":"b"}"#,
            br#"{"current":{"user":"u","password":"a"},"next":{"user":"v","password":"b"}}"#,
            br#"[{"login":"u","password":"a"},{"user":"v","password":"b"}]"#,
            b"export DB_USER='u'\nDB_PASSWORD=\"a b\"\n# c\n",
        ],
        "scram" => vec![
            b"n,,n=app,r=AQEBAQEBAQEBAQEB\0c=biws,r=AQEBAQEBAQEBAQEBx,p=AAAA\0",
            b"y,,n=,r=abc\0c=eSws,r=abc,p=QQ==\0r=AQx,s=QQ==,i=1",
            b"p=tls-server-end-point,,n=,r=abc\0v=QQ==\0r=abc,s=QQ==,i=4096",
        ],
        _ => vec![
            b"\0\0\0\x08\x04\xd2\x16\x2f",
            b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02",
            b"\0\0\0\x29\0\x03\0\0user\0app\0database\0orders\0options\0-c x=1\0\0",
            b"\0\0\0\x22\0\x03\0\x02user\0app\0_pq_.x\0y\0\0",
        ],
    };
    texts.into_iter().map(<[u8]>::to_vec).collect()
}

const CLIENT: u8 = 0;
const SERVER: u8 = 1;

/// As the target reads it: who speaks, how much, and what.
fn said(words: &[(u8, u8, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (side, tag, body) in words {
        let mut message = vec![*tag];
        message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        message.extend_from_slice(body);
        for piece in message.chunks(100) {
            bytes.push(2 * (piece.len() as u8 - 1) + side);
            bytes.extend_from_slice(piece);
        }
    }
    bytes
}

fn conversations() -> Vec<Vec<u8>> {
    vec![
        said(&[
            (CLIENT, b'Q', b"SET app.tenant = 'a'\0"),
            (SERVER, b'C', b"SET\0"),
            (SERVER, b'Z', b"I"),
            (CLIENT, b'Q', b"LISTEN a; BEGIN; SET x = 1\0"),
            (SERVER, b'E', b"SFATAL\0VFATAL\0C57P01\0Mgoing\0\0"),
        ]),
        said(&[
            (CLIENT, b'P', b"s\0SELECT set_config('app.x', $1, false)\0\0\0"),
            (CLIENT, b'D', b"Ss\0"),
            (CLIENT, b'B', b"\0s\0\0\0\0\x01\0\0\0\x01a\0\0"),
            (CLIENT, b'E', b"\0\0\0\0\0"),
            (CLIENT, b'S', b""),
            (SERVER, b'1', b""),
            (SERVER, b't', b"\0\x01\0\0\0\x19"),
            (
                SERVER,
                b'T',
                b"\0\x01a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0",
            ),
            (SERVER, b'2', b""),
            (SERVER, b'D', b"\0\x01\0\0\0\x01a"),
            (SERVER, b'C', b"SELECT 1\0"),
            (SERVER, b'Z', b"I"),
            (CLIENT, b'C', b"Ss\0"),
            (CLIENT, b'S', b""),
            (SERVER, b'3', b""),
            (SERVER, b'Z', b"I"),
        ]),
        said(&[
            (CLIENT, b'Q', b"COPY t FROM STDIN\0"),
            (SERVER, b'G', b"\0\0\0"),
            (CLIENT, b'd', b"1\t2\n"),
            (CLIENT, b'c', b""),
            (SERVER, b'E', b"SERROR\0VERROR\0C23505\0Mtwice\0\0"),
            (SERVER, b'Z', b"E"),
            (SERVER, b'A', b"\0\0\0\x07a\0payload\0"),
            (CLIENT, b'F', b"\0\0\0\x01\0\0\0\0\0\0"),
            (CLIENT, b'X', b""),
        ]),
        said(&[
            (
                CLIENT,
                b'Q',
                b"PREPARE p AS SELECT $1::int; DECLARE c CURSOR WITH HOLD FOR SELECT 1\0",
            ),
            (SERVER, b'C', b"PREPARE\0"),
            (SERVER, b'S', b"TimeZone\0UTC\0"),
            (SERVER, b'C', b"DECLARE CURSOR\0"),
            (SERVER, b'Z', b"T"),
            (
                CLIENT,
                b'Q',
                b"ROLLBACK TO SAVEPOINT a; SELECT pg_advisory_lock(1)\0",
            ),
            (SERVER, b'N', b"SWARNING\0VWARNING\0C01000\0Mx\0\0"),
            (SERVER, b'Z', b"E"),
        ]),
    ]
}

/// The same numbers in each run: what fails once fails again.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }
}

/// Bytes that mean something somewhere.
const TELLING: &[u8] = b"\0\xff\x80QPBESXCHdcfDTZIE123AKtnNG$'\"-/*;=,{}[]:\n ";

fn changed(mut input: Vec<u8>, other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    for _ in 0..=numbers.below(6) {
        let at = numbers.below(input.len() + 1);
        match numbers.below(6) {
            0 => input.insert(at, TELLING[numbers.below(TELLING.len())]),
            1 => drop((at < input.len()).then(|| input.remove(at))),
            2 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = byte.wrapping_add(numbers.below(256) as u8);
                }
            }
            3 => input.truncate(at),
            4 => {
                let from = numbers.below(other.len());
                let piece = &other[from..(from + 1 + numbers.below(24)).min(other.len())];
                input.splice(at..at, piece.iter().copied());
            }
            _ => input.extend_from_slice(other),
        }
    }
    input.truncate(INPUT_MAX);
    input
}

fn is_withstood(target: fn(&[u8]), input: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| target(input))).is_ok()
}

fn is_kept_by(name: &str) {
    let (_, target) = TARGETS.into_iter().find(|(known, _)| *known == name).unwrap();
    let seeds = seeds(name);
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for seed in &seeds {
        assert!(is_withstood(target, seed), "{name}: {}", seed.escape_ascii());
    }
    for _ in 0..ROUNDS {
        let (one, other) = (numbers.below(seeds.len()), numbers.below(seeds.len()));
        let input = changed(seeds[one].clone(), &seeds[other], &mut numbers);
        assert!(is_withstood(target, &input), "{name}: {}", input.escape_ascii());
    }
}

#[test]
fn no_configuration_breaks_its_reader() {
    is_kept_by("configuration");
}

#[test]
fn no_conversation_is_passed_on_otherwise_than_it_was_said() {
    is_kept_by("conversation");
}

#[test]
fn no_payload_breaks_its_reader() {
    is_kept_by("payload");
}

#[test]
fn no_bytes_prove_a_password() {
    is_kept_by("scram");
}

#[test]
fn no_startup_is_passed_on_otherwise_than_it_was_understood() {
    is_kept_by("startup");
}

#[test]
fn every_target_has_a_file_for_the_fuzzer() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let files = std::fs::read_dir(&directory).unwrap();
    let mut found: Vec<String> = files
        .map(|file| {
            file.unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    found.sort();
    assert_eq!(found, TARGETS.map(|(name, _)| name));
    let manifest = std::fs::read_to_string(directory.parent().unwrap().join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        let text = std::fs::read_to_string(directory.join(format!("{name}.rs"))).unwrap();
        assert!(
            text.contains(&format!("pgswivel::fuzzing::{name}(data)")),
            "{name}"
        );
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}
