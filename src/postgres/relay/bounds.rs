//! What a client says takes no more memory than its bounds, and is given back.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::tests::message;
use super::*;
use crate::postgres::state::ledger::{Ledger, Values};
use crate::postgres::state::risky_names::RiskyNames;

const MANY: u32 = 10_000_000;
/// Far more than any bound.
const ENOUGH: u32 = 300_000;
/// Entries of everything that is remembered of one session: a few MB.
const ENTRIES_MAX: usize = 1 << 18;
/// At rest.
const ENTRIES_KEPT: usize = 1 << 13;

fn state() -> State {
    State {
        notes: Some(Box::new(Notes::new(Arc::new(RiskyNames::plain()), 1 << 20))),
        ..State::default()
    }
}

impl State {
    fn says(&mut self, tag: u8, body: &[u8]) {
        let mut copy = [0; 64];
        let copy = &mut copy[..body.len()];
        copy.copy_from_slice(body);
        self.see_client(Piece::Message { tag, body: copy });
    }

    fn hears(&mut self, tag: u8, body: &[u8]) {
        self.see_server(Piece::Message {
            tag,
            body: &mut body.to_vec(),
        });
    }

    fn entries(&self) -> usize {
        self.tracker.capacity() + self.notes.as_ref().unwrap().capacity()
    }

    fn fails_without_sync(&mut self) {
        self.says(b'C', b"?");
        self.hears(b'E', b"SERROR\0VERROR\0C08P01\0M\0\0");
    }
}

#[test]
fn after_an_error_what_the_server_skips_is_not_remembered() {
    let mut state = state();
    state.fails_without_sync();
    let before = state.entries();
    for _ in 0..MANY / 2 {
        state.says(b'C', b"Sx\0");
        state.says(b'P', b"x\0SELECT 1\0\0\0");
    }
    assert_eq!(state.entries(), before);
    state.says(b'S', b"");
    state.hears(b'Z', b"I");
    assert!(state.tracker.is_idle() && !state.notes.unwrap().is_unsure());
}

#[test]
fn what_is_not_answered_is_remembered_up_to_a_bound_and_given_back() {
    let scripts: [fn(&mut State, u32); 5] = [
        |state, _| state.says(b'C', b"Sx\0"),
        |state, _| state.says(b'P', b"\0\0\0\0"),
        |state, number| {
            state.says(
                b"PC"[number as usize % 2],
                [&b"\0\0\0\0"[..], b"S\0"][number as usize % 2],
            );
        },
        |state, number| state.says(b"cP"[number as usize % 2], b"\0\0\0\0"),
        |state, number| state.says(b"SP"[number as usize % 2], b"s\0SELECT setseed(0)\0\0\0"),
    ];
    for (which, script) in scripts.into_iter().enumerate() {
        let mut state = state();
        state.says(b'C', b"Sx\0");
        for number in 0..ENOUGH {
            script(&mut state, number);
            if number % 4096 == 0 {
                assert!(
                    state.entries() <= ENTRIES_MAX,
                    "script {which}: {}",
                    state.entries()
                );
            }
        }
        // Where the count is lost, nothing is at rest again.
        while state.tracker.is_certain() && !state.tracker.is_idle() {
            state.says(b'S', b"");
            (0..ENOUGH).for_each(|_| state.hears(b'Z', b"I"));
        }
        let kept = state.entries();
        assert!(
            kept <= ENTRIES_KEPT || !state.tracker.is_certain(),
            "script {which}: {kept}"
        );
    }
}

#[test]
fn statements_that_are_made_and_closed_in_one_transaction_are_remembered_up_to_a_bound() {
    let mut state = state();
    for number in 0..20_000_u32 {
        let name = format!("s{number}").into_bytes();
        state.says(
            b'P',
            &[&name[..], b"\0SELECT set_config('a.b', '', false)\0\0\0"].concat(),
        );
        state.hears(b'1', b"");
        state.says(b'C', &[b"S", &name[..], b"\0"].concat());
        state.hears(b'3', b"");
    }
    assert!(state.entries() <= ENTRIES_KEPT, "{}", state.entries());
    state.says(b'S', b"");
    state.hears(b'Z', b"I");
    let notes = state.notes.as_mut().unwrap();
    assert!(notes.is_unsure() && !notes.is_rebuildable());
    notes.surveyed(&Ledger::default(), &Values::default());
    assert!(
        notes.is_rebuildable() && state.entries() <= 64,
        "{}",
        state.entries()
    );
}

#[test]
fn when_it_is_doubtful_what_the_server_skips_the_count_is_given_up_at_a_bound() {
    let mut state = state();
    // A Sync inside a COPY that fails may have come too late to be ignored.
    state.says(b'E', b"\0\0\0\0\0");
    state.hears(b'G', b"\0\0\0");
    state.says(b'S', b"");
    state.hears(b'E', b"SERROR\0VERROR\0C22P04\0M\0\0");
    for number in 0..ENOUGH {
        state.says(b"Pc"[number as usize % 2], b"\0\0\0\0");
    }
    assert!(!state.tracker.is_certain() && !state.tracker.is_idle());
    assert!(state.entries() <= ENTRIES_MAX, "{}", state.entries());
}

#[tokio::test]
async fn a_client_that_asks_and_asks_is_not_read_before_the_server_has_answered() {
    let (client, near_client) = duplex(1 << 20);
    let (server, near_server) = duplex(1 << 20);
    let mut relay = Relay::new(near_client, near_server, BytesMut::new(), BytesMut::new());
    let running = tokio::spawn(async move { relay.run().await });
    let unit = [message(b'C', b"P\0"), message(b'S', b"")].concat();
    let (units, pipeline) = (60_000, unit.repeat(60_000));
    let (mut client_reads, mut client_writes) = tokio::io::split(client);
    let (mut server_reads, mut server_writes) = tokio::io::split(server);
    let asking =
        tokio::spawn(async move { client_writes.write_all(&pipeline).await.map(|()| client_writes) });
    let mut asked = Vec::new();
    let mut heard = async |asked: &mut Vec<u8>| {
        let mut piece = vec![0; 1 << 16];
        let quiet = std::time::Duration::from_millis(200);
        while let Ok(Ok(count @ 1..)) = tokio::time::timeout(quiet, server_reads.read(&mut piece)).await {
            asked.extend_from_slice(&piece[..count]);
        }
    };
    heard(&mut asked).await;
    assert!(
        asked.len() < unit.len() * 30_000,
        "{} bytes were taken",
        asked.len()
    );
    let answer = [message(b'3', b""), message(b'Z', b"I")].concat();
    let mut answered = 0;
    let mut got = vec![0; answer.len() * units];
    let reading = tokio::spawn(async move { client_reads.read_exact(&mut got).await.map(|_| got) });
    while answered < units {
        let owed = asked.len() / unit.len() - answered;
        assert!(owed > 0, "the client is not read again: {answered}");
        server_writes.write_all(&answer.repeat(owed)).await.unwrap();
        answered += owed;
        heard(&mut asked).await;
    }
    assert_eq!(reading.await.unwrap().unwrap().len(), answer.len() * units);
    asking.await.unwrap().unwrap();
    running.abort();
}
